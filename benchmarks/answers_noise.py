"""Compare what wrong answers of a file cost a student with what the same number of wrong labels costs it.

    python benchmarks/answers_noise.py --seeds 1 2

The teacher is not a model of this library: TF-IDF and logistic regression, whose probabilities for each training text come
from a fit on the other texts (5 folds). A share of the training texts, drawn by the seed, gets the wrong class: as a label, or as
an answer with probability 0.99. The student is a BiLSTM, trained by `soft_targets` on the file alone, on the file and right
labels (the recipe's default), or on labels alone with the same steps and batches. Each trained student is a cell of the JSON file, and
cells that it has are not trained again. Prints the mean test accuracy of each way, and what the noise costs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean

import keras
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

import tfdistill
from tfdistill.data.text_data import TextData
from tfdistill.recipes import soft_targets
from tfdistill.system.files import atomic_write
from tfdistill.training.baseline import on_labels_alone
from tfdistill.training.runner import train

CONFIDENT = 0.99
WAYS = {"labels": None, "file": 1.0, "file and right labels": 0.5}  # the share of the soft targets


def teacher_probabilities(data: TextData) -> np.ndarray:
    """Return (n, C) probabilities of the training texts, each of a model that did not see the text."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10))
    train = data.splits["train"]
    return cross_val_predict(model, train.texts, train.labels, method="predict_proba", cv=5)


def run(data: TextData, probs: np.ndarray, wrong: np.ndarray, way: str, epochs: float, seed: int) -> float:
    """Train one student, with the answers or labels of the texts `wrong` replaced, and return its test accuracy."""
    split = data.splits["train"]
    assert split.labels is not None and data.label_names is not None
    other = (split.labels + 1) % len(data.label_names)
    if WAYS[way] is None:
        noisy = replace(split, labels=np.where(wrong, other, split.labels))
        data = replace(data, splits={**data.splits, "train": noisy})
    else:
        confident = np.full_like(probs, (1 - CONFIDENT) / (probs.shape[1] - 1))
        confident[np.arange(len(probs)), other] = CONFIDENT
        probs = np.where(wrong[:, None], confident, probs)
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answers.jsonl")
        rows = ({"text": text, "probs": row} for text, row in zip(split.texts, probs.tolist(), strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        answers = tfdistill.AnswersTeacher(path, data)
    share = WAYS[way] or 0.5
    settings = soft_targets.Settings(
        student="bilstm", soft_weight=share, epochs=epochs, learning_rate=1e-3, batch_size=64
    )
    recipe = soft_targets.recipe(answers, data, settings)
    result = train(on_labels_alone(recipe) if WAYS[way] is None else recipe, seed=seed)
    return result.scores["test"]["accuracy"]


def cells(args: argparse.Namespace) -> dict[str, float]:
    """Return the test accuracy of each cell, "SEED/WAY/clean" or "SEED/WAY/noise", trained or read from `--out`."""
    about = {name: getattr(args, name) for name in ("data", "share", "epochs")}
    known: dict[str, float] = {}
    if args.out.exists():
        stored = json.loads(args.out.read_text("utf-8"))
        if {name: stored[name] for name in about} != about:
            raise SystemExit(f"{args.out} holds other settings. Choose another --out.")
        known = stored["test_accuracy"]
    data = tfdistill.load_data(args.data)
    data = replace(data, splits={name: data.splits[name] for name in ("train", "dev", "test")})  # all have labels
    probs, labels = teacher_probabilities(data), data.splits["train"].labels
    about["file_right"] = float((probs.argmax(axis=1) == labels).mean())
    for seed in args.seeds:
        chosen = np.random.default_rng(seed).permutation(len(probs)) < args.share * len(probs)
        for way in WAYS:
            for noise, wrong in (("clean", np.zeros(len(probs), bool)), ("noise", chosen)):
                cell = f"{seed}/{way}/{noise}"
                if cell not in known:
                    known[cell] = run(data, probs, wrong, way, args.epochs, seed)
                    atomic_write(args.out, json.dumps({**about, "test_accuracy": known}, indent=1) + "\n")
                    print(f"{cell}: {known[cell]:.4f}", flush=True)
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="demo:movie-snippets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--share", type=float, default=0.2, help="texts with a wrong class")
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/answers_noise.json"))
    args = parser.parse_args()
    accuracy = cells(args)
    print("| student learns from | clean | with noise | cost, points |\n|---|---|---|---|")
    for way in WAYS:
        clean, noisy = (
            100 * mean(accuracy[f"{seed}/{way}/{noise}"] for seed in args.seeds) for noise in ("clean", "noise")
        )
        print(f"| {way} | {clean:.1f} | {noisy:.1f} | {clean - noisy:.1f} |")


if __name__ == "__main__":
    main()
