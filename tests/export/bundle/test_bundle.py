"""A bundle is whole, says what it is, and any damage to it is found and named."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from functools import partial
from importlib import metadata

import numpy as np
import pytest
from helpers import hold_files
from rich.console import Console

from tfdistill.commands.compare import compare as side_by_side
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.bundle.manifest import sealed
from tfdistill.export.tflite.accuracy_gate import AccuracyDropped, compare
from tfdistill.export.verify import verify_bundle
from tfdistill.metrics.scores import score
from tfdistill.models.bert import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "##s", "!", ".", ",", "'", "it", "not"]
FILES = [
    "README.md",
    "golden.json",
    "labels.txt",
    "manifest.json",
    "model.tflite",
    "recipe.json",
    "tokenizer_config.json",
    "vocab.txt",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    model = TextModel(
        BertConfig(len(PIECES), 16, 1, 2, 32, max_position_embeddings=16, initializer_range=0.5),
        2,
        label_names=("no", "yes"),
    )
    model.tokenizer = Tokenizer(PIECES)
    rows = model.tokenizer.encode(["a good film!", "it s not", "films"], max_length=10)
    batch = model.tokenizer(["a good film!", "it s not", "films"], length=10)
    out = tmp_path_factory.mktemp("bundle") / "out"
    dev = (rows, model(batch).numpy(), partial(score, "classification", np.array([0, 1, 0])))
    assert export_bundle(model, out, length=10, dev=dev, recipe={"name": "r"}) == out
    return model, out


@pytest.fixture
def bundle(made, tmp_path):
    return shutil.copytree(made[1], tmp_path / "bundle")


def edit(bundle, change) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(sealed(manifest))


def reseal(bundle, name: str, content: bytes) -> None:
    """Change a file and the manifest with it."""
    (bundle / name).write_bytes(content)
    said = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    edit(bundle, lambda manifest: manifest["files"].update({name: said}))


def test_what_is_in_it(made):
    _, out = made
    assert sorted(path.name for path in out.iterdir()) == FILES
    manifest = json.loads((out / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]
    for key, value in {
        "quantization": "dynamic_int8",
        "length": 10,
        "max_length": 16,
        "task": "classification",
    }.items():
        assert manifest[key] == value
    assert manifest["label_names"] == ["no", "yes"] and manifest["versions"]["tensorflow"].startswith("2.")
    assert manifest["parity"]["rows"] == 3 and manifest["parity"]["max_abs_difference"] < 0.1
    assert (out / "labels.txt").read_text() == "no\nyes\n"
    assert Tokenizer.from_directory(out).vocabulary == tuple(PIECES)
    golden = json.loads((out / "golden.json").read_text())
    assert len(golden["vectors"]) == len({vector["text"] for vector in golden["vectors"]}) == 100
    assert golden["vectors"][2] == {
        "text": "",
        "token_ids": [2, 3],
        "segment_ids": [0, 0],
        "logits": golden["vectors"][2]["logits"],
        "probabilities": golden["vectors"][2]["probabilities"],
    }
    for vector in golden["vectors"]:
        odds = np.exp(vector["logits"][1] - vector["logits"][0])
        assert vector["probabilities"] == pytest.approx([1 / (1 + odds), odds / (1 + odds)], abs=1e-5)
    assert max(len(vector["token_ids"]) for vector in golden["vectors"]) == 10


def test_compare_reads_its_score(made):
    manifest = json.loads((made[1] / "manifest.json").read_text())
    (row,) = side_by_side([made[1]], split="dev")
    assert (row.kind, row.split, row.metric, row.score) == ("bundle", "dev", "accuracy", manifest["parity"]["accuracy"])
    assert row.bytes == manifest["files"]["model.tflite"]["bytes"] and row.latency_ms is None


def test_it_passes(made):
    checks = verify_bundle(made[1])
    names = ["files", "operators", "quantization", "size", "signature", "labels", "metadata", "golden vectors"]
    assert [check.name for check in checks] == names
    assert str(checks[4]) == "signature: token_ids, padding_mask, segment_ids [1, 10] → logits"
    console = Console(record=True, width=120)
    console.print(*checks, sep="\n")
    assert "✓ labels no, yes" in console.export_text()


def test_any_flipped_bit_is_found(bundle):
    rng = np.random.default_rng(0)
    for name in FILES:
        content = (bundle / name).read_bytes()
        for position in rng.integers(0, len(content), 8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            (bundle / name).write_bytes(damaged)
            # A manifest may stop being JSON, or of this version, before its seal is looked at.
            with pytest.raises(UserError, match=None if name == "manifest.json" else f"{name} was changed"):
                verify_bundle(bundle)
        (bundle / name).write_bytes(content)
    verify_bundle(bundle)


def test_truncated_and_missing_files_are_found(bundle):
    for name in FILES:
        if name == "manifest.json":
            continue
        content = (bundle / name).read_bytes()
        for size in (0, 1, len(content) // 2, len(content) - 1):
            (bundle / name).write_bytes(content[:size])
            with pytest.raises(UserError, match=f"{name} has {size} bytes, manifest.json says {len(content)}"):
                verify_bundle(bundle)
        (bundle / name).unlink()
        with pytest.raises(UserError, match=f"{name} is missing"):
            verify_bundle(bundle)
        (bundle / name).write_bytes(content)
    (bundle / "vocab.txt").rename(bundle / "elsewhere")
    (bundle / "vocab.txt").symlink_to(bundle / "elsewhere")
    with pytest.raises(UserError, match=r"vocab\.txt is missing, or no plain file"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        "C:x",
        "manifest.json",
        "x\0y",
        "~",
        "x\n",
        "é",
        ".hidden",
        "a" * 9 + "/",
    ],
)
def test_names_outside_the_bundle_are_refused(bundle, name):
    (bundle.parent / "x").write_text("outside")
    said = {"sha256": hashlib.sha256(b"outside").hexdigest(), "bytes": 7}
    edit(bundle, lambda manifest: manifest["files"].update({name: said}))
    with pytest.raises(UserError, match="expected plain names within the bundle"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no valid JSON"),
        (b"{", "is no valid JSON"),
        (b"\xff\xfe", "is no valid JSON"),
        (b"[" * 100_000, "is no valid JSON"),
        (b"[]", "holds a list; expected a JSON object"),
        (b"null", "holds a NoneType"),
        (b"{}", "has version None; expected 4"),
        (b'{"version": 1}', "has version 1; expected 4"),
        (b'{"version": 4}', "was changed: its seal does not fit"),
        (b'{"version": 4, "version": 4}', "was changed: its seal does not fit"),
        (b'{"version": 4, "name": "\\ud800"}', "was changed: its seal does not fit"),
        (sealed({"version": 4}).encode(), "lists no files"),
        (sealed({"version": 4, "files": []}).encode(), "lists no files"),
        (
            sealed({"version": 4, "files": {}}).encode(),
            r"does not list model\.tflite, golden\.json, labels\.txt, vocab\.txt, tokenizer_config\.json",
        ),
    ],
)
def test_manifests_that_are_none(bundle, content, message):
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        verify_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["version", "files"])
def test_manifests_nested_to_any_depth(bundle, key):
    for depth in (*range(100, 1200, 50), *range(980, 1000), 5_000, 20_000):
        nested = f'"{key}": {"[" * depth}{"]" * depth}'
        (bundle / "manifest.json").write_text(f'{{"version": 4, {nested}}}')
        with pytest.raises(UserError) as caught:
            verify_bundle(bundle)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entry", [None, 3, {}, {"sha256": 3, "bytes": 3}, {"sha256": "0", "bytes": True}, {"bytes": 1}]
)
def test_entries_that_are_none(bundle, entry):
    edit(bundle, lambda manifest: manifest["files"].update({"vocab.txt": entry}))
    with pytest.raises(UserError, match="expected its sha256 and bytes"):
        verify_bundle(bundle)


def test_missing_manifest_and_directory(bundle):
    (bundle / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        verify_bundle(bundle)
    with pytest.raises(UserError, match="is no directory"):
        verify_bundle(bundle / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operators": {"ADD": 1}}, "other operators than manifest.json says"),
        ({"length": 11}, "takes 10 tokens, manifest.json says 11"),
        ({"lengths": [5, 10]}, r"signatures of \[10\] tokens, manifest\.json says \[5, 10\]"),
        ({"label_names": ["yes", "no"]}, "labels.txt has"),
        ({"task": "token_classification"}, r"logits for each text, manifest\.json says 'token_classification'"),
        ({"task": "sums"}, r"has the task 'sums'; expected one of classification, "),
        ({"task": ["classification"]}, "has the task "),
        ({"family": "bilstm"}, r"has 0 LSTMs another family, manifest\.json says 'bilstm'"),
        ({"family": "lstm"}, "has the family 'lstm'"),
        ({"quantization": "fp32"}, r"has tensors of dynamic_int8 .*, manifest\.json says 'fp32'"),
        ({"quantization": "int3"}, "has the quantization 'int3'"),
        ({"quantizer": "ai-edge-quantizer"}, r"has the quantizer tensorflow, manifest\.json says 'ai-edge-quantizer'"),
        ({"zipped_bytes": 1}, r"has zipped bytes \d+, manifest\.json says 1"),
        ({"zipped_bytes": "many"}, "says 'many'"),
        ({"delegates": {}}, "other operators for delegates"),
        ({"output": "probabilities"}, "gives logits, manifest.json says 'probabilities'"),
        ({"mediapipe": True}, "has mediapipe False, manifest.json says True"),
        ({"mediapipe": 0}, "has the output logits, manifest.json says 'mediapipe: 0'"),
        ({"text_in": {"file": "model-text.tflite"}}, "of a file that takes text"),
        ({"judged": False, "max_drop": 1.0}, "which do not go together"),
        ({"judged": True, "max_drop": -1.0}, "has judged True, max_drop -1.0 and a drop of 0.0"),
        ({"judged": True, "max_drop": None}, "which do not go together"),
        ({"judged": 1}, "which do not go together"),
        ({"note": "x"}, "has the unknown 'note'"),
    ],
)
def test_a_manifest_of_another_model(bundle, change, message):
    edit(bundle, lambda manifest: manifest.update(change))
    with pytest.raises(UserError, match=message):
        verify_bundle(bundle)


def test_every_entry_of_the_manifest_is_needed(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    for key in manifest.keys() - {"seal", "version", "files"}:
        (bundle / "manifest.json").write_text(sealed({name: manifest[name] for name in manifest if name != key}))
        with pytest.raises(UserError, match=f"has no '{key}'"):
            verify_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda pieces: [*pieces[:5], *reversed(pieces[5:])],
            r"vocab\.txt gives other ids than golden\.json for \d+ of 100 ",
        ),
        (lambda pieces: [*pieces[:6], "movie", *pieces[7:]], r"for \d+ of 100 texts, such as 'a quiet, moving film'"),
        (lambda pieces: [*pieces[:-1], pieces[-2]], "names a piece twice"),
        (lambda pieces: ["[NONE]", *pieces[1:]], r"lacks \[PAD\]; expected a BERT vocabulary"),
    ],
)
def test_a_resealed_wrong_vocabulary(bundle, change, message):
    """As one makes it who knows that the file holds it, too."""
    vocabulary = "".join(f"{piece}\n" for piece in change(PIECES)).encode()
    hold_files(bundle / "model.tflite", {"labels.txt": (bundle / "labels.txt").read_bytes(), "vocab.txt": vocabulary})
    reseal(bundle, "vocab.txt", vocabulary)
    reseal(bundle, "model.tflite", (bundle / "model.tflite").read_bytes())
    with pytest.raises(UserError, match=message):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_lower_case": False}, r"vocab\.txt gives other ids than golden\.json for "),
        ({"do_lower_case": None}, "expected true or false for each"),
        ({"strip_accents": 1}, "expected true or false for each"),
    ],
)
def test_resealed_settings_of_another_tokenizer(bundle, change, message):
    settings = json.loads((bundle / "tokenizer_config.json").read_text())
    reseal(bundle, "tokenizer_config.json", json.dumps(settings | change).encode())
    with pytest.raises(UserError, match=message):
        verify_bundle(bundle)


def test_a_resealed_file_that_is_no_model(bundle):
    reseal(bundle, "model.tflite", b"no model")
    with pytest.raises(UserError, match=r"model\.tflite is no \.tflite file"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda golden: golden["vectors"][0].update(logits=[9.0, 9.0]), r"model\.tflite differs from golden\.json by"),
        (lambda golden: golden["vectors"][0].update(logits=[float("nan"), 0.0]), r"differs from golden\.json by nan"),
        (lambda golden: golden["vectors"][0].update(logits=[0.0]), "is malformed"),
        (lambda golden: golden["vectors"][0].update(token_ids=["x"]), "is malformed"),
        (lambda golden: golden["vectors"][0].update(token_ids=None), "is malformed"),
        (lambda golden: golden["vectors"][0].pop("token_ids"), "is malformed"),
        (lambda golden: golden.update(vectors=3), "is malformed"),
        (lambda golden: golden.update(vectors=[]), "has no vectors"),
        (lambda golden: golden["vectors"][0].update(token_ids=[15], segment_ids=[0]), "ids outside the vocabulary"),
        (lambda golden: golden["vectors"][0].update(token_ids=[-1], segment_ids=[0]), "ids outside the vocabulary"),
        (lambda golden: golden["vectors"][0].update(segment_ids=[0]), "segment ids that do not fit"),
        (lambda golden: golden["vectors"][0].update(token_ids=[2] * 11, segment_ids=[0] * 11), "are longer than"),
        (
            lambda golden: golden["vectors"][0].update(text="good"),
            r"gives other ids .* for 1 of 100 texts, such as 'good'",
        ),
        (lambda golden: golden["vectors"][0].update(text=3), "is malformed"),
        (lambda golden: golden["vectors"][0].update(text="\ud800"), "lone surrogate"),
        (lambda golden: golden["vectors"][0].pop("text"), "is malformed"),
        (lambda golden: golden["vectors"][0].update(text_b=""), "is malformed"),
        (lambda golden: golden["vectors"][0].update(note=""), "is malformed"),
        (
            lambda golden: golden["vectors"][0].update(probabilities=[0.5, 0.5]),
            "for text 1 that are not those of its logits",
        ),
        (lambda golden: golden["vectors"][0].update(probabilities=[0.5]), "is malformed"),
        (lambda golden: golden["vectors"][0].pop("probabilities"), "probabilities for some texts and none for others"),
        (lambda golden: golden.update(length=11), "is for 11 tokens, model.tflite takes 10"),
        (lambda golden: golden.update(note="x"), "has the keys .*; expected length, tolerance, vectors"),
        (
            lambda golden: golden.update(tolerance=50.0),
            r"allows a difference of 50; expected .* at most for dynamic_int8",
        ),
        (lambda golden: golden.update(tolerance="wide"), "is malformed"),
        (lambda golden: golden.update(tolerance=float("inf")), "allows a difference of inf"),
        (lambda golden: golden.update(tolerance=float("nan")), "allows a difference of nan"),
    ],
)
def test_golden_vectors_that_do_not_fit(bundle, change, message):
    golden = json.loads((bundle / "golden.json").read_text())
    change(golden)
    reseal(bundle, "golden.json", json.dumps(golden).encode())
    with pytest.raises(UserError, match=message):
        verify_bundle(bundle)


def test_what_cannot_be_exported(made, tmp_path):
    model, _ = made
    with pytest.raises(UserError, match="length is 4; expected at least 5"):
        export_bundle(model, tmp_path / "x", length=4)
    with pytest.raises(UserError, match="length is 17; expected 1 to 16"):
        export_bundle(model, tmp_path / "x", length=17)
    with pytest.raises(UserError, match="quantization 'int3' is unknown"):
        export_bundle(model, tmp_path / "x", quantize="int3")
    with pytest.raises(UserError, match="max_drop is nan; expected a number of points"):
        export_bundle(model, tmp_path / "x", length=10, max_drop=float("nan"))
    bare = TextModel(model.config, 2)
    with pytest.raises(UserError, match="has no tokenizer"):
        export_bundle(bare, tmp_path / "x", length=10)
    with pytest.raises(UserError, match="MediaPipe takes probabilities, and int8 would round these"):
        export_bundle(model, tmp_path / "x", length=10, quantize="int8", mediapipe=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_bundle_is_not_replaced(made, tmp_path):
    model, bundle = made
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("of years")
    with pytest.raises(UserError, match=r"mine .*`--out`"):
        export_bundle(model, tmp_path / "mine", quantize="fp32", length=10)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    shutil.copytree(bundle, tmp_path / "old")
    (tmp_path / "old.report.json").write_text("{}")  # of a refusal before
    export_bundle(model, tmp_path / "old", quantize="fp32", length=10)
    assert json.loads((tmp_path / "old" / "manifest.json").read_text("utf-8"))["quantization"] == "fp32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "old"]


def test_texts_of_the_user_only_when_asked_for(made, tmp_path):
    model, _ = made
    data = Split([f"a film {n}" for n in range(230)])
    export_bundle(model, tmp_path / "b", length=10, quantize="fp32", golden_data=data)
    texts = [vector["text"] for vector in json.loads((tmp_path / "b" / "golden.json").read_text())["vectors"]]
    assert len(texts) == 300 and texts[100] == "a film 0" and texts[-1] == "a film 199"
    verify_bundle(tmp_path / "b")


def test_a_file_that_loses_too_much_is_refused(made, tmp_path):
    """Labels that Keras, as the numbers handed in say, gets right and the file cannot: each text has both classes."""
    model, _ = made
    rows, labels = model.tokenizer.encode(["a film", "good", "a film", "good"], max_length=10), np.array([0, 0, 1, 1])
    right, scores = np.stack([1.0 - labels, labels], axis=1), partial(score, "classification", labels)
    with pytest.raises(
        AccuracyDropped, match=r"loses 50\.0 points of accuracy on dev \(1\.0000 → 0\.5000\), allowed are 1;"
    ):
        export_bundle(model, tmp_path / "b", length=10, dev=(rows, right, scores), max_drop=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["b.report.json"]
    report = json.loads((tmp_path / "b.report.json").read_text())
    assert report["parity"]["drop"] == 50.0 and report["max_drop"] == 1.0 and report["quantization"] == "dynamic_int8"
    assert export_bundle(model, tmp_path / "b", length=10, dev=(rows, right, scores), max_drop=50.0).is_dir()
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["judged"] is True and manifest["max_drop"] == 50.0 and manifest["parity"]["drop"] == 50.0
    assert (
        "On 4 labelled dev texts it has 0.5000 accuracy, the Keras model 1.0000."
        in (tmp_path / "b" / "README.md").read_text()
    )
    verify_bundle(tmp_path / "b")


@pytest.mark.parametrize(("max_drop", "score_of_file"), [(1.0, float("nan")), (None, float("inf"))])
def test_a_score_that_is_no_number_is_refused(made, tmp_path, max_drop, score_of_file):
    model, _ = made
    rows, answers = model.tokenizer.encode(["a film", "good"], max_length=10), iter([1.0, score_of_file])
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(AccuracyDropped, match=r"dynamic_int8 has no finite score: sum on dev \(1\.0000 → (nan|inf)\)"):
        export_bundle(
            model, tmp_path / "b", length=10, dev=(rows, logits, lambda _: {"sum": next(answers)}), max_drop=max_drop
        )
    assert [path.name for path in tmp_path.iterdir()] == ["b.report.json"]


def test_a_file_without_labelled_data_says_that_it_was_not_judged(made, tmp_path):
    model, _ = made
    rows = model.tokenizer.encode(["a film", "good"], max_length=10)
    dev = (rows, np.array([[1.0, 0.0], [0.0, 1.0]]), None)
    out = export_bundle(model, tmp_path / "b", length=10, quantize="fp32", dev=dev, max_drop=1.0)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["judged"] is False and manifest["parity"]["rows"] == 2
    assert "was not judged on labelled data" in (out / "README.md").read_text()
    verify_bundle(out)


def test_what_it_was_made_with(made, tmp_path):
    model, out = made
    versions = json.loads((out / "manifest.json").read_text())["versions"]
    assert list(versions) == ["python", "tfdistill", "tensorflow", "keras", "ai-edge-litert"]
    assert versions["python"] == platform.python_version() and versions["keras"] == metadata.version("keras")
    other = export_bundle(model, tmp_path / "b", length=10, quantize="weight_int8")
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["versions"]["ai-edge-quantizer"] == metadata.version("ai-edge-quantizer")
    assert manifest["parity_random"]["rows"] == 6 and 0 < manifest["parity_random"]["max_abs_difference"] < 0.1
    verify_bundle(other)


def test_compare():
    """Two of four right before, one after; the other one was sure of itself and wrong."""
    before = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    after = np.array([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
    found = compare(before, after, np.full(4, 3), partial(score, "classification", np.array([0, 0, 0, 1])))
    sure = 1 / (1 + np.exp(-2))
    assert found == {
        "rows": 4,
        "max_abs_difference": 2.0,
        "argmax_agreement": 0.75,
        "metric": "accuracy",
        "drop": 25.0,
        "keras_accuracy": 0.5,
        "accuracy": 0.25,
        "keras_expected_calibration_error": pytest.approx(sure - 0.5),
        "expected_calibration_error": pytest.approx(sure - 0.25),
    }
    assert "drop" not in compare(before[:, None], after[:, None], np.ones(4, int))


def test_readme_names_shapes_and_files(made):
    text = (made[1] / "README.md").read_text("utf-8")
    for part in ("int32 [1, 10]", "float32 [1, 2]", "`no`, `yes`", "Kotlin", "Swift", "JavaScript", "lower-case"):
        assert part in text
    assert "{" not in text.split("```")[0]
