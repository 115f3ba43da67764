"""Two worker processes give the student that one process gives, whatever the recipe."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_recipes import SMALL, write_text

SCRIPT = Path(__file__).with_name("devices.py")


def start(spec: str, out: Path, text: Path, log: Path, **environment: str) -> subprocess.Popen:
    words = [sys.executable, SCRIPT, spec, out, text]
    paths = os.pathsep.join([str(SCRIPT.parents[1]), str(SCRIPT.parent)])
    given = {**os.environ, "PYTHONPATH": paths, "TFDISTILL_CACHE": str(out / "cache"), **environment}
    with log.open("wb") as file:
        return subprocess.Popen(list(map(str, words)), env=given, stdout=file, stderr=file)


@pytest.mark.slow
def test_two_workers_train_every_recipe_as_one_process_does(tmp_path):
    """Weights to 1e-5 after some steps of every stage with SGD, plain-text stages included; losses to 1e-4."""
    text = write_text(tmp_path / "text.txt")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in taken]
    for each in taken:
        each.close()
    logs = [tmp_path / f"{name}.log" for name in ("one", "chief", "other")]
    running = [start("one", tmp_path / "one", text, logs[0])]
    for index in (0, 1):
        config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        running.append(start("multiworker", tmp_path / "two", text, logs[1 + index], TF_CONFIG=json.dumps(config)))
    for process, log in zip(running, logs, strict=True):
        assert process.wait(1800) == 0, log.read_text("utf-8")[-3000:]
    for name in (*SMALL, "dualtrain_sharedproj"):
        one, two = (np.load(tmp_path / place / f"{name}.npz") for place in ("one", "two"))
        np.testing.assert_allclose(one["losses"], two["losses"], rtol=1e-4, err_msg=name)
        for key in set(one) - {"losses"}:
            np.testing.assert_allclose(one[key], two[key], atol=1e-5, err_msg=f"{name} {key}")
