"""Bundles damaged in random ways: never a crash, never taken for whole. `make torture` tries 5,000 of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import hold_files

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.bundle.manifest import sealed
from tfdistill.export.verify import verify_bundle
from tfdistill.models.bert import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import sha256
from tfdistill.text.tokenizer import Tokenizer

TRIED = int(os.environ.get("MUTATIONS", "300"))
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "##s", "!", ".", ",", "'", "it", "not"]
NAMES = ["../x", "/etc/passwd", "a/../../x", "..", "C:\\x", "x\0", "\u202ex", " ", "~/x", "a" * 5000 + "/x", "\ud800"]
# Files whose content is checked, and not only their checksum.
CHECKED = ("golden.json", "labels.txt", "model.tflite", "tokenizer_config.json", "vocab.txt")
Random = np.random.Generator


KINDS: dict[str, dict[str, Any]] = {
    "several lengths, text in": {"length": [8, 16], "text_in": True},
    "MediaPipe": {"length": 16, "mediapipe": True},
}


@pytest.fixture(scope="module", params=list(KINDS))
def whole(request, tmp_path_factory) -> Path:
    config = BertConfig(len(PIECES), 8, 1, 2, 16, max_position_embeddings=16, initializer_range=0.5)
    model = TextModel(config, 3, label_names=("no", "yes", "perhaps"))
    model.tokenizer = Tokenizer(PIECES)
    out = tmp_path_factory.mktemp("whole") / "bundle"
    return export_bundle(model, out, recipe={"name": "r"}, **KINDS[request.param])


def one_of(random: Random, values: list) -> object:
    return values[int(random.integers(len(values)))]


def some_file(bundle: Path, random: Random) -> Path:
    return one_of(random, sorted(bundle.iterdir()))


def read(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def reseal(bundle: Path, change: Callable[[dict], object] = lambda manifest: None) -> None:
    """Change the manifest as one who knows how it is sealed."""
    manifest = read(bundle / "manifest.json")
    for name, said in manifest["files"].items():
        said.update(sha256=sha256(bundle / name), bytes=(bundle / name).stat().st_size)
    change(manifest)
    (bundle / "manifest.json").write_bytes(sealed(manifest).encode("utf-8", "surrogatepass"))


# --- ways to damage -------------------------------------------------------------------------------------------------


def cut(bundle: Path, random: Random) -> None:
    path = some_file(bundle, random)
    content = path.read_bytes()
    path.write_bytes(content[: int(random.integers(len(content)))])


def flip_a_bit(bundle: Path, random: Random) -> None:
    _flip(some_file(bundle, random), random)


def flip_a_bit_of_the_manifest(bundle: Path, random: Random) -> None:
    _flip(bundle / "manifest.json", random)


def _flip(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[int(random.integers(len(content)))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


def append(bundle: Path, random: Random) -> None:
    with open(some_file(bundle, random), "ab") as file:
        file.write(random.bytes(int(random.integers(1, 4096))))


def remove(bundle: Path, random: Random) -> None:
    some_file(bundle, random).unlink()


def make_a_directory_of_a_file(bundle: Path, random: Random) -> None:
    path = some_file(bundle, random)
    path.unlink()
    path.mkdir()


def link_outside(bundle: Path, random: Random) -> None:
    path = one_of(random, [path for path in sorted(bundle.iterdir()) if path.name != "manifest.json"])
    elsewhere = bundle.parent / "elsewhere"
    shutil.copy(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


def give_one_the_content_of_another(bundle: Path, random: Random) -> None:
    one, other = random.permutation(sorted(bundle.iterdir()))[:2]
    one.write_bytes(other.read_bytes())


def swap_two_lines(bundle: Path, random: Random) -> None:
    path = bundle / one_of(random, ["vocab.txt", "labels.txt"])
    lines = path.read_text("utf-8").split("\n")[:-1]
    one, other = random.choice(len(lines), 2, replace=False)
    lines[one], lines[other] = lines[other], lines[one]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def swap_labels_and_seal(bundle: Path, random: Random) -> None:
    lines = (bundle / "labels.txt").read_text("utf-8").split("\n")[:-1]
    (bundle / "labels.txt").write_text("\n".join(lines[1:] + lines[:1]) + "\n", "utf-8")
    reseal(bundle)


def shorten_the_vocabulary_and_seal(bundle: Path, random: Random) -> None:
    (bundle / "vocab.txt").write_text("\n".join(PIECES[: int(random.integers(8))]) + "\n", "utf-8")
    reseal(bundle)


def permute_the_vocabulary_and_seal(bundle: Path, random: Random) -> None:
    order = np.arange(len(PIECES))
    while (order == np.arange(len(PIECES))).all():
        order = random.permutation(len(PIECES))
    (bundle / "vocab.txt").write_text("".join(f"{PIECES[n]}\n" for n in order), "utf-8")
    # As one who knows what lies inside, too.
    hold_files(bundle / "model.tflite", {name: (bundle / name).read_bytes() for name in ("labels.txt", "vocab.txt")})
    reseal(bundle)


def spoil_the_files_inside_and_seal(bundle: Path, random: Random) -> None:
    names = ["labels.txt", "vocab.txt"]
    files, content = {name: (bundle / name).read_bytes() for name in names}, (bundle / "model.tflite").read_bytes()
    if random.integers(2):
        start = content.index(b"PK\x03\x04")
        (bundle / "model.tflite").write_bytes(content[: int(random.integers(start, len(content)))])
        reseal(bundle)
        return
    name, other = random.permutation(names)
    ways: list[dict[str, bytes]] = [
        {**files, str(one_of(random, ["../x", "/etc/passwd", "C:\\x", "~/x", "x"])): b"x"},
        {name: files[name]},
        {name: files[other], other: files[name]},
        {**files, name: files[name] + b"x" * int(random.integers(1, 2_000_000))},
        {},
    ]
    hold_files(bundle / "model.tflite", one_of(random, ways))
    reseal(bundle)


def give_one_the_content_of_another_and_seal(bundle: Path, random: Random) -> None:
    checked = [name for name in (*CHECKED, "model-text.tflite") if (bundle / name).is_file()]
    one, other = random.permutation(checked)[:2]
    (bundle / one).write_bytes((bundle / other).read_bytes())
    reseal(bundle)


def name_a_path_and_seal(bundle: Path, random: Random) -> None:
    name = one_of(random, NAMES)
    reseal(bundle, lambda manifest: manifest["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))


def put_much_into_the_manifest(bundle: Path, random: Random) -> None:
    manifest = read(bundle / "manifest.json")
    manifest["task"] = "x" * int(random.integers(1, 2_000_000))
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def nest_the_manifest(bundle: Path, random: Random) -> None:
    depth = int(random.integers(10, 200_000))
    text = '{"version": 4, "files": ' + "[" * depth + "]" * depth + "}"
    (bundle / "manifest.json").write_text(text, "utf-8")


def put_much_into_the_manifest_and_seal(bundle: Path, random: Random) -> None:
    much = one_of(random, ["x", "\n", "é", "\u202e"]) * int(random.integers(1, 2_000_000))
    key = one_of(
        random, ["task", "family", "quantization", "quantizer", "output", "note", "label_names", "operators", "text_in"]
    )
    reseal(bundle, lambda manifest: manifest.update({key: one_of(random, [much, [much], {much: much}])}))


def put_much_into_golden_vectors_and_seal(bundle: Path, random: Random) -> None:
    golden = read(bundle / "golden.json")
    vector = one_of(random, golden["vectors"])
    count = int(random.integers(2, 200_000))
    much = {"text": "film " * count, "token_ids": [5] * count, "segment_ids": [0] * count, "logits": [1.0] * count}
    much |= {"probabilities": [0.5] * count, "note": "x" * count, "x" * count: 1}
    key = one_of(random, list(much))
    vector[key] = much[key]
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    reseal(bundle)


def spoil_golden_vectors_and_seal(bundle: Path, random: Random) -> None:
    golden = read(bundle / "golden.json")
    vector = one_of(random, golden["vectors"])
    value = one_of(random, [None, [], "\ud800", [1e9], [float("nan")] * 3, {}, -1, [[1]], 2**70])
    vector[one_of(random, ["text", "token_ids", "segment_ids", "logits", "probabilities"])] = value
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    reseal(bundle)


def say_something_else_and_seal(bundle: Path, random: Random) -> None:
    lies = [
        {"length": 15},
        {"lengths": [15]},
        {"lengths": None},
        {"operators": {}},
        {"label_names": None},
        {"version": 5},
        {"output": "scores"},
        {"mediapipe": None},
        {"model_card": {}},
        {"model_card": None},
        {"mediapipe": "yes"},
        {"quantization": "fp32"},
        {"quantization": ["dynamic_int8"]},
        {"quantizer": None},
        {"family": "bilstm"},
        {"task": "token_classification"},
        {"task": "regression"},
        {"zipped_bytes": True},
        {"zipped_bytes": float("nan")},
        {"delegates": {"gpu": None}},
        {"text_in": {}},
        {"judged": True},
        {"max_drop": "1"},
        {"max_drop": 10**400},
        {"parity": 3, "judged": True, "max_drop": 1},
        {"seal": None, "note": 1},
        {"model_card": {"name": "x"}},
    ]
    lie = one_of(random, lies)
    reseal(bundle, lambda manifest: manifest.update(lie))


def leave_something_out_and_seal(bundle: Path, random: Random) -> None:
    keys = sorted(read(bundle / "manifest.json").keys() - {"files", "seal"})
    reseal(bundle, lambda manifest: manifest.pop(one_of(random, keys)))


DAMAGES = [
    cut,
    flip_a_bit,
    flip_a_bit_of_the_manifest,
    append,
    remove,
    make_a_directory_of_a_file,
    link_outside,
    give_one_the_content_of_another,
    swap_two_lines,
    swap_labels_and_seal,
    shorten_the_vocabulary_and_seal,
    permute_the_vocabulary_and_seal,
    spoil_the_files_inside_and_seal,
    give_one_the_content_of_another_and_seal,
    name_a_path_and_seal,
    put_much_into_the_manifest,
    put_much_into_the_manifest_and_seal,
    put_much_into_golden_vectors_and_seal,
    nest_the_manifest,
    spoil_golden_vectors_and_seal,
    say_something_else_and_seal,
    leave_something_out_and_seal,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_named_in_one_line(whole: Path, damage: Callable, tmp_path: Path) -> None:
    random = np.random.default_rng(DAMAGES.index(damage))
    for number in range(-(-TRIED // (len(DAMAGES) * len(KINDS)))):
        bundle = Path(shutil.copytree(whole, tmp_path / "bundle"))
        damage(bundle, random)
        message = None
        try:
            verify_bundle(bundle)
        except UserError as error:
            message = str(error)
        assert message is not None, f"attempt {number} was taken for whole"
        assert message and "\n" not in message and len(message) < 1000, message
        shutil.rmtree(bundle)


@pytest.mark.parametrize("bytes_more", [0, 1])
@pytest.mark.parametrize("name", ["manifest.json", "golden.json"])
def test_files_around_the_limit_of_64_mebibytes(whole: Path, name: str, bytes_more: int, tmp_path: Path) -> None:
    """A file of just that size is read, and refused for what is in it; a larger one is not read."""
    bundle, limit = Path(shutil.copytree(whole, tmp_path / "bundle")), 64 * 2**20
    if name == "manifest.json":
        reseal(bundle, lambda manifest: manifest.update(note=""))
        missing = limit + bytes_more - (bundle / name).stat().st_size
        reseal(bundle, lambda manifest: manifest.update(note="x" * missing))
    else:
        golden = read(bundle / name)
        golden["vectors"][0]["text"] = ""
        golden["vectors"][0]["text"] = "x" * (limit + bytes_more - len(json.dumps(golden)))
        (bundle / name).write_text(json.dumps(golden), "utf-8")
        reseal(bundle)
    assert (bundle / name).stat().st_size == limit + bytes_more
    expected = (
        "has the unknown 'note'" if name == "manifest.json" else r"a text of \d+ characters; expected 1048576 at most"
    )
    with pytest.raises(UserError, match="expected 67108864 at most" if bytes_more else expected) as caught:
        verify_bundle(bundle)
    assert len(str(caught.value)) < 1000


def test_the_undamaged_one_passes(whole: Path) -> None:
    assert [check.name for check in verify_bundle(whole)][-1] == "golden vectors"
