"""The main job's parts that can be tested without minutes of training."""

from __future__ import annotations

import pytest

from tfdistill.commands.quickstart_job import floor, run_quickstart
from tfdistill.errors import UserError


def test_a_directory_with_other_things_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=tmp_path.name):
        run_quickstart(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.heavy
@pytest.mark.network
def test_floor_on_the_real_data():
    from tfdistill.data.demo import movie_snippets

    found = floor(movie_snippets(), seed=1)
    assert found.test_accuracy is not None and 0.78 < found.test_accuracy < 0.86 and found.dev_accuracy is not None
