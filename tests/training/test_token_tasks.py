"""Tagging and question answering from the files to the score: the verbs' own way, on data small enough to learn by heart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tfdistill.commands import app as cli
from tfdistill.data.load import load_any
from tfdistill.errors import UserError
from tfdistill.export.verify import verify_bundle
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.load import data_for, load, save
from tfdistill.models.predict import evaluate, predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find, finetune
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.run_directory import run
from tfdistill.training.runner import train
from tfdistill.training.settings import parse_settings

pytestmark = pytest.mark.heavy

WORDS = ["anna", "bert", "lives", "works", "in", "paris", "rome", "who", "where", "##s", "?", "."]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])
SENTENCES = [(a, b, c) for a in ("Anna", "Bert") for b in ("lives", "works") for c in ("Paris", "Rome")]


def model(data) -> TextModel:
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
    made = TextModel(config, data.num_outputs, task=data.task, label_names=data.label_names)
    made.tokenizer = TOKENIZER
    return made


@pytest.fixture
def tags(tmp_path) -> str:
    rows = [f"{person} B-PER\n{verb} O\nin O\n{place} B-LOC\n. O\n" for person, verb, place in SENTENCES]
    (tmp_path / "tags").mkdir()
    for name, part in (("train", rows), ("dev", rows), ("test", rows[:3])):
        (tmp_path / "tags" / f"{name}.conll").write_text("\n".join(part))
    return f"conll:{tmp_path / 'tags'}"


@pytest.fixture
def answers(tmp_path) -> str:
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
        for person, verb, place in SENTENCES
    ]
    (tmp_path / "answers").mkdir()
    for name in ("train-v1.1", "dev-v1.1"):
        (tmp_path / "answers" / f"{name}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return f"squad:{tmp_path / 'answers'}"


def taught(data, epochs: int) -> TextModel:
    settings = finetune.Settings(epochs=epochs, learning_rate=5e-3, batch_size=8, max_length=20, evaluations=1)
    result = train(finetune.recipe(model(data), data, settings))
    assert next(iter(result.scores["dev"].values())) == 1.0
    return result.student


def exported(teacher, data, out) -> tuple[str, float, float]:
    """The metric that export judges the file by, for Keras and for the file."""
    cli.export(model=str(teacher), out=out, quantize="fp32", length=20, data=data)
    verify_bundle(out)
    parity = json.loads((out / "manifest.json").read_text("utf-8"))["parity"]
    return parity["metric"], parity[f"keras_{parity['metric']}"], parity[parity["metric"]]


def test_tags_are_learned_saved_and_scored(tags, tmp_path, tfdistill):
    data = load_any(tags)
    teacher = taught(data, 40)
    save(teacher, tmp_path / "teacher")
    code, said, error = tfdistill(
        "evaluate",
        tmp_path / "teacher",
        "--data",
        tags,
        "--max-length",
        20,
        "--predictions",
        tmp_path / "said.jsonl",
        "--json",
    )
    assert code == 0 and json.loads(said)["f1"] == 1.0, error
    first = json.loads((tmp_path / "said.jsonl").read_text("utf-8").splitlines()[0])
    assert first == {
        "words": ["Anna", "lives", "in", "Paris", "."],
        "tags": ["B-PER", "O", "O", "B-LOC", "O"],
        "predicted": ["B-PER", "O", "O", "B-LOC", "O"],
    }
    again = load(tmp_path / "teacher")
    assert (again.task, again.label_names) == ("token_classification", ("O", "B-LOC", "B-PER"))
    scores = evaluate(again, data_for(again, "teacher", tags), "test", max_length=20)
    assert scores == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    assert exported(tmp_path / "teacher", tags, tmp_path / "bundle") == ("f1", 1.0, 1.0)


@pytest.mark.slow
def test_answers_are_learned_in_windows(answers, tmp_path, tfdistill):
    data = load_any(answers)
    teacher = taught(data, 70)
    # So short that every context is cut into windows.
    rows = data.encode(data.splits["dev"], TOKENIZER, 9)
    assert len(rows.encoded) > len(data.splits["dev"]) and rows.encoded.lengths.max() == 9
    logits = predict_logits(teacher, rows.encoded)
    assert logits.shape == (len(rows.encoded), 9, 2)
    assert 0 < rows.score(logits)["f1"] < 1  # "who lives" alone says less than "who lives?"
    assert evaluate(teacher, data, "dev", max_length=20) == {"f1": 1.0, "exact_match": 1.0}
    save(teacher, tmp_path / "teacher")
    place = tmp_path / "said.jsonl"
    words = ["evaluate", tmp_path / "teacher", "--split", "dev", "--max-length", 20, "--predictions", place]
    assert tfdistill(*words, "--data", f"{answers}?n_best=8&max_answer_length=2&stride=2")[0] == 0
    first = json.loads(place.read_text("utf-8").splitlines()[0])
    assert (first["id"], first["predicted"], first["answers"]) == ("AnnalivesParisWho", "Anna", ["Anna"])
    assert 1 < len(first["n_best"]) <= 8 and first["n_best"][0]["text"] == "Anna"
    assert all(len(candidate["text"].split()) <= 2 for candidate in first["n_best"])
    assert sum(candidate["probability"] for candidate in first["n_best"]) == pytest.approx(1)
    for wrong, message in (
        ("stride=0", "stride=0: Input should be greater than or equal to 1"),
        ("strides=1", "strides=1: expected one of stride, max_question_length, n_best"),
        ("stride=99", "expected at least the stride"),
    ):
        code, _, error = tfdistill(*words, "--data", f"{answers}?{wrong}")
        assert code == 2 and message in error and error.count("\n") == 1, error
    assert exported(tmp_path / "teacher", answers, tmp_path / "bundle") == ("f1", 1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("tags", "soft_targets", ("num_layers=1", "soft_weight=0.7", "hidden_weight=1")),
        ("answers", "soft_targets", ("num_layers=1", "soft_weight=0.7")),
        pytest.param(
            "answers", "tinybert", ("student=layers", "num_layers=1", "copies=0"), marks=pytest.mark.slow, id="tinybert"
        ),
        ("tags", "neuron_pruning", ("steps=1", "multiple=4")),
    ],
)
def test_recipes_take_tags_and_answers(kind, name, settings, request, tmp_path):
    data, module = load_any(request.getfixturevalue(kind)), find(name)
    chosen = parse_settings(module.Settings, [*settings, "max_length=16", "batch_size=4"])
    result = run(module.recipe(model(data), data, chosen), tmp_path / "run", debug=True, gradient_norms=True)
    assert all(0 <= value <= 1 for scores in result.scores.values() for value in scores.values())
    norms = [norm for stage in result.gradient_norms.values() for norm in stage.values()]
    assert np.isfinite(norms).all() and max(norms) > 0  # embeddings taken from the teacher match it from the start
    assert load(tmp_path / "run" / "student").task == data.task


def test_what_tags_and_answers_cannot_do_is_said(tags, answers, tmp_path):
    data = load_any(tags)
    # Both augment unless they are told not to.
    for name, settings in (("tinybert", ["student=layers", "num_layers=1"]), ("bilstm", ["embedding_size=32"])):
        module = find(name)
        with pytest.raises(UserError, match="copies=0"):
            module.recipe(model(data), data, parse_settings(module.Settings, settings))
    with pytest.raises(UserError, match="text_extra"):
        finetune.recipe(model(data), data, finetune.Settings(privileged=True))
    other = Tokenizer([*TOKENIZER.vocabulary, "!"])
    teacher = model(data)
    teacher.tokenizer = other
    module = find("soft_targets")
    made = module.recipe(teacher, data, parse_settings(module.Settings, ["num_layers=1", "max_length=16"]))
    made.student.tokenizer = TOKENIZER
    with pytest.raises(UserError, match="vocabulary"):
        train(made, max_steps=1)
    with pytest.raises(UserError, match="no SQuAD files"):
        load_any(f"squad:{tmp_path}")
    (tmp_path / "answers" / "dev-v2.0.json").write_text("{}")
    with pytest.raises(UserError, match=r"dev-v1.1.json and dev-v2.0.json"):
        load_any(answers)
