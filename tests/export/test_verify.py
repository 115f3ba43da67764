"""Bundles are checked where there is no TensorFlow, and word pieces come from the bundle's own vocabulary."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.bundle.word_pieces import word_pieces
from tfdistill.export.verify import main, verify_bundle
from tfdistill.models.bert import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests" / "data" / "vectors" / "bert_tokenizer.json").read_text("utf-8"))
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "##s", "!", ".", "not"]
NEEDED = {"ai-edge-litert", "numpy", "tokenizers"}


def save(directory: Path, settings: dict) -> Path:
    options = dict(settings)
    Tokenizer(VECTORS["vocabularies"][options.pop("vocabulary")], **options).save(directory)
    return directory


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    model = TextModel(BertConfig(len(PIECES), 8, 1, 2, 16, max_position_embeddings=8, initializer_range=0.5), 2)
    model.tokenizer = Tokenizer(PIECES)
    return export_bundle(model, tmp_path_factory.mktemp("verify") / "bundle", length=8, quantize="fp32")


def run(bundle: Path, blocked: list[str]) -> subprocess.CompletedProcess[str]:
    """The module as a command, in a process that cannot import `blocked`."""
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({blocked!r})); sys.argv = ['verify', {str(bundle)!r}]\n"
        "runpy.run_module('tfdistill.export.verify', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)


def test_as_a_command_where_only_litert_and_tokenizers_are_installed(bundle):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {re.match(r"[a-z0-9-]+", line)[0] for line in project["dependencies"]}
    assert required >= NEEDED | {"tensorflow", "typer", "rich", "pydantic"}
    blocked = sorted(name.replace("-", "_") for name in required - NEEDED)
    blocked += ["tf_keras", "mediapipe", "ai_edge_quantizer", "click", "huggingface_hub", "transformers"]
    found = run(bundle, blocked)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].startswith("ok  files: 6 files") and lines[-1].startswith(
        "ok  golden vectors: 100 texts get their ids"
    )


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        (
            ["tokenizers"],
            "tfdistill: tokenizers is not installed, and the golden texts are tokenized with it: pip install",
        ),
        (["ai_edge_litert"], "tfdistill: ai_edge_litert is not installed: pip install ai-edge-litert tokenizers"),
    ],
)
def test_what_is_missing_is_named_in_one_line(bundle, blocked, message):
    found = run(bundle, blocked)
    said = [line for line in found.stderr.splitlines() if not line.startswith("INFO: Created TensorFlow Lite")]
    assert found.returncode == 2 and len(said) == 1 and said[0].startswith(message)


def test_a_bundle_that_was_changed_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("tfdistill: ") and "is no directory" in captured.err


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: json.dumps(case["settings"]))
def test_word_pieces_are_those_of_hugging_face(case, tmp_path):
    found = word_pieces(save(tmp_path, case["settings"]), VECTORS["texts"], None, 512)
    assert [ids for ids, _ in found] == case["ids"]
    assert {segment for _, segments in found for segment in segments} == {0}


def test_pairs_are_cut_as_by_hugging_face(tmp_path):
    case = VECTORS["cases"][0]
    directory = save(tmp_path, case["settings"])
    first, second = map(list, zip(*VECTORS["pairs"], strict=True))
    for length, (ids, segments) in case["pairs"].items():
        found = word_pieces(directory, first, second, int(length))
        assert found == list(zip(ids, segments, strict=True))


def test_rows_too_short_for_a_pair(tmp_path):
    with pytest.raises(UserError, match="takes 4 tokens; expected 5 or more"):
        word_pieces(tmp_path, ["a"], None, 4)


def test_pairs_in_golden_vectors(tmp_path):
    """A model of single texts may be given the user's pairs, and then all of golden.json has second texts."""
    from tfdistill.data.splits import Split

    model = TextModel(BertConfig(len(PIECES), 8, 1, 2, 16, max_position_embeddings=8, initializer_range=0.5), 2)
    model.tokenizer = Tokenizer(PIECES)
    data = Split(["a film", "good"], ["not good", "a"])
    out = export_bundle(model, tmp_path / "bundle", length=8, quantize="fp32", golden_data=data)
    vectors = json.loads((out / "golden.json").read_text("utf-8"))["vectors"]
    assert vectors[100]["text_b"] == "not good" and vectors[100]["token_ids"] == [2, 5, 6, 3, 11, 7, 3]
    assert str(verify_bundle(out)[-1]).startswith("golden vectors: 102 texts")
