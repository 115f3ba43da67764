"""`tfdistill predict`: answer for texts with a bundle or a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from tfdistill.commands.options import JsonOption, with_column_options
from tfdistill.commands.tables import new_name, show_next, show_next_of_bundle
from tfdistill.errors import UserError
from tfdistill.system.console import make_table, show, show_table
from tfdistill.system.files import read_regular

_BATCH = 256  # texts whose answers are printed together
_SHOWN = 5  # classes of one text in the terminal

Pair = tuple[str, str | None]


@with_column_options
def predict(
    source: Annotated[str, typer.Argument(help="a bundle, which needs no TensorFlow; a run, or a model directory")],
    texts: Annotated[list[str] | None, typer.Argument(help="texts; for question answering the questions")] = None,
    texts_b: Annotated[
        list[str] | None,
        typer.Option("--text-b", help="second text of a pair, or the context of a question; one for all, or one each"),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            help="texts from a file, or - for stdin: one a line (pairs with a tab between), or .tsv, .csv and .jsonl with "
            "the columns text and text_b",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer for texts: classes with probabilities, entities, or spans. JSON lines where stdout is not a terminal.

    Example: `tfdistill predict BUNDLE "play some jazz" "will it rain?"`
    """
    if bool(texts) == (file is not None):
        raise UserError(
            "give texts, or --file FILE (- for stdin), and not both. For instance: tfdistill predict BUNDLE TEXT"
        )
    if texts_b and file is not None:
        raise UserError("--text-b is for texts on the command line. Put the second texts into the file.")
    pairs = _pairs(texts, texts_b) if texts else _read(str(file))
    from tfdistill.export.classifier import Classifier, note_truncated

    classifier, answers = Classifier(source), []
    plain = as_json or not sys.stdout.isatty()
    rows = iter(pairs)
    while batch := list(islice(rows, _BATCH)):
        seconds = [second for _, second in batch if second is not None]
        if seconds and len(seconds) < len(batch):
            raise UserError("some texts have a second text and others do not. Give it to all of them, or to none.")
        made = classifier([first for first, _ in batch], seconds or None)
        answers += made
        if plain:
            _print_json(batch, made)
    note_truncated(answers, classifier.length)
    if not plain:
        _show(pairs, answers)
        _show_next(source)


def _show_next(source: str) -> None:
    """Print what usually follows: the code for apps after a bundle, `export` after a model."""
    from tfdistill.models.training_record import recipe_of

    if (Path(source) / "manifest.json").is_file():
        return show_next_of_bundle(Path(source))
    data = recipe_of(source).get("data", {}).get("name")
    words = ["export", source, *(["--data", data] if data else []), "--out", new_name("BUNDLE")]
    show_next("tfdistill", *words)


def _pairs(texts: Sequence[str], texts_b: Sequence[str] | None) -> list[Pair]:
    if not texts_b:
        return [(text, None) for text in texts]
    if len(texts_b) == 1:
        return [(text, texts_b[0]) for text in texts]
    if len(texts_b) != len(texts):
        raise UserError(f"received {len(texts)} texts and {len(texts_b)} --text-b. Give one for all, or one each.")
    return list(zip(texts, texts_b, strict=True))


def _read(file: str) -> list[Pair]:
    from tfdistill.data.columns import split_name
    from tfdistill.data.records import read_records

    name, columns = split_name(file)
    path = Path(name)
    if file == "-":
        return list(_lines("stdin", sys.stdin.buffer.read()))
    if path.suffix.lower() not in (".tsv", ".csv", ".jsonl"):
        return list(_lines(file, read_regular(path, "give a file of texts")))
    records = read_records(path, columns)
    return [(_cell(path, line, "text", cells), _second(path, line, cells)) for line, cells in records]


def _lines(name: str, content: bytes) -> Iterator[Pair]:
    """Yield the text of each line; empty lines are skipped."""
    try:
        lines = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, line {number}: byte {error.start} is not UTF-8. Save it as UTF-8.") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"{name} has no text. Give one text a line.")
    for line in lines:
        first, tab, second = line.rstrip("\r").partition("\t")
        if line.strip():
            yield first, second if tab else None


def _cell(path: Path, line: int, column: str, cells: dict[str, Any]) -> str:
    text = cells.get(column)
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{path}, line {line}: '{column}' is empty or not a text. Give a text.")
    return text


def _second(path: Path, line: int, cells: dict[str, Any]) -> str | None:
    return _cell(path, line, "text_b", cells) if "text_b" in cells else None


def _print_json(pairs: Sequence[Pair], answers: Sequence[dict[str, Any]]) -> None:
    for (first, second), answer in zip(pairs, answers, strict=True):
        texts = {"text": first} if second is None else {"text": first, "text_b": second}
        print(json.dumps({**texts, **answer}, ensure_ascii=False), flush=True)


def _show(pairs: Sequence[Pair], answers: Sequence[dict[str, Any]]) -> None:
    """Print answers for people: the most probable classes of one text, or one line for each of several texts."""
    if len(answers) == 1 and "probabilities" in answers[0]:
        shares = list(answers[0]["probabilities"].items())
        rows = [(name, f"{100 * share:.1f} %") for name, share in shares[:_SHOWN]]
        more = f"and {len(shares) - _SHOWN} more" if len(shares) > _SHOWN else ""
        show_table(make_table(("class", "probability"), rows, title=pairs[0][0], caption=more, light=True))
        return
    for (first, _), answer in zip(pairs, answers, strict=True):
        show(f"{_in_words(answer)}  {first}")


def _in_words(answer: dict[str, Any]) -> str:
    """Return an answer in one line."""

    def spans(key: str, kind: str) -> str:
        return ", ".join(f"{each['text']} ({each[kind]}, {100 * each['score']:.1f} %)" for each in answer[key]) or "–"

    if "label" in answer:
        return f"{answer['label']} {100 * answer['score']:.1f} %"
    if "labels" in answer:
        return ", ".join(f"{name} {100 * answer['probabilities'][name]:.1f} %" for name in answer["labels"]) or "–"
    if "value" in answer:
        return f"{answer['value']:.4g}"
    if "answer" in answer:
        return f"{answer['answer'] or '(no answer)'} {100 * answer['score']:.1f} %"
    return spans("entities", "entity") if "entities" in answer else spans("tags", "tag")
