"""Distribute the work of `tfdistill corpus` to processes of this machine or to Apache Beam."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType

from tfdistill.corpora import storage
from tfdistill.corpora.build import run_part
from tfdistill.corpora.manifest import Manifest, check
from tfdistill.corpora.work import STEPS, Work, begin, failure, finish, note_failure, teacher_of
from tfdistill.errors import UserError
from tfdistill.system.console import Advance, task
from tfdistill.system.files import LOCK
from tfdistill.system.locks import locked

RUNNERS = {"direct": "DirectRunner", "flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner"}


def make_corpus(
    work: Work, source: str, runner: str = "local", workers: int = 1, flags: Sequence[str] = ()
) -> Manifest:
    """Do the parts of `work` that are not done, and write the manifest.

    Args:
        work: the work.
        source: the text, for the manifest and messages.
        runner: "local" or a name in `RUNNERS`.
        workers: the number of processes, if the runner is local or direct.
        flags: further options of Apache Beam.

    Raises:
        UserError: text, vocabulary or teacher cannot be read, the directory holds another corpus, another
            process writes it, or a worker was lost.
    """
    beam = None if runner == "local" else _beam()
    if work.teacher is not None:
        teacher_of(work.teacher)  # An unusable teacher must fail before hours of work.
    is_local = "://" not in work.out
    with locked(Path(work.out) / LOCK, f"writes {work.out}") if is_local else nullcontext():
        if not begin(work):
            for step in STEPS:
                _run_step(work, step, beam, RUNNERS.get(runner, ""), workers, flags)
        elif is_local:
            check(Path(work.out))
        return finish(work, source)


def _run_step(work: Work, step: str, beam: ModuleType | None, runner: str, workers: int, flags: Sequence[str]) -> None:
    left = [part for part in range(work.parts(step)) if not work.is_done(step, part)]
    with task(f"{STEPS.index(step) + 1} of {len(STEPS)}: {step}", work.parts(step)) as advance:
        advance(work.parts(step) - len(left))
        with _watched(work, step, left, advance):
            if left:
                if beam is None:
                    _with_processes(work.as_text(), step, left, workers)
                else:
                    _with_beam(beam, work.as_text(), step, left, runner, workers, flags)


@contextmanager
def _watched(work: Work, step: str, left: list[int], advance: Advance) -> Iterator[None]:
    """Move the progress bar as the files of parts appear; afterwards all must exist."""
    waiting, ended = set(left), threading.Event()

    def look() -> None:
        for part in sorted(waiting):
            if work.is_done(step, part):
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
            failure(work) or f"{len(waiting)} parts of the step '{step}' are missing. Repeat the same command."
        )


def part_of(work_text: str, step: str, part: int) -> None:
    """Do one part in any process; an error that the user can fix is stored for the main process."""
    try:
        run_part(work_text, step, part)
    except UserError as error:
        note_failure(Work.from_text(work_text), str(error))
    except storage.failures() as error:
        where = f", {error.filename}" if isinstance(error, OSError) and error.filename else ""
        problem = f"{step}, part {part}: {storage.why(error)}{where}"
        note_failure(Work.from_text(work_text), f"{problem}. Free some room, then repeat the same command.")


def _with_processes(work_text: str, step: str, parts: list[int], workers: int) -> None:
    if workers == 1:
        for part in parts:
            part_of(work_text, step, part)
        return
    try:
        with pool_of(min(workers, len(parts))) as pool:
            list(pool.map(partial(part_of, work_text, step), parts))
    except BrokenProcessPool as error:
        raise UserError(
            f"a process of the step '{step}' was killed, perhaps because memory ran out. Repeat the same command with "
            "fewer `--workers`; finished parts stay. Or delete the corpus and use a smaller `--shard-mb`."
        ) from error


def pool_of(workers: int) -> ProcessPoolExecutor:
    """Return a pool whose processes end with this one, even if it is killed."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)


def _begin_worker() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # The processes are the parallelism.
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)  # This is safe at any moment: a part is complete or does not exist.

    threading.Thread(target=watch, daemon=True).start()


def _beam() -> ModuleType:
    try:
        return importlib.import_module("apache_beam")
    except ImportError as error:
        raise UserError(
            "Apache Beam is not installed, and `--runner` needs it. It needs older packages than the other extras: "
            "install it in a separate environment with pip install 'tfdistill[beam]'."
        ) from error


def _with_beam(
    beam: ModuleType, work_text: str, step: str, parts: list[int], runner: str, workers: int, flags: Sequence[str]
) -> None:
    options = [f"--runner={runner}", "--default_sdk_harness_log_level=WARNING"]
    if runner == RUNNERS["direct"] and workers > 1:
        options += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    try:
        with beam.Pipeline(argv=[*options, *flags]) as pipeline:
            # Only numbers go through Beam. Reshuffle sends each to a different worker.
            numbers = pipeline | step >> beam.Create(parts) | beam.Reshuffle()
            numbers | beam.Map(partial(part_of, work_text, step))
    except (RuntimeError, ValueError, OSError) as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(
            f"Apache Beam's {runner} ended: {last[:300]}. Finished parts stay; repeat the same command."
        ) from error
