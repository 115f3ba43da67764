"""The main job's parts that can be tested without minutes of training."""

from __future__ import annotations

import pytest

from tfdistill.commands.quickstart_job import floor


def test_a_directory_with_other_things_is_not_touched(tmp_path, tfdistill):
    (tmp_path / "thesis.txt").write_text("mine")
    code, _, err = tfdistill("quickstart", "--out", tmp_path)
    assert code == 2 and tmp_path.name in err
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.heavy
@pytest.mark.network
def test_floor_on_the_real_data():
    from tfdistill.data.demo import movie_snippets

    found = floor(movie_snippets(), seed=1)
    assert found.test_accuracy is not None and 0.78 < found.test_accuracy < 0.86 and found.dev_accuracy is not None
