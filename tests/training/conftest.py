"""Runs that the tests of resuming share."""

from __future__ import annotations

import pytest
from stopped_runs import make, stopped

from tfdistill.training.run_directory import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An undisturbed run: its directory and what it gave."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, run(make(), out, seed=1)


@pytest.fixture(scope="session")
def half(tmp_path_factory):
    """The same run, stopped by Ctrl-C in the middle of the second round."""
    out = tmp_path_factory.mktemp("half") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stopped(patch, out, make(), 0, 7, by=KeyboardInterrupt, checkpoint_seconds=1000.0)
    return out
