import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.batching import Examples, dataset, plan, widths_of
from tfdistill.errors import UserError
from tfdistill.text.encoded import Encoded


def encoded(lengths, start=1):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("int64")
    ids = np.concatenate([np.full(n, start + row) for row, n in enumerate(lengths)]).astype("int32")
    return Encoded(ids, (ids % 2).astype("int32"), offsets)


@given(st.lists(st.integers(2, 64), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 3), st.booleans())
def test_every_row_comes_once(lengths, batch_size, epoch, shuffle):
    batches = plan(np.array(lengths), batch_size, seed=1, epoch=epoch, shuffle=shuffle)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(len(batch) < batch_size for batch in batches) <= 1


def test_a_plan_depends_on_seed_and_epoch_alone():
    lengths = np.arange(2, 102) % 30 + 2
    first, again, other_epoch, other_seed = (
        np.concatenate(plan(lengths, 8, seed=s, epoch=e)) for s, e in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert (first == again).all() and (first != other_epoch).any() and (first != other_seed).any()


@pytest.mark.parametrize(("mean", "spread"), [(27, 11), (11, 4)])
def test_little_padding(mean, spread):
    """On lengths like those of movie snippets, and of questions to an assistant, less than a tenth of all positions is padding."""
    lengths = np.clip(np.random.default_rng(0).normal(mean, spread, 8000), 4, 64).astype(int)
    batches = plan(lengths, 32, seed=0, epoch=0)
    total = sum(len(rows) * lengths[rows].max() for rows in batches)
    assert 1 - lengths.sum() / total < 0.05


def test_batches_hold_what_the_rows_hold():
    lengths = [3, 5, 2, 6, 4]
    labels, logits, weight = np.arange(5), np.arange(10.0).reshape(5, 2), np.arange(5) / 10
    examples = Examples(encoded(lengths), labels, encoded(lengths, 100), {"logits": logits}, weight)
    seen = []
    for batch in dataset(examples, 2, seed=3, epochs=2):
        for row, label in enumerate(batch["labels"].numpy()):
            n = lengths[label]
            for side, start in (("student", 1), ("teacher", 100)):
                inputs = {key: value.numpy()[row] for key, value in batch[side].items()}
                assert (inputs["token_ids"][:n] == start + label).all() and not inputs["token_ids"][n:].any()
                assert inputs["padding_mask"].sum() == n and inputs["padding_mask"][:n].all()
                assert (inputs["segment_ids"][:n] == (start + label) % 2).all() and not inputs["segment_ids"][n:].any()
            np.testing.assert_array_equal(batch["teacher_features"]["logits"][row], logits[label])
            assert batch["sample_weight"].numpy()[row] == weight[label]
            seen.append(int(label))
    assert sorted(seen) == sorted(2 * list(range(5)))


@pytest.mark.parametrize("first_step", [1, 3, 5])
def test_steps_left_out_change_nothing_of_the_others(first_step):
    """Three batches in each of two epochs; the middle of an epoch, its end, the middle of the next."""
    examples = Examples(encoded([3, 5, 2, 6, 4]), np.arange(5))
    whole, rest = (list(dataset(examples, 2, seed=3, epochs=2, first_step=first)) for first in (0, first_step))
    assert len(whole) == 6 and len(rest) == 6 - first_step
    for one, other in zip(whole[first_step:], rest, strict=True):
        np.testing.assert_array_equal(one["labels"], other["labels"])
        np.testing.assert_array_equal(one["student"]["token_ids"], other["student"]["token_ids"])


def test_bad_sizes():
    with pytest.raises(UserError, match="batch_size"):
        plan(np.array([3]), 0, seed=0, epoch=0)
    with pytest.raises(UserError, match="no examples"):
        dataset(Examples(encoded([3]).take([])), 2)


@given(
    st.lists(st.integers(2, 64), min_size=1, max_size=200),
    st.integers(1, 20),
    st.sampled_from(["auto", (64,), (8, 20, 64)]),
)
def test_buckets_hold_every_row_and_nothing_else_changes(lengths, batch_size, buckets):
    lengths = np.array(lengths)
    widths = widths_of(lengths, batch_size, buckets)
    assert max(widths) >= lengths.max() and list(widths) == sorted(set(widths)) and len(widths) <= 12
    if buckets == "auto":
        one_each = sum(
            len(rows) * -(-lengths[rows].max() // 4) * 4 for rows in plan(lengths, batch_size, seed=0, epoch=0)
        )
        batches = plan(lengths, batch_size, seed=0, epoch=0)
        padded = sum(len(rows) * min(w for w in widths if w >= lengths[rows].max()) for rows in batches)
        assert 1 - lengths.sum() / padded <= max(0.1, 1 - lengths.sum() / one_each) + 1e-9 or len(widths) == 12


def test_buckets_of_lengths_like_those_of_movie_snippets():
    lengths = np.clip(np.random.default_rng(0).normal(27, 11, 8000), 4, 64).astype(int)
    widths = widths_of(lengths, 32, "auto")
    padded = sum(
        len(rows) * min(w for w in widths if w >= lengths[rows].max()) for rows in plan(lengths, 32, seed=0, epoch=0)
    )
    assert 1 - lengths.sum() / padded <= 0.1 and 3 <= len(widths) <= 12
    # The dataset of one bucket, the worst of all, holds the same rows.
    for first, second in zip(
        *(dataset(Examples(encoded([3, 5, 2, 6])), 2, seed=3, buckets=b) for b in ((), (8,))), strict=True
    ):
        ids = second["student"]["token_ids"].numpy()
        assert ids.shape[1] == 8 and not ids[:, first["student"]["token_ids"].shape[1] :].any()
        np.testing.assert_array_equal(ids[:, : first["student"]["token_ids"].shape[1]], first["student"]["token_ids"])
    with pytest.raises(UserError, match="6 tokens"):
        dataset(Examples(encoded([3, 6])), 2, buckets=(4,))
