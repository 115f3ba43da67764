"""`tfdistill corpus`: plain text of any size, cleaned, without repeats and tokenized, in shards that training reads.

The work is that of `tfdistill.corpora.build`. Here it is handed out, to processes of this machine or to Apache Beam, and the
manifest is written.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Annotated, Any

import typer
from filelock import FileLock, Timeout

from tfdistill.errors import UserError
from tfdistill.system.console import say, task
from tfdistill.system.tensorflow_import import import_tensorflow

RUNNERS = {"direct": "DirectRunner", "flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner"}


def corpus(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="a .txt or .txt.gz file, a directory of them, or demo:plain-text")],
    out: Annotated[
        str, typer.Option(help="directory to write; the same command goes on with what is there", metavar="DIR")
    ],
    tokenizer: Annotated[
        str, typer.Option(help="directory with the vocabulary of the models that will read it")
    ] = "demo:minilm",
    rows: Annotated[
        bool, typer.Option("--rows", help="each document is an example by itself, not running text")
    ] = False,
    teacher: Annotated[
        str | None, typer.Option(help="with --rows: a fine-tuned model whose logits are written beside the texts")
    ] = None,
    copies: Annotated[
        int, typer.Option(min=0, help="with --rows: augmented copies of each text (masking, n-grams)")
    ] = 0,
    max_length: Annotated[
        int | None, typer.Option(min=4, help="with --rows: word pieces of a text; 64 if it is not set")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.99, help="share of the documents kept from training")] = 0.02,
    least_characters: Annotated[int, typer.Option(min=0, help="shorter documents are left out")] = 20,
    least_letters: Annotated[
        float, typer.Option(min=0, max=1, help="share of letters in a document, spaces not counted; less leaves it out")
    ] = 0.5,
    shard_mb: Annotated[
        float, typer.Option(min=0.001, help="megabytes of text that become a shard; more needs more memory")
    ] = 16.0,
    seed: Annotated[int, typer.Option(min=0, help="decides what is held out, and how texts are augmented")] = 0,
    runner: Annotated[
        str, typer.Option(help="local (processes of this machine), or of Apache Beam: direct, flink, spark, dataflow")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="processes, with local and direct")] = 1,
) -> None:
    """Make a corpus of plain text of any size: clean, without repeated sentences, tokenized, in shards.

    Example: `tfdistill corpus demo:plain-text --out CORPUS --workers 2`

    Training reads it as `--text corpus:CORPUS` (pretrain) or `--set text=corpus:CORPUS` (general stages), and one with
    `--rows --teacher` as `--set labelled=CORPUS` (soft_targets). What follows `--` goes to Apache Beam.
    """
    if not rows and (teacher is not None or copies or max_length is not None):
        raise UserError("--teacher, --copies and --max-length are for texts one by one; expected --rows with them")
    if runner != "local" and runner not in RUNNERS:
        raise UserError(f"--runner {runner} is unknown; expected local, {', '.join(RUNNERS)}")
    if context.args and runner == "local":
        raise UserError(
            f"got {' '.join(context.args)}, which is for Apache Beam; expected --runner with it, or neither"
        )
    import_tensorflow()
    from tfdistill.corpora.build import Work, spans_of

    work = Work(
        out=out.rstrip("/") if "://" in out else str(Path(out).absolute()),
        tokenizer=_directory(tokenizer),
        spans=spans_of(source, round(shard_mb * 1e6)),
        held_out=held_out,
        seed=seed,
        rows=rows,
        max_length=64 if max_length is None else max_length,
        copies=copies,
        teacher=None if teacher is None else _directory(teacher),
        least_characters=least_characters,
        least_letters=least_letters,
    )
    make(work, source, runner, workers, context.args)


def _directory(name: str) -> str:
    """Where a vocabulary or a model lies."""
    if name == "demo:minilm":
        from tfdistill.data.demo import minilm_directory

        return str(minilm_directory())
    path = name.removeprefix("hf:")
    return path if "://" in path else str(Path(path).absolute())


def make(work: Any, source: str, runner: str = "local", workers: int = 1, flags: list[str] | None = None) -> None:
    """Do the steps of `work` that are not done, write the manifest and say what there is.

    Raises:
        UserError: text, vocabulary or teacher cannot be read, another corpus is in the place, another process writes there, or a
            worker was lost.
    """
    from tfdistill.corpora.build import STEPS, begin, finish, is_done, model_of
    from tfdistill.corpora.shards import check

    beam = None if runner == "local" else _beam()
    if work.teacher is not None:
        model_of(work.teacher)  # what is wrong with it is said before hours of work
    with _locked(work.out):
        if begin(work):
            if "://" not in work.out:
                check(Path(work.out))
        else:
            said = work.as_text()
            for step in STEPS:
                left = [part for part in range(work.parts(step)) if not is_done(work, step, part)]
                with task(f"{STEPS.index(step) + 1} of {len(STEPS)}: {step}", work.parts(step)) as advance:
                    advance(work.parts(step) - len(left))
                    with _watched(work, step, left, advance):
                        if left and runner == "local":
                            _with_processes(said, step, left, workers)
                        elif left:
                            _with_beam(beam, said, step, left, RUNNERS[runner], workers, flags or [])
        totals = finish(work, source)["totals"]
    say(
        f"{work.out}: {len(work.spans)} shards, {totals['bytes'] / 1e6:,.1f} MB of text, {totals['documents']:,} documents, "
        f"{totals['repeated_sentences']:,} repeated {'texts' if work.rows else 'sentences'} left out, {totals['train_tokens']:,} word "
        f"pieces to train on, {totals['held_out_tokens']:,} held out"
    )


@contextmanager
def _locked(out: str) -> Iterator[None]:
    if "://" in out:
        yield
        return
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(out) / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(f"another process writes {out}; wait until it is done, or choose another --out") from error
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {error.strerror or error}; free some room, or choose another --out"
        ) from error


@contextmanager
def _watched(work: Any, step: str, left: list[int], advance: Any) -> Iterator[None]:
    """Moves the bar by looking which parts are there, whoever makes them; afterwards all have to be."""
    from tfdistill.corpora.build import failure, is_done

    waiting, ended = set(left), threading.Event()

    def look() -> None:
        for part in sorted(waiting):
            if is_done(work, step, part):
                waiting.discard(part)
                advance(1)

    def watch() -> None:
        while not ended.wait(1.0):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    look()
    if waiting:
        raise UserError(
            failure(work) or f"{len(waiting)} parts of the step '{step}' are missing; run the same command again"
        )


def part_of(said: str, step: str, part: int) -> None:
    """One part, in whatever process. What a user can mend is written down for the one that waits; nothing else is caught."""
    from tfdistill.corpora import storage
    from tfdistill.corpora.build import Work, note_failure, run_part

    try:
        run_part(said, step, part)
    except UserError as error:
        note_failure(Work.from_text(said), str(error))
    except storage.FAILURES as error:
        where = f", {error.filename}" if getattr(error, "filename", None) else ""
        note_failure(
            Work.from_text(said),
            f"{step}, part {part}: {storage.why(error)}{where}; free some room, then run the same command again",
        )


def _with_processes(said: str, step: str, parts: list[int], workers: int) -> None:
    if workers == 1:
        for part in parts:
            part_of(said, step, part)
        return
    try:
        with pool_of(min(workers, len(parts))) as pool:
            list(pool.map(partial(part_of, said, step), parts))
    except BrokenProcessPool as error:
        raise UserError(
            f"a process of the step '{step}' was killed, perhaps for want of memory; run the same command again with fewer "
            "--workers: what is done stays (or delete it, and take a smaller --shard-mb)"
        ) from error


def pool_of(workers: int) -> ProcessPoolExecutor:
    """Processes that end when this one does, however it ends."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)  # in the middle of whatever it does: parts are whole or not there

    threading.Thread(target=watch, daemon=True).start()


def _beam() -> Any:
    try:
        return importlib.import_module("apache_beam")
    except ImportError as error:
        raise UserError(
            "Apache Beam is not installed, and --runner needs it; it asks for older packages than the others do, so in an "
            "environment of its own: pip install 'tfdistill[beam]'"
        ) from error


def _with_beam(beam: Any, said: str, step: str, parts: list[int], runner: str, workers: int, flags: list[str]) -> None:
    own = [f"--runner={runner}", "--default_sdk_harness_log_level=WARNING"]
    if runner == RUNNERS["direct"] and workers > 1:
        own += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    try:
        with beam.Pipeline(argv=[*own, *flags]) as pipeline:
            # Only numbers go through Beam; Reshuffle lets each go to a worker of its own.
            numbers = pipeline | step >> beam.Create(parts) | beam.Reshuffle()
            numbers | beam.Map(partial(part_of, said, step))
    except (RuntimeError, ValueError, OSError) as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(
            f"Apache Beam's {runner} ended: {last[:300]}; what is done stays, run the same command again"
        ) from error
