"""Letters as data, tiny teachers, and recipes made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.load import save
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.settings import parse_settings

TINY = Path(__file__).parent / "models" / "tiny_bert"
NAMES = ("no", "yes")


def split(rows: int, seed: int, *, pair: bool = False, task: str = "classification") -> Split:
    """Texts of letters; the class says whether 'a' is among them."""
    rng = np.random.default_rng(seed)
    texts, labels = [], np.arange(rows) % 2
    for label in labels:
        words = list(rng.choice(list("bcdefgh"), rng.integers(2, 6)))
        texts.append(" ".join([*words, "a"] if label else words))
    made = {"classification": labels, "regression": labels.astype("float32"), "multilabel": np.eye(2)[labels]}[task]
    if task == "multilabel":
        made = made.astype("float32")
    return Split(texts, ["b c"] * rows if pair else None, made)


def data(rows: int = 32, *, pair: bool = False, task: str = "classification", **more: Split) -> TextData:
    splits = {name: split(rows, seed, pair=pair, task=task) for seed, name in enumerate(("train", "dev", "test"))}
    names = None if task == "regression" else NAMES
    return TextData("letters", {**splits, **more}, names, multilabel=task == "multilabel")


def config(width: int = 16, layers: int = 4) -> BertConfig:
    return BertConfig(
        vocab_size=37,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=24,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )


def teacher(task: str = "classification", head: str | None = None, layers: int = 4, width: int = 16) -> TextModel:
    keras.utils.set_random_seed(3)
    outputs = None if head else 1 if task == "regression" else 2
    model = TextModel(config(width, layers), outputs, head or task, None if head or task == "regression" else NAMES)
    model.tokenizer = Tokenizer.from_directory(TINY)
    return model


def bottleneck_teacher(task: str = "classification") -> TextModel:
    keras.utils.set_random_seed(3)
    sizes = MobileBertConfig(
        vocab_size=37,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_act="gelu",
        embedding_size=8,
        intra_bottleneck_size=16,
        key_query_shared_bottleneck=False,
        num_feedforward_networks=1,
        normalization_type="layer_norm",
        max_position_embeddings=24,
        attention_probs_dropout_prob=0.0,
    )
    model = TextModel(sizes, 2 if task == "classification" else None, task, NAMES if task == "classification" else None)
    model.tokenizer = Tokenizer.from_directory(TINY)
    return model


# Settings that make each recipe small.
SMALL: dict[str, list[str]] = {
    "soft_targets": ["num_layers=2"],
    "privileged": [],
    "pkd": [],
    "tinybert": ["student=layers", "copies=1", "transformer.projection=per_layer"],
    "distilbert": [],
    "mobilebert": [],
    "xtremedistil": ["embedding_size=8", "lstm_size=6"],
    "bilstm": ["embedding_size=8", "lstm_size=6", "dense_size=7", "copies=1"],
    "quantization_aware": [],
    "layerdrop": [],
    "head_pruning": ["epochs=1", "soft_weight=0.5", "share=0.5", "step=0.25"],
    "neuron_pruning": ["steps=1"],
    "minilm": ["student=layers", "relations.epochs=1"],
    "static": ["embedding_size=8", "convolution_size=8", "epochs=2"],
}


def with_extra(text: TextData, keep: bool = False) -> TextData:
    """The extra column gives the class away. `keep`: a split that has one keeps it."""

    def extra(each: Split) -> tuple[list[str]]:
        return ([NAMES[int(y)] for y in each.known_labels.reshape(len(each), -1)[:, -1]],)

    splits = {
        name: each if keep and each.texts_extra else replace(each, texts_extra=extra(each))
        for name, each in text.splits.items()
    }
    return replace(text, splits=splits)


def make(name: str, text: TextData, settings: list[str], model: TextModel | None = None):
    module = find(name)
    if name == "privileged":
        text = with_extra(text, keep=True)
    chosen = parse_settings(module.Settings, [*SMALL.get(name, []), "max_length=12", "batch_size=16", *settings])
    return module.recipe(model or teacher(text.task), text, chosen)


def write_text(path: Path) -> Path:
    """Plain text in documents."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(30):
        lines += [" ".join(rng.choice(list("abcdefgh"), 9)).capitalize() + "." for _ in range(4)] + [""]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def dualtrain_settings(place: Path, text: Path) -> list[str]:
    save(teacher(head="masked_lm", layers=2), place / "general")
    options = [
        f"general.text={text}",
        f"general.teacher=hf:{place / 'general'}",
        "general.width=8",
        "general.vocab_size=24",
    ]
    return [*options, "general.length=16", "general.batch_size=4", "general.epochs=1"]


def with_general_stage(name: str, place: Path, text: Path) -> list[str]:
    """Settings of a recipe that begins on plain text."""
    dualtrain = dualtrain_settings(place, text)  # writes the masked LM "general"
    if name == "dualtrain_sharedproj":
        return [*dualtrain, "general.mixed_epochs=1"]
    general = [
        f"general.text={text}",
        f"general.teacher=hf:{place / 'general'}",
        "general.length=16",
        "general.batch_size=8",
    ]
    own = {"tinybert": ["copies=0"], "distilbert": ["general.kl_on=masked"]}
    return [*general, *own.get(name, [])]


def without_chance(recipe, optimizer: str):
    """Without dropout, and with an optimizer that does not make much of what is next to nothing."""
    for model in (recipe.student, *(stage.student for stage in recipe.stages if stage.student is not None)):
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    stages = [
        replace(stage, optimizer=optimizer, learning_rate=0.05 if optimizer == "sgd" else 1e-4)
        for stage in recipe.stages
    ]
    return replace(recipe, stages=tuple(stages))
