"""Test random damage: every damaged bundle is refused in one line. `make torture` tries 5,000 of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundles import PIECES, read, reseal, reviewer

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import BundleData, export_bundle
from tfdistill.export.verify import verify_bundle

pytestmark = pytest.mark.heavy

TRIED = int(os.environ.get("MUTATIONS", "300"))
NAMES = ["../x", "/etc/passwd", "a/../../x", "..", "C:\\x", "x\0", "\u202ex", " ", "~/x", "a" * 5000 + "/x", "\ud800"]
Random = np.random.Generator
KINDS = {
    "several lengths, text in": {"length": [8, 16], "text_in": True},
    "MediaPipe": {"length": 16, "mediapipe": True},
}


@pytest.fixture(scope="module", params=list(KINDS))
def whole(request, tmp_path_factory) -> Path:
    out, data = tmp_path_factory.mktemp("whole") / "bundle", BundleData(recipe={"name": "r"})
    return export_bundle(reviewer(("no", "yes", "perhaps")), out, data, **KINDS[request.param])


def one_of(random: Random, values: list) -> object:
    return values[int(random.integers(len(values)))]


def some_file(bundle: Path, random: Random) -> Path:
    return one_of(random, sorted(bundle.iterdir()))


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
    text = '{"version": 4, "files": ' + "[" * depth + "]" * depth + "}"
    (bundle / "manifest.json").write_text(text, "utf-8")


def shuffle_the_vocabulary_and_seal(bundle: Path, random: Random) -> None:
    order = np.arange(len(PIECES))
    while (order == np.arange(len(PIECES))).all():
        order = random.permutation(len(PIECES))
    (bundle / "vocab.txt").write_text("".join(f"{PIECES[n]}\n" for n in order), "utf-8")
    reseal(bundle)


def give_one_the_content_of_another_and_seal(bundle: Path, random: Random) -> None:
    one, other = random.permutation(["golden.json", "model.tflite", "vocab.txt"])[:2]
    (bundle / one).write_bytes((bundle / other).read_bytes())
    reseal(bundle)


def leave_out_the_files_and_seal(bundle: Path, random: Random) -> None:
    reseal(bundle)
    names = ["golden.json", "labels.txt", "model.tflite", "tokenizer_config.json", "vocab.txt"]
    reseal(bundle, lambda manifest: manifest["files"].pop(one_of(random, names)))


def put_much_into_the_files_and_seal(bundle: Path, random: Random) -> None:
    much = one_of(random, ["x", "\n", "é", "\u202e"]) * int(random.integers(1, 2_000_000))
    value, name = one_of(random, [much, [much], {much: much}]), one_of(random, ["vocab.txt", "model.tflite", "more"])
    reseal(bundle, lambda manifest: manifest["files"].update({name: value}))


def put_much_into_golden_vectors_and_seal(bundle: Path, random: Random) -> None:
    golden = read(bundle / "golden.json")
    vector = one_of(random, golden["vectors"])
    count = int(random.integers(2, 200_000))
    much = {"text": "film " * count, "token_ids": [5] * count, "segment_ids": [0] * count, "logits": [1.0] * count}
    key = one_of(random, list(much))
    vector[key] = much[key]
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    reseal(bundle)


def spoil_golden_vectors_and_seal(bundle: Path, random: Random) -> None:
    golden = read(bundle / "golden.json")
    value = one_of(random, [None, [], "\ud800", [1e9], [float("nan")] * 3, {}, -1, [[1]], 2**70])
    one_of(random, golden["vectors"])[one_of(random, ["text", "token_ids", "segment_ids", "logits"])] = value
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    reseal(bundle)


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
    shorten_the_vocabulary_and_seal,
    shuffle_the_vocabulary_and_seal,
    give_one_the_content_of_another_and_seal,
    name_a_path_and_seal,
    leave_out_the_files_and_seal,
    put_much_into_the_manifest,
    put_much_into_the_files_and_seal,
    put_much_into_golden_vectors_and_seal,
    nest_the_manifest,
    spoil_golden_vectors_and_seal,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_refused_in_one_line(whole: Path, damage: Callable, tmp_path: Path) -> None:
    random = np.random.default_rng(DAMAGES.index(damage))
    for number in range(-(-TRIED // (len(DAMAGES) * len(KINDS)))):
        bundle = Path(shutil.copytree(whole, tmp_path / "bundle"))
        damage(bundle, random)
        with pytest.raises(UserError) as caught:
            verify_bundle(bundle)
            pytest.fail(f"attempt {number} was taken for intact")
        message = str(caught.value)
        assert message and "\n" not in message and len(message) < 1000, message
        shutil.rmtree(bundle)


def test_random_bytes_in_a_resealed_model(whole: Path, tmp_path: Path) -> None:
    """It may still give the golden logits; it must not crash, hang or fail in another way."""
    random = np.random.default_rng(0)
    content = (whole / "model.tflite").read_bytes()
    for _ in range(-(-TRIED // 10)):
        bundle = Path(shutil.copytree(whole, tmp_path / "bundle"))
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 4):
            damaged[position] = int(random.integers(256))
        (bundle / "model.tflite").write_bytes(damaged)
        reseal(bundle)
        try:
            verify_bundle(bundle)
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
        shutil.rmtree(bundle)


def test_an_undamaged_bundle_passes(whole: Path) -> None:
    verify_bundle(whole)
