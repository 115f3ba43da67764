"""Run conversions in worker processes, and report which one failed and why. Imports no TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Lock
from typing import IO

from tfdistill.errors import UserError

_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "PYTHONWARNINGS": "ignore",
    # The converter copies and frees all weights; with glibc's defaults it spends most of its time on page faults.
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**27),
}


@dataclass(frozen=True)
class Job:
    """Files to convert from one graph of one student directory.

    Args:
        number: index of the model.
        place: the directory, which also receives the files, as `{mode}.tflite`.
        lengths: tokens in a row of each signature.
        table: how the graph stores word-piece embeddings, "float" or "int8".
        modes: the tool that makes each mode (see `tfdistill.export.convert.modes`).
        calibration: an .npz file of inputs (n, longest) for calibrated modes, otherwise None.
        parameters: number of weights, to start the longest jobs first.
        probabilities: return probabilities instead of logits.
        text: for a file that takes text, `lower_case` and `pair` of
            `tfdistill.export.convert.text_graph.reads_text`.
        fuses: compute query, key and value in one product. Calibrated modes do not, since the three
            would share one range.
    """

    number: int
    place: Path
    lengths: tuple[int, ...]
    table: str
    modes: Mapping[str, str]
    calibration: Path | None
    parameters: int
    probabilities: bool = False
    text: Mapping[str, bool] | None = None
    fuses: bool = True


def run_jobs(jobs: Sequence[Job], workers: int, on_file: Callable[[Job, str], None]) -> None:
    """Run `jobs` in order, in up to `workers` processes at a time.

    Args:
        jobs: the jobs.
        workers: number of processes.
        on_file: called with a job and a mode when that file is written, by one thread at a time.

    Raises:
        UserError: a converter failed, or `on_file` raised it. All processes are killed then.
    """
    waiting: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        waiting.put(job)
    processes: list[subprocess.Popen[str]] = []
    lock = Lock()

    def report(job: Job, mode: str) -> None:
        with lock:
            on_file(job, mode)

    def work() -> None:
        with tempfile.TemporaryFile() as log:
            process = _start(log)
            processes.append(process)
            try:
                while True:
                    job = waiting.get_nowait()
                    _one_job(process, job, log, partial(report, job))
            except Empty:
                return
            finally:
                for pipe in (process.stdin, process.stdout):
                    assert pipe is not None
                    with suppress(BrokenPipeError):  # the process has ended without reading everything
                        pipe.close()

    with ThreadPoolExecutor(max(1, min(workers, len(jobs)))) as pool:
        futures = [pool.submit(work) for _ in range(max(1, min(workers, len(jobs))))]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
        finally:
            # After an error the other processes would run for minutes. Otherwise they end with their input.
            failed = any(not future.done() or future.exception() is not None for future in futures)
            for process in processes:
                if failed:
                    process.kill()
                process.wait()


def _start(log: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tfdistill.export.convert.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env={**os.environ, **_SETTINGS},
        text=True,
    )


def _one_job(process: subprocess.Popen[str], job: Job, log: IO[bytes], on_file: Callable[[str], None]) -> None:
    assert process.stdin is not None and process.stdout is not None
    missing = list(job.modes)
    try:
        process.stdin.write(json.dumps(asdict(job), default=str) + "\n")
        process.stdin.flush()
        for line in process.stdout:  # libraries may print other lines
            if line.strip() in missing:
                missing.remove(line.strip())
                on_file(line.strip())
            if not missing:
                return
    except BrokenPipeError:  # the process has ended; the exit code gives the reason
        pass
    code = process.wait()
    if code < 0:
        reason = f"was killed by {signal.Signals(-code).name}"
    else:
        log.seek(0)
        lines = [line.strip() for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        reason = f"failed: {lines[-1][:300] if lines else f'exit code {code}'}"
    length = ", ".join(map(str, job.lengths))
    raise UserError(
        f"the TFLite converter {reason} (at {missing[0]}, length {length}). Try another quantization or length."
    )
