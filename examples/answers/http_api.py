"""Ask a language model behind an OpenAI-compatible HTTP API for class probabilities, and write them as answers.

    API_KEY=… python http_api.py URL MODEL TEXTS.jsonl ANSWERS.jsonl --classes positive negative

URL is the API's base, such as http://127.0.0.1:8000/v1; TEXTS has a `text` (and `text_b`) in each line. The model is asked for
the number of a class, and the probabilities of the numbers as its first token are the answer (`logprobs`). With `--json` it is
asked to write the probabilities itself, for APIs without logprobs. Each answer is written at once: run the same command again
after a stop, and only the missing texts are asked. Busy servers (429, 5xx) and lost connections are tried again, slower and
slower. Needs Python alone.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Key = tuple[str, str | None]


class Unusable(Exception):
    """The model's reply has no probabilities."""


def request_body(model: str, row: dict[str, Any], classes: Sequence[str], as_json: bool) -> dict[str, Any]:
    """Return the body of the request about one row."""
    listed = "\n".join(f"{number}: {name}" for number, name in enumerate(classes))
    text = row["text"] if row.get("text_b") is None else f"{row['text']}\n---\n{row['text_b']}"
    if as_json:
        task = "Reply with one JSON object that maps every class name to its probability, and nothing else."
        extra: dict[str, Any] = {"max_tokens": 32 + 16 * len(classes)}
    else:
        task = "Reply with the number of the class, and nothing else."
        extra = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
    messages = [
        {"role": "system", "content": f"You assign texts to classes. The classes are:\n{listed}\n{task}"},
        {"role": "user", "content": text},
    ]
    return {"model": model, "messages": messages, "temperature": 0, **extra}


def probabilities(reply: dict[str, Any], classes: Sequence[str], as_json: bool) -> dict[str, float]:
    """Return {class: p} of a reply. Classes that are not among the top tokens are left out and share the rest.

    Raises:
        Unusable: the reply names none of the classes.
    """
    try:
        choice = reply["choices"][0]
        if as_json:
            content = choice["message"]["content"]
            given = json.loads(content[content.index("{") : content.rindex("}") + 1])
            found = {name: max(0.0, float(given.get(name, 0))) for name in classes}
            total = sum(found.values())
        else:
            found = {}
            for each in choice["logprobs"]["content"][0]["top_logprobs"]:
                token = each["token"].strip()
                if token.isdecimal() and int(token) < len(classes):
                    name = classes[int(token)]
                    found[name] = found.get(name, 0.0) + math.exp(each["logprob"])
            # Other tokens are not answers, but with classes missing from the top their share is the rest's.
            total = sum(found.values()) if len(found) == len(classes) else max(1.0, sum(found.values()))
        if not found or not 0 < total < math.inf:
            raise Unusable(f"no class in the reply {json.dumps(choice)[:200]}")
        return {name: value / total for name, value in found.items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"no probabilities in the reply {json.dumps(reply)[:200]}") from error


def ask(url: str, key: str | None, body: dict[str, Any], tries: int = 8, wait: float = 1.0) -> dict[str, Any]:
    """Send a request, again after `wait` and then ever more seconds while the server is busy, and return its reply."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(f"{url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers)
    for attempt in range(tries):
        pause = wait * 2**attempt
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if (error.code != 429 and error.code < 500) or attempt == tries - 1:
                sys.exit(f"{request.full_url} answers {error.code}: {error.read(300).decode('utf-8', 'replace')}")
            after = error.headers.get("Retry-After", "")
            pause = float(after) if after.isdecimal() else pause
        except (OSError, http.client.HTTPException, ValueError) as error:
            if attempt == tries - 1:
                sys.exit(f"{request.full_url} cannot be reached: {error}")
        time.sleep(pause)
    raise AssertionError


def key_of(row: dict[str, Any]) -> Key:
    return row["text"], row.get("text_b")


def answered(target: Path) -> set[Key]:
    """Return the texts that have an answer, and cut off a last line that was written in part."""
    content = target.read_bytes() if target.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        with target.open("r+b") as file:
            file.truncate(len(whole))
    return {key_of(json.loads(line)) for line in whole.splitlines()}


def missing(source: Path, known: set[Key]) -> Iterator[dict[str, Any]]:
    """Yield the rows without an answer, each text once."""
    with source.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if key_of(row) not in known:
                known.add(key_of(row))
                yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("texts", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--classes", nargs="+", required=True)
    parser.add_argument("--json", action="store_true", help="ask for JSON instead of logprobs")
    parser.add_argument("--key", default="API_KEY", help="environment variable that holds the API key")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds before the first repetition")
    args = parser.parse_args()
    rows, unusable = missing(args.texts, answered(args.answers)), 0
    with args.answers.open("a", encoding="utf-8") as out:
        for row in rows:
            body = request_body(args.model, row, args.classes, args.json)
            reply = ask(args.url, os.environ.get(args.key), body, wait=args.wait)
            try:
                probs = probabilities(reply, args.classes, args.json)
            except Unusable as error:
                unusable += 1
                print(f"{row['text'][:60]!r}: {error}", file=sys.stderr)
                continue
            texts = {key: row[key] for key in ("text", "text_b") if row.get(key) is not None}
            out.write(json.dumps({**texts, "probs": probs}, ensure_ascii=False) + "\n")
            out.flush()
    if unusable:
        sys.exit(f"{unusable} texts have no answer. Run the command again to ask for them.")


if __name__ == "__main__":
    main()
