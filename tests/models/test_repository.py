"""Test names of models, and downloads from a hub on 127.0.0.1 in all the ways that they fail."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from hub_server import FIRST, SECOND, Hub, serve
from safetensors.numpy import load_file, save_file
from torch_files import saved

from tfdistill.errors import UserError
from tfdistill.models.load import open_model
from tfdistill.models.names import kept_directory, model_directory
from tfdistill.models.repository import Repository, commit_of, download

TINY = Path(__file__).parent / "tiny_bert"
NAME = "org/tiny"


@pytest.fixture(scope="module")
def server():
    with serve() as hub:
        yield hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch) -> Hub:
    """Return a hub with the repository org/tiny, for an empty cache, and a working directory that is empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    for key, value in vars(Hub(server.url, server.large_files)).items():
        setattr(server, key, value)
    # The address is also in this template, which is made when huggingface_hub is imported.
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    others = {"README.md": b"x", "flax_model.msgpack": b"x", "model.onnx": b"x", "pytorch_model.bin": b"x"}
    server.add(NAME, TINY, **others)
    return server


def offline(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def unreachable(monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")


def left_in_cache(tmp_path: Path) -> list[str]:
    """Return the weights in the cache, and files that are half written."""
    # huggingface_hub notes in .no_exist which files a repository lacks.
    files = [path.name for path in (tmp_path / "cache").rglob("*") if ".no_exist" not in path.parts]
    return [name for name in files if name in ("model.safetensors", "pytorch_model.bin") or "incomplete" in name]


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("org/name", "org/name", "main"),
        ("org/name@v1.0", "org/name", "v1.0"),
        ("org/name@refs/pr/1", "org/name", "refs/pr/1"),
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased", "main"),
    ],
    ids=["name", "tag", "pull-request", "dashes"],
)
def test_names_of_repositories(text, name, revision):
    assert Repository.parse(text) == Repository(name, revision)


@pytest.mark.parametrize("text", ["name", "a/b/c", "/a/b", "./a", "../a", "~/a", "a/", "a/b@", "a b/c", "https://a/b"])
def test_other_names_are_directories(text):
    assert Repository.parse(text) is None


def test_a_directory_is_preferred(hub, tmp_path):
    place = tmp_path / "work" / "org" / "tiny"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    assert model_directory(f"hf:{NAME}") == model_directory(NAME) == Path("org/tiny")
    assert hub.requests == []


def test_a_run_is_its_student(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    assert model_directory(tmp_path) == model_directory(f"hf:{tmp_path}") == tmp_path / "student"


# --- good downloads ---------------------------------------------------------------------------------------------------


def test_a_download_and_a_second_load_without_network(hub, tmp_path, monkeypatch):
    place = model_directory(f"hf:{NAME}")
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "model.safetensors", "vocab.txt"]
    assert (place / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()
    assert sorted(set(hub.downloaded())) == ["config.json", "model.safetensors", "vocab.txt"]
    assert commit_of(place) == f"{NAME}@{FIRST}" and place.is_relative_to(tmp_path / "cache")
    hub.requests.clear()
    assert model_directory(f"hf:{NAME}") == place and hub.downloaded() == []
    offline(monkeypatch)
    hub.requests.clear()
    stored = open_model(f"hf:{NAME}")
    assert stored.directory == place == kept_directory(f"hf:{NAME}") and hub.requests == []


def test_without_a_network_the_former_download_is_read(hub, monkeypatch, capsys):
    place = model_directory(f"hf:{NAME}")
    unreachable(monkeypatch)
    assert model_directory(f"hf:{NAME}") == place
    assert NAME in capsys.readouterr().err


def test_an_outage_of_the_hub_does_not_matter_to_what_is_in_the_cache(hub):
    place = model_directory(f"hf:{NAME}")
    hub.status = 503
    assert model_directory(f"hf:{NAME}") == place


def test_revisions(hub):
    hub.add(NAME, TINY, SECOND, "v2")
    assert commit_of(model_directory(f"hf:{NAME}")) == f"{NAME}@{FIRST}"
    assert commit_of(model_directory(f"hf:{NAME}@v2")) == f"{NAME}@{SECOND}"
    assert commit_of(model_directory(f"hf:{NAME}@{SECOND}")) == f"{NAME}@{SECOND}"
    hub.revisions[NAME]["main"] = SECOND
    assert commit_of(model_directory(f"hf:{NAME}")) == f"{NAME}@{SECOND}"


def test_a_token_opens_a_gated_repository(hub, monkeypatch):
    hub.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (model_directory(f"hf:{NAME}") / "model.safetensors").is_file()


def sharded(directory: Path, names: dict[str, str] | None = None) -> Path:
    """Write the tiny model in two files; `names` are changes to the index."""
    directory.mkdir()
    for name in ("config.json", "vocab.txt"):
        (directory / name).write_bytes((TINY / name).read_bytes())
    tensors = load_file(TINY / "model.safetensors")
    files = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, directory / file)
    index = {"weight_map": {**files, **(names or {})}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory


def test_weights_in_several_files(hub, tmp_path, monkeypatch):
    hub.add("org/shards", sharded(tmp_path / "shards"))
    stored = open_model("hf:org/shards")
    assert stored.head.size == open_model(TINY).head.size
    offline(monkeypatch)
    assert open_model("hf:org/shards").directory == stored.directory
    next(stored.directory.glob("*-00002-of-00002*")).unlink()  # as after a download that was stopped
    with pytest.raises(UserError, match="org/shards"):
        open_model("hf:org/shards")


def test_pickled_weights(hub, tmp_path):
    place = sharded(tmp_path / "bin")
    for path in place.glob("*safetensors*"):
        path.unlink()
    (place / "pytorch_model.bin").write_bytes(saved(load_file(TINY / "model.safetensors")))
    hub.add("org/bin", place, **{"tf_model.h5": b"x"})
    stored = open_model("hf:org/bin")
    assert stored.tensors.path.name == "pytorch_model.bin" and not (stored.directory / "tf_model.h5").exists()


# --- failures: one line each, and nothing in the model's place ---------------------------------------------------------


def fails(name: str = f"hf:{NAME}") -> str:
    with pytest.raises(UserError) as raised:
        model_directory(name)
    message = str(raised.value)
    assert "\n" not in message and len(message) < 400
    return message


FAULTS = {
    "missing-file": ({"absent": ("vocab.txt",)}, "vocab.txt"),
    "missing-weights": ({"absent": ("model.safetensors",)}, "model.safetensors"),
    "wrong-sha256": ({"damaged": ("model.safetensors",)}, "model.safetensors"),
    "wrong-sha1": ({"damaged": ("config.json",)}, "config.json"),
    "dropped-and-no-resume": ({"broken": ("model.safetensors",), "resumes": False}, NAME),
    "dropped-small-file": ({"broken": ("vocab.txt",), "resumes": False}, NAME),
    "gated": ({"token": "hf_secret"}, "HF_TOKEN"),
    "forbidden": ({"status": 403}, "403"),
    "rate-limit": ({"status": 429}, "429"),
    "internal-error": ({"status": 500}, "500"),
    "out-of-order": ({"status": 503}, "503"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failures(hub, tmp_path, fault):
    changes, named = FAULTS[fault]
    for key, value in changes.items():
        setattr(hub, key, value)
    assert named in fails()
    assert left_in_cache(tmp_path) == []
    for key, value in vars(Hub()).items():
        if key in changes:
            setattr(hub, key, value)
    assert open_model(f"hf:{NAME}") is not None  # nothing is left that disturbs the next try


def test_a_connection_that_breaks_off_twice_is_no_error(hub):
    hub.broken = ("model.safetensors",)
    place = model_directory(f"hf:{NAME}")
    assert (place / "model.safetensors").read_bytes() == (TINY / "model.safetensors").read_bytes()


def test_no_network_and_nothing_in_the_cache(hub, monkeypatch):
    unreachable(monkeypatch)
    assert "HF_ENDPOINT" in fails()
    offline(monkeypatch)
    assert "HF_HUB_OFFLINE" in fails()


def test_an_unknown_repository_and_revision(hub, tmp_path):
    assert "org/other" in fails("hf:org/other")
    assert "v9" in fails(f"hf:{NAME}@v9")
    (tmp_path / "work" / "runs" / "student").mkdir(parents=True)
    assert "'runs/student'" in fails("hf:run/student")
    assert "runs" in fails("hf:rums") and "hf:run/student" in fails("run/student")
    assert not any("rums" in path for _, path in hub.requests)


def test_repositories_without_a_model(hub, tmp_path):
    place = tmp_path / "empty"
    place.mkdir()
    hub.add("org/empty", place)
    assert "config.json" in fails("hf:org/empty")
    (place / "config.json").write_text("{}")
    hub.add("org/flax", place, **{"flax_model.msgpack": b"x", "model.onnx": b"x"})
    assert "flax_model.msgpack" in fails("hf:org/flax")


@pytest.mark.parametrize("file", ["../../../../evil", "/etc/passwd", "a/b.safetensors", "..", "C:\\evil"])
def test_an_index_cannot_leave_the_directory(hub, tmp_path, file):
    hub.add("org/evil", sharded(tmp_path / "evil", {"bert.pooler.dense.bias": file}))
    assert "index.json" in fails("hf:org/evil")
    assert not any("evil" in path.rpartition("/")[2] for _, path in hub.requests)


def test_an_index_that_names_an_absent_file(hub, tmp_path):
    hub.add("org/gap", sharded(tmp_path / "gap", {"bert.pooler.dense.bias": "model-3.safetensors"}))
    assert "model-3.safetensors" in fails("hf:org/gap")


def test_an_answer_that_is_no_hub(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: json.loads("<html>"))
    assert NAME in fails()


def test_a_cache_that_cannot_be_written(hub, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    assert str(tmp_path / "cache") in fails()


def test_a_full_disk(hub, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert "10 B" in fails()


def test_a_complete_download_serves_while_a_newer_one_is_not(hub, monkeypatch):
    place = download(Repository(NAME))
    hub.add(NAME, TINY, SECOND, **{"model.safetensors": b"other"})
    hub.absent = ("model.safetensors",)
    fails()
    offline(monkeypatch)
    assert download(Repository(NAME)) == place
