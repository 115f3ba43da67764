"""The recipe head_pruning: which heads it removes, and when it stops."""

from __future__ import annotations

import numpy as np
import pytest
from pruned import pruning_log, trained


@pytest.mark.heavy
def test_head_pruning_without_training_leaves_the_other_weights(two_layers, tmp_path):
    _, _, student = trained("head_pruning", two_layers, tmp_path / "run", epochs=0, share=0.0, step=0.25)
    heads = two_layers.config.num_attention_heads
    assert student.config.heads_per_layer == (1, 1)
    assert heads > 1 and student.count_params() < two_layers.count_params()
    np.testing.assert_array_equal(
        student.encoder.blocks[0].intermediate.kernel, two_layers.encoder.blocks[0].intermediate.kernel
    )
    removed = [entry["heads_removed"] for entry in pruning_log(tmp_path / "run")]
    assert removed[0] == 0 and removed == sorted(removed) and removed[-1] == 2 * (heads - 1)


@pytest.mark.slow
def test_head_pruning_that_may_lose_nothing_stops(two_layers, tmp_path):
    _, _, student = trained("head_pruning", two_layers, tmp_path / "run", epochs=0.5, share=1.0, step=0.25)
    steps = pruning_log(tmp_path / "run")
    kept = [entry for entry in steps if entry["kept"]]
    assert all(entry["dev_score"] >= steps[0]["dev_score"] for entry in kept)
    left = student.config.heads_per_layer or (two_layers.config.num_attention_heads,) * 2
    gone = sum(two_layers.config.num_attention_heads - heads for heads in left)
    assert gone == kept[-1]["heads_removed"]
