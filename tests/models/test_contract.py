"""One behavioural contract that every model passes: families, variants and heads."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert, tiny_bilstm

from tfdistill.distill.features import FEATURES
from tfdistill.models import presets
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY_BERT = Path(__file__).parent / "tiny_bert"
SMALL = {"vocab_size": 50, "max_position_embeddings": 16, "initializer_range": 0.3}
MOBILE = {
    **SMALL,
    "hidden_size": 10,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 7,
    "embedding_size": 3,
    "intra_bottleneck_size": 6,
}

LIKE_BERT = {
    **SMALL,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def distilbert(task: str, **kwargs) -> TextModel:
    sizes = {"dim": 6, "n_layers": 2, "n_heads": 2, "hidden_dim": 9, "dropout": 0.0, "attention_dropout": 0.0}
    return presets.new("distilbert", task=task, seq_classif_dropout=0.0, qa_dropout=0.0, **SMALL, **sizes, **kwargs)


def mobile(name: str, task: str, **kwargs) -> TextModel:
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return presets.new(name, task=task, **MOBILE, **rates, **kwargs)


def bilstm(**kwargs) -> TextModel:
    task, outputs = kwargs.pop("task", "classification"), kwargs.pop("outputs", 3)
    sizes = {"vocab_size": 50, "embedding_size": 6, "lstm_size": 5, "dense_size": 7, "dropout": 0.0}
    return presets.new("bilstm", num_outputs=outputs, task=task, **{**sizes, **kwargs})


def static(**kwargs) -> TextModel:
    outputs, sizes = kwargs.pop("num_outputs", 3), {"embedding_size": 6, "convolution_size": 5, "dense_size": 7}
    return presets.new("static", vocab_size=50, num_outputs=outputs, dropout=0.0, **sizes, **kwargs)


MODELS = {
    "bert": tiny_bert,
    "bert regression": lambda: tiny_bert(outputs=1, task="regression"),
    "bert multilabel": lambda: tiny_bert(outputs=4, task="multilabel"),
    "bert token_classification": lambda: tiny_bert(task="token_classification"),
    "bert question_answering": lambda: tiny_bert(outputs=None, task="question_answering"),
    "bert masked_lm": lambda: tiny_bert(outputs=None, task="masked_lm"),
    "bert pretraining": lambda: tiny_bert(outputs=None, task="pretraining"),
    "bert next_sentence": lambda: tiny_bert(outputs=None, task="next_sentence"),
    "distilbert": lambda: distilbert("classification", num_outputs=3),
    "distilbert masked_lm": lambda: distilbert("masked_lm"),
    "roberta": lambda: TextModel(RobertaConfig(**LIKE_BERT), 3),
    "roberta masked_lm": lambda: TextModel(RobertaConfig(**LIKE_BERT), None, "masked_lm"),
    "electra question_answering": lambda: TextModel(
        ElectraConfig(**LIKE_BERT, embedding_size=5), None, "question_answering"
    ),
    "albert": lambda: TextModel(AlbertConfig(**LIKE_BERT, embedding_size=5), 3),
    "mobilebert": lambda: mobile("mobilebert", "classification", classifier_activation=True),
    "mobilebert masked_lm": lambda: mobile("mobilebert", "masked_lm"),
    "mobilebert_tiny": lambda: mobile("mobilebert_tiny", "token_classification"),
    "ib_bert pretraining": lambda: mobile("ib_bert", "pretraining"),
    "mobilebert without bottleneck": lambda: mobile("mobilebert", "regression", use_bottleneck=False),
    "bilstm": tiny_bilstm,
    "bilstm, two layers": lambda: tiny_bilstm(layers=2),
    "bilstm, pair": lambda: tiny_bilstm(pair=True),
    "bilstm, max": lambda: bilstm(pooling="max", dense_size=0),
    "bilstm, max, pair": lambda: bilstm(pooling="max", pair=True),
    "bilstm, tokens": lambda: bilstm(task="token_classification", num_layers=2),
    "static": static,
    "static, bag of tokens": lambda: static(convolution_layers=0, dense_layers=1),
    "static, pair": lambda: static(pair=True, convolution_layers=2, dense_layers=2),
    "static, tokens": lambda: static(task="token_classification"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> TextModel:
    keras.utils.set_random_seed(0)
    return MODELS[request.param]()


def real(values, x) -> np.ndarray:
    """The values at real positions; those of a sequence head are not touched."""
    values = np.array(values)
    return values[x["padding_mask"] == 1] if values.ndim == 3 else values


@pytest.mark.heavy
def test_logits_are_float32_and_finite(model):
    x = inputs(pair=True)
    logits = model.predict(x, verbose=0)
    assert logits.shape in ((22, model.num_outputs), (22, 8, model.num_outputs))
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    assert np.ptp(real(logits, x), axis=0).max() > 0


@pytest.mark.heavy
def test_padding_changes_nothing(model):
    x = inputs(pair=True)
    padded = {key: np.pad(value, [(0, 0), (0, 4)]) for key, value in x.items()}
    np.testing.assert_allclose(real(model(x), x), real(model(padded), padded), atol=1e-5)


@pytest.mark.heavy
def test_what_stands_behind_the_mask_changes_nothing(model):
    x = inputs(pair=True)
    dirty = dict(x, token_ids=np.where(x["padding_mask"] == 1, x["token_ids"], 41))
    np.testing.assert_allclose(real(model(x), x), real(model(dirty), x), atol=1e-5)


@pytest.mark.heavy
def test_an_example_does_not_depend_on_its_neighbours(model):
    x = inputs(pair=True)
    alone = {key: value[3:4] for key, value in x.items()}
    np.testing.assert_allclose(real(model(x)[3:4], alone), real(model(alone), alone), atol=1e-5)


@pytest.mark.heavy
def test_keras_file_opens_again(model, tmp_path):
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(model(inputs(pair=True)), again(inputs(pair=True)))
    assert (again.task, again.label_names, again.config) == (model.task, model.label_names, model.config)
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.heavy
def test_directory_opens_again(model, tmp_path):
    model.tokenizer = Tokenizer.from_directory(TINY_BERT)
    again = load_directory(save_directory(model, tmp_path / "student", recipe={"max_length": 16}))
    np.testing.assert_array_equal(model(inputs(pair=True)), again(inputs(pair=True)))
    assert again.tokenizer.vocabulary == model.tokenizer.vocabulary
    assert (again.task, again.family, again.config) == (model.task, model.family, model.config)
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.heavy
def test_gradients_reach_every_weight_and_are_finite(model):
    x = inputs(pair=True)
    want = [name for name in model.offers if name.endswith("logits")]
    with tf.GradientTape() as tape:
        said = model.features(x, want, training=True)
        loss = tf.add_n([tf.reduce_sum(tf.square(getattr(said, name))) for name in want])
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.path


@pytest.mark.slow
def test_half_precision_runs(model):
    config = {**model.get_config(), "dtype": "mixed_bfloat16"}
    half = type(model).from_config(config)
    half.set_weights(model.get_weights())
    x = inputs(pair=True)
    logits = half(x)
    assert logits.dtype == "float32"
    full = real(model(x), x)
    np.testing.assert_allclose(real(logits, x), full, atol=0.05 * np.abs(full).max() + 0.1)


@pytest.mark.heavy
def test_features_are_those_that_were_asked_for(model):
    x = inputs(pair=True)
    logits = model(x)
    np.testing.assert_array_equal(model.features(x).logits, logits)
    everything = model.features(x, model.offers)
    # Alone, the logits need the last layer at its first position only: other sums, to the last bits.
    np.testing.assert_allclose(everything.logits, logits, atol=1e-5)
    np.testing.assert_array_equal(everything.mask, x["padding_mask"])
    for name in FEATURES:
        value = getattr(everything, name)
        assert (value is not None) == (name in model.offers), name
        alone = model.features(x, (name,)) if name in model.offers else None
        if isinstance(value, tuple):
            assert len(value) == model.num_layers
            value, alone_value = value[-1], getattr(alone, name)[-1]
            np.testing.assert_array_equal(alone_value, value)
        elif alone is not None:
            np.testing.assert_allclose(getattr(alone, name), value, atol=1e-5)
            assert alone.logits is None or name == "logits"
        if name != "attention_scores":
            layers = [] if value is None else getattr(everything, name) if FEATURES[name].layered else [value]
            widths = {layer.shape[-1] for layer in layers}
            assert model.width(name) == (widths.pop() if len(widths) == 1 else None), name


def test_what_is_not_there_is_one_line(model):
    from tfdistill.errors import UserError

    for name in {*FEATURES, "nonsense"} - set(model.offers):
        with pytest.raises(UserError, match=name):
            model.features(inputs(pair=True), (name,))
