"""A model gives the same logits with any form of its weights, and `tfdistill convert` writes them once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from malicious_pickles import reaches_builtins
from safetensors.numpy import load_file
from torch_files import saved
from typer.testing import CliRunner

from tfdistill.commands.app import app
from tfdistill.errors import UserError
from tfdistill.models.load import load
from tfdistill.models.rewrite import rewrite
from tfdistill.models.weight_files.choose import open_weights

pytestmark = pytest.mark.heavy

TINY = Path(__file__).parent / "tiny_bert"
NORM = "bert.embeddings.LayerNorm.weight"
ARRAYS = load_file(TINY / "model.safetensors")
BATCH = {
    "token_ids": np.array([[2, 7, 9, 3, 0, 0], [2, 11, 5, 8, 30, 3]], "int32"),
    "padding_mask": np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], "int32"),
    "segment_ids": np.zeros((2, 6), "int32"),
}


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return np.asarray(load(TINY)(BATCH))


def old(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


def write_bin(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(saved(ARRAYS))


def write_legacy(directory: Path) -> None:
    """As the oldest releases: gamma and beta, and position ids."""
    arrays = {old(name): value for name, value in ARRAYS.items()}
    arrays["bert.embeddings.position_ids"] = np.arange(24)[None]
    (directory / "pytorch_model.bin").write_bytes(saved(arrays, legacy=True))


def write_without_prefix(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(saved({n.removeprefix("bert."): v for n, v in ARRAYS.items()}))


def write_double(directory: Path) -> None:
    (directory / "pytorch_model.bin").write_bytes(saved({n: v.astype("float64") for n, v in ARRAYS.items()}))


def write_h5(directory: Path) -> None:
    with h5py.File(directory / "tf_model.h5", "w") as file:
        for name, value in ARRAYS.items():
            *parts, last = re.sub(r"layer\.(\d+)", r"layer#\1", name).split(".")
            if "LayerNorm" in parts:
                last = {"weight": "gamma", "bias": "beta"}[last]
            elif parts[-1].endswith("_embeddings"):
                last = "weight" if parts[-1].startswith("word") else "embeddings"
            elif last == "weight":
                last, value = "kernel", value.T
            file[
                "/".join([parts[0], "tf_bert_for_sequence_classification", *parts, f"{last}:0"]).replace("#", "_._")
            ] = value


def checkpoint(directory: Path, variables: dict[str, np.ndarray], prefix: str = "bert_model.ckpt") -> None:
    names = list(variables)
    tf.raw_ops.SaveV2(
        prefix=str(directory / prefix),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(variables[name]) for name in names],
    )
    raw = json.loads((TINY / "config.json").read_text("utf-8"))
    sizes = {name: raw[name] for name in raw if re.search(r"size|num_|hidden|dropout_prob|max_|initializer", name)}
    (directory / "bert_config.json").write_text(json.dumps(sizes), "utf-8")
    (directory / "config.json").unlink()


def variable_of(name: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """Google's name of a tensor in TensorFlow 1."""
    if name.startswith("classifier."):
        return ("output_weights" if name.endswith("weight") else "output_bias"), value
    path = re.sub(r"layer/(\d+)", r"layer_\1", old(name).replace(".", "/"))
    if path.endswith("_embeddings/weight"):
        return path.removesuffix("/weight"), value
    return (path.removesuffix("weight") + "kernel", value.T) if path.endswith("/weight") else (path, value)


def write_tensorflow_1(directory: Path) -> None:
    variables = dict(variable_of(name, value) for name, value in ARRAYS.items())
    variables |= {"bert/pooler/dense/kernel/adam_m": np.zeros((20, 20), "float32"), "global_step": np.int64(9)}
    checkpoint(directory, variables, "model.ckpt-9")


OBJECTS = {
    "attention.self.query": "_attention_layer/_query_dense",
    "attention.self.key": "_attention_layer/_key_dense",
    "attention.self.value": "_attention_layer/_value_dense",
    "attention.output.dense": "_attention_layer/_output_dense",
    "attention.output.LayerNorm": "_attention_layer_norm",
    "intermediate.dense": "_intermediate_dense",
    "output.dense": "_output_dense",
    "output.LayerNorm": "_output_layer_norm",
}


def write_tensorflow_2(directory: Path) -> None:
    """A classifier of tensorflow/models: an object graph, and an axis for the four heads of five."""
    variables = {"save_counter/.ATTRIBUTES/VARIABLE_VALUE": np.int64(1)}
    for name, value in ARRAYS.items():
        path, _, last = name.removeprefix("bert.").rpartition(".")
        value = value.T if last == "weight" and value.ndim == 2 and "_embeddings" not in path else value
        if "attention.self" in path:
            value = value.reshape(*value.shape[:-1], 4, 5)
        if path.endswith("attention.output.dense") and value.ndim == 2:
            value = value.reshape(4, 5, 20)
        norm = {"weight": "gamma", "bias": "beta"}
        last = norm[last] if "LayerNorm" in path else {"weight": "kernel", "bias": "bias"}[last]
        if layer := re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", path):
            path = f"layer_with_weights-0/layer_with_weights-{4 + int(layer[1])}/{OBJECTS[layer[2]]}"
        elif path == "classifier":
            path = "layer_with_weights-1"
        else:
            tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
            number = 7 if path == "pooler.dense" else 3
            for n, table in enumerate(tables):
                if path.endswith(table):
                    number, last = n, "embeddings"
            path = f"layer_with_weights-0/layer_with_weights-{number}"
        variables[f"model/{path}/{last}/.ATTRIBUTES/VARIABLE_VALUE"] = value
    checkpoint(directory, variables)


EXACT = [write_bin, write_legacy, write_without_prefix, write_double, write_h5, write_tensorflow_1, write_tensorflow_2]


def made(directory: Path, write) -> Path:
    directory.mkdir()
    for name in ("config.json", "vocab.txt"):
        shutil.copy(TINY / name, directory / name)
    write(directory)
    return directory


@pytest.mark.parametrize("write", EXACT, ids=lambda write: write.__name__)
def test_every_form_gives_the_same_logits_and_is_converted(tmp_path, expected, write):
    directory = made(tmp_path / "in", write)
    model = load(directory, new_head=False)
    np.testing.assert_array_equal(model(BATCH), expected)
    rewrite(directory, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    prefix = "bert." if write is write_without_prefix else ""
    assert written.keys() == {name.removeprefix(prefix) for name in ARRAYS}
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(written[name.removeprefix(prefix)], value)
    assert json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))["model_type"] == "bert"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bits_are_read_and_kept(tmp_path, dtype):
    halves = {name: value.astype(dtype) for name, value in ARRAYS.items()}
    directory = made(tmp_path / "in", lambda place: (place / "pytorch_model.bin").write_bytes(saved(halves)))
    model = load(directory)
    for variable, name in ((model.head.bias, "classifier.bias"), (model.encoder.embeddings.norm.gamma, NORM)):
        np.testing.assert_array_equal(variable, halves[name].astype("float32"))
    rewrite(directory, tmp_path / "out")
    written = open_weights(tmp_path / "out")
    for name, value in halves.items():
        assert written.dtype(name) == dtype
        np.testing.assert_array_equal(written[name], value)


def test_copies_of_tied_tables_are_left_out(tmp_path):
    table = ARRAYS["bert.embeddings.word_embeddings.weight"]
    for name, copy, is_there in (("same", table, False), ("other", table + 1, True)):
        arrays = {**ARRAYS, "cls.predictions.decoder.weight": copy}
        write = lambda place, arrays=arrays: (place / "pytorch_model.bin").write_bytes(saved(arrays))  # noqa: E731
        rewrite(made(tmp_path / name, write), tmp_path / f"{name}-out")
        written = load_file(tmp_path / f"{name}-out" / "model.safetensors")
        assert ("cls.predictions.decoder.weight" in written) == is_there


def test_convert_says_what_it_wrote_and_what_is_next(tmp_path):
    directory = made(tmp_path / "in", write_bin)
    done = CliRunner().invoke(app, ["convert", str(directory), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    first, last = done.stdout.strip().splitlines()
    assert "pytorch_model.bin" in first and "model.safetensors" in first and last.startswith("next: tfdistill")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
        "vocab.txt",
    ]


def test_nothing_is_written_for_bad_input(tmp_path):
    touched, out = tmp_path / "touched", tmp_path / "out"
    bad = made(
        tmp_path / "bad", lambda place: (place / "pytorch_model.bin").write_bytes(reaches_builtins(str(touched)))
    )
    cut = made(tmp_path / "cut", lambda place: (place / "pytorch_model.bin").write_bytes(saved(ARRAYS)[:-5000]))
    no_words = made(tmp_path / "words", write_bin)
    (no_words / "vocab.txt").unlink()
    gpt = made(tmp_path / "gpt", write_bin)
    (gpt / "config.json").write_text('{"model_type": "gpt2"}', "utf-8")
    sources = {bad: "open", cut: "pytorch_model", no_words: "vocab.txt", gpt: "gpt2", tmp_path / "none": "none"}
    for source, message in sources.items():
        with pytest.raises(UserError, match=message):
            rewrite(source, out)
        assert not out.exists() and not touched.exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.slow
def test_checkpoint_of_mobilebert_has_its_names(tmp_path):
    from tfdistill.models.hf import save_directory
    from tfdistill.models.mobilebert_config import MobileBertConfig
    from tfdistill.models.text_model import TextModel
    from tfdistill.text.tokenizer import Tokenizer

    sizes = {
        "vocab_size": 37,
        "hidden_size": 12,
        "embedding_size": 4,
        "intra_bottleneck_size": 8,
        "num_hidden_layers": 2,
    }
    sizes |= {"num_attention_heads": 2, "intermediate_size": 10, "max_position_embeddings": 24}
    model = TextModel(MobileBertConfig(**sizes), None, "pretraining")
    model.tokenizer = Tokenizer.from_directory(TINY)
    written = save_directory(model, tmp_path / "theirs")
    variables = {}
    for name, value in load_file(written / "model.safetensors").items():
        path = re.sub(
            r"/ffn/(\d+)/", r"/ffn_layer_\1/", re.sub(r"layer/(\d+)", r"layer_\1", old(name).replace(".", "/"))
        )
        path = path.replace("mobilebert/", "bert/").replace("LayerNorm", "FakeLayerNorm")
        if path == "cls/predictions/dense/weight":
            path, value = "cls/predictions/extra_output_weights", value.T
        elif path.startswith("cls/seq_relationship") or path == "cls/predictions/bias":
            path = re.sub(
                "(weight|bias)$", lambda last: {"weight": "output_weights", "bias": "output_bias"}[last[1]], path
            )
        elif path.endswith("_embeddings/weight"):
            path = path.removesuffix("/weight")
        elif path.endswith("/weight"):
            path, value = path.removesuffix("weight") + "kernel", value.T
        variables[path] = value
    directory = made(tmp_path / "in", lambda place: checkpoint(place, variables, "mobilebert_variables.ckpt"))
    raw = json.loads((written / "config.json").read_text("utf-8"))
    raw = {name: value for name, value in raw.items() if name not in ("model_type", "architectures", "layer_norm_eps")}
    (directory / "bert_config.json").write_text(json.dumps(raw), "utf-8")
    again = load(directory, new_head=False)
    assert again.family == "mobilebert" and again.task == "pretraining"
    np.testing.assert_array_equal(again(BATCH), model(BATCH))
