"""Processes and Apache Beam: the same shards from any number of workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
from made_corpora import made, write_text

from tfdistill.corpora import build


@pytest.mark.slow
def test_processes_and_interruptions_change_nothing(tmp_path, vocabulary, monkeypatch):
    text = write_text(tmp_path / "a.txt")
    whole = made(tmp_path, vocabulary, text)
    done = []

    def stops(said, step, part):
        done.append(part)
        if len(done) == 12:
            raise KeyboardInterrupt
        build.run_part(said, step, part)

    monkeypatch.setattr("tfdistill.corpora.workers.part_of", stops)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path, vocabulary, text, out="other")
    monkeypatch.undo()
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    first = {p: p.stat().st_mtime_ns for p in (tmp_path / "other").rglob("*.npy")}
    other = made(tmp_path, vocabulary, text, out="other", workers=2)
    assert first and all(not path.exists() or path.stat().st_mtime_ns == then for path, then in first.items())
    sums = [json.loads((where / "manifest.json").read_text())["sha256"] for where in (whole, other)]
    assert sums[0] == sums[1] and not (other / "work").exists()


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = (
        "import os, time; from tfdistill.corpora.workers import pool_of\n"
        "with pool_of(2) as pool:\n"
        "    pool.submit(os.getpid).result(); print('begun', flush=True); list(pool.map(time.sleep, [60, 60]))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    process.kill()
    assert process.communicate(timeout=20) == ("", None)  # which ends when the last process that writes there does


@pytest.mark.skipif(not find_spec("apache_beam"), reason="make beam has an environment with Apache Beam")
def test_beam_makes_the_same_shards(tmp_path, vocabulary):
    text = write_text(tmp_path / "a.txt")
    command = [
        sys.executable,
        "-m",
        "tfdistill",
        "corpus",
        str(text),
        "--tokenizer",
        vocabulary,
        "--shard-mb",
        "0.0015",
    ]
    for out, options in (
        ("local", ()),
        ("direct", ("--runner", "direct")),
        ("two", ("--runner", "direct", "--workers", "2")),
    ):
        subprocess.run([*command, "--out", str(tmp_path / out), *options], check=True, env={**os.environ})
    sums = [json.loads((tmp_path / out / "manifest.json").read_text())["sha256"] for out in ("local", "direct", "two")]
    assert sums[0] == sums[1] == sums[2]
