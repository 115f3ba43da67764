"""Test that mistakes are answered before TensorFlow is imported: here importing it is an error."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = ["--teacher", "T", "--data", "data", "--out", "new"]
TINY = Path(__file__).parents[1] / "models" / "tiny_bert"

# (name, words of the command, what the answer names). Paths are in the folder that `places` makes.
MISTAKES: list[tuple[str, list[str], str]] = [
    ("unknown option", ["train", "--hlep"], "--hlep"),
    ("no teacher", ["train", "soft_targets", "--data", "data", "--out", "new"], "--teacher"),
    ("no such recipe", ["train", "soft_target", *TRAIN], "soft_targets"),
    ("no such setting", ["train", "bilstm", *TRAIN, "--set", "epoch=1"], "epochs"),
    ("setting out of range", ["train", "pkd", *TRAIN, "--set", "epochs=0"], "epochs"),
    ("no such teacher", ["train", "bilstm", "--teacher", "nothing", "--data", "data", "--out", "new"], "nothing"),
    ("damaged teacher", ["train", "bilstm", "--teacher", "damaged", "--data", "data", "--out", "new"], "damaged"),
    ("teacher of other sizes", ["train", "bilstm", "--teacher", "sizes", "--data", "data", "--out", "new"], "hidden_size"),
    ("teacher without a head", ["train", "bilstm", "--teacher", "headless", "--data", "data", "--out", "new"], "finetune"),
    ("teacher for other classes", ["train", "bilstm", "--teacher", "T", "--data", "other.tsv", "--out", "new"], "p"),
    ("deep student", ["train", "tinybert", *TRAIN], "num_layers"),
    ("too many layers", ["train", "soft_targets", *TRAIN, "--set", "num_layers=5"], "num_layers"),
    ("occupied", ["train", "bilstm", "--teacher", "T", "--data", "data", "--out", "data"], "data"),
    ("strategy", ["train", "bilstm", *TRAIN, "--strategy", "all"], "--strategy"),
    ("precision", ["train", "bilstm", *TRAIN, "--precision", "fp8"], "--precision"),
    ("buckets", ["train", "bilstm", *TRAIN, "--buckets", "x"], "--buckets"),
    ("teacher cache", ["train", "pkd", *TRAIN, "--teacher-cache", "x"], "--teacher-cache"),
    ("no data", ["finetune", "T", "--out", "new"], "--data"),
    ("no such data", ["finetune", "T", "--data", "nothing.tsv", "--out", "new"], "nothing.tsv"),
    ("wrong columns", ["finetune", "T", "--data", "columns.csv", "--out", "new"], "utterance"),
    ("task", ["finetune", "T", "--task", "glue/mrcp", "--out", "new"], "mrpc"),
    ("objective", ["pretrain", "T", "--text", "two.tsv", "--out", "new", "--objective", "nsp"], "--objective"),
    ("no plain text", ["pretrain", "tinybert_4l_312", "--text", "nothing.txt", "--out", "new"], "nothing.txt"),
    ("no such split", ["evaluate", "T", "--data", "data", "--split", "tset"], "tset"),
    ("evaluating without a head", ["evaluate", "headless", "--data", "data"], "finetune"),
    ("length of a file", ["export", "T", "--out", "new", "--length", "4"], "--length"),
    ("quantization", ["export", "T", "--out", "new", "--quantize", "int3"], "int3"),
    ("longer than the model", ["export", "T", "--out", "new", "--length", "512"], "512"),
    ("model card", ["export", "T", "--out", "new", "--card", "colour=red"], "colour"),
    ("no calibration data", ["export", "T", "--out", "new", "--data", "columns.csv"], "utterance"),
    ("probability", ["augment", "--data", "data", "--out", "new", "--p-mask", "7"], "--p-mask"),
    ("augmenting into other things", ["augment", "--data", "data", "--out", "data"], "data"),
    ("quickstart into other things", ["quickstart", "--out", "data"], "data"),
    ("trimming into other things", ["trim", "T", "--data", "data", "--out", "data"], "data"),
    ("compress", ["compress", "T", "--data", "data", "--out", "new", "--clusters", "8", "--sparsity", "0.5"], "--clusters"),
    ("converting nothing", ["convert", "nothing", "new"], "nothing"),
    ("corpus of nothing", ["corpus", "nothing.txt", "--out", "new"], "nothing.txt"),
    ("verify", ["verify", "nothing"], "nothing"),
    ("bench", ["bench", "nothing"], "nothing"),
    ("compare", ["compare", "nothing"], "nothing"),
]  # fmt: skip
ANSWERS = [["--help"], ["-h"], ["--version"], ["recipes"], ["recipes", "tinybert"], ["train", "--help"], ["cache"]]

SCRIPT = """
import contextlib, io, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "tf_keras", "tensorflow_text"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
from tfdistill.commands.app import main

answers = []
for words in json.load(sys.stdin):
    sys.argv = ["tfdistill", *words]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    answers.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("before")
    rows = ["a b\tx", "b c\ty", "c d\tz"] * 4
    (root / "data").mkdir()
    for split in ("train", "dev", "test"):
        (root / "data" / f"{split}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (root / "two.tsv").write_text("\n".join(["text\tlabel", *(rows[:2] * 20)]) + "\n")
    (root / "other.tsv").write_text(
        "\n".join(["text\tlabel", "a b\tp", "b c\tq"] * 1 + ["c d\tp", "d e\tq"] * 9) + "\n"
    )
    (root / "columns.csv").write_text("utterance,intent\na b,x\nb c,y\n")
    config = json.loads((TINY / "config.json").read_text())
    config |= {"id2label": {"0": "x", "1": "y", "2": "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}
    for name in ("T", "damaged", "sizes", "headless"):
        shutil.copytree(TINY, root / name)
        (root / name / "config.json").write_text(json.dumps(config))
    (root / "damaged" / "model.safetensors").write_bytes(b"\0" * 100)
    (root / "sizes" / "config.json").write_text(json.dumps({**config, "hidden_size": 40}))
    bare = {**config, "architectures": ["BertModel"], "id2label": None, "label2id": None}
    (root / "headless" / "config.json").write_text(json.dumps(bare))
    drop_head(root / "headless" / "model.safetensors")
    return root


def drop_head(path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    save_file({name: value for name, value in load_file(path).items() if not name.startswith("classifier")}, path)


@pytest.fixture(scope="module")
def answers(places) -> list[tuple[int | str | None, str, str]]:
    """Run all commands in one process and return the exit code, stdout and stderr of each."""
    commands = [*(words for _, words, _ in MISTAKES), *ANSWERS]
    environment = {**os.environ, "TFDISTILL_CACHE": str(places / "cache"), "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(commands), cwd=places, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.heavy
@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[name for name, _, _ in MISTAKES])
def test_a_mistake_is_one_line_without_tensorflow(answers, number):
    (code, _, err), (_, _, part) = answers[number], MISTAKES[number]
    assert code == 2 and err.count("\n") == 1 and part in err, (code, err)


@pytest.mark.heavy
def test_what_only_prints_needs_no_tensorflow(answers):
    for words, (code, out, err) in zip(ANSWERS, answers[len(MISTAKES) :], strict=True):
        assert code in (0, None) and out and not err, (words, code, err)
