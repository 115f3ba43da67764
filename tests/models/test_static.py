"""The static encoder: its mean, its convolution, and the siamese variant."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import inputs

from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.static_config import StaticConfig


def tiny(**changes) -> presets.TextModel:
    sizes = {"vocab_size": 4, "embedding_size": 2, "convolution_layers": 0, "num_outputs": 2, "dropout": 0.0}
    return presets.new("static", **{**sizes, **changes})


def texts(ids: list[list[int]], mask: list[list[int]]) -> dict[str, np.ndarray]:
    token_ids = np.array(ids, "int32")
    return {"token_ids": token_ids, "padding_mask": np.array(mask, "int32"), "segment_ids": np.zeros_like(token_ids)}


def test_the_mean_is_weighted_by_the_softmax_of_the_scores():
    model = tiny()
    model.encoder.embedding.embeddings.assign([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    model.encoder.token_score.embeddings.assign([[0.0], [0.0], [np.log(3.0)], [7.0]])
    pooled = model.features(texts([[1, 2, 3], [1, 1, 2]], [[1, 1, 0], [1, 1, 1]]), ("pooled",)).pooled
    np.testing.assert_allclose(pooled, [[0.25, 0.75], [0.4, 0.6]], atol=1e-6)


def test_the_convolution_reads_three_tokens_and_the_maximum_is_pooled():
    model = tiny(convolution_layers=1, convolution_size=1)
    model.encoder.embedding.embeddings.assign([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    (convolution,) = model.encoder.convolutions
    # The first column of the token before, the second of the token itself, and the first of the token after, times 1, 10, 100.
    convolution.kernel.assign(np.array([[1.0, 0.0, 0.0, 10.0, 100.0, 0.0]]).T)
    convolution.bias.assign([-0.5])
    features = model.features(texts([[1, 2, 1, 0]], [[1, 1, 1, 0]]), ("pooled", "hidden_states"))
    np.testing.assert_allclose(features.hidden_states[0][0, :, 2], [0.0, 110.5, 0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(features.pooled, [[2 / 3, 1 / 3, 110.5]], atol=1e-5)
    assert (model.width("pooled"), model.width("hidden_states")) == (3, 3)


def test_siamese_models_compare_two_texts():
    model = tiny(pair=True, convolution_layers=0)
    model.encoder.embedding.embeddings.assign([[9.0, 9.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    both = texts([[1, 2, 0]], [[1, 1, 0]])
    both["segment_ids"] = np.array([[0, 1, 0]], "int32")
    pooled = model.features(both, ("pooled",)).pooled
    np.testing.assert_allclose(pooled, [[1, 0, 0, 2, 1, 2, 0, 0]], atol=1e-6)
    assert model.num_layers == 0
    with pytest.raises(UserError, match="siamese"):
        tiny(pair=True, task="token_classification")


@pytest.mark.parametrize(
    ("field", "value"), [("convolution_layers", 3), ("dense_layers", -1), ("embedding_size", 0), ("dropout", 1.0)]
)
def test_sizes_out_of_range_are_refused(field, value):
    with pytest.raises(UserError, match=field):
        StaticConfig(**{field: value})


def test_padding_and_absent_segments_change_nothing():
    model = tiny(vocab_size=50, convolution_layers=2, dense_layers=1)
    x = inputs(rows=5)
    longer = {key: np.pad(value, [(0, 0), (0, 3)]) for key, value in x.items()}
    del longer["segment_ids"]
    np.testing.assert_allclose(model(x), model(longer), atol=1e-6)
