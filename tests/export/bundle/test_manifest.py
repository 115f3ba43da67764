"""Test that any damage to a bundle's files or manifest is detected, without a model."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from bundles import read, reseal

from tfdistill.errors import UserError
from tfdistill.export.bundle.manifest import VERSION, check_size, intact, sealed

FILES = ["golden.json", "labels.txt", "model.tflite", "tokenizer_config.json", "vocab.txt", "x-1.txt"]


@pytest.fixture
def bundle(tmp_path) -> Path:
    """Return a directory with the files of a bundle, whose content does not matter here."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    rng = np.random.default_rng(0)
    for name in FILES:
        (directory / name).write_bytes(rng.bytes(200))
    manifest = {"version": VERSION, "task": "classification", "files": {name: {} for name in FILES}}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    reseal(directory)
    return directory


def refused(bundle: Path, match: str | None = None) -> None:
    with pytest.raises(UserError, match=match) as caught:
        intact(bundle)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_an_intact_bundle_passes(bundle):
    manifest, check = intact(bundle)
    assert manifest == read(bundle / "manifest.json") and list(manifest["files"]) == FILES
    assert check.name == "files" and f"{len(FILES)} files" in check.detail


def test_flipped_bits(bundle):
    rng = np.random.default_rng(0)
    for name in [*FILES, "manifest.json"]:
        content = (bundle / name).read_bytes()
        for position in rng.integers(0, len(content), 40):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            (bundle / name).write_bytes(damaged)
            refused(bundle, match=name)
        (bundle / name).write_bytes(content)
    intact(bundle)


def test_truncated_and_missing_files(bundle):
    for name in FILES:
        content = (bundle / name).read_bytes()
        for size in (0, 1, len(content) // 2, len(content) - 1):
            (bundle / name).write_bytes(content[:size])
            refused(bundle, match=rf"{name} has {size} bytes")
        (bundle / name).unlink()
        refused(bundle, match=name)
        (bundle / name).write_bytes(content)


@pytest.mark.parametrize("name", ["vocab.txt", "manifest.json"])
def test_what_is_not_a_plain_file(bundle, name):
    (bundle / name).rename(bundle.parent / "elsewhere")
    (bundle / name).symlink_to(bundle.parent / "elsewhere")
    refused(bundle, match=name)
    (bundle / name).unlink()
    os.mkfifo(bundle / name)  # reading it would wait for ever
    refused(bundle, match=name)
    (bundle / name).unlink()
    (bundle / name).mkdir()
    refused(bundle, match=name)


def test_no_manifest_and_no_directory(bundle):
    (bundle / "manifest.json").unlink()
    refused(bundle, match="manifest.json")
    refused(bundle / "nothing", match="nothing")


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", "C:x", "manifest.json", "x\0y", "~", "x\n", "é", ".hidden"],
)
def test_names_outside_the_bundle(bundle, name):
    (bundle.parent / "x").write_text("outside")
    reseal(bundle, lambda manifest: manifest["files"].update({name: {"sha256": "0" * 64, "bytes": 7}}))
    refused(bundle, match="names the file")


@pytest.mark.parametrize(
    "entry", [None, 3, {}, {"sha256": 3, "bytes": 3}, {"sha256": "0", "bytes": True}, {"bytes": 1}]
)
def test_invalid_entries(bundle, entry):
    reseal(bundle, lambda manifest: manifest["files"].update({"vocab.txt": entry}))
    refused(bundle, match="vocab.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"null",
        b"{}",
        b'{"version": 4}',
        b'{"version": 4, "version": 4}',
        b'{"version": 4, "name": "\\ud800"}',
        *(sealed({"version": version}).encode() for version in (None, 0, VERSION + 1, True, "4", 4.0, 10**400)),
        *(sealed({"version": 4, "files": files}).encode() for files in (None, [], {}, {"model.tflite": {}})),
    ],
)
def test_invalid_manifests(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    refused(bundle, match="manifest.json")


@pytest.mark.heavy
@pytest.mark.parametrize("key", ["version", "files"])
def test_deeply_nested_manifests(bundle, key):
    """The limits of Python's JSON differ for reading and writing."""
    for depth in (*range(100, 1200, 50), *range(980, 1000), 5_000, 20_000):
        nested = f'"{key}": {"[" * depth}{"]" * depth}'
        (bundle / "manifest.json").write_text(f'{{"version": 4, {nested}}}')
        refused(bundle, match="manifest.json")


@pytest.mark.heavy
@pytest.mark.parametrize("bytes_more", [0, 1])
def test_manifests_of_64_mebibytes(bundle, bytes_more):
    limit = 64 * 2**20
    reseal(bundle, lambda manifest: manifest.update(note=""))
    missing = limit + bytes_more - (bundle / "manifest.json").stat().st_size
    reseal(bundle, lambda manifest: manifest.update(note="x" * missing))
    assert (bundle / "manifest.json").stat().st_size == limit + bytes_more
    if bytes_more:
        refused(bundle, match=str(limit))
    else:
        intact(bundle)


@pytest.mark.parametrize("change", [{"note": "x"}, {"version": 1}, {"task": None}])
def test_other_entries_do_not_matter(bundle, change):
    """Bundles of other versions have other entries."""
    reseal(bundle, lambda manifest: manifest.update(change))
    intact(bundle)


def test_a_tokenizer_that_is_not_listed(bundle):
    """It would be read together with the vocabulary."""
    os.mkfifo(bundle / "tokenizer.json")
    refused(bundle, match="tokenizer.json")


def test_large_text_files_are_not_read(bundle):
    with open(bundle / "vocab.txt", "wb") as file:
        file.truncate(64 * 2**20 + 1)
    reseal(bundle)
    refused(bundle, match=r"vocab\.txt")


@pytest.mark.parametrize(("name", "size", "fits"), [("labels.txt", 2**26, True), ("labels.txt", 2**26 + 1, False)])
def test_nothing_is_written_that_would_not_be_read(tmp_path, name, size, fits):
    with open(tmp_path / name, "wb") as file:
        file.truncate(size)
    with nullcontext() if fits else pytest.raises(UserError, match=name):
        check_size(tmp_path / name)
