"""Clustered and pruned BiLSTMs: the model in the other process is the same, and weights have few values or zeros."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfdistill.compress import tfmot
from tfdistill.compress.tfmot import Compression, compress, content, named_weights, zipped
from tfdistill.errors import MissingExtra, UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.load import load, save
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
TOKENIZER = Tokenizer.from_directory(TINY)
TEXTS = [" ".join(row[: 2 + n % 7]) for n, row in enumerate(np.random.default_rng(0).choice(list("abcdefgh"), (24, 9)))]


def bilstm(outputs: int = 3, task: str = "classification", **sizes) -> TextModel:
    config = BiLSTMConfig(37, 12, 8, dense_size=10, dropout=0.0, **sizes)
    model = TextModel(config, outputs, task=task)
    model.tokenizer = TOKENIZER
    for weight in named_weights(model).values():
        weight.assign(np.random.default_rng(weight.shape[0]).normal(0, 0.4, weight.shape))
    return model


def run(model: TextModel, how: Compression) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[float]]:
    """Weights before and after, and the losses that were told."""
    pair = model.config.pair
    rows = TOKENIZER.encode(TEXTS, TEXTS[::-1] if pair else None, max_length=16)
    before = {name: w.numpy() for name, w in named_weights(model).items()}
    losses = []
    compress(model, rows, predict_logits(model, rows), how, lambda done, note: losses.append(float(note.split()[-1])))
    return before, {name: w.numpy() for name, w in named_weights(model).items()}, losses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "sizes"),
    [
        ("classification", {}),
        pytest.param("regression", {"num_layers": 2, "pooling": "max"}, marks=pytest.mark.slow),
        pytest.param("multilabel", {"pair": True}, marks=pytest.mark.slow),
    ],
)
def test_the_copy_has_the_outputs_of_the_model(task, sizes, tmp_path, monkeypatch):
    """Its first loss is the distance from the outputs that it was given: the least there is for these targets."""
    model = bilstm(1 if task == "regression" else 3, task, **sizes)
    how = Compression("prune", sparsity=0.001, steps=1, batch_size=len(TEXTS), learning_rate=0.0)
    rows = TOKENIZER.encode(TEXTS, TEXTS[::-1] if model.config.pair else None, max_length=16)
    logits = predict_logits(model, rows).astype("float64")
    _, _, (loss,) = run(model, how)
    if task == "regression":
        expected = 0.0
    elif task == "multilabel":
        p = 1 / (1 + np.exp(-logits))
        expected = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    else:
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = -(p * np.log(p)).sum(1).mean()
    assert loss == pytest.approx(expected, abs=2e-5)


@pytest.mark.slow
def test_pruned_matrices_have_the_share_of_zeros_and_the_smallest_go():
    model = bilstm()
    before, after, _ = run(model, Compression("prune", sparsity=0.4, steps=60, learning_rate=0.0))
    for name, now in after.items():
        if now.ndim == 2:
            gone = now == 0
            assert gone.mean() == pytest.approx(0.4, abs=0.02), name
            assert np.abs(before[name][gone]).max() <= np.abs(before[name][~gone]).min() + 1e-6
            np.testing.assert_array_equal(now[~gone], before[name][~gone])
        else:
            np.testing.assert_array_equal(now, before[name])


@pytest.mark.slow
def test_clustered_matrices_have_few_values_and_zip_smaller():
    model = bilstm()
    rows = TOKENIZER.encode(TEXTS, max_length=16)
    logits, size = predict_logits(model, rows), zipped(model)
    run(model, Compression("cluster", clusters=8, steps=30, learning_rate=3e-3))
    assert all(found["values"] <= 8 for found in content(model).values())
    assert zipped(model) < 0.5 * size
    now = predict_logits(model, rows)
    assert np.corrcoef(now.ravel(), logits.ravel())[0, 1] > 0.9


@pytest.mark.heavy
def test_what_cannot_be_compressed_is_refused(monkeypatch, tmp_path):
    rows = TOKENIZER.encode(TEXTS, max_length=16)
    with pytest.raises(UserError, match="token_classification"):
        compress(bilstm(task="token_classification"), rows, np.zeros((24, 3)), Compression("cluster"))
    with pytest.raises(UserError, match="--clusters"):
        Compression("cluster", clusters=1)
    with pytest.raises(UserError, match="--sparsity"):
        Compression("prune", sparsity=1.0)
    script = tmp_path / "worker.py"
    script.write_text("import tensorflow_model_optimisation as tensorflow_model_optimization\n")
    monkeypatch.setattr(tfmot, "WORKER", script)
    with pytest.raises(UserError, match="ModuleNotFoundError"):
        compress(bilstm(), rows, predict_logits(bilstm(), rows), Compression("cluster"))
    script.write_text("raise ModuleNotFoundError(\"No module named 'tf_keras'\")\n")
    with pytest.raises(MissingExtra, match=r"tfdistill\[compress\]"):
        compress(bilstm(), rows, predict_logits(bilstm(), rows), Compression("cluster"))


@pytest.mark.slow
@pytest.mark.heavy
def test_the_command(tmp_path, tfdistill):
    model = bilstm(2)
    model.label_names = ("no", "yes")
    save(model, tmp_path / "model")
    (tmp_path / "data").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{text}\t{('no', 'yes')[n % 2]}" for n, text in enumerate(TEXTS)]
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", "utf-8")

    def call(*words: str) -> tuple[int, str]:
        code, out, err = tfdistill(
            "compress", tmp_path / "model", "--data", tmp_path / "data", "--out", tmp_path / "small", *words
        )
        return code, out + err

    code, message = call()
    assert code == 2 and "--clusters" in message and "--sparsity" in message
    code, told = call("--clusters", "4", "--steps", "5")
    assert code == 0 and "zipped" in told and "test accuracy" in told
    assert all(found["values"] <= 4 for found in content(load(tmp_path / "small")).values())
    report = json.loads((tmp_path / "small" / "recipe.json").read_text())["compressed"]
    assert report["after"]["zipped"] < report["before"]["zipped"] and set(report["after"]["scores"]) == {"dev", "test"}
    assert call("--clusters", "4")[0] == 2
    config = BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24)
    bert = TextModel(config, 2, label_names=("no", "yes"))
    bert.tokenizer = TOKENIZER
    save(bert, tmp_path / "model")
    code, told = call("--clusters", "4", "--force")
    assert code == 2 and "bert" in told
