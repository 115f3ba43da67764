"""KerasHub text classifiers as teachers: their own predictions, for every family and form."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_hub import FAMILIES, TEXTS, TEXTS_B, classifier

import tfdistill
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.hub import from_classifier
from tfdistill.models.predict import predict_logits
from tfdistill.models.stored_head import MissingHead

pytest.importorskip("keras_hub")
# KerasHub does not close the files of SentencePiece.
pytestmark = [pytest.mark.heavy, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def logits(model, texts_b=None):
    return predict_logits(model, model.tokenizer.encode(TEXTS, texts_b, max_length=24))


def theirs(made, texts_b=None):
    return made.predict(np.array(TEXTS) if texts_b is None else (np.array(TEXTS), np.array(texts_b)), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_predict_from_a_preset_a_file_and_an_object(family, tmp_path):
    made = classifier(family)
    made.save_to_preset(str(tmp_path / "preset"))
    made.save(tmp_path / "saved.keras")
    alone, pairs = theirs(made), theirs(made, TEXTS_B)
    models = [
        tfdistill.load(f"hub:{tmp_path / 'preset'}", new_head=False),
        tfdistill.load(f"hub:{tmp_path / 'saved.keras'}", new_head=False),
        from_classifier(made, "mine"),
    ]
    for model in models:
        np.testing.assert_allclose(logits(model), alone, atol=1e-5)
        whole = slice(None) if model.family == "keras_hub" else slice(4)  # our tokenizer cuts pairs differently
        np.testing.assert_allclose(logits(model, TEXTS_B)[whole], pairs[whole], atol=1e-5)
        assert (model.task, model.num_outputs, model.label_names) == ("classification", 3, None)
    assert len({identity(model) for model in models}) == 1
    assert models[0].family == {"bert": "bert", "distil_bert": "distilbert"}.get(family, "keras_hub")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["roberta", "xlm_roberta", "deberta_v3", "f_net", "roformer_v2"])
def test_hidden_states_are_those_of_the_backbone(family):
    made = classifier(family)
    model = from_classifier(made, "mine")
    read = {
        name: np.asarray(value) for name, value in made.preprocessor(list(TEXTS), y=None, sample_weight=None).items()
    }
    mask = (read["token_ids"] != model.tokenizer.pad_id).astype("int32")
    inputs = {"segment_ids": np.zeros_like(mask), **read, "padding_mask": mask}
    outputs = model.features(inputs, ("logits", "embeddings", "hidden_states", "pooled"))
    np.testing.assert_allclose(outputs.logits, model.features(inputs).logits, atol=1e-6)
    assert len(outputs.hidden_states) == model.num_layers == 3
    own = made.backbone({name: inputs[name] for name in made.backbone.input})
    own = own["sequence_output"] if isinstance(own, dict) else own
    np.testing.assert_allclose(outputs.hidden_states[-1] * mask[..., None], own * mask[..., None], atol=1e-5)
    with pytest.raises(UserError, match="attention_scores"):
        model.features(inputs, ("attention_scores",))


@pytest.mark.slow
def test_a_classifier_read_natively_equals_its_litert_export(tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    made = classifier("bert")
    made.export(str(tmp_path / "model.tflite"), format="litert")
    runner = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner()
    read = made.preprocessor(list(TEXTS), y=None, sample_weight=None)
    expected = []
    for row in range(len(TEXTS)):
        parts = {name: np.asarray(value)[row : row + 1].astype("int32") for name, value in read.items()}
        expected.append(next(iter(runner(**parts).values()))[0])
    np.testing.assert_allclose(logits(from_classifier(made, "mine")), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_activations_are_inverted(activation):
    plain, activated = classifier("f_net"), classifier("f_net", activation=activation)
    model = from_classifier(activated, "mine")
    expected = theirs(plain)
    if activation == "softmax":
        expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logits(model), expected, atol=1e-4)
    assert model.task == ("classification" if activation == "softmax" else "multilabel")


def test_one_sigmoid_becomes_two_classes():
    made = classifier("f_net", num_classes=1, activation="sigmoid")
    model = from_classifier(made, "mine")
    values = logits(model)
    assert (model.task, model.num_outputs) == ("classification", 2)
    np.testing.assert_allclose(1 / (1 + np.exp(values[:, :1] - values[:, 1:])), theirs(made), atol=1e-5)


def test_classes_of_data_are_taken_in_their_order_and_labels_txt_names_them(tmp_path, capsys):
    made = classifier("f_net")
    unnamed = from_classifier(made, "mine")
    unnamed.order_outputs(["b", "a", "c"], "the data")
    assert unnamed.order_is_assumed and "b, a and c" in " ".join(capsys.readouterr().err.split()).replace(
        "b, a, c", "b, a and c"
    )
    made.save_to_preset(str(tmp_path / "preset"))
    (tmp_path / "preset" / "labels.txt").write_text("a\nb\nc\n")
    named = tfdistill.load(f"hub:{tmp_path / 'preset'}")
    assert named.label_names == ("a", "b", "c")
    before = identity(named)
    named.order_outputs(["c", "a", "b"], "the data")
    np.testing.assert_allclose(logits(named), theirs(made)[:, [2, 0, 1]], atol=1e-5)
    assert named.get_config()["columns"] == [2, 0, 1] and identity(named) == before


def test_a_new_seed_does_not_disturb_the_tokenizer():
    import tensorflow as tf

    model = from_classifier(classifier("f_net"), "mine")
    before = model.tokenizer.encode(TEXTS).token_ids
    tf.random.set_seed(2)  # frees the resources of SentencePiece
    np.testing.assert_array_equal(model.tokenizer.encode(TEXTS).token_ids, before)


def test_other_weights_or_settings_are_another_identity():
    first = from_classifier(classifier("f_net"), "mine")
    others = [classifier("f_net", seed=4), classifier("f_net", length=20)]
    assert len({identity(first), *(identity(from_classifier(other, "mine")) for other in others)}) == 3


def test_what_is_no_classifier_with_a_preprocessor_is_one_line(tmp_path):
    import keras

    with pytest.raises(UserError, match="preprocessor"):
        from_classifier(classifier("f_net", length=None), "mine")
    made = classifier("f_net")
    made.backbone.save_to_preset(str(tmp_path / "backbone"))
    made.preprocessor.save_to_preset(str(tmp_path / "backbone"))
    with pytest.raises(MissingHead, match="FNetBackbone"):
        tfdistill.load(f"hub:{tmp_path / 'backbone'}", new_head=False)
    with pytest.raises(MissingHead, match="FNetBackbone"):  # no training through KerasHub
        tfdistill.load(f"hub:{tmp_path / 'backbone'}", num_outputs=2, new_head=True)
    keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)]).save(tmp_path / "other.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK no")
    (tmp_path / "empty").mkdir()
    for name, part in {
        "other.keras": "Sequential",
        "broken.keras": "broken.keras",
        "othr.keras": "other.keras",
        "empty": "empty",
        "missing": "missing",
    }.items():
        with pytest.raises(UserError, match=part) as error:
            tfdistill.load(f"hub:{tmp_path / name}")
        assert "\n" not in str(error.value)
    model = from_classifier(made, "mine")
    for use in (lambda: model.encoder, lambda: tfdistill.save(model, tmp_path / "out"), lambda: model.export("x")):
        with pytest.raises(UserError, match="mine"):
            use()
    with pytest.raises(UserError, match="token_classification"):
        from_classifier(made, "mine", task="token_classification")
