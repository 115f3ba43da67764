"""The inference graphs give what the Keras models give, for every family, head and shape."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from tfdistill.export.convert.graph_parts import Parts
from tfdistill.export.convert.graphs import graph, measure
from tfdistill.export.convert.lstm_graphs import resetting, static_resetting
from tfdistill.export.convert.transformer_graphs import attention, first_attention
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.hf import write_model
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.static_config import StaticConfig
from tfdistill.models.text_model import TextModel

LENGTH = 9
_BERT = {"vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
_ALBERT = {**_BERT, "embedding_size": 8, "num_hidden_layers": 3, "num_hidden_groups": 2}
_MOBILE = {**_BERT, "embedding_size": 8, "intra_bottleneck_size": 6, "num_feedforward_networks": 3}
_LSTM = {"vocab_size": 40, "embedding_size": 8, "lstm_size": 6, "dense_size": 7}
MODELS = {
    "bert": (BertConfig(**_BERT), "classification"),
    "bert, one layer, relu": (BertConfig(**{**_BERT, "num_hidden_layers": 1, "hidden_act": "relu"}), "classification"),
    "bert, tanh gelu": (BertConfig(**_BERT, hidden_act="gelu_new"), "multilabel"),
    "bert, tokens": (BertConfig(**_BERT), "token_classification"),
    "bert, spans": (BertConfig(**_BERT), "question_answering"),
    "bert, next sentence": (BertConfig(**_BERT), "next_sentence"),
    "bert, score": (BertConfig(**_BERT), "regression"),
    "pruned": (
        BertConfig(
            **_BERT,
            heads_per_layer=(3, 2),
            query_key_sizes=(2, 4),
            value_sizes=(4, 1),
            intermediate_sizes=(5, 6),
            attention_head_size=4,
            pooler_size=10,
            embedding_size=5,
        ),
        "classification",
    ),
    "distilbert": (DistilBertConfig(40, 12, 2, 3, 20), "classification"),
    "distilbert, tokens": (DistilBertConfig(40, 12, 2, 3, 20), "token_classification"),
    "distilbert, spans": (DistilBertConfig(40, 12, 2, 3, 20), "question_answering"),
    "roberta": (RobertaConfig(**_BERT), "classification"),
    "roberta, tokens": (RobertaConfig(**_BERT), "token_classification"),
    "electra": (ElectraConfig(**_BERT, embedding_size=8), "classification"),
    "electra, no projection, spans": (ElectraConfig(**_BERT, embedding_size=12), "question_answering"),
    "albert": (AlbertConfig(**_ALBERT), "classification"),
    "albert, inner layers, tokens": (AlbertConfig(**_ALBERT, inner_group_num=2), "token_classification"),
    "mobilebert": (MobileBertConfig(**_MOBILE), "classification"),
    "mobilebert, tokens": (MobileBertConfig(**_MOBILE), "token_classification"),
    "mobilebert, no pooler": (MobileBertConfig(**_MOBILE, classifier_activation=False), "classification"),
    "mobilebert tiny": (MobileBertConfig(**_MOBILE, use_bottleneck_attention=True), "classification"),
    "ib-bert": (
        MobileBertConfig(**_MOBILE, key_query_shared_bottleneck=False, normalization_type="layer_norm"),
        "classification",
    ),
    "mobilebert without bottleneck": (
        MobileBertConfig(**{**_MOBILE, "embedding_size": 12}, use_bottleneck=False, trigram_input=False),
        "classification",
    ),
    "bilstm": (BiLSTMConfig(**_LSTM), "classification"),
    "bilstm, pair": (BiLSTMConfig(**_LSTM, pair=True), "classification"),
    "bilstm, max, 2 layers": (BiLSTMConfig(**_LSTM, pooling="max", num_layers=2), "classification"),
    "bilstm, max, pair, no dense": (
        BiLSTMConfig(**{**_LSTM, "dense_size": 0}, pooling="max", pair=True),
        "classification",
    ),
    "bilstm, tokens, 2 layers": (BiLSTMConfig(**_LSTM, num_layers=2), "token_classification"),
    "static": (StaticConfig(40, 12, 1, 9), "classification"),
    "static, bag of tokens": (StaticConfig(40, 12, 0, dense_layers=1), "classification"),
    "static, pair": (StaticConfig(40, 12, 2, 9, 2, 8, pair=True), "classification"),
    "static, tokens": (StaticConfig(40, 12, 2, 9), "token_classification"),
}


STATIC = [
    "bert",
    "pruned",
    "roberta",
    "electra",
    "albert",
    "mobilebert",
    "mobilebert tiny",
    "bilstm, max, 2 layers",
    "static",
]


def random_model(name: str, directory: Path) -> tuple[TextModel, dict, dict]:
    """One of MODELS with random weights, its config.json and its tensors."""
    config, task = MODELS[name]
    model = TextModel(config, None if task in ("question_answering", "next_sentence") else 3, task)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.normal(1.0 if "gamma" in weight.path else 0.0, 0.3, weight.shape))
    write_model(model, directory)
    return model, json.loads((directory / "config.json").read_text()), load_file(directory / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "table"),
    [(name, table) for name in MODELS for table in ("float", "int8")] + [(name, "static") for name in STATIC],
)
def test_gives_keras_logits(name, table, tmp_path):
    model, config, tensors = random_model(name, tmp_path)
    rng = np.random.default_rng(2)
    lengths = np.array([LENGTH, 1, 2, 5, LENGTH - 1])
    real = (np.arange(LENGTH) < lengths[:, None]).astype("int32")
    batch = {
        "token_ids": rng.integers(0, 40, real.shape).astype("int32") * real,
        "padding_mask": real,
        "segment_ids": ((np.arange(LENGTH) * 2 >= lengths[:, None]) * real).astype("int32"),
    }
    inputs = [{key: value[n : n + 1] for key, value in batch.items()} for n in range(len(lengths))]
    # The graph for static quantization is as exact, also for channels of which calibration saw little.
    peaks = measure(config, tensors, LENGTH, inputs[1:2]) if table == "static" else None
    assert peaks != {} or "bilstm" in name or "static" in name
    kind = "float" if table == "static" else table
    forward = graph(config, tensors, [LENGTH], kind, peaks=peaks).forwards["serving_default"]
    # The graph itself only quantizes the word-piece embeddings.
    tolerance = 5e-2 if table == "int8" else 1e-5
    logits = np.concatenate([forward(**row)["logits"].numpy() for row in inputs])
    expected = model(batch, training=False).numpy()
    assert logits.shape == expected.shape and np.ptp(of_real_tokens(expected, lengths)) > 0.1
    difference = of_real_tokens(logits, lengths) - of_real_tokens(expected, lengths)
    assert np.abs(difference).max() < tolerance


# Products and transpositions of a layer that computes all rows, with three products and with as few as there can be. Where
# values are made of other rows than queries and keys, or are of another size, they keep a product of their own.
@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "products", "transpositions"),
    [
        ("bert, tokens", (6, 4), (4, 2)),
        ("bert", (6, 4), (4, 2)),
        ("pruned", (6, 5), (4, 3)),
        ("distilbert, tokens", (6, 4), (4, 2)),
        ("mobilebert, tokens", (13, 12), (4, 3)),
        ("mobilebert tiny", (12, 10), (4, 2)),
        ("ib-bert", (12, 10), (4, 2)),
        ("mobilebert without bottleneck", (10, 8), (4, 2)),
    ],
)
def test_one_product_for_query_key_and_value(name, products, transpositions, tmp_path):
    _, config, tensors = random_model(name, tmp_path)
    ids = np.array([[2, 7, 9, 30, 3, 0, 0, 0, 0]], "int32")
    row = {"token_ids": ids, "padding_mask": (ids > 0).astype("int32"), "segment_ids": ids * 0}
    results = []
    for fuses in (False, True):
        forward = graph(config, tensors, [LENGTH], "float", fuses=fuses).forwards["serving_default"]
        kinds = Counter(each.type for each in forward.get_concrete_function().graph.get_operations())
        results.append((forward(**row)["logits"].numpy(), kinds))
    (apart, before), (together, after) = results
    assert np.ptp(apart) > 0.1
    np.testing.assert_allclose(together, apart, atol=1e-5)
    full = 2 if "tokens" in name else 1  # layers; of a classifier's last one only the first row is computed
    assert before["MatMul"] - after["MatMul"] == full * (products[0] - products[1])
    assert (before["Transpose"], after["Transpose"]) == tuple(full * each for each in transpositions)
    # Each transposition has a reshape. The others belong to the ids, the segments (which DistilBERT does not read) and the mask
    # that MobileBERT reads, four to a last layer that computes one row, or one to the logits of all tokens.
    inputs = 2 + bool(config.get("trigram_input"))
    rest = inputs + (1 if "tokens" in name else 4)
    assert before["Reshape"] == full * 4 + rest and after["Reshape"] == full * transpositions[1] + rest


def test_one_head_or_row_is_not_transposed(tmp_path):
    tensors = {}
    rng = np.random.default_rng(0)
    for name in "qkv":
        tensors[f"{name}.weight"] = rng.normal(0, 0.3, (4, 12)).astype("float32")
        tensors[f"{name}.bias"] = rng.normal(0, 0.3, 4).astype("float32")
    attend = attention(Parts(tensors, "float", tf.constant), ("q", "k", "v"), 1, 0.5)
    x, key_bias = tf.constant(rng.normal(0, 1, (7, 12)).astype("float32")), np.zeros((1, 7), "float32")
    q, k, v = (x.numpy() @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"] for name in "qkv")
    scores = np.exp(0.5 * q @ k.T)
    np.testing.assert_allclose(attend(x, x, x, key_bias), scores / scores.sum(axis=1, keepdims=True) @ v, atol=1e-5)
    traced = tf.function(attend, autograph=False).get_concrete_function(x, x, x, tf.constant(key_bias))
    assert "Transpose" not in {each.type for each in traced.graph.get_operations()}


def test_the_first_row_alone_equals_the_first_of_all():
    """The last layer's shortcut: two heads, queries and keys 4 wide, values 3, as after pruning; padding at the end."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, size in (("q", 8), ("k", 8), ("v", 6)):
        tensors[f"{name}.weight"] = rng.normal(0, 0.3, (size, 12)).astype("float32")
        tensors[f"{name}.bias"] = rng.normal(0, 0.3, size).astype("float32")
    parts = Parts(tensors, "float", tf.constant)
    x = tf.constant(rng.normal(0, 1, (7, 12)).astype("float32"))
    key_bias = np.array([[[0, 0, 0, 0, 0, -100.0, -100.0]]], "float32")
    expected = attention(parts, ("q", "k", "v"), 2, 0.5)(x, x, x, key_bias)
    assert expected.shape == (7, 6)
    for kind in (attention, first_attention):
        found = kind(parts, ("q", "k", "v"), 2, 0.5)(x[:1], x, x, key_bias)
        assert found.shape == (1, 6)
        np.testing.assert_allclose(found, expected[:1], atol=1e-6)


def test_the_reset_closes_the_gates():
    rng = np.random.default_rng(0)
    kernel, recurrent, bias = (rng.normal(0, 0.3, shape).astype("float32") for shape in ((4, 12), (3, 12), (12,)))
    extended, first = resetting(kernel, recurrent, bias)
    assert extended.shape == (5, 12) and np.abs(extended).max() == np.abs(kernel).max()
    assert first.shape == (1, 5) and not first[0, :4].any()
    worst = first[0] @ extended + np.abs(recurrent).sum(axis=0) + bias
    gates = np.split(worst, 4)
    assert max(gates[0].max(), gates[1].max(), gates[3].max()) < -30
    np.testing.assert_array_equal(np.split(extended[-1], 4)[2], 0)


def test_the_static_reset_closes_the_gates_with_small_values():
    rng = np.random.default_rng(0)
    kernel, bias = (rng.normal(0, 0.3, shape).astype("float32") for shape in ((4, 12), (12,)))
    extended, firsts = static_resetting(kernel, bias, 0.5)
    assert firsts.shape == (3, len(extended)) and np.abs(extended).max() == np.abs(kernel).max()
    assert not firsts[:, :4].any() and firsts.max() == 1.0  # twice the peak, so that int8 has room for the embeddings
    sums = np.split(firsts[0] @ extended + bias, 4)
    assert max(sums[0].max(), sums[1].max(), sums[3].max()) < -11 and np.abs(sums[2] - bias[6:9]).max() < 1e-6
