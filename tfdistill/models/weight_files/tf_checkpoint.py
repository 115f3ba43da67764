"""Read TensorFlow checkpoints of google-research/bert and mobilebert, under the names of transformers' PyTorch models."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from tfdistill.errors import UserError, listing
from tfdistill.models.weight_files.tensors import Stored, Tensors
from tfdistill.system.tensorflow_import import import_tensorflow

CHECKPOINT = "bert_model.ckpt"
_INDEX = ".index"

# Variables of optimizers and counters, and the graph that TensorFlow 2 stores with the weights.
_NOT_WEIGHTS = re.compile(
    r"(^|/)(adam_[mv]|Adam\w*|lamb_[mv]|global_step|save_counter|optimizer|_CHECKPOINTABLE_OBJECT_GRAPH"
    r"|\.OPTIMIZER_SLOT|\w*loss_scale\w*|\.OBJECT_CONFIG_JSON)(/|$)"
)
_OF_MOBILEBERT = re.compile("/ffn_layer_|/FakeLayerNorm/|/bottleneck/|/embedding_transformation/")
_LAST = {"kernel": "weight", "gamma": "weight", "beta": "bias", "output_weights": "weight", "output_bias": "bias"}
# Heads of run_classifier.py, run_squad.py and run_pretraining.py.
_HEADS = {
    "output_weights": "classifier.weight",
    "output_bias": "classifier.bias",
    "cls/squad/output_weights": "qa_outputs.weight",
    "cls/squad/output_bias": "qa_outputs.bias",
    "cls/predictions/output_bias": "cls.predictions.bias",
}
# Names of layers in the object graph of TensorFlow 2.
_OBJECTS = {
    "_attention_layer/_query_dense": "attention.self.query",
    "_attention_layer/_key_dense": "attention.self.key",
    "_attention_layer/_value_dense": "attention.self.value",
    "_attention_layer/_output_dense": "attention.output.dense",
    "_attention_output_dense": "attention.output.dense",
    "_attention_layer_norm": "attention.output.LayerNorm",
    "_intermediate_dense": "intermediate.dense",
    "_output_dense": "output.dense",
    "_output_layer_norm": "output.LayerNorm",
}
_FIRST_LAYER = 4
_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


def checkpoint_in(directory: Path) -> Path | None:
    """Return the prefix of the checkpoint in a directory; None if there is none.

    If there are several, it is the one that the file `checkpoint` names, or else bert_model.ckpt.

    Raises:
        UserError: there are several, and nothing tells which one is meant.
    """
    names = [path.name.removesuffix(_INDEX) for path in sorted(directory.glob(f"*{_INDEX}")) if path.is_file()]
    if not names and (directory / CHECKPOINT).is_file():  # the oldest form, one file
        names = [CHECKPOINT]
    if len(names) > 1:
        latest = re.search(r'^model_checkpoint_path: "(?:.*/)?([^"/]+)"', _text(directory / "checkpoint"), re.M)
        preferred = [name for name in (latest.group(1) if latest else "", CHECKPOINT) if name in names]
        if not preferred:
            raise UserError(f"{directory} has the checkpoints {listing(names)}. Keep one of them.")
        names = preferred
    return directory / names[0] if names else None


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def open_checkpoint(prefix: Path) -> Tensors:
    """Read the names and shapes in a checkpoint of TensorFlow 1 or 2.

    Args:
        prefix: the checkpoint without `.index`.

    Raises:
        UserError: the checkpoint is damaged, or of another model.
    """
    import_tensorflow()
    import tensorflow as tf

    errors = (tf.errors.OpError, ValueError, RuntimeError)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    except errors as error:
        raise _damaged(prefix, error) from error

    def read(variable: str, shape: tuple[int, ...], transposed: bool) -> np.ndarray:
        try:
            value = reader.get_tensor(variable)
        except errors as error:
            raise _damaged(prefix, error) from error
        return value.reshape(shape).T if transposed else value.reshape(shape)

    family = "mobilebert" if any(_OF_MOBILEBERT.search(name) for name in shapes) else "bert"
    stored = {}
    for variable in sorted(shapes):
        name = torch_name(variable, family)
        if name is None or not dtypes[variable].is_floating:
            continue
        shape = _matrix(name, tuple(shapes[variable]))
        transposed = variable.removesuffix(_VALUE).endswith(("/kernel", "/extra_output_weights"))
        dtype = np.dtype(dtypes[variable].as_numpy_dtype)
        stored[name] = Stored(shape[::-1] if transposed else shape, dtype, partial(read, variable, shape, transposed))
    if f"{family}.embeddings.word_embeddings.weight" not in stored:
        raise UserError(
            f"{prefix} has no word embeddings of BERT. Use a checkpoint of google-research/bert or mobilebert."
        )
    return Tensors(prefix, stored)


def _damaged(prefix: Path, error: Exception) -> UserError:
    return UserError(f"{prefix} is damaged or not a checkpoint ({str(error)[:200]}). Download all of its files again.")


def torch_name(variable: str, family: str = "bert") -> str | None:
    """Return PyTorch's name of a variable; None if it is not a weight of the model."""
    if _NOT_WEIGHTS.search(variable):
        return None
    if variable.endswith(_VALUE):
        return _name_of_object(variable.removesuffix(_VALUE), family)
    if variable in _HEADS:
        return _HEADS[variable]
    variable = variable.replace("FakeLayerNorm", "LayerNorm").replace("extra_output_weights", "dense/kernel")
    variable = re.sub(r"ffn_layer_(\d+)", r"ffn.\1", re.sub(r"(^|/)layer_(\d+)/", r"\1layer.\2/", variable))
    parts = variable.split("/")
    if parts[0] == "bert":
        parts[0] = family
    if parts[-1].endswith("_embeddings"):
        parts.append("weight")
    return ".".join([*parts[:-1], _LAST.get(parts[-1], parts[-1])])


def _name_of_object(path: str, family: str) -> str | None:
    """Return PyTorch's name of a weight in the object graph of TensorFlow 2, where layers have numbers.

    0 to 2 are the tables of the embeddings, 3 is their norm, then follow the layers and the pooler.
    In a classifier the encoder is itself number 0, and the dense layer is number 1.
    """
    parts = [part for part in path.split("/") if part not in ("model", "encoder", "root")]
    numbers = [int(part.rpartition("-")[2]) for part in parts if re.fullmatch(r"layer_with_weights-\d+", part)]
    rest, last = "/".join(parts[len(numbers) : -1]), _LAST.get(parts[-1], parts[-1])
    if not numbers or len(numbers) > 2 or numbers[:-1] not in ([], [0]):
        return None
    number = numbers[-1]
    if parts[-1] == "embeddings" and number < len(_TABLES):
        return f"{family}.embeddings.{_TABLES[number]}.weight"
    if rest in _OBJECTS:
        return f"{family}.encoder.layer.{number - _FIRST_LAYER}.{_OBJECTS[rest]}.{last}"
    if rest:
        return None
    if number == _FIRST_LAYER - 1:
        return f"{family}.embeddings.LayerNorm.{last}"
    return f"{family}.pooler.dense.{last}" if number >= _FIRST_LAYER else f"classifier.{last}"


def _matrix(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a weight in which TensorFlow 2 has an axis for the heads, without that axis."""
    if ".attention.self." in name and len(shape) > 1 and name.endswith("bias"):
        return (shape[0] * shape[1],)
    if ".attention.self." in name and len(shape) == 3:
        return shape[0], shape[1] * shape[2]
    if ".attention.output.dense." in name and len(shape) == 3:
        return shape[0] * shape[1], shape[2]
    return shape
