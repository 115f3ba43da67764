"""Load KerasHub presets and classifiers: BERT and DistilBERT into this library's encoders, others as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.distill.foreign import is_hub_classifier
from tfdistill.errors import UserError, nearest, optional, short
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.hf_labels import label_names_in
from tfdistill.models.hub_classifier import HubClassifier
from tfdistill.models.stored_head import MissingHead, StoredHead, say_or_refuse
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import say
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import casing_line

KERAS_FILE = ".keras"
_NATIVE = ("BertBackbone", "DistilBertBackbone")


def load_preset(
    preset: str,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    new_head: bool | None = None,
) -> TextModel:
    """Load a KerasHub preset or a saved KerasHub text classifier.

    BERT and DistilBERT become models of this library. Classifiers of other families become a `HubClassifier`, a teacher.

    Args:
        preset: a name, a handle, a directory of `save_to_preset`, or a `.keras` file.
        num_outputs: the size of the logits' last axis; None means that of the stored head, or the task's default.
        task: one of `tfdistill.models.tasks.HEADS`; None means that of the stored head, or classification.
        label_names: class names, in the order of the logits. Classifiers of KerasHub name none; a directory may have a
            labels.txt.
        new_head: what to do without a stored head that fits, as for `tfdistill.load`.

    Raises:
        MissingExtra: keras-hub is not installed.
        MissingHead: there is no head that fits, and `new_head` is False.
        UserError: the preset cannot be loaded, or is not a text classifier.
    """
    name = f"hub:{preset}"
    hub = optional("keras_hub", "hub")
    classifier = _open(hub, preset)
    stored = label_names_in(Path(preset), {}) if Path(preset).is_dir() else None
    if classifier is not None:
        misfit = _misfit(classifier, stored, task, num_outputs, label_names)
        if not misfit:
            model = from_classifier(classifier, name, task=task, label_names=stored)
            if new_head and isinstance(model, HubClassifier):
                raise UserError(
                    f"{name} is computed by KerasHub, so that it cannot be trained here. Train it with KerasHub, or use it as "
                    f"it is: `--teacher {name}`."
                )
            model.order_outputs(label_names, "label_names")
            return model
        backbone, tokenizer = classifier.backbone, getattr(classifier.preprocessor, "tokenizer", None)
    else:
        misfit, backbone = f"no head for {task or 'classification'}", _load(hub.models.Backbone, preset)
        tokenizer = None
    family = type(backbone).__name__
    if family not in _NATIVE:
        raise MissingHead(
            f"{name} is a {family} with {misfit}, and KerasHub computes this family. Fine-tune it with KerasHub, save it "
            "with `save_to_preset`, and use the directory as `--teacher hub:DIR`."
        )
    say_or_refuse(name, misfit, task or "classification", new_head, ["head"])
    model = TextModel(_config(backbone), num_outputs, task or "classification", label_names)
    _fill(model, backbone)
    model.tokenizer = _tokenizer(tokenizer or _load(hub.models.Tokenizer, preset), name)
    return model


def from_classifier(
    classifier: Any, name: str, *, task: str | None = None, label_names: Sequence[str] | None = None
) -> TextModel:
    """Return a KerasHub text classifier as a model: one of this library for BERT and DistilBERT, else a `HubClassifier`.

    Args:
        classifier: a `keras_hub.models.TextClassifier` with a preprocessor.
        name: what to call it in messages.
        task: its task, if that is known.
        label_names: class names, in the order of the outputs.
    """
    model = HubClassifier(classifier, name, task, label_names)
    backbone = classifier.backbone
    is_plain = model._activation in ("", "softmax") and model.num_outputs == int(classifier.output.shape[-1])
    same_size = getattr(classifier, "hidden_dim", None) in (None, backbone.hidden_dim)
    is_own = type(classifier).__module__.startswith("keras_hub.")
    if type(backbone).__name__ not in _NATIVE or not (is_plain and same_size and is_own):
        return model
    native = TextModel(_config(backbone, trained=True), model.num_outputs, model.task, label_names)
    native.task_is_assumed = model.task_is_assumed
    native.source = name
    _fill(native, backbone, classifier)
    native.tokenizer = _tokenizer(classifier.preprocessor.tokenizer, name, trained=True)
    return native


def _open(hub: Any, preset: str) -> Any:
    """Return the text classifier that a preset or a file holds; None if it holds no head for texts."""
    path = Path(preset).expanduser()
    if preset.endswith(KERAS_FILE):
        return _open_file(path, preset)
    try:
        return hub.models.TextClassifier.from_preset(str(path) if path.is_dir() else preset)
    except TypeError as error:
        if "num_classes" in str(error):
            return None
        raise _unreadable(hub, preset, error) from error
    except Exception as error:  # keras-hub raises what its download backends raise
        if "Unable to find a subclass" in str(error):
            raise UserError(
                f"hub:{preset} has no text classifier in KerasHub ({short(error, 150)}). Use a preset of an encoder, or "
                "write its predictions to a file and use `--teacher answers:FILE`."
            ) from error
        raise _unreadable(hub, preset, error) from error


def _open_file(path: Path, preset: str) -> Any:
    import keras

    if not path.is_file():
        others = [each.name for each in path.parent.glob(f"*{KERAS_FILE}")] if path.parent.is_dir() else []
        raise UserError(f"There is no file {path}{nearest(path.name, others)}. Give an existing {KERAS_FILE} file.")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # the layers in the file may raise anything
        raise UserError(f"hub:{preset} cannot be read: {_reason(error)}. Save the classifier again.") from error
    if not is_hub_classifier(model):
        raise UserError(
            f"hub:{preset} is a {type(model).__name__}, not a text classifier of KerasHub. Give it to `Distiller` in Python, or "
            "write its predictions to a file and use `--teacher answers:FILE`."
        )
    return model


def _load(cls: Any, preset: str) -> Any:
    try:
        return cls.from_preset(preset)
    except Exception as error:
        raise UserError(f"The {cls.__name__.lower()} of hub:{preset} cannot be loaded: {_reason(error)}") from error


def _unreadable(hub: Any, preset: str, error: Exception) -> UserError:
    known = list(hub.models.Backbone.presets)
    if preset in known:
        return UserError(
            f"hub:{preset} cannot be downloaded or read: {_reason(error)}. Check the network, or use a directory."
        )
    what = nearest(preset, known)
    if Path(preset).is_dir():
        return UserError(f"hub:{preset} cannot be loaded: {_reason(error)}. Save it with `save_to_preset` again.")
    why = _reason(error)
    why = "" if why.startswith("Unknown preset") else f": {why}"
    return UserError(
        f"There is no KerasHub preset and no directory '{preset}'{what}{why}. Give a preset, a directory of "
        f"`save_to_preset`, or a {KERAS_FILE} file."
    )


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return short(lines[0] if lines else type(error).__name__, 200).rstrip(".:")


def _misfit(
    classifier: Any, names: Sequence[str] | None, task: str | None, num_outputs: int | None, label_names: Any
) -> str:
    """Return why the stored head cannot be used, to continue "the model has …"; "" if it can."""
    size = int(classifier.output.shape[-1])
    head = StoredHead("classification" if size > 1 else "regression", size, tuple(names) if names else None)
    return "" if task is None and num_outputs is None else head.misfit(task or str(head.task), num_outputs, label_names)


# --- weights --------------------------------------------------------------------------------------------------------


def _config(backbone: Any, trained: bool = False) -> Any:
    """Return the sizes of a backbone.

    KerasHub approximates BERT's GELU by tanh. A classifier was trained like that; BERT's own weights with the exact one.
    """
    if type(backbone).__name__ == "DistilBertBackbone":
        return DistilBertConfig(
            vocab_size=backbone.vocabulary_size,
            dim=backbone.hidden_dim,
            n_layers=backbone.num_layers,
            n_heads=backbone.num_heads,
            hidden_dim=backbone.intermediate_dim,
            max_position_embeddings=backbone.max_sequence_length,
        )
    return BertConfig(
        vocab_size=backbone.vocabulary_size,
        hidden_size=backbone.hidden_dim,
        num_hidden_layers=backbone.num_layers,
        num_attention_heads=backbone.num_heads,
        intermediate_size=backbone.intermediate_dim,
        max_position_embeddings=backbone.max_sequence_length,
        type_vocab_size=backbone.num_segments,
        hidden_act="gelu_new" if trained else "gelu",
    )


def _tokenizer(tokenizer: Any, name: str, trained: bool = False) -> Tokenizer:
    """Return a tokenizer of this library. KerasHub keeps accents where BERT removes them, and a classifier was trained so."""
    accents = bool(tokenizer.strip_accents) if trained else None
    own = Tokenizer(tokenizer.get_vocabulary(), lower_case=tokenizer.lowercase, strip_accents=accents)
    if line := casing_line(own.vocabulary, own.lower_case):
        say(f"{name}: {line}")
    return own


def _fill(model: TextModel, backbone: Any, classifier: Any = None) -> None:
    """Copy the weights of a backbone, and those of the classifier's head if it is given."""
    pairs = list(paired_weights(model.encoder, backbone))
    if classifier is not None:
        pairs += zip(model.head.weights, classifier.output_dense.weights, strict=True)
        if type(backbone).__name__ == "DistilBertBackbone":
            pairs += zip(model.encoder.pooler.weights, classifier.pooled_dense.weights, strict=True)  # type: ignore[union-attr]
    for weight, hub_weight in pairs:
        weight.assign(np.reshape(hub_weight, weight.shape))


def paired_weights(encoder: Any, backbone: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the weights of a `BertEncoder`, each with the one of a `BertBackbone` or `DistilBertBackbone` of the same sizes.

    KerasHub's kernels have an axis for the heads; the order of the numbers is the same.
    """
    embeddings = encoder.embeddings
    if type(backbone).__name__ == "DistilBertBackbone":
        both = backbone.get_layer("token_and_position_embedding")
        pairs = [(embeddings.word, both.token_embedding), (embeddings.position, both.position_embedding)]
    else:
        pairs = [
            (embeddings.word, backbone.token_embedding),
            (embeddings.position, backbone.get_layer("position_embedding")),
            (embeddings.token_type, backbone.get_layer("segment_embedding")),
        ]
    pairs.append((embeddings.norm, backbone.get_layer("embeddings_layer_norm")))
    for block, layer in zip(encoder.blocks, backbone.transformer_layers, strict=True):
        attention = layer._self_attention_layer
        pairs += [
            (block.query, attention._query_dense),
            (block.key, attention._key_dense),
            (block.value, attention._value_dense),
            (block.attention_output, attention._output_dense),
            (block.attention_norm, layer._self_attention_layer_norm),
            (block.intermediate, layer._feedforward_intermediate_dense),
            (block.output_dense, layer._feedforward_output_dense),
            (block.output_norm, layer._feedforward_layer_norm),
        ]
    if encoder.pooler is not None and type(backbone).__name__ == "BertBackbone":
        pairs.append((encoder.pooler, backbone.get_layer("pooled_dense")))
    for own, hub_layer in pairs:
        yield from zip(own.weights, hub_layer.weights, strict=True)
