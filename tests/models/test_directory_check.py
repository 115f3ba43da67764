"""Foreign model directories: everything is checked before a model is built, and answered in one line."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from helpers import inputs, tiny_bilstm
from safetensors.numpy import load_file, save_file
from tiny_families import BERT, FAMILIES, NAMES, WORDS

import tfdistill
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.hf import load_directory
from tfdistill.models.hf_names import encoder_names, pooler_names
from tfdistill.models.outline import outline
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("whole") / "model"
    model = TextModel(BertConfig(**BERT), 3, label_names=NAMES)
    model.tokenizer = Tokenizer(WORDS)
    tfdistill.save(model, directory)
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def directory(whole, tmp_path) -> Path:
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def change(directory: Path, *removed: str, **changed: Any) -> None:
    path = directory / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **changed}
    path.write_text(json.dumps({name: value for name, value in config.items() if name not in removed}), "utf-8")


def refusal(directory: Path, **options: Any) -> str:
    start = time.monotonic()
    with pytest.raises(UserError) as caught:
        load_directory(directory, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000 and time.monotonic() - start < 5
    return message


# --- config.json ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", 0),
        ("hidden_size", -8),
        ("hidden_size", 8.0),
        ("hidden_size", "8"),
        ("hidden_size", None),
        ("hidden_size", [8]),
        ("hidden_size", True),
        ("hidden_size", 10**9),
        ("hidden_size", 10**30),
        ("vocab_size", 10**9),
        ("num_hidden_layers", 10**6),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("intermediate_size", 10**9),
        ("max_position_embeddings", 0),
        ("max_position_embeddings", 10**9),
        ("type_vocab_size", 0),
        ("type_vocab_size", 3),
        ("hidden_dropout_prob", 2),
        ("hidden_dropout_prob", 1.0),
        ("attention_probs_dropout_prob", -0.1),
        ("attention_probs_dropout_prob", "0.1"),
        ("classifier_dropout", "no"),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", -1e-12),
        ("layer_norm_eps", 5.0),
        ("hidden_act", "swish"),
        ("hidden_act", ["gelu"]),
        ("hidden_act", {}),
        ("initializer_range", -1),
        ("architectures", {"0": "BertForSequenceClassification"}),
        ("architectures", [3]),
        ("architectures", "BertForSequenceClassification"),
        ("model_type", []),
        ("model_type", "roberta"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
    ],
)
def test_fields_are_checked_by_type_range_and_shape(directory, field, value):
    change(directory, **{field: value})
    message = refusal(directory)
    assert field in message or (value != value and "NaN" in message)


@pytest.mark.parametrize(("field", "stored"), [("hidden_size", 8), ("vocab_size", 50), ("num_hidden_layers", 2)])
def test_a_size_that_the_weights_do_not_have_is_named_with_both(directory, field, stored):
    change(directory, **{field: 10**9})
    message = refusal(directory)
    assert str(10**9) in message and str(stored) in message and field in message


@pytest.mark.parametrize("sizes", [{"hidden_size": 0}, {"num_attention_heads": -1}, {"hidden_dropout_prob": 1.5}])
def test_configs_in_python_are_checked_too(sizes):
    with pytest.raises(UserError, match=next(iter(sizes))):
        BertConfig(**sizes)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 5000, b'{"vocab_size": 1, "vocab_size": 50}', b"\xff\xfe", b""]
)
def test_malformed_config(directory, content):
    (directory / "config.json").write_bytes(content)
    assert "config.json" in refusal(directory)


def test_fields_that_decide_about_outputs_are_said_if_they_are_missing(directory, capsys):
    load_directory(directory)
    assert not capsys.readouterr().err
    change(directory, "num_attention_heads", "layer_norm_eps")
    with pytest.raises(UserError, match="hidden_size"):  # 12 by default
        load_directory(directory)
    change(directory, "layer_norm_eps", num_attention_heads=2)
    load_directory(directory)
    assert "layer_norm_eps" in capsys.readouterr().err


def test_model_type_is_seen_from_the_tensors(directory, capsys):
    logits = load_directory(directory)(inputs(3))
    change(directory, "model_type")
    np.testing.assert_array_equal(load_directory(directory)(inputs(3)), logits)
    assert "model_type" in capsys.readouterr().err
    (directory / "model.safetensors").unlink()
    save_file({"x": np.zeros(2, "float32")}, directory / "model.safetensors")
    assert "model_type" in refusal(directory)


def test_names_of_bert_for_sizes_of_distilbert(tmp_path):
    model = TextModel(FAMILIES["distilbert"](), 3)
    model.tokenizer = Tokenizer(WORDS)
    path = tfdistill.save(model, tmp_path / "model") / "config.json"
    config = json.loads(path.read_text("utf-8"))
    other = {"dim": "hidden_size", "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers"}
    path.write_text(json.dumps({other.get(name, name): value for name, value in config.items()}), "utf-8")
    assert load_directory(path.parent).config == model.config


def test_the_id_of_pad_is_written(tmp_path):
    model = TextModel(BertConfig(**BERT), 3)
    model.tokenizer = Tokenizer([WORDS[1], WORDS[0], *WORDS[2:]])
    path = tfdistill.save(model, tmp_path / "model") / "config.json"
    assert json.loads(path.read_text("utf-8"))["pad_token_id"] == 1
    assert load_directory(path.parent).tokenizer.pad_id == 1


# --- weights --------------------------------------------------------------------------------------------------------


def with_header(directory: Path, name: str, **changed: Any) -> None:
    path = directory / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header[name].update(changed)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def rewrite(directory: Path, **changed: Any) -> None:
    path = directory / "model.safetensors"
    tensors = {**load_file(path), **changed}
    save_file({name: value for name, value in tensors.items() if value is not None}, path)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((8, 8), "int8"),
        np.zeros((8, 8), bool),
        np.full((8, 8), np.nan, "float32"),
        np.full((8, 8), -np.inf, "float16"),
        np.full((8, 8), 1e300),
        np.zeros((8, 9), "float32"),
        np.zeros((64,), "float32"),
        np.zeros((8, 8, 1), "float32"),
        None,
    ],
    ids=lambda value: "missing" if value is None else f"{value.dtype} {value.shape} {value.flat[0]}",
)
def test_tensors_that_do_not_fit_are_refused_by_name(directory, value):
    rewrite(directory, **{QUERY: value})
    assert QUERY in refusal(directory)


@pytest.mark.parametrize(
    "changed", [{"dtype": "F8_E4M3"}, {"shape": [2**40, 2**40]}, {"dtype": "F64"}, {"data_offsets": [0, 9]}]
)
def test_headers_that_do_not_fit_the_file(directory, changed):
    with_header(directory, QUERY, **changed)
    assert "model.safetensors" in refusal(directory)


def test_8_bit_floats_are_refused_by_name(directory):
    rewrite(directory, **{QUERY: np.zeros((8, 8), ml_dtypes.float8_e4m3fn).view("uint8")})
    with_header(directory, QUERY, dtype="F8_E4M3")
    assert "F8_E4M3" in refusal(directory)


@pytest.mark.parametrize("dtype", ["float16", "float64", ml_dtypes.bfloat16])
def test_other_floating_point_types_are_read(directory, dtype):
    logits = np.asarray(load_directory(directory)(inputs(3)))
    tensors = load_file(directory / "model.safetensors")
    save_file({name: value.astype(dtype) for name, value in tensors.items()}, directory / "model.safetensors")
    np.testing.assert_allclose(load_directory(directory)(inputs(3)), logits, atol=0.05)


def test_layers_and_tensors_without_a_place_are_said(directory, capsys):
    rewrite(directory, **{"bert.encoder.layer.2.output.dense.bias": np.zeros(8, "float32")})
    load_directory(directory)
    assert "bert.encoder.layer.2.output.dense.bias" in capsys.readouterr().err
    change(directory, num_hidden_layers=1)
    load_directory(directory)
    assert "bert.encoder.layer.1" in capsys.readouterr().err


@pytest.mark.parametrize("family", FAMILIES)
def test_an_outline_has_the_names_and_shapes_of_the_model(family):
    config = FAMILIES[family]()
    model, drawn = TextModel(config, 3), outline(config)
    # Of what only models for whole texts have, BiLSTMs and static encoders have no outline among the encoder's tensors.
    own = {"bilstm": ("dense.",), "static": ("dense_", "token_score.")}.get(family, ())
    names = [encoder_names] if own else [encoder_names, pooler_names]
    for each in names:
        expected = [(name, tuple(variable.shape), turned) for name, variable, turned in each(model)]
        expected = [entry for entry in expected if not entry[0].startswith(own)] if own else expected
        assert [(name, tuple(variable.shape), turned) for name, variable, turned in each(drawn)] == expected


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "adapter_model.safetensors", "model.safetensors.index.json"]
)  # fmt: skip
def test_weights_in_another_form_are_named(directory, name):
    (directory / "model.safetensors").unlink()
    (directory / name).write_bytes(b"x")
    assert name.split(".")[0] in refusal(directory)


# --- other files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "labels.txt", "vocab.txt", "quantization.safetensors"]
)
@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_what_is_no_file_is_refused_at_once(directory, name, kind):
    path = directory / name
    path.unlink(missing_ok=True)
    {"pipe": os.mkfifo, "directory": os.mkdir, "device": lambda each: os.symlink("/dev/zero", each)}[kind](path)
    assert name in refusal(directory)


@pytest.mark.parametrize(
    "content", [b"no\nyes\nno\n", b"\xff\nyes\nno\n", b"no\nyes\n", b"no\nyes\nb\nc\n", b"", b"a\0\nb\nc\n"]
)
def test_labels_that_do_not_fit(directory, content):
    (directory / "labels.txt").write_bytes(content)
    refusal(directory)


@pytest.mark.parametrize(
    "named",
    [
        {"0": "no", "1": "yes", "3": "b"},
        {"0": "no", "1": "no", "2": "b"},
        {"a": "no", "1": "yes", "2": "b"},
        {"0": "no", "00": "yes", "2": "b"},
        {"0": None, "1": "yes", "2": "b"},
        {"0": "a\nb", "1": "yes", "2": "b"},
        {"0": "no", "1": "yes"},
        ["no", "yes", "b"],
        3,
    ],
    ids=str,
)
def test_names_in_the_config_that_do_not_fit(directory, named):
    (directory / "labels.txt").unlink()
    change(directory, "label2id", id2label=named)
    assert "id2label" in refusal(directory) or named == {"0": "no", "1": "yes"}


def test_names_in_the_config_in_any_order(directory):
    (directory / "labels.txt").unlink()
    change(directory, id2label={"2": "c", "0": "a", "1": "b"}, label2id={"a": 0, "b": 1, "c": 2})
    assert load_directory(directory).label_names == ("a", "b", "c")


def test_line_separators_in_names_come_back(tmp_path):
    names = ("one\u2028two", "a\x85b", "\x0bc", "d\x0c", "e\x1c\x1d\x1e", "f\u2029")
    model = tiny_bilstm(outputs=len(names), label_names=names)
    model.tokenizer = Tokenizer(WORDS)
    assert load_directory(tfdistill.save(model, tmp_path / "model")).label_names == names


def test_labels_with_windows_line_ends(directory):
    (directory / "labels.txt").write_bytes(b"no\r\nyes\r\nperhaps")
    assert load_directory(directory).label_names == ("no", "yes", "perhaps")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b"])
def test_names_that_cannot_be_saved_are_refused_before_training(name):
    with pytest.raises(UserError):
        tiny_bilstm(label_names=(name, "b", "c"))


# --- tokenizer ------------------------------------------------------------------------------------------------------


def test_rows_without_a_token_are_said(directory, capsys):
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS[:-2]), "utf-8")
    load_directory(directory)
    printed = capsys.readouterr().err
    assert "48" in printed and "50" in printed


def test_added_tokens_have_rows_and_are_saved(directory, tmp_path):
    (directory / "added_tokens.json").write_text('{"[X]": 48, "[Y]": 49}', "utf-8")
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS[:-2]), "utf-8")
    model = load_directory(directory)
    again = load_directory(tfdistill.save(model, tmp_path / "again"))
    assert again.tokenizer.fingerprint == model.tokenizer.fingerprint and again.tokenizer.vocabulary[48:] == (
        "[X]",
        "[Y]",
    )
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS), "utf-8")
    (directory / "added_tokens.json").write_text('{"[X]": 50}', "utf-8")
    assert "51" in refusal(directory)
