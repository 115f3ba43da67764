"""Write augmented data as a data source, with the provenance of every example.

The examples of a split are augmented in parts. Each part is a file, and an interrupted run resumes
after the last one. A copy depends on the seed, its example and its number alone, so the files do not
depend on interruptions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfdistill.augment.copies import Augmented, row_key
from tfdistill.augment.parts_of_speech import PACKAGE, PosTable, load_tagger
from tfdistill.augment.tang import Tang, augment_tang
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError
from tfdistill.system.console import say, task
from tfdistill.system.files import CHOOSE_OUT, atomic_file, atomic_write, read_json, sha256, student_directory
from tfdistill.system.identity import as_json, differences, summary
from tfdistill.system.locks import lock_beside, locked
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.words import written_tokens

PROVENANCE, PARTS = "provenance.json", "parts"
Format = Literal["jsonl", "tsv"]
Make = Callable[[Split, int], Augmented]
"""Make the copies of some examples of a split; the first has the number that is passed."""

Texts = tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class Plan:
    """Describe what to make, and how.

    Args:
        method: the name of the method, for the files.
        copies: copies of each example.
        seed: the seed of everything random.
        make: makes the copies of a part.
        settings: all else that the copies depend on, as plain values.
        rows: examples in a part.
    """

    method: str
    copies: int
    seed: int
    make: Make
    settings: dict[str, Any] = field(default_factory=dict)
    rows: int = 1024


def tang_plan(
    split: Split,
    *,
    copies: int,
    seed: int,
    tagger: str | None = None,
    tokens_of: str | None = None,
    **options: Any,
) -> Plan:
    """Plan the augmentation of Tang et al. (2019): masks, words of the same part of speech, n-grams.

    Args:
        split: the words that replace others come from it, unless `p_pos` is 0.
        copies: copies of each example.
        seed: seed of everything random.
        tagger: a model of NLTK's perceptron tagger; None fetches one.
        tokens_of: a model directory, to mask tokens instead of words.
        options: p_mask, p_pos, p_ng and ngram of `Tang`.

    Raises:
        UserError: an option is out of range, or a model cannot be read.
    """
    settings: dict[str, Any] = {**options, "whole_words": tokens_of is None}
    chosen = dict(options)
    try:
        if Tang(**options).p_pos > 0:
            tag = load_tagger(tagger)
            with task("parts of speech", len(split) * (1 if split.texts_b is None else 2)) as advance:
                chosen["pos"] = PosTable.build(chain(split.texts, split.texts_b or []), tag, advance)
            settings["tagger"] = " ".join(PACKAGE[:2]) if tagger is None else named(tagger)
        Tang(**chosen)
    except ValueError as error:
        raise UserError(str(error)) from error
    if tokens_of is not None:
        tokenizer = Tokenizer.from_directory(student_directory(tokens_of))
        settings["tokenizer"] = tokenizer.fingerprint
        chosen["tokens"] = lambda words: written_tokens(words, tokenizer)

    def make(part: Split, first: int) -> Augmented:
        return augment_tang(part.texts, part.texts_b, copies=copies, seed=seed, first=first, **chosen)

    return Plan("tang", copies, seed, make, settings, rows=4096)


def named(file: str) -> str:
    """Describe a file by its name and content."""
    path = Path(file).expanduser()
    return f"{path.name}, sha256 {sha256(path)}" if path.is_file() else file


def augment_data(
    data: TextData,
    plan: Plan,
    out: str | os.PathLike,
    *,
    split: str = "train",
    only_copies: bool = False,
    file_format: Format = "jsonl",
    force: bool = False,
) -> dict[str, Any]:
    """Write `data` to the directory `out`, with the copies of `split` behind its own examples.

    `out` is a data source: a file for each split and labels.txt. Examples get the columns
    source_row (from 0), copy, method and seed. provenance.json holds the plan, counts and SHA-256
    sums. Until all is done `out` holds parts/, and the same call resumes there.

    Args:
        data: the data.
        plan: which copies to make.
        out: the directory to write.
        split: the split to augment.
        only_copies: whether to leave out the examples of the split.
        file_format: jsonl or tsv.
        force: whether to replace the work of another plan at `out`.

    Returns:
        The content of provenance.json.

    Raises:
        UserError: there is no such split, `out` holds something else or the work of another plan, or a
            text does not fit into TSV.
    """
    out = Path(out)
    if split not in data.splits:
        raise UserError(f"{data.name} has no split '{split}'. Use one of {', '.join(data.splits)} for `--split`.")
    source = data.splits[split]
    if file_format == "tsv":
        _check_tsv(data)
    request = as_json({
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "split": split,
        "method": plan.method,
        "copies": plan.copies,
        "seed": plan.seed,
        "settings": plan.settings,
        "rows_of_a_part": plan.rows,
        "only_copies": only_copies,
        "format": file_format,
    })  # fmt: skip
    with locked(lock_beside(out), f"works on {out}"):
        result = _stored(out, request, force)
        if result is not None:
            say(f"{out} is complete; nothing to do")
        else:
            starts = range(0, len(source), plan.rows)
            _make_parts(source, plan, out / PARTS, starts)
            report = _write(data, split, plan, out, only_copies, file_format)
            result = {**request, "state": "done", **report}
            _write_provenance(out, result)
        shutil.rmtree(out / PARTS, ignore_errors=True)
    return result


def _write_provenance(out: Path, content: dict[str, Any]) -> None:
    atomic_write(out / PROVENANCE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _stored(out: Path, request: dict[str, Any], force: bool) -> dict[str, Any] | None:
    """Return the provenance of finished work at `out`, or make `out` ready for work."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        stored: dict[str, Any] = {}
        with suppress(UserError):
            stored = read_json(out / PROVENANCE, CHOOSE_OUT)
        if not {"state", "method"} <= stored.keys():
            raise UserError(f"{out} exists and is not the work of tfdistill augment. Choose another `--out`.")
        other = differences(request, {key: stored.get(key) for key in request})
        done = stored["state"] == "done"
        whole = not done or all(
            (out / name).is_file() and sha256(out / name) == sum_ for name, sum_ in stored["sha256"].items()
        )
        if not other and whole:
            return stored if done else None
        if not force:
            what = summary(other.values()) or "files are missing or changed"
            raise UserError(f"{out} holds other work ({what}). Choose another `--out`, or replace it with `--force`.")
        shutil.rmtree(out)
    _write_provenance(out, {**request, "state": "running"})
    return None


# --- parts ----------------------------------------------------------------------------------------------------------


def _make_parts(source: Split, plan: Plan, folder: Path, starts: range) -> None:
    with task("augmenting", len(source)) as advance:
        for start in starts:
            rows = range(start, min(start + plan.rows, len(source)))
            file = folder / f"{start:09d}.jsonl"
            if not file.is_file():
                made = plan.make(source.take(rows), start)
                texts_b = made.texts_b or repeat(None, len(made))
                made_rows = zip(made.texts, texts_b, made.source.tolist(), made.copy.tolist(), strict=True)
                atomic_write(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made_rows))
            advance(len(rows))


def _copies(folder: Path, source: Split) -> Iterator[tuple[str, str | None, int, int]]:
    """Yield text, text_b, example and number of each copy that is not a duplicate."""
    seen = {_digest(*texts) for texts in _texts(source)}
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                text, text_b, row, copy = json.loads(line)
                digest = _digest(text, text_b)
                if digest not in seen:
                    seen.add(digest)
                    yield text, text_b, row, copy


def _digest(text: str, text_b: str | None) -> bytes:
    return blake2b(row_key(text, text_b).encode(), digest_size=16).digest()


# --- data files -----------------------------------------------------------------------------------------------------


def _write(data: TextData, split: str, plan: Plan, out: Path, only_copies: bool, file_format: Format) -> dict[str, Any]:
    """Write the files of `out`, and return their sums and counts."""
    source = data.splits[split]
    originals = 0 if only_copies else len(source)
    copies_made = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal copies_made
        if not only_copies:
            for i, texts in enumerate(_texts(source)):
                yield _row(data, source, i, texts, copy=None, method="original", seed=None)
        for text, text_b, i, copy in _copies(out / PARTS, source):
            copies_made += 1
            yield _row(data, source, i, (text, text_b), copy=copy, method=plan.method, seed=plan.seed)

    names = []
    for name, other in data.splits.items():
        content = rows() if name == split else (_row(data, other, i, texts) for i, texts in enumerate(_texts(other)))
        names.append(f"{name}.{file_format}")
        _write_lines(out / names[-1], content, file_format)
    if data.label_names is not None:
        names.append("labels.txt")
        atomic_write(out / names[-1], "".join(name + "\n" for name in data.label_names))
    return {
        "rows": originals + copies_made,
        "copies_made": copies_made,
        "copies_left_out": plan.copies * len(source) - copies_made,
        "sha256": {name: sha256(out / name) for name in names},
    }


def _texts(split: Split) -> Iterator[Texts]:
    return zip(split.texts, split.texts_b or repeat(None, len(split)), strict=True)


def _row(data: TextData, split: Split, i: int, texts: Texts, **provenance: Any) -> dict[str, Any]:
    """Return one example as a JSON object, with the label of example `i` of `split`."""
    row: dict[str, Any] = {"text": texts[0]}
    if texts[1] is not None:
        row["text_b"] = texts[1]
    for number, column in enumerate(split.texts_extra, start=1):
        row["text_extra" if number == 1 else f"text_extra_{number}"] = column[i]
    if split.labels is not None:
        row["label"] = _label(data, split.labels[i]) if split.labelled[i] else None
    return {**row, "source_row": i, **provenance} if provenance else row


def _label(data: TextData, label: Any) -> float | str | list[str]:
    if data.label_names is None:
        return float(str(np.float32(label)))  # The shortest form: 0.1 instead of 0.10000000149011612.
    if data.multilabel:
        return [data.label_names[number] for number in np.flatnonzero(label)]
    return data.label_names[int(label)]


def _write_lines(path: Path, rows: Iterator[dict[str, Any]], file_format: Format) -> None:
    """Write one example after the other, so that memory does not grow."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(rows):
            if file_format == "jsonl":
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                continue
            if number == 0:
                file.write("\t".join(row) + "\n")
            file.write("\t".join(_cell(value) for value in row.values()) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ("|".join(value) or "|") if isinstance(value, list) else str(value)


def _check_tsv(data: TextData) -> None:
    for name, split in data.splits.items():
        for column in (split.texts, split.texts_b or [], *split.texts_extra):
            for row, text in enumerate(column):
                if any(character in text for character in "\t\n\r"):
                    raise UserError(
                        f"example {row} (from 0) of {name} has a tab or line end, which TSV cannot hold. Use `--format jsonl`."
                    )
