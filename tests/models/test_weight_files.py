"""Weights in every form give the same numbers; without TensorFlow where the form allows it."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import torch_files
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch_files import legacy_file, saved, state_dict, storage, tensor, zip_file

from tfdistill.errors import UserError
from tfdistill.models.weight_files.choose import open_weights
from tfdistill.models.weight_files.h5_file import torch_name as name_of_h5
from tfdistill.models.weight_files.tf_checkpoint import checkpoint_in
from tfdistill.models.weight_files.tf_checkpoint import torch_name as name_of_variable

OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
TINY = Path(__file__).parent / "tiny_bert"
ARRAYS = {
    "table": np.arange(12, dtype="float32").reshape(3, 4),
    "half": np.array([0.5, -2.0], "float16"),
    "brain": np.array([[1.5], [-3.0]], ml_dtypes.bfloat16),
    "double": np.array([1e-200]),
    "position_ids": np.arange(5)[None],
    "mask": np.array([True, False]),
    "scalar": np.array(7, "int32"),
    "none": np.zeros((0, 4), "float32"),
}


def holds(tensors, arrays=ARRAYS):
    assert set(tensors) == set(arrays) and len(tensors) == len(arrays)
    for name, array in arrays.items():
        assert tensors.shape(name) == array.shape and tensors.dtype(name) == array.dtype
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


@pytest.mark.parametrize("legacy", [False, True])
def test_both_forms_of_pytorch_give_all_dtypes(tmp_path, legacy, capsys):
    (tmp_path / "pytorch_model.bin").write_bytes(saved(ARRAYS, legacy))
    holds(open_weights(tmp_path))
    assert "pytorch_model.bin" in capsys.readouterr().err


def test_safetensors_gives_all_dtypes_and_comes_first(tmp_path, capsys):
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    save_file(ARRAYS, tmp_path / "model.safetensors")
    holds(open_weights(tmp_path))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_share_a_storage_as_views_of_it(tmp_path, legacy):
    base = np.arange(20, dtype="float32")
    place = storage("7", "FloatStorage", 20, b"N" if legacy else None)
    values = {
        "whole": tensor(place, (4, 5), (5, 1)),
        "transposed": tensor(place, (5, 4), (1, 5)),
        "part": tensor(place, (2, 2), (5, 1), 6),
        "parameter": b"ctorch._utils\n_rebuild_parameter\n" + tensor(place, (20,), (1,)) + b"\x89N\x87R",
        "state": b"ctorch._utils\n_rebuild_parameter_with_state\n(" + tensor(place, (1,), (1,)) + b"\x89N}tR",
    }
    if legacy:  # a storage that is a part of another
        view = torch_files.text("v")
        values["viewed"] = tensor(storage("7", "FloatStorage", 20, b"(" + view + b"K\x02K\x03t"), (2,), (1,), 1)
    content = state_dict(values)
    data = base.tobytes()
    content = legacy_file(content, {"7": (20, data)}) if legacy else zip_file(content, {"7": data}, root="a b")
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    square = base.reshape(4, 5)
    expected = {"whole": square, "transposed": square.T, "part": square[1:3, 1:3], "parameter": base, "state": base[:1]}
    holds(open_weights(tmp_path), {**expected, **({"viewed": base[3:5]} if legacy else {})})


def test_texts_and_dicts_of_python_2_are_read(tmp_path):
    item = b"](U\x01w" + tensor(storage("0", "LongStorage", 2), (2,), (1,)) + b"e"
    pickle = b"\x80\x02ccollections\nOrderedDict\n](" + item + b"e\x85R."
    (tmp_path / "pytorch_model.bin").write_bytes(zip_file(pickle, {"0": np.array([3, 4]).tobytes()}))
    holds(open_weights(tmp_path), {"w": np.array([3, 4])})


def sharded(directory: Path, kind: str) -> dict[str, str]:
    names, files = list(ARRAYS), {}
    for n in range(2):
        part = {name: ARRAYS[name] for name in names[n::2]}
        file = f"model-{n}.{kind}"
        files |= dict.fromkeys(part, file)
        if kind == "bin":
            (directory / file).write_bytes(saved(part, legacy=bool(n)))
        else:
            save_file(part, directory / file)
    index = {"bin": "pytorch_model.bin", "safetensors": "model.safetensors"}[kind]
    (directory / f"{index}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_sharded_files_are_read(tmp_path, kind):
    sharded(tmp_path, kind)
    holds(open_weights(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "../model-0.safetensors"}, "model-0"),
        ({"table": "/etc/passwd"}, "passwd"),
        ({"table": ".."}, "'..'"),
        ({"table": ""}, "''"),
        ({"table": "model-9.safetensors"}, "model-9"),
        ({"other": "model-0.safetensors"}, "other"),
        ({"table": 5}, "weight_map"),
        ({"table": "."}, "'.'"),
    ],
)
def test_damaged_index_is_one_line(tmp_path, change, message):
    files = sharded(tmp_path, "safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files | change}))
    with pytest.raises(UserError, match=message):
        open_weights(tmp_path)


def h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, value in {
            "bert/tf_bert/bert/encoder/layer_._0/attention/self/query/kernel:0": np.arange(
                6.0, dtype="float32"
            ).reshape(2, 3),
            "bert/tf_bert/bert/embeddings/word_embeddings/weight:0": np.ones((5, 2), "float32"),
            "classifier/tf_bert/classifier/bias:0": np.ones(2, "float32"),
        }.items():
            file[name] = value


def test_h5_has_the_names_and_the_layout_of_pytorch(tmp_path):
    h5(tmp_path / "tf_model.h5")
    expected = {
        "bert.encoder.layer.0.attention.self.query.weight": np.arange(6.0, dtype="float32").reshape(2, 3).T,
        "bert.embeddings.word_embeddings.weight": np.ones((5, 2), "float32"),
        "classifier.bias": np.ones(2, "float32"),
    }
    holds(open_weights(tmp_path), expected)


@pytest.mark.parametrize(
    ("stored", "expected", "transposed"),
    [
        ("mlm___cls/tf_bert/mlm___cls/predictions/transform/LayerNorm/gamma:0", "cls.predictions.transform.LayerNorm.weight", False),
        ("mlm___cls/tf_bert/mlm___cls/predictions/bias:0", "cls.predictions.bias", False),
        ("nsp___cls/tf_bert/nsp___cls/seq_relationship/kernel:0", "cls.seq_relationship.weight", True),
        ("bert/tf_bert/bert/embeddings/position_embeddings/embeddings:0", "bert.embeddings.position_embeddings.weight", False),
        ("distilbert/tf_d/distilbert/transformer/layer_._5/ffn/lin1/kernel:0", "distilbert.transformer.layer.5.ffn.lin1.weight", True),
        ("predictions___cls/tf_m/predictions___cls/predictions/dense/weight:0", "cls.predictions.dense.weight", False),
    ],
)  # fmt: skip
def test_names_in_h5(stored, expected, transposed):
    assert name_of_h5(stored) == (expected, transposed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: None, "no weights"),
        (lambda file: file.create_dataset("a/b/w", data=np.ones(9), chunks=(3,), compression="gzip"), "compressed"),
        (lambda file: file.create_dataset("a/b/w", shape=(10**9,), dtype="f4", chunks=(10**6,)), "no numbers"),
        (lambda file: file.create_dataset("a/b/w", shape=(4,), dtype="f4", external="other.raw"), "other"),
        (lambda file: file.create_dataset("a/b/w", data="text"), "no numbers"),
        (lambda file: file.__setitem__("a/b/w", h5py.ExternalLink("other.h5", "x")), "no weights"),
        (lambda file: file.__setitem__("a/b/w", h5py.SoftLink("/x")), "no weights"),
    ],
)
def test_odd_h5_is_refused(tmp_path, make, message):
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        make(file)
    with pytest.raises(UserError, match=message):
        open_weights(tmp_path)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("bert/encoder/layer_11/attention/self/query/kernel", "bert.encoder.layer.11.attention.self.query.weight"),
        ("bert/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings.weight"),
        ("cls/predictions/output_bias", "cls.predictions.bias"),
        ("cls/seq_relationship/output_weights", "cls.seq_relationship.weight"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("output_bias", "classifier.bias"),
        ("bert/pooler/dense/kernel/adam_v", None),
        ("global_step", None),
        (f"model/layer_with_weights-1/embeddings{OBJECT}", "bert.embeddings.position_embeddings.weight"),
        (f"model/layer_with_weights-4/_attention_layer/_key_dense/bias{OBJECT}", "bert.encoder.layer.0.attention.self.key.bias"),
        (f"model/layer_with_weights-16/kernel{OBJECT}", "bert.pooler.dense.weight"),
        (f"model/layer_with_weights-16/kernel/.OPTIMIZER_SLOT/optimizer/m{OBJECT}", None),
        ("_CHECKPOINTABLE_OBJECT_GRAPH", None),
    ],
)  # fmt: skip
def test_names_in_checkpoints(variable, expected):
    assert name_of_variable(variable) == expected


def test_names_in_checkpoints_of_mobilebert():
    name = "bert/encoder/layer_3/ffn_layer_2/output/FakeLayerNorm/gamma"
    assert name_of_variable(name, "mobilebert") == "mobilebert.encoder.layer.3.ffn.2.output.LayerNorm.weight"


def test_the_checkpoint_that_is_meant(tmp_path):
    assert checkpoint_in(tmp_path) is None
    (tmp_path / "model.ckpt-3.index").touch()
    assert checkpoint_in(tmp_path) == tmp_path / "model.ckpt-3"
    (tmp_path / "model.ckpt-30.index").touch()
    with pytest.raises(UserError, match=r"model\.ckpt-3, model\.ckpt-30"):
        checkpoint_in(tmp_path)
    (tmp_path / "bert_model.ckpt.index").touch()
    assert checkpoint_in(tmp_path) == tmp_path / "bert_model.ckpt"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/old/place/model.ckpt-30"\n')
    assert checkpoint_in(tmp_path) == tmp_path / "model.ckpt-30"


def archive(*entries: tuple[str, bytes], **options) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as file:
        for name, data in entries:
            file.writestr(name, data)
    return content.getvalue()


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        file.addfile(tarfile.TarInfo("sys_info"))
    return content.getvalue()


ONE = {"w": np.zeros(4, "float32")}
DATA = bytes(16)
PICKLE = torch_files.pickled(ONE)
FLOAT, LONG = (tensor(storage("0", kind, 2, b"N"), (1,), (1,)) for kind in ("FloatStorage", "LongStorage"))
BAD_FILES = {
    "nothing": b"",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "HTML": b"<!DOCTYPE html><html>not found</html>",
    "the oldest form": tar(),
    "no pickle": archive(("a/data/0", DATA)),
    "two pickles": archive(("a/data.pkl", PICKLE), ("b/data.pkl", PICKLE), ("a/data/0", DATA)),
    "TorchScript": archive(("a/data.pkl", PICKLE), ("a/constants.pkl", b"\x80\x02)."), ("a/data/0", DATA)),
    "compressed": archive(("a/data.pkl", PICKLE), ("a/data/0", DATA), compression=zipfile.ZIP_DEFLATED),
    "big-endian": archive(("a/data.pkl", PICKLE), ("a/byteorder", b"big"), ("a/data/0", DATA)),
    "storage missing": archive(("a/data.pkl", PICKLE)),
    "storage elsewhere": archive(("a/data.pkl", PICKLE), ("a/data/../0", DATA)),
    "storage too short": archive(("a/data.pkl", PICKLE), ("a/data/0", DATA[:-1])),
    "end of the archive missing": saved(ONE)[:-30],
    "end of the legacy form missing": saved(ONE, legacy=True)[:-1],
    "more elements than bytes": legacy_file(torch_files.pickled(ONE, legacy=True), {"0": (2**62, DATA)}),
    "another magic number": saved(ONE, legacy=True).replace(b"\x8a\x0al", b"\x8a\x0am", 1),
    "another protocol": saved(ONE, legacy=True).replace(b"M\xe9\x03.", b"M\xea\x03.", 1),
    "a list": zip_file(b"\x80\x02].", {}),
    "a training checkpoint": zip_file(b"\x80\x02}" + torch_files.text("epoch") + b"K\x03s.", {}),
    "two dtypes for one storage": legacy_file(state_dict({"a": FLOAT, "b": LONG}), {"0": (2, DATA)}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_damaged_files_are_one_line(tmp_path, name):
    (tmp_path / "pytorch_model.bin").write_bytes(BAD_FILES[name])
    with pytest.raises(UserError, match=r"pytorch_model\.bin") as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


FORMS = [saved(ARRAYS), saved(ARRAYS, legacy=True)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("place")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMS), st.data())
def test_mutated_files_give_tensors_or_one_line(place, content, data):
    at = data.draw(st.integers(0, len(content) - 1))
    content = content[:at] + data.draw(st.binary(max_size=9)) + content[at + data.draw(st.integers(0, 20)) :]
    (place / "pytorch_model.bin").write_bytes(content)
    try:
        tensors = open_weights(place)
        for name in tensors:
            assert tensors[name].shape == tensors.shape(name)
            tensors[name].sum()
    except UserError as error:
        assert "\n" not in str(error)


def test_tiny_bert_is_the_same_in_all_forms(tmp_path):
    arrays = load_file(TINY / "model.safetensors")
    for n, legacy in enumerate((False, True)):
        (tmp_path / str(n)).mkdir()
        (tmp_path / str(n) / "pytorch_model.bin").write_bytes(saved(arrays, legacy))
        holds(open_weights(tmp_path / str(n)), arrays)
