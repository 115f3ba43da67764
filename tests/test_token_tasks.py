"""Tagging and question answering from the files to the score: loaders, batches, Distiller and metrics fit together."""

from __future__ import annotations

import json

import keras
import numpy as np

from tfdistill.data import conll, squad
from tfdistill.data.batching import Examples, dataset, plan
from tfdistill.data.tokenize import Encoded, Tokenizer
from tfdistill.distiller import Distiller
from tfdistill.match import HardLabels
from tfdistill.models.bert import BertConfig
from tfdistill.models.text import TextModel

WORDS = ["anna", "bert", "lives", "works", "in", "paris", "rome", "who", "where", "##s", "?", "."]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])


def model(task: str, outputs: int | None = None) -> TextModel:
    config = BertConfig(
        vocab_size=len(TOKENIZER.vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.2,
    )
    return TextModel(config, outputs, task=task)


def train(student: TextModel, examples: Examples, epochs: int) -> None:
    distiller = Distiller(student, None, [HardLabels(task=student.task)])
    distiller.compile(optimizer=keras.optimizers.Adam(5e-3))
    size = len(examples)
    distiller.fit(dataset(examples, size, epochs=epochs), epochs=epochs, steps_per_epoch=1, verbose=0)


def token_logits(student: TextModel, encoded: Encoded) -> np.ndarray:
    """(rows, longest, outputs) in the order of `encoded`."""
    logits = np.zeros((len(encoded), int(encoded.lengths.max()), student.num_outputs), "float32")
    batches = plan(encoded.lengths, 4, seed=0, epoch=0, shuffle=False)
    for rows, batch in zip(batches, dataset(Examples(encoded), 4, shuffle=False), strict=True):
        found = np.asarray(student(batch["student"], training=False))[:, : logits.shape[1]]
        logits[rows, : found.shape[1]] = found
    return logits


def test_tagging(tmp_path):
    rows = [
        f"{person} B-PER\n{verb} O\nin O\n{place} B-LOC\n. O\n"
        for person in ("Anna", "Bert") for verb in ("lives", "works") for place in ("Paris", "Rome")
    ]  # fmt: skip
    (tmp_path / "train.conll").write_text("\n".join(rows))
    data = conll.load_conll(tmp_path)
    made = conll.tagged_rows(TOKENIZER, data.splits["train"], data.label_names, max_length=16)
    student = model("token_classification", data.num_outputs)
    train(student, Examples(made.encoded, token_labels=made.labels), 60)
    scores = conll.scores_of(data.splits["train"], made, token_logits(student, made.encoded), data.label_names)
    assert scores == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}


def test_question_answering(tmp_path):
    paragraphs = [
        {
            "context": f"{person} {verb} in {place}.",
            "qas": [
                {
                    "id": f"{person}{verb}{place}{asks}",
                    "question": f"{asks} {verb}?",
                    "answers": [{"text": text, "answer_start": start}],
                }
                for asks, text, start in (("Who", person, 0), ("Where", place, len(f"{person} {verb} in ")))
            ],
        }
        for person in ("Anna", "Bert") for verb in ("lives", "works") for place in ("Paris", "Rome")
    ]  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    questions = squad.load_squad(tmp_path / "train.json")
    made = squad.windows(TOKENIZER, questions, max_length=16, stride=4, max_question_length=4)
    student = model("question_answering")
    train(student, Examples(made.encoded, made.spans), 150)
    found = squad.predict_answers(questions, made, token_logits(student, made.encoded))
    assert squad.scores_of(questions, found) == {"f1": 1.0, "exact_match": 1.0}
    assert found["AnnalivesParisWhere"].text == "Paris"
