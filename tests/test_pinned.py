"""Hold the numbers that commit 78e24b5 gave, before the code was moved into rooms and its runners became one.

`pinned/numbers.json` has losses and scores of every recipe's debug run, and of fine-tuning and pre-training, on the
tests' own data; `pinned/student.keras`, `pinned/student` and `pinned/bundle` were written by that commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_recipes
from tiny_recipes import bottleneck_teacher, data, make, teacher, write_text

from tfdistill import load, run, save

PINNED = Path(__file__).parent / "pinned"
NUMBERS = json.loads((PINNED / "numbers.json").read_text("utf-8")) if (PINNED / "numbers.json").is_file() else {}
WORDS = [f"w{a}" for a in "abcdefghijklmnopqrstuvwxyz"]
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
TEXTS = [
    ("A film so good, it's [MASK]!", "not Bad\u00e9 a b c"),
    ("d e f g h \u4e2d\u6587 a-b_c a a a a a a a a", "b"),
    ("", "c d"),
]


def processor() -> str:
    """Return the vector instructions that decide in which order this processor adds."""
    flags = Path("/proc/cpuinfo").read_text("utf-8").split() if Path("/proc/cpuinfo").is_file() else []
    return " ".join(name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if name in flags)


def outcome(out: Path) -> dict:
    """Return the loss and dev score of each evaluation, and the final scores, of a run directory."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    numbers = [
        {key: value for key, value in line.items() if isinstance(value, float) and key != "time"} for line in lines
    ]
    return {"log": numbers, "scores": json.loads((out / "run.json").read_text("utf-8"))["scores"]}


def recipe_run(name: str, place: Path) -> dict:
    """Run the recipe `name`, or NAME:general with a general stage on plain text, NAME:bottleneck with such a teacher."""
    base, _, kind = name.partition(":")
    settings, model = [], teacher(layers=4 if base in ("soft_targets", "pkd") else 2)
    if base == "dualtrain_sharedproj" or kind == "general":
        settings = tiny_recipes.with_general_stage(base, place, write_text(place / "text.txt"))
    if kind == "bottleneck":
        model = bottleneck_teacher()
    keras.utils.set_random_seed(0)
    run(make(base, data(), settings, model), place / "run", debug=True, seed=1)
    return outcome(place / "run")


RECIPES = [
    *("soft_targets", "privileged", "pkd", "tinybert", "distilbert", "mobilebert", "xtremedistil", "bilstm"),
    *("quantization_aware", "layerdrop", "head_pruning", "neuron_pruning", "dualtrain_sharedproj"),
    *("tinybert:general", "distilbert:general", "mobilebert:general", "mobilebert:bottleneck"),
]


def close(ours, pinned, tolerance: float) -> None:
    """Assert that two trees of numbers are equal to `tolerance`; keys that are new do no harm."""
    if isinstance(pinned, dict):
        for key, value in pinned.items():
            close(ours[key], value, tolerance)
    elif isinstance(pinned, list):
        assert len(ours) == len(pinned)
        for one, other in zip(ours, pinned, strict=True):
            close(one, other, tolerance)
    else:
        assert ours == pytest.approx(pinned, rel=tolerance, abs=tolerance)


@pytest.fixture
def tolerance() -> float:
    """Return 1e-6 on the kind of processor that wrote the numbers; others add in another order."""
    return 1e-6 if processor() == NUMBERS["processor"] else 1e-3


# Each takes ten seconds or more: the tests of every commit run two of them, `make slow` all.
QUICK = ("soft_targets", "tinybert:general")


@pytest.mark.heavy
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in RECIPES]
)
def test_recipe_gives_its_pinned_losses(name: str, tmp_path: Path, tolerance: float) -> None:
    close(recipe_run(name, tmp_path), NUMBERS[name], tolerance)


def finetuned(tfdistill, place: Path) -> dict:
    save(teacher(), place / "teacher")
    lines = [f"{text}\t{label}" for text, label in zip(data().splits["train"].texts, ["no", "yes"] * 16, strict=True)]
    (place / "data").mkdir()
    for name in ("train", "dev", "test"):
        (place / "data" / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")
    words = ("--data", place / "data", "--out", place / "run", "--set", "max_length=12", "--debug")
    code, _, err = tfdistill("finetune", f"hf:{place / 'teacher'}", *words)
    assert code == 0, err
    return outcome(place / "run")


@pytest.mark.heavy
def test_finetune_gives_its_pinned_losses(tfdistill, tmp_path: Path, tolerance: float) -> None:
    close(finetuned(tfdistill, tmp_path), NUMBERS["finetune"], tolerance)


def pretrained(tfdistill, place: Path, objective: str) -> dict:
    rng = np.random.default_rng(0)
    documents = []
    for start in rng.integers(0, 26, 60):
        words = [WORDS[(start + n) % 26] for n in range(rng.integers(12, 40))]
        documents.append("\n".join(" ".join(words[n : n + 5]).capitalize() + "." for n in range(0, len(words), 5)))
    (place / "text.txt").write_text("\n\n".join(documents), "utf-8")
    (place / "vocabulary").mkdir()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "."]
    (place / "vocabulary" / "vocab.txt").write_text("\n".join([*special, *WORDS]) + "\n", "utf-8")
    sizes = [word for key, value in SIZES.items() for word in ("--config", f"{key}={value}")]
    words = ["--text", place / "text.txt", "--tokenizer", place / "vocabulary", *sizes, "--objective", objective]
    words += ["--set", "length=16", "--set", "evaluations=2", "--set", "batch_size=8", "--set", "held_out=0.1"]
    code, _, err = tfdistill("pretrain", "bert_base", *words, "--steps", 6, "--out", place / "run")
    assert code == 0, err
    return outcome(place / "run")


@pytest.mark.heavy
@pytest.mark.parametrize("objective", [pytest.param("mlm", marks=pytest.mark.slow), "mlm+nsp"])
def test_pretraining_gives_its_pinned_losses(
    objective: str, tfdistill, tmp_path: Path, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    close(pretrained(tfdistill, tmp_path, objective), NUMBERS[f"pretrain:{objective}"], tolerance)


def ids_of(tokenizer) -> dict[str, list]:
    """Return ids, segments and row ends of single texts and pairs, cut to several lengths."""
    made = {}
    for length in (5, 8, 24):
        for pair in (False, True):
            second = [b for _, b in TEXTS] if pair else None
            rows = tokenizer.encode([a for a, _ in TEXTS], second, max_length=length)
            made[f"{length} {'pairs' if pair else 'single'}"] = [
                array.tolist() for array in (rows.token_ids, rows.segment_ids, rows.offsets)
            ]
    return made


def test_token_ids_are_the_pinned_ones() -> None:
    assert ids_of(teacher().tokenizer) == NUMBERS["ids"]


def test_tokenizer_fingerprint_is_the_pinned_one() -> None:
    assert teacher().tokenizer.fingerprint == NUMBERS["fingerprint"]


def logits(model) -> list[list[float]]:
    inputs = {key: np.asarray(value) for key, value in model.tokenizer([a for a, _ in TEXTS], length=12).items()}
    return np.asarray(model(inputs)).astype(float).tolist()


@pytest.mark.parametrize("name", ["student", "pruned"])
def test_students_of_the_pinned_commit_open(name: str, tolerance: float) -> None:
    close(logits(load(PINNED / name)), NUMBERS[f"logits:{name}"], tolerance)


@pytest.mark.heavy
def test_keras_file_of_the_pinned_commit_opens(tolerance: float) -> None:
    model = keras.saving.load_model(PINNED / "student.keras")
    model.tokenizer = teacher().tokenizer
    close(logits(model), NUMBERS["logits:student"], tolerance)


def test_bundle_of_the_pinned_commit_verifies(tfdistill) -> None:
    code, out, err = tfdistill("verify", PINNED / "bundle")
    assert code == 0, out + err
