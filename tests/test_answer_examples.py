"""Test the scripts of examples/answers: what they write is read by `AnswersTeacher`."""

from __future__ import annotations

import importlib.util
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.training.answers import AnswersTeacher

CLASSES = ["negative", "positive"]


def script(name: str):
    path = Path(__file__).parents[1] / "examples" / "answers" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"answers_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def probabilities(path: Path, texts: list[str], texts_b: list[str] | None = None) -> np.ndarray:
    split = Split(texts, texts_b, np.arange(len(texts)) % 2)
    logits = AnswersTeacher(path, TextData("made", {"train": split}, tuple(CLASSES))).logits(split)
    exponents = np.exp(np.float64(logits))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_votes_become_shares(tmp_path):
    votes = tmp_path / "votes.csv"
    votes.write_text(
        "text,annotator,label\n"
        '"good, really",ann,positive\n"good, really",bob,negative\n"good, really",cy,positive\n'
        '"good, really",bob,positive\nbad,ann,negative\nbad,bob,positive\n',
        "utf-8",
    )
    script("votes").main(str(votes), str(tmp_path / "a.jsonl"))
    made = probabilities(tmp_path / "a.jsonl", ["bad", "good, really"])
    np.testing.assert_allclose(made, [[0.5, 0.5], [0, 1]], atol=1e-6)


def test_logits_of_a_classifier_are_written_with_their_classes(tmp_path):
    module = script("classifier")
    rows = [{"text": f"text {number}", "text_b": "b", "label": "x"} for number in range(2 * module.BATCH + 1)]
    sizes = []

    def logits_of(batch):
        sizes.append(len(batch))
        return [np.float32([int(row["text"].split()[1]) / 10, 0]) for row in batch]

    made = list(module.answers(rows, logits_of, CLASSES[::-1]))
    assert sizes == [module.BATCH, module.BATCH, 1]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), "utf-8")
    texts = [row["text"] for row in rows]
    positive = probabilities(tmp_path / "a.jsonl", texts, ["b"] * len(texts))[:, 1]
    np.testing.assert_allclose(positive, 1 / (1 + np.exp(-np.arange(len(texts)) / 10)), atol=1e-5)


class Api(BaseHTTPRequestHandler):
    """An API whose model knows good and bad texts, and that fails as often as `failures` says."""

    failures: ClassVar[list[int]] = []
    asked: ClassVar[list[tuple[str, str | None]]] = []
    reply_of = staticmethod(lambda body: {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        code = self.failures.pop(0) if self.failures else 200
        if code == 200:
            self.asked.append((body["messages"][1]["content"], self.headers["Authorization"]))
        content = json.dumps(self.reply_of(body) if code == 200 else {"error": "not now"}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def with_logprobs(body: dict) -> dict:
    assert body["max_tokens"] == 1 and body["logprobs"] and body["model"] == "some-model"
    sure = 0.75 if "good" in body["messages"][1]["content"] else 0.25
    top = [("1", sure * 0.8), (" 1", sure * 0.1), ("0", (1 - sure) * 0.9), ("Well", 0.1)]
    tokens = [{"token": token, "logprob": math.log(p)} for token, p in top]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": tokens}]}}]}


def with_json(body: dict) -> dict:
    assert "logprobs" not in body and "positive" in body["messages"][0]["content"]
    content = 'Sure:\n```json\n{"positive": 0.6, "negative": 0.2}\n```'
    if "odd" in body["messages"][1]["content"]:
        content = "I cannot tell."
    return {"choices": [{"message": {"content": content}}]}


@pytest.fixture
def api(monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(Api, "failures", [])
    monkeypatch.setattr(Api, "asked", [])
    monkeypatch.setattr(Api, "reply_of", staticmethod(with_logprobs))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def ask(monkeypatch, url: str, folder: Path, *more: str) -> None:
    words = ["http_api.py", url, "some-model", str(folder / "texts.jsonl"), str(folder / "a.jsonl")]
    monkeypatch.setattr("sys.argv", [*words, "--wait", "0.01", "--classes", *CLASSES, *more])
    script("http_api").main()


def test_an_api_is_asked_for_what_is_missing(tmp_path, monkeypatch, api):
    texts = ["good film", "bad film", "a bad day"]
    rows = [{"text": text} for text in [*texts, texts[0]]]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "bad film", "probs": {"positive": 0.25}}\n{"text": "a b', "utf-8")
    monkeypatch.setenv("SECRET", "key-1")
    Api.failures[:] = [429, 500, 503]
    ask(monkeypatch, api, tmp_path, "--key", "SECRET")
    assert Api.asked == [("good film", "Bearer key-1"), ("a bad day", "Bearer key-1")]
    made = probabilities(tmp_path / "a.jsonl", texts)
    np.testing.assert_allclose(made[:, 1], [0.75, 0.25, 0.25], atol=1e-6)
    ask(monkeypatch, api, tmp_path)
    assert len(Api.asked) == 2


def test_an_api_that_refuses_ends_the_script_and_keeps_the_answers(tmp_path, monkeypatch, api):
    (tmp_path / "texts.jsonl").write_text('{"text": "good"}\n{"text": "bad"}\n', "utf-8")
    Api.failures[:] = [200, 401]
    with pytest.raises(SystemExit, match="401"):
        ask(monkeypatch, api, tmp_path)
    assert len((tmp_path / "a.jsonl").read_text("utf-8").splitlines()) == 1
    Api.failures[:] = [500] * 8
    with pytest.raises(SystemExit, match="500"):
        ask(monkeypatch, api, tmp_path)


def test_probabilities_that_a_model_writes_itself(tmp_path, monkeypatch, api):
    monkeypatch.setattr(Api, "reply_of", staticmethod(with_json))
    (tmp_path / "texts.jsonl").write_text('{"text": "a film"}\n{"text": "an odd film"}\n', "utf-8")
    with pytest.raises(SystemExit, match="1 texts have no answer"):
        ask(monkeypatch, api, tmp_path, "--json")
    np.testing.assert_allclose(probabilities(tmp_path / "a.jsonl", ["a film"]), [[0.25, 0.75]], atol=1e-6)


@pytest.mark.parametrize(
    "reply",
    [{}, {"choices": []}, {"choices": [{"logprobs": None}]}, {"choices": [{"logprobs": {"content": []}}]}, []],
)
def test_replies_without_probabilities(reply):
    module = script("http_api")
    for as_json in (False, True):
        with pytest.raises(module.Unusable):
            module.probabilities(reply, CLASSES, as_json)
