"""Test that files that somebody made to do harm are refused in one line, without a crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from bundles import reseal

from tfdistill.errors import UserError
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.export.verify import main, verify_bundle

PINNED = Path(__file__).parents[2] / "pinned" / "bundle"


@pytest.fixture
def bundle(tmp_path) -> Path:
    """Return a copy of a bundle, to change."""
    return Path(shutil.copytree(PINNED, tmp_path / "bundle"))


def craft(bundle: Path, change: Callable[[Any], object]) -> None:
    """Change the tables of model.tflite, and seal the bundle again."""
    path = bundle / "model.tflite"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    change(model)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    reseal(bundle)


def graph(model: Any) -> Any:
    return model.subgraphs[0]


def custom_operator(model: Any) -> None:
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = 127
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[0].customCode = b"Evil\x1b[2J"


CRAFTED: dict[str, Callable[[Any], object]] = {
    "a tensor of 2**60 numbers": lambda model: setattr(graph(model).tensors[0], "shape", [2**30, 2**30]),
    "an input of no size": lambda model: setattr(graph(model).tensors[graph(model).inputs[0]], "shape", []),
    "a tensor that does not exist": lambda model: setattr(graph(model).operators[0], "inputs", [10**6]),
    "an output that does not exist": lambda model: setattr(graph(model).operators[0], "outputs", [10**6]),
    "an operator that does not exist": lambda model: setattr(graph(model).operators[0], "opcodeIndex", 10**6),
    "a buffer that does not exist": lambda model: setattr(graph(model).tensors[0], "buffer", 10**6),
    "no graph": lambda model: setattr(model, "subgraphs", []),
    "no operators": lambda model: setattr(graph(model), "operators", []),
    "no signatures": lambda model: setattr(model, "signatureDefs", []),
    "a signature of another graph": lambda model: setattr(model.signatureDefs[0], "subgraphIndex", 7),
    "a name that is not UTF-8": lambda model: setattr(model.signatureDefs[0], "signatureKey", b"\xff\xfe"),
    "a name of an input that is not UTF-8": lambda model: setattr(model.signatureDefs[0].inputs[0], "name", b"\xff"),
    "a custom operator": custom_operator,
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_crafted_files(bundle, kind):
    craft(bundle, CRAFTED[kind])
    with pytest.raises(UserError) as caught:
        verify_bundle(bundle)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_an_unchanged_file_is_packed_again(bundle):
    """So that the files above are refused for their change."""
    craft(bundle, lambda model: None)
    assert TFLiteModel(bundle / "model.tflite").length


@pytest.mark.parametrize("name", ["[/red]", "[bold]B", "a\x1b[2J\x1b]0;t\x07", "b\u202etxt", "c\x9b31m", "line\nbreak"])
def test_names_of_others_are_printed_as_they_are(tmp_path, tfdistill, capsys, name):
    """A good bundle is verified with any names of its directory and labels, and a bad one is named in one line."""
    bundle = Path(shutil.copytree(PINNED, tmp_path / f"w{name}"))
    (bundle / "labels.txt").write_text("".join(f"{name!r}{n}\n" for n in range(2)))
    reseal(bundle, lambda manifest: manifest.update(label_names=[name, "b"]))
    code, out, err = tfdistill("verify", bundle)
    assert code == 0 and out.count("ok  ") == 3, err
    (bundle / "vocab.txt").write_text("other\n")
    code, out, err = tfdistill("verify", bundle)
    assert code == 2 and err.count("\n") == 1 and "vocab.txt" in err
    capsys.readouterr()
    assert main([str(bundle)]) == 2
    second = capsys.readouterr().err
    for text in (err, second):
        assert not any(letter in text for letter in "\x1b\x9b\x07\u202e") and text.count("\n") == 1
    if "[" in name and "\x1b" not in name:
        assert f"w{name}" in err and f"w{name}" in second
