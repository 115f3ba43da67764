"""The command line as a user types it: the whole way on tiny data, and one clear line for every error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
LETTERS = "abcdefghijklmnop"


def rows(count: int, seed: int, pair: bool = False) -> list[str]:
    """Texts of letters; the class says whether 'a' is among them."""
    rng = np.random.default_rng(seed)
    lines = ["text\ttext_b\tlabel" if pair else "text\tlabel"]
    for _ in range(count):
        words = ["".join(rng.choice(list(LETTERS[1:]), rng.integers(1, 4))) for _ in range(rng.integers(1, 6))]
        positive = rng.random() < 0.5
        text = " ".join([*words, "a"] if positive else words)
        lines.append(text + ("\tb c\t" if pair else "\t") + ("pos" if positive else "neg"))
    return lines


def write_data(directory: Path, pair: bool = False) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for seed, (name, count) in enumerate({"train": 80, "dev": 20, "test": 20}.items()):
        (directory / f"{name}.tsv").write_text("\n".join(rows(count, seed, pair)) + "\n", "utf-8")
    return directory


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Data and a fine-tuned tiny teacher."""
    from tfdistill.data.text_sources import load_data
    from tfdistill.models.hf import load_directory
    from tfdistill.recipes import finetune
    from tfdistill.training.run_directory import run

    root = tmp_path_factory.mktemp("work")
    data = load_data(str(write_data(root / "data")))
    settings = finetune.Settings(epochs=4, max_length=16, learning_rate=3e-3, batch_size=16, evaluations=2)
    model = load_directory(TINY, num_outputs=2, label_names=data.label_names)
    run(finetune.recipe(model, data, settings), root / "teacher", seed=1)
    return root


def test_run_directory_says_everything(work):
    run = json.loads((work / "teacher" / "run.json").read_text("utf-8"))
    assert run["state"] == "done" and run["seed"] == 1 and run["versions"]["keras"]
    assert run["stages"][0]["terms"][0]["name"] == "hard_labels" and set(run["scores"]) == {"dev", "test"}
    log = [json.loads(line) for line in (work / "teacher" / "log.jsonl").read_text("utf-8").splitlines()]
    assert [entry["step"] for entry in log] == [10, 20] and all("dev_accuracy" in entry for entry in log)
    assert {p.name for p in (work / "teacher" / "student").iterdir()} >= {
        "config.json", "model.safetensors", "vocab.txt", "labels.txt", "recipe.json", "tokenizer_config.json"
    }  # fmt: skip
    assert not (work / "teacher" / "checkpoint").exists()


def test_evaluate_gives_the_scores_that_count_for_the_data(tfdistill, tmp_path):
    from tfdistill.models.hf import load_directory, save_directory

    model = load_directory(TINY, num_outputs=2, label_names=("not_equivalent", "equivalent"))
    save_directory(model, tmp_path / "model")
    rows = "".join(f"{n % 2}\t{n}\t{n}\ta b\t{'b' * (n + 1)}\n" for n in range(6))
    (tmp_path / "dev.tsv").write_text("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + rows, "utf-8")
    code, out, err = tfdistill(
        "evaluate", tmp_path / "model", "--data", f"glue:mrpc:{tmp_path}", "--split", "dev", "--json"
    )
    assert code == 0, err
    assert list(json.loads(out))[4:6] == ["f1", "accuracy"]  # GLUE's for MRPC


# The quickstart's test trains and exports a BiLSTM too.
@pytest.mark.parametrize("recipe", ["soft_targets", pytest.param("bilstm", marks=pytest.mark.slow)])
def test_training_and_evaluation(work, tfdistill, tmp_path, recipe):
    settings = {
        "soft_targets": ["num_layers=1", "hidden_weight=1"],
        "bilstm": ["copies=2", "embedding_size=8", "lstm_size=6"],
    }[recipe]
    options = [word for setting in [*settings, "epochs=2", "max_length=16"] for word in ("--set", setting)]
    options += ["--teacher-cache", "all"]
    run = tmp_path / "run"
    code, out, err = tfdistill(
        "train", recipe, "--teacher", work / "teacher", "--data", work / "data", "--out", run, *options
    )
    assert code == 0, err
    assert "accuracy" in out and "teacher cache: logits of" in err
    assert json.loads((run / "run.json").read_text("utf-8"))["teacher_cache"] == "all fp16"
    code, out, err = tfdistill("evaluate", run / "student", "--data", work / "data", "--split", "test", "--json")
    scores = json.loads(out)
    assert scores["rows"] == 20
    assert scores["accuracy"] == pytest.approx(json.loads((run / "run.json").read_text())["scores"]["test"]["accuracy"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "tfdistill: No such command 'nothing'"),
        (["export", "x"], "tfdistill: Missing option '--out'; see tfdistill export --help"),
        (["export", "x", "--out", "y", "--length", "3"], "Invalid value for '--length'"),
        (["verify", "a", "b"], "unexpected extra argument"),
        (["recipes", "--nothing"], "No such option"),
    ],
)
def test_wrong_options_are_one_line(tfdistill, words, message):
    code, _, error = tfdistill(*words)
    assert code == 2 and message in error and error.count("\n") == 1, error


def test_no_command_shows_them_all(tfdistill):
    code, out, error = tfdistill()
    assert code == 2 and "quickstart" in out + error and "Traceback" not in error


def test_debug_runs_in_a_few_steps(work, tfdistill, tmp_path):
    words = ["train", "soft_targets", "--teacher", work / "teacher", "--data", work / "data", "--out", tmp_path / "run"]
    code, _, err = tfdistill(*words, "--debug", "--set", "num_layers=1")
    assert code == 0, err
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert max(steps) == 3


def test_labels_alone_is_the_same_run_without_the_teacher(work, tfdistill, tmp_path):
    words = ["train", "bilstm", "--teacher", work / "teacher", "--data", work / "data", "--debug", "--on-labels"]
    code, _, err = tfdistill(*words, "--out", tmp_path / "run", "--set", "embedding_size=8")
    assert code == 0, err
    stages = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]
    assert [term["name"] for term in stages[0]["terms"]] == ["hard_labels"]


def test_same_seed_same_student(work, tmp_path):
    from tfdistill.data.text_sources import load_data
    from tfdistill.models.load import load
    from tfdistill.recipes import bilstm
    from tfdistill.training.runner import train

    data, weights = load_data(str(work / "data")), []
    for seed in (1, 1, 2):
        teacher = load(work / "teacher" / "student")
        import keras

        keras.utils.set_random_seed(seed)
        settings = bilstm.Settings(copies=1, epochs=1, max_length=16, embedding_size=8, evaluations=1)
        weights.append(train(bilstm.recipe(teacher, data, settings), seed=seed).student.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


# --- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb",
    [
        "quickstart", "finetune", "pretrain", "train", "augment", "evaluate", "trim", "compare", "export", "verify", "bench",
        "cache", "recipes", "doctor",
    ],
)  # fmt: skip
def test_help_shows_an_example(tfdistill, verb):
    code, out, _ = tfdistill(verb, "--help")
    assert code == 0 and f"tfdistill {verb}" in out and "Example" in out


def test_recipes_and_doctor(tfdistill):
    code, out, _ = tfdistill("recipes")
    assert code == 0 and "soft_targets" in out and "bilstm" in out
    code, out, _ = tfdistill("recipes", "bilstm")
    assert code == 0 and "Tang et al. 2019" in out and "lstm_size" in out
    code, out, _ = tfdistill("doctor")
    assert code == 0 and "tensorflow" in out and "CPU" in out


# --- bad input ------------------------------------------------------------------------------------------------------


def student(work):
    return work / "teacher" / "student"


def train_words(work, *more):
    return ["train", "soft_targets", "--teacher", work / "teacher", "--data", work / "data", *more]


BAD = {
    "teacher cache": (lambda w, t: train_words(w, "--out", t / "x", "--teacher-cache", "some"), "expected off, logits, cls, all"),
    "unknown recipe": (lambda w, t: ["train", "soft_target", *train_words(w, "--out", t / "r")[2:]], "did you mean 'soft_targets'"),
    "unknown setting": (lambda w, t: [*train_words(w, "--out", t / "r"), "--set", "epoch=2"], "did you mean 'epochs'"),
    "setting without value": (lambda w, t: [*train_words(w, "--out", t / "r"), "--set", "epochs"], "expected key=value"),
    "setting of wrong kind": (lambda w, t: [*train_words(w, "--out", t / "r"), "--set", "epochs=many"], "--set epochs=many"),
    "setting out of range": (lambda w, t: [*train_words(w, "--out", t / "r"), "--set", "temperature=0"], "greater than 0"),
    "unknown option": (lambda w, t: [*train_words(w, "--out", t / "r"), "--sed", "1"], "--seed"),
    "unknown verb": (lambda w, t: ["trian"], "train"),
    "no such data": (lambda w, t: ["evaluate", student(w), "--data", t / "nothing"], "nothing"),
    "no such model": (lambda w, t: ["evaluate", t / "nothing", "--data", w / "data"], "no directory"),
    "no such split": (lambda w, t: ["evaluate", student(w), "--data", w / "data", "--split", "tset"], "train, dev, test"),
    "more layers than the teacher": (lambda w, t: [*train_words(w, "--out", t / "r"), "--set", "num_layers=9"], "9 student layers"),
    "no such bundle": (lambda w, t: ["verify", t / "nothing"], "nothing"),
    "unknown mode": (lambda w, t: ["export", student(w), "--quantize", "int7", "--out", t / "b"], "int7"),
    "out is a file": (lambda w, t: [*train_words(w, "--out", w / "data" / "dev.tsv")], "not empty"),
    "nothing to resume": (lambda w, t: train_words(w, "--out", t / "r", "--resume"), "holds no run to go on with"),
    "resume and force": (lambda w, t: train_words(w, "--out", t / "r", "--resume", "--force"), "expected one of them"),
    "out is in use": (lambda w, t: [*train_words(w, "--out", w / "data")], "not empty"),
    "unknown demo": (lambda w, t: ["evaluate", student(w), "--data", "demo:movie"], "expected movie-snippets"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(work, tfdistill, tmp_path, case):
    words, expected = BAD[case]
    code, _, err = tfdistill(*words(work, tmp_path))
    assert code == 2 and expected in err and "Traceback" not in err
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.tflite"))


DATA_ERRORS = {
    "empty file": ("", "empty"),
    "header only": ("text\tlabel\n", "dev.tsv"),
    "missing column": ("txt\tlabel\nabc\tpos\n", "text"),
    "unknown label": ("text\tlabel\nabc\tposs\n", "poss"),
    "mixed kinds": ("text\tlabel\nabc\tpos\nabd\t1.5\n", "1.5"),
    "not UTF-8": (b"text\tlabel\nab\xff\tpos\n", "UTF-8"),
}


@pytest.mark.parametrize("case", DATA_ERRORS)
def test_bad_data_is_one_line_and_exit_code_2(work, tfdistill, tmp_path, case):
    content, expected = DATA_ERRORS[case]
    data = write_data(tmp_path / "data")
    (data / "dev.tsv").write_bytes(content.encode() if isinstance(content, str) else content)
    code, _, err = tfdistill(
        "train", "soft_targets", "--teacher", work / "teacher", "--data", data, "--out", tmp_path / "run"
    )
    assert code == 2 and expected in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_teacher_with_other_classes(work, tfdistill, tmp_path):
    data = write_data(tmp_path / "data")
    for file in data.iterdir():
        file.write_text(file.read_text("utf-8").replace("\tneg", "\tnegative"), "utf-8")
    code, _, err = tfdistill(
        "train", "bilstm", "--teacher", work / "teacher", "--data", data, "--out", tmp_path / "run"
    )
    assert code == 2 and "'negative'" in err and not (tmp_path / "run").exists()


def test_divergence_stops_with_step_and_term(work, tfdistill, tmp_path):
    words = train_words(
        work, "--out", tmp_path / "run", "--set", "learning_rate=1e30", "--set", "num_layers=1", "--set", "epochs=5"
    )
    code, _, err = tfdistill(*words)
    assert code == 2 and "NaN or infinite at step" in err and "loss term 'hard_labels'" in err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"].startswith("failed")
    assert not (tmp_path / "run" / "student").exists()


def test_interrupt_leaves_a_usable_checkpoint(work, tfdistill, tmp_path, monkeypatch):
    from tfdistill.models.load import load
    from tfdistill.training import runner

    class Impatient(runner.Bookkeeper):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if self.state.step == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(runner, "Bookkeeper", Impatient)
    code, _, err = tfdistill(*train_words(work, "--out", tmp_path / "run", "--set", "num_layers=1"))
    assert code == 130 and "checkpoint" in err
    assert load(tmp_path / "run" / "checkpoint").num_layers == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "interrupted"


def test_cased_vocabulary_with_lower_casing(work, tfdistill, tmp_path):
    for file in TINY.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    vocabulary = (tmp_path / "vocab.txt").read_text("utf-8").replace("\na\n", "\nA\n")
    (tmp_path / "vocab.txt").write_text(vocabulary, "utf-8")
    code, _, err = tfdistill("evaluate", tmp_path, "--data", work / "data")
    assert code == 2 and "do_lower_case" in err


def test_other_backend_is_refused(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "tfdistill.commands.app", "doctor"],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert found.returncode == 2 and "expected 'tensorflow'" in found.stderr and len(found.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory(work, tfdistill, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = tfdistill(*train_words(work, "--out", tmp_path / "run"))
    assert code == 2 and "cannot write" in err


def test_out_below_a_file_is_refused(work, tfdistill, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = tfdistill(*train_words(work, "--out", tmp_path / "file" / "run"))
    assert code == 2 and "cannot create" in err
