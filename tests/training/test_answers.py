"""A file of answers in place of a teacher: the same losses, recipes that learn from it, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tiny_recipes import NAMES, data, make, teacher, with_extra

from tfdistill.data.splits import Split
from tfdistill.distill import losses
from tfdistill.errors import UserError
from tfdistill.models.load import load, save
from tfdistill.models.predict import predict_logits
from tfdistill.recipes import find
from tfdistill.training.agreement import compare
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.rows import prepare
from tfdistill.training.runner import train
from tfdistill.training.settings import parse_settings
from tfdistill.training.teacher_outputs import training_logits

BILSTM = ["epochs=20", "batch_size=8", "embedding_size=8", "lstm_size=8", "dense_size=8", "learning_rate=0.01"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def labelled_answers(text, sure=0.9):
    """Answers that agree with the labels of all splits."""
    return [
        {"text": text, "probs": {NAMES[label]: sure, NAMES[1 - label]: 1 - sure}}
        for split in text.splits.values()
        for text, label in zip(split.texts, split.labels, strict=True)
    ]


def of(name, settings, answers, text):
    module = find(name)
    return module.recipe(answers, text, parse_settings(module.Settings, settings))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("form", ["logits", "probs", "named"])
def test_soft_kl_equals_that_of_the_live_teacher(tmp_path, form, temperature):
    text = data(64)
    rng = np.random.default_rng(0)
    texts = list(dict.fromkeys(text.splits["train"].texts))
    live = dict(zip(texts, rng.normal(0, 6, (len(texts), 2)).astype("float32"), strict=True))

    def value(logits):
        if form == "logits":
            return logits.tolist()
        probs = np.exp(np.float64(logits) - np.logaddexp(*np.float64(logits)))
        return probs.tolist() if form == "probs" else dict(zip(reversed(NAMES), probs.tolist()[::-1], strict=True))

    kind = "logits" if form == "logits" else "probs"
    path = write(tmp_path / "a.jsonl", [{"text": each, kind: value(live[each])} for each in texts])
    answers = AnswersTeacher(path, text).logits(text.splits["train"])
    student = rng.normal(0, 3, (64, 2)).astype("float32")
    expected = losses.soft_kl(
        student, np.stack([live[each] for each in text.splits["train"].texts]), temperature=temperature
    )
    received = losses.soft_kl(student, answers, temperature=temperature)
    assert abs(float(tf.reduce_mean(received) - tf.reduce_mean(expected))) < 1e-5
    # T² also multiplies the rounding of log-softmax in float32.
    np.testing.assert_allclose(received, expected, atol=max(1e-5, 1.5e-7 * temperature**2), rtol=1e-5)
    assert tf.reduce_max(expected) > 0.1


def test_answers_are_matched_by_text_or_pair(tmp_path):
    text = data(8, pair=True)
    train = text.splits["train"]
    rows = [
        {"text": a, "text_b": b, "logits": [n, -n]}
        for n, (a, b) in enumerate(zip(train.texts, train.texts_b, strict=True))
    ]
    other = [
        {"text": train.texts[0], "text_b": "another", "logits": [99, 99]},
        {"text": "x", "text_b": "y", "logits": [0, 0]},
    ]
    made = AnswersTeacher(write(tmp_path / "a.jsonl", other + rows), text)
    assert made.logits(train)[:, 0].tolist() == list(range(8))
    assert made.covers(train) and not made.covers(Split(["a"], ["b"]))
    with pytest.raises(UserError, match=r"a\.jsonl, line 2: 'text_b'"):
        AnswersTeacher(write(tmp_path / "a.jsonl", [rows[0], {"text": "a", "logits": [0, 1]}]), text)
    with pytest.raises(UserError, match=r"a\.jsonl, line 1.*text_b"):
        AnswersTeacher(write(tmp_path / "a.jsonl", rows), data(8))


def test_missing_answers_are_counted_and_shown(tmp_path):
    text = data(20, unlabelled=Split(["u one", "u two", "u three", "u four"]))
    rows = labelled_answers(replace(text, splits={name: text.splits[name] for name in ("train", "dev", "test")}))
    with pytest.raises(UserError) as caught:
        AnswersTeacher(write(tmp_path / "a.jsonl", rows), text)
    message = str(caught.value)
    assert "4 of 4" in message and all(f"'u {which}'" in message for which in ("one", "two", "three")), message
    assert "u four" not in message and "unlabelled" in message and "\n" not in message
    with pytest.raises(UserError, match=r"20 of 20.*'train'"):
        AnswersTeacher(write(tmp_path / "a.jsonl", [{"text": "other", "probs": [0.5, 0.5]}]), text)


def test_classes_follow_the_data_by_name(tmp_path):
    text = data(8)
    answers = AnswersTeacher(write(tmp_path / "a.jsonl", labelled_answers(text)), text)
    before = answers.logits(text.splits["dev"])
    answers.order_outputs(NAMES[::-1], "the data")
    assert answers.label_names == NAMES[::-1]
    np.testing.assert_array_equal(answers.logits(text.splits["dev"]), before[:, ::-1])
    with pytest.raises(UserError, match=r"yes.*other"):
        answers.order_outputs(("no", "other"), "the data")
    with pytest.raises(UserError, match=r"line 1.*'good'.*no, yes"):
        AnswersTeacher(write(tmp_path / "b.jsonl", [{"text": "a", "probs": {"good": 1}}]), text)


def test_another_file_is_another_identity(tmp_path):
    text = data(8)
    one, same, other = (
        AnswersTeacher(write(tmp_path / f"{name}.jsonl", labelled_answers(text, sure)), text)
        for name, sure in (("a", 0.9), ("b", 0.9), ("c", 0.8))
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_no_such_file_and_other_names(tmp_path):
    (tmp_path / "answers.jsonl").touch()
    with pytest.raises(UserError, match=r"answer\.jsonl.*did you mean 'answers\.jsonl'"):
        AnswersTeacher(f"answers:{tmp_path / 'answer.jsonl'}", data(4))
    with pytest.raises(UserError, match="directory"):
        AnswersTeacher(tmp_path, data(4))
    with pytest.raises(UserError, match="AnswersTeacher"):
        load(f"answers:{tmp_path / 'answers.jsonl'}")


@pytest.mark.parametrize(
    ("name", "settings", "part"),
    [
        ("soft_targets", [], "student=hf:DIR"),
        ("soft_targets", ["student=tinybert_4l_312", "hidden_weight=1"], "layers"),
        ("soft_targets", ["student=tinybert_4l_312", "soft_weight=0"], "no effect"),
        ("soft_targets", ["student=tinybert_4l_312", "copies=2"], "copies=0"),
        ("bilstm", ["copies=2"], "copies=0"),
        ("pkd", [], "layers"),
        ("tinybert", [], "layers"),
        ("xtremedistil", [], "layers"),
        ("minilm", [], "layers"),
        ("mobilebert", [], "layers"),
        ("distilbert", [], "layers"),
        ("head_pruning", [], "layers"),
        ("layerdrop", [], "layers"),
        ("neuron_pruning", [], "layers"),
        ("quantization_aware", [], "layers"),
    ],
)
def test_recipes_that_need_a_network_say_so_in_one_line(tmp_path, name, settings, part):
    text = data(8)
    answers = AnswersTeacher(write(tmp_path / "a.jsonl", labelled_answers(text)), text)
    with pytest.raises(UserError, match=part) as caught:
        of(name, settings, answers, text)
    assert "\n" not in str(caught.value) and "a.jsonl" in str(caught.value)


def test_a_stage_that_reads_layers_is_named(tmp_path):
    text = data(8)
    answers = AnswersTeacher(write(tmp_path / "a.jsonl", labelled_answers(text)), text)
    with pytest.raises(UserError, match="Stage 'patient' of pkd reads hidden_states"):
        replace(make("pkd", text, [], teacher(layers=2)), teacher=answers)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("distilbert", ["soft_weight=1"]),
        ("head_pruning", ["soft_weight=1", "epochs=1"]),
        ("layerdrop", ["soft_weight=1", "depth=1"]),
        ("minilm", ["relations.epochs=0", "soft_weight=0.5"]),
        ("mobilebert", ["soft_weight=0.5", "transfer=none"]),
        ("neuron_pruning", []),
        ("privileged", []),
        ("soft_targets", []),
        ("tinybert", ["transformer.epochs=0"]),
    ],
)
def test_every_prediction_stage_takes_answers(tmp_path, name, settings):
    text = with_extra(data(8)) if name == "privileged" else data(8)
    save(teacher(layers=2), tmp_path / "student")
    answers = AnswersTeacher(write(tmp_path / "a.jsonl", labelled_answers(text)), text)
    made = of(name, [f"student=hf:{tmp_path / 'student'}", "max_length=12", *settings], answers, text)
    logits = training_logits(made, prepare(made, 0))
    np.testing.assert_array_equal(logits, answers.logits(text.splits["train"]))


@pytest.mark.heavy
def test_answers_and_models_are_averaged(tmp_path):
    text, model = data(8), teacher()
    answers = AnswersTeacher(write(tmp_path / "a.jsonl", labelled_answers(text)), text)
    both = replace(make("soft_targets", text, [], model), other_teachers=(answers,), teacher_weights=(1.0, 3.0))
    prepared = prepare(both, 0)
    expected = 0.25 * predict_logits(model, prepared.train.encoded) + 0.75 * answers.logits(text.splits["train"])
    np.testing.assert_allclose(training_logits(both, prepared), expected, atol=1e-6)
    with pytest.raises(UserError, match="copies=0"):
        replace(make("bilstm", text, ["copies=1"], model), other_teachers=(answers,))


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_other_tasks_learn_from_answers(tmp_path, task):
    text = data(task=task)
    rows = [
        {"text": each, "logits": float(label)} if task == "regression" else {"text": each, "probs": label.tolist()}
        for split in text.splits.values()
        for each, label in zip(split.texts, split.labels, strict=True)
    ]
    answers = AnswersTeacher(write(tmp_path / "a.jsonl", rows), text)
    result = train(of("bilstm", [*BILSTM, "epochs=2"], answers, text), seed=1)
    assert result.agreement["file_labels"] == (0.0 if task == "regression" else 1.0)


def test_agreement_names_the_confusions():
    logits = np.eye(3, dtype="float32")
    file, student, labels = np.array([0, 1, 1, 1, 2, 0]), np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 2, 2])
    made = compare("classification", logits[file], logits[student], labels, ("a", "b", "c"))
    assert made == {
        "file_labels": 0.5,
        "student_file": pytest.approx(4 / 6),
        "student_labels": pytest.approx(5 / 6),
        "confusions": [{"label": "a", "file": "b", "rows": 2}, {"label": "c", "file": "a", "rows": 1}],
    }


@pytest.fixture
def folder(tmp_path):
    """Letters as files, with unlabelled texts, and answers that agree with the labels except for one class of texts."""
    text = data(64)
    for name, split in text.splits.items():
        rows = "".join(f"{each}\t{NAMES[label]}\n" for each, label in zip(split.texts, split.labels, strict=True))
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\n" + rows, "utf-8")
    (tmp_path / "unlabelled.txt").write_text("b c a\nb d\n", "utf-8")
    rows = [*labelled_answers(text), {"text": "b c a", "probs": {"yes": 1.0}}, {"text": "b d", "probs": {"yes": 0.0}}]
    write(tmp_path / "answers.jsonl", rows)
    return tmp_path


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["bilstm", "soft_targets"])
def test_the_command_trains_from_a_file_without_any_teacher(folder, tfdistill, name):
    settings = BILSTM
    if name == "soft_targets":
        save(teacher(layers=2), folder / "start")
        settings = [f"student=hf:{folder / 'start'}", "epochs=20", "learning_rate=0.003", "max_length=12"]
    words = ["train", name, "--teacher", f"answers:{folder / 'answers.jsonl'}", "--data", folder]
    words += ["--out", folder / name, *(part for each in settings for part in ("--set", each))]
    code, _, error = tfdistill(*words)
    assert code == 0, error
    run = json.loads((folder / name / "run.json").read_text("utf-8"))
    assert run["state"] == "done" and run["scores"]["dev"]["accuracy"] > 0.9
    assert run["agreement"]["file_labels"] == 1.0 and run["agreement"]["student_file"] > 0.9
    assert "agreement on 64 labelled training examples" in error
    assert load(folder / name / "student").label_names == NAMES
    rows = [json.loads(row) for row in (folder / "answers.jsonl").read_text("utf-8").splitlines()]
    write(folder / "answers.jsonl", [{**row, "probs": {"yes": 0.5, "no": 0.5}} for row in rows])
    code, _, error = tfdistill(*words)
    assert code == 2 and "another run" in error and "teachers" in error


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ('{"text": "a", "probs": {"good": 0.1, "bad": 0.9}}', ["line 2", "'good'", "no, yes"]),
        ('{"text": "a", "probs": [0.5, 0.4]}', ["line 2", "0.9"]),
        ('{"text": "a", "probs": [0.5, NaN]}', ["line 2", "NaN"]),
        ('{"text": "a", "probs": [1]}', ["line 2", "1 numbers", "2"]),
        ('{"text": "zz", "probs": [1, 0]}', ["of 64 texts", "'train'"]),
        ("", ["of 64 texts"]),
    ],
)
def test_the_command_refuses_bad_answers_before_it_writes(folder, tfdistill, row, parts):
    first = (folder / "answers.jsonl").read_text("utf-8").splitlines()[0]
    (folder / "answers.jsonl").write_text(f"{first}\n{row}\n", "utf-8")
    words = [
        "train",
        "bilstm",
        "--teacher",
        f"answers:{folder / 'answers.jsonl'}",
        "--data",
        folder,
        "--out",
        folder / "run",
    ]
    code, _, error = tfdistill(*words)
    assert code == 2 and all(part in error for part in ["answers.jsonl", *parts]), error
    assert "Traceback" not in error and not (folder / "run").exists()
