"""Bundles damaged in random ways: never a crash, never taken for whole. `make torture` tries 5,000 of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tfdistill.data.tokenize import Tokenizer
from tfdistill.errors import UserError
from tfdistill.export.bundle import export_bundle
from tfdistill.export.verify import sealed, verify_bundle
from tfdistill.files import sha256
from tfdistill.models.bert import BertConfig
from tfdistill.models.text import TextModel

TRIED = int(os.environ.get("MUTATIONS", "300"))
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "##s", "!", ".", ",", "'", "it", "not"]
NAMES = ["../x", "/etc/passwd", "a/../../x", "..", "C:\\x", "x\0", "\u202ex", " ", "~/x", "a" * 5000 + "/x", "\ud800"]
Random = np.random.Generator


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    config = BertConfig(len(PIECES), 8, 1, 2, 16, max_position_embeddings=16, initializer_range=0.5)
    model = TextModel(config, 3, label_names=("no", "yes", "perhaps"))
    model.tokenizer = Tokenizer(PIECES)
    return export_bundle(model, tmp_path_factory.mktemp("whole") / "bundle", length=[8, 16], recipe={"name": "r"})


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


def name_a_path_and_seal(bundle: Path, random: Random) -> None:
    name = one_of(random, NAMES)
    reseal(bundle, lambda manifest: manifest["files"].update({name: {"sha256": "0" * 64, "bytes": 1}}))


def put_much_into_the_manifest(bundle: Path, random: Random) -> None:
    manifest = read(bundle / "manifest.json")
    manifest["task"] = "x" * int(random.integers(1, 2_000_000))
    (bundle / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def nest_the_manifest(bundle: Path, random: Random) -> None:
    depth = int(random.integers(10, 200_000))
    text = '{"version": 3, "files": ' + "[" * depth + "]" * depth + "}"
    (bundle / "manifest.json").write_text(text, "utf-8")


def spoil_golden_vectors_and_seal(bundle: Path, random: Random) -> None:
    golden = read(bundle / "golden.json")
    vector = one_of(random, golden["vectors"])
    value = one_of(random, [None, [], "x", [1e9], [float("nan")] * 3, {}, -1, [[1]], 2**70])
    vector[one_of(random, ["token_ids", "segment_ids", "logits"])] = value
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    reseal(bundle)


def say_something_else_and_seal(bundle: Path, random: Random) -> None:
    lies = [
        {"length": 15},
        {"lengths": [16]},
        {"lengths": None},
        {"operators": {}},
        {"label_names": None},
        {"version": 4},
        {"output": "probabilities"},
        {"mediapipe": True},
        {"model_card": {"name": "x"}},
    ]
    lie = one_of(random, lies)
    reseal(bundle, lambda manifest: manifest.update(lie))


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
    name_a_path_and_seal,
    put_much_into_the_manifest,
    nest_the_manifest,
    spoil_golden_vectors_and_seal,
    say_something_else_and_seal,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_named_in_one_line(whole: Path, damage: Callable, tmp_path: Path) -> None:
    random = np.random.default_rng(DAMAGES.index(damage))
    for number in range(-(-TRIED // len(DAMAGES))):
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


def test_the_undamaged_one_passes(whole: Path) -> None:
    assert [check.name for check in verify_bundle(whole)][-1] == "golden vectors"
