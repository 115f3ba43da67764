"""What is cut out gives the output of what is set to zero, is smaller, and opens again."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from helpers import inputs, tiny_bert, tiny_bilstm

from tfdistill.compress.heads import zero_heads
from tfdistill.compress.layerdrop import keep_layers
from tfdistill.compress.structured import alive, compact, cut, everything, zero
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(45))]


def tiny_distilbert(task="classification"):
    sizes = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16, "dropout": 0.0, "attention_dropout": 0.0}
    return TextModel(
        DistilBertConfig(vocab_size=50, max_position_embeddings=16, initializer_range=0.3, **sizes), 3, task
    )


def mixed(model):
    """A `Kept` that takes something of every kind, and other sizes in each layer."""
    full = everything(model)
    (_, first), (_, second) = full.layers
    first = type(first)((1,), ((0, 2, 3),), ((1, 2),), (0, 3, 4, 9))
    second = type(second)((0, 1), ((1, 2), (0, 3)), ((0, 1, 3), (1, 2, 3)), (2, 5, 6))
    return type(full)(((1, first), (2, second)), full.hidden, full.pooler[1::2])


def test_whole_model_is_a_plain_copy():
    model = tiny_bert()
    copy = cut(model, everything(model))
    assert copy.config == model.config and copy is not model
    np.testing.assert_array_equal(copy(inputs()), model(inputs()))


@pytest.mark.heavy
@pytest.mark.parametrize("make", [tiny_bert, tiny_distilbert, lambda: tiny_distilbert("token_classification")])
def test_cut_equals_zeroed_and_compact_finds_it(make):
    model = make()
    kept = mixed(model)
    small = cut(model, kept)
    assert small.count_params() < model.count_params()
    assert small.config.heads_per_layer == (1, 2) and small.config.query_key_sizes == (3, 2)
    assert small.config.value_sizes == (2, 3) and small.config.intermediate_sizes == (4, 3)
    zero(model, kept)
    np.testing.assert_allclose(small(inputs()), model(inputs()), atol=1e-5)
    again = compact(model)
    assert again.config == small.config
    np.testing.assert_allclose(again(inputs()), small(inputs()), atol=1e-6)
    features = ("hidden_states", "embeddings")
    for ours, theirs in zip(
        small.features(inputs(), features).hidden_states, model.features(inputs(), features).hidden_states, strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_zeros_stay_zero_in_training():
    model = tiny_bert(dropout=0.2)
    zero(model, mixed(model))
    before = alive(model)
    model.compile(optimizer=keras.optimizers.AdamW(1e-2, weight_decay=0.1), loss="mse", jit_compile=False)
    start = model.get_weights()
    model.fit(inputs(), np.ones((22, 3), "float32"), epochs=3, batch_size=8, verbose=0)
    assert not np.allclose(start[0], model.get_weights()[0])
    assert alive(model) == before


@pytest.mark.heavy
def test_a_twice_pruned_model_counts_from_what_is_left():
    model = tiny_bert()
    kept = mixed(model)
    small = cut(model, kept)
    zero_heads(small, [(2, 0)])
    smaller = compact(small)
    zero(model, kept)
    zero_heads(model, [(2, 0)])
    np.testing.assert_allclose(smaller(inputs()), model(inputs()), atol=1e-5)
    assert smaller.config.heads_per_layer == (1, 1)


@pytest.mark.heavy
def test_residual_width_leaves_the_model_of_the_kept_dimensions():
    # A narrow model, hidden among two more dimensions of noise, is found again.
    narrow = tiny_bert(width=6)
    config = BertConfig(
        **{
            name: getattr(narrow.config, name)
            for name in ("vocab_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
        },
        hidden_size=8,
        intermediate_size=12,
        attention_head_size=3,
        pooler_size=6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    wide, place = TextModel(config, 3), np.array([0, 1, 3, 4, 6, 7])
    for ours, theirs in zip(wide.trainable_variables, narrow.trainable_variables, strict=True):
        value = np.random.default_rng(1).normal(size=ours.shape).astype("float32")
        index = tuple(place if a != b else np.arange(b) for a, b in zip(ours.shape, theirs.shape, strict=True))
        value[np.ix_(*index)] = theirs.numpy()
        ours.assign(value)
    full = everything(wide)
    small = cut(wide, type(full)(full.layers, tuple(place.tolist()), full.pooler))
    assert small.config.hidden_size == 6 and small.config.head_size == 3 and small.config.pooler_size is None
    np.testing.assert_allclose(small(inputs()), narrow(inputs()), atol=1e-5)


@pytest.mark.heavy
def test_even_shapes_stay_a_config_that_transformers_reads():
    model = tiny_bert()
    full = everything(model)
    layers = tuple((n, type(layer)(layer.heads, layer.query_key, layer.value, (0, 5, 7))) for n, layer in full.layers)
    small = cut(model, type(full)(layers, full.hidden, full.pooler))
    assert type(small.config) is BertConfig and small.config.intermediate_size == 3
    assert type(keep_layers(model, [2]).config) is BertConfig
    assert type(keep_layers(tiny_distilbert(), [2]).config) is DistilBertConfig


@pytest.mark.heavy
@pytest.mark.parametrize("make", [tiny_bert, tiny_distilbert])
def test_a_pruned_directory_says_so_and_opens_again(tmp_path, make):
    model = make()
    model.label_names = ("a", "b", "c")
    model.tokenizer = Tokenizer(VOCABULARY)
    small = cut(model, mixed(model))
    said = json.loads((save_directory(small, tmp_path / "small") / "config.json").read_text("utf-8"))
    assert said["model_type"] == "tfdistill_pruned_bert" and said["heads_per_layer"] == [1, 2]
    again = load_directory(tmp_path / "small")
    assert again.config == small.config and again.label_names == ("a", "b", "c")
    np.testing.assert_array_equal(again(inputs()), small(inputs()))
    small.save(tmp_path / "small.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "small.keras")(inputs()), small(inputs()))
    # Files of pruned models address their layers by this name since before BERT and pruned BERT were one class.
    with zipfile.ZipFile(tmp_path / "small.keras") as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
    assert set(weights["encoder"]) == {"blocks", "embedding", "embeddings", "pooler", "vars"}
    assert set(weights["encoder/blocks"]) == {"pruned_bert_layer", "pruned_bert_layer_1"}


@pytest.mark.heavy
def test_what_cannot_be_cut_is_one_line():
    model = tiny_bert()
    full = everything(model)
    with pytest.raises(UserError, match="bilstm"):
        everything(tiny_bilstm())
    with pytest.raises(UserError, match="at least one layer"):
        cut(model, type(full)((), full.hidden, full.pooler))
    uneven = type(full.layers[0][1])((0, 1), ((0,), (0, 1)), ((0,), (1,)), (0,))
    with pytest.raises(UserError, match="Layer 1: 2 heads"):
        cut(model, type(full)(((1, uneven), full.layers[1]), full.hidden, full.pooler))
    with pytest.raises(UserError, match="cut"):
        zero(model, type(full)(full.layers, full.hidden[:4], full.pooler))
    with pytest.raises(UserError, match="masked_lm"):
        lm = tiny_bert(outputs=50, task="masked_lm")
        cut(lm, type(full)(full.layers, full.hidden[:4], ()))


def test_a_config_with_the_wrong_number_of_layers_is_refused():
    with pytest.raises(UserError, match="heads_per_layer"):
        BertConfig(heads_per_layer=(1, 2))
    with pytest.raises(UserError, match="hidden_size"):
        BertConfig(hidden_size=10, num_attention_heads=3)
    with pytest.raises(UserError, match="layerdrop"):
        BertConfig(layerdrop=1.0)
