"""What each verb does with a model that has no head, and with classes in another order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fitted import LABELS, NAMES, TEXTS, fitted
from safetensors.numpy import load_file, save_file

from tfdistill.models.load import load, save

OTHER = ("joy", "anger", "fear")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A model with its classes in another order, the same without its head, as LoRA leaves it, and with one output."""
    place = tmp_path_factory.mktemp("work")
    for split in ("train", "dev", "test"):
        lines = [f"{text}\t{NAMES[label]}\n" for text, label in zip(TEXTS, LABELS, strict=True)]
        (place / f"{split}.tsv").write_text("text\tlabel\n" + "".join(lines), "utf-8")
    (place / "plain.txt").write_text("\n".join(TEXTS * 5) + "\n", "utf-8")
    save(fitted(OTHER), place / "model")
    for name in ("base", "lora"):
        save(fitted(OTHER), place / name)
        file, config = place / name / "model.safetensors", place / name / "config.json"
        tensors, raw = load_file(file), json.loads(config.read_text("utf-8"))
        kernel = tensors.pop("classifier.weight")
        if name == "lora":
            tensors["classifier.modules_to_save.default.weight"] = kernel
        else:
            del tensors["classifier.bias"], raw["id2label"], raw["label2id"], raw["problem_type"]
            (place / name / "labels.txt").unlink()
            raw["architectures"] = ["BertModel"]
        save_file(tensors, file, {"format": "pt"})
        config.write_text(json.dumps(raw), "utf-8")
    return place


def commands(work, model):
    data = ["--data", work]
    return {
        "evaluate": ["evaluate", model, *data],
        "export": ["export", model, "--out", work / "bundle"],
        "trim": ["trim", model, *data, "--out", work / "small"],
        "compress": ["compress", model, *data, "--clusters", 4, "--out", work / "small"],
        "train": ["train", "soft_targets", "--teacher", model, *data, "--out", work / "run"],
        "second teacher": [
            *["train", "soft_targets", "--teacher", work / "model", "--teacher", model, *data, "--out", work / "run"]
        ],
        "corpus": [
            *[
                "corpus",
                work / "plain.txt",
                "--rows",
                "--teacher",
                model,
                "--tokenizer",
                model,
                "--out",
                work / "corpus",
            ]
        ],
        "augment": [
            "augment",
            *data,
            "--method",
            "tinybert",
            "--masked-lm",
            model,
            "--glove",
            "none",
            "--out",
            work / "more",
        ],
    }


@pytest.mark.parametrize("name", ["base", "lora"])
@pytest.mark.parametrize(
    "verb", ["evaluate", "export", "trim", "compress", "train", "second teacher", "corpus", "augment"]
)
def test_a_model_without_head_is_refused(work, tfdistill, name, verb):
    words = commands(work, work / name)[verb]
    code, _, error = tfdistill(*words)
    assert code == 2 and str(work / name) in error, error
    if name == "lora":
        assert "classifier.weight" in error and "classifier.modules_to_save.default.weight" in error
    elif verb != "augment":
        assert "no head for classification" in error and f"tfdistill finetune {work / name}" in error
    assert not [each for each in ("bundle", "small", "run", "more") if (work / each).exists()]


@pytest.mark.heavy
def test_fine_tuning_says_that_the_head_is_new(work, tfdistill, tmp_path):
    words = ["--data", work, "--debug", "--set", "max_length=12"]
    code, _, error = tfdistill("finetune", work / "base", *words, "--out", tmp_path / "base")
    assert code == 0 and "new head" in error and str(work / "base") in error
    assert load(tmp_path / "base" / "student", new_head=False).label_names == NAMES
    code, _, error = tfdistill("finetune", work / "model", *words, "--out", tmp_path / "own")
    assert code == 0 and "new head" not in error and "anger, fear, joy" in error
    code, _, error = tfdistill("finetune", work / "lora", *words, "--out", tmp_path / "lora")
    assert code == 2 and "classifier.modules_to_save.default.weight" in error


@pytest.mark.heavy
def test_teachers_in_other_orders_make_one_student(work, tfdistill, tmp_path):
    """Their logits agree on every text, so that the student's first step does not move it away from them."""
    save(fitted(None, ("fear", "joy", "anger"), seed=2), work / "unnamed")
    save(fitted(("fear", "joy", "anger"), seed=3), work / "third")
    save(fitted(OTHER), tmp_path / "start")
    teachers = ["--teacher", work / "unnamed", "--teacher", work / "third"]
    words = ["train", "soft_targets", *teachers, "--data", work, "--out", tmp_path / "run", "--debug"]
    sets = ["--set", f"student=hf:{tmp_path / 'start'}", "--set", "max_length=12", "--set", "learning_rate=1e-9"]
    code, _, error = tfdistill(*words, *sets)
    assert code == 0, error
    assert "fear, joy, anger" in error  # the order that is taken for the teacher without names
    assert load(tmp_path / "run" / "student").label_names == ("fear", "joy", "anger")
    code, out, _ = tfdistill("evaluate", tmp_path / "run" / "student", "--data", work, "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["accuracy"] == 1.0


@pytest.mark.heavy
def test_one_output_without_a_problem_type_is_a_regression(tfdistill, tmp_path, work):
    lines = [f"{text}\t{label / 4 + 0.1}\n" for text, label in zip(TEXTS, LABELS, strict=True)]
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        (data / f"{split}.tsv").write_text("text\tlabel\n" + "".join(lines), "utf-8")
    save(fitted(OTHER), tmp_path / "model")
    file, config = tmp_path / "model" / "model.safetensors", tmp_path / "model" / "config.json"
    tensors, raw = load_file(file), json.loads(config.read_text("utf-8"))
    for part in ("weight", "bias"):
        tensors[f"classifier.{part}"] = np.ascontiguousarray(tensors[f"classifier.{part}"][:1])
    del raw["problem_type"], raw["id2label"], raw["label2id"]
    (tmp_path / "model" / "labels.txt").unlink()
    save_file(tensors, file, {"format": "pt"})
    config.write_text(json.dumps(raw), "utf-8")
    code, out, error = tfdistill("evaluate", tmp_path / "model", "--data", data, "--json")
    assert code == 0 and "pearson" in out, error
    words = ["--data", data, "--debug", "--set", "max_length=12", "--out", tmp_path / "run"]
    code, _, error = tfdistill("finetune", tmp_path / "model", *words)
    assert code == 0 and "new head" not in error, error
    assert load(tmp_path / "run" / "student").task == "regression"
    code, _, error = tfdistill("evaluate", tmp_path / "model", "--data", work)
    assert code == 2 and "number" in error
