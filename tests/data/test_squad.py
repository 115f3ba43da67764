from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.data.question_data import load_squad_directory
from tfdistill.data.squad import Answer, Question, load_squad
from tfdistill.data.squad_answers import predict_answers, scores_of
from tfdistill.data.squad_windows import windows
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

WORDS = ["who", "lives", "in", "paris", "anna", "bert", "and", "19", "##90", "##s", ".", "?", *"abcdefgh"]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])
CONTEXT = "Anna lives in Paris. Bert and Anna, in the 1990s."


def entry(name="q1", question="Who lives in Paris?", answers=(("Anna", 0),), **more):
    return {"id": name, "question": question, "answers": [{"text": t, "answer_start": s} for t, s in answers], **more}


def write(path, qas, context=CONTEXT):
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": qas}]}]})
    )
    return path


def test_load(tmp_path):
    impossible = entry("q2", "Who?", (), is_impossible=True, plausible_answers=[{"text": "Bert", "answer_start": 21}])
    path = write(tmp_path / "dev.json", [entry(answers=(("Anna", 0), ("Paris", 12), ("Anna", 28))), impossible])
    first, second = load_squad(path)
    # The second is two characters off; the third nearer to the second "Anna".
    assert first == Question(
        "q1", "Who lives in Paris?", CONTEXT, (Answer("Anna", 0), Answer("Paris", 14), Answer("Anna", 30))
    )
    assert second == Question("q2", "Who?", CONTEXT, ())


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("{", ["JSON", "line 1"]),
        ('{"data": [\n\n}', ["JSON", "line 3"]),
        ('{"data": ' + "[" * 100_000, ["line 1"]),
        ("[]", ["the file"]),
        ('{"data": {}}', ["data"]),
        ('{"data": []}', ["questions"]),
        ('{"data": [{"title": "x"}]}', ["data.0.paragraphs"]),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', ["data.0.paragraphs.0.context"]),
        ('{"data": [{"paragraphs": [{"context": "c", "qas": ["q"]}]}]}', ["data.0.paragraphs.0.qas.0"]),
        ("", ["empty"]),
    ],
)
def test_refuses_files(tmp_path, content, parts):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(UserError) as caught:
        load_squad(tmp_path / "train.json")
    assert "\n" not in str(caught.value) and "train.json" in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_refuses_questions(tmp_path):
    for qas, message in (
        ([entry(answers=(("Berta", 21),))], "'Berta' of question 'q1'"),
        ([entry(), entry()], "'q1'"),
        ([{"id": "q1", "question": "x"}], "'q1' has no 'answers'"),
    ):
        with pytest.raises(UserError, match=message):
            load_squad(write(tmp_path / "x.json", qas))
    with pytest.raises(UserError, match="none"):
        load_squad(tmp_path / "none.json")


def test_ids_that_are_numbers_or_missing(tmp_path, capsys):
    qas = [entry(101), {**entry(), "id": None}, {key: value for key, value in entry().items() if key != "id"}]
    assert [question.id for question in load_squad(write(tmp_path / "x.json", qas))] == [
        "101",
        "question 2",
        "question 3",
    ]
    assert "2 questions have no id" in capsys.readouterr().err
    with pytest.raises(UserError, match="'101'"):
        load_squad(write(tmp_path / "x.json", [entry(101), entry("101")]))


@pytest.mark.parametrize("value", ["false", "true", "", 0, 1, None, []])
def test_is_impossible_is_true_or_false(tmp_path, value):
    with pytest.raises(UserError, match=r"x\.json.*qas\.1\.is_impossible.*true or false"):
        load_squad(write(tmp_path / "x.json", [entry("1"), entry("2", is_impossible=value)]))
    assert load_squad(write(tmp_path / "x.json", [entry(is_impossible=False)]))[0].answers == (Answer("Anna", 0),)


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"id": True}, "qas.0.id"),
        ({"id": 1.5}, "qas.0.id"),
        ({"question": 3}, "qas.0.question"),
        ({"answers": [{"text": "Anna", "answer_start": "0"}]}, "answers.0.answer_start"),
        ({"answers": [{"text": None, "answer_start": 0}]}, "answers.0.text"),
        ({"answers": "Anna"}, "qas.0.answers"),
    ],
)
def test_other_types_are_refused_with_their_place(tmp_path, changed, place):
    with pytest.raises(UserError) as caught:
        load_squad(write(tmp_path / "x.json", [{**entry(), **changed}]))
    assert place in str(caught.value) and "x.json" in str(caught.value)


def test_what_is_done_to_answers_is_printed(tmp_path, capsys):
    qas = [
        entry("moved", answers=(("Anna", -1), ("Anna", 3), ("in", 99))),
        entry("dropped", is_impossible=True),
        entry("none", answers=()),
        entry("blank", answers=((" ", -1),)),
    ]
    moved, *others = load_squad(write(tmp_path / "x.json", qas))
    assert moved.answers == (Answer("Anna", 0), Answer("Anna", 0), Answer("in", 36))
    assert [question.answers for question in others] == [(), (), ()]
    printed = capsys.readouterr().err
    assert (
        "3 answers" in printed
        and "1 questions have answers that do not count" in printed
        and "2 questions have no answer" in printed
    )


# Windows


def pieces(ids):
    return [TOKENIZER.vocabulary[piece] for piece in ids]


def test_one_window():
    question = Question("q", "Who lives in Paris?", CONTEXT, (Answer("1990", CONTEXT.index("1990")),))
    made = windows(TOKENIZER, [question], max_length=64, stride=16, max_question_length=16)
    assert pieces(made.encoded.rows([0])[0]) == [
        "[CLS]", "who", "lives", "in", "paris", "?", "[SEP]",
        "anna", "lives", "in", "paris", ".", "bert", "and", "anna", "[UNK]", "in", "[UNK]", "19", "##90", "##s", ".", "[SEP]",
    ]  # fmt: skip
    assert made.encoded.segment_ids.tolist() == [0] * 7 + [1] * 16
    (first, last), begin = made.spans[0], 0
    assert (made.question.tolist(), first, last) == ([0], 18, 19)  # within "1990s"
    assert CONTEXT[made.starts[begin + first] : made.ends[begin + last]] == "1990"
    assert made.starts[:7].tolist() == made.ends[:7].tolist() == [-1] * 7 and made.starts[-1] == -1
    assert made.best.tolist() == [False] * 7 + [True] * 15 + [False]


def test_document_stride():
    context = "a b c d e f g h"
    questions = [
        Question("long", "who", context, (Answer("d e", 6),)),
        Question("short", "who ? who ?", "a b", (Answer("b", 2),)),
        Question("none", "who", "a"),
    ]
    made = windows(TOKENIZER, questions, max_length=8, stride=2, max_question_length=3)
    assert [pieces(row) for row in made.encoded.rows(range(len(made)))] == [
        ["[CLS]", "who", "[SEP]", "a", "b", "c", "d", "[SEP]"],
        ["[CLS]", "who", "[SEP]", "c", "d", "e", "f", "[SEP]"],
        ["[CLS]", "who", "[SEP]", "e", "f", "g", "h", "[SEP]"],
        ["[CLS]", "who", "?", "who", "[SEP]", "a", "b", "[SEP]"],
        ["[CLS]", "who", "[SEP]", "a", "[SEP]"],
    ]
    assert made.question.tolist() == [0, 0, 0, 1, 2]
    assert made.spans.tolist() == [[0, 0], [4, 5], [0, 0], [6, 6], [0, 0]]  # only one window holds both words
    # c is last but one in the first window and first in the second: min(2, 1) against min(0, 3).
    best = [made.best[a:b].tolist() for a, b in zip(made.encoded.offsets, made.encoded.offsets[1:], strict=False)]
    assert best[0] == [False] * 3 + [True, True, True, False] + [False]
    assert best[1] == [False] * 3 + [False, True, True, False] + [False]
    assert best[2] == [False] * 3 + [False, True, True, True] + [False]
    with pytest.raises(UserError, match=r"max_length 8 .* stride 2.* 9"):
        windows(TOKENIZER, questions, max_length=8, stride=2, max_question_length=4)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(9, 16), st.data())
def test_every_token_is_best_once_and_every_answer_reads_back(count, stride, max_length, data):
    context = " ".join(data.draw(st.sampled_from("abcdefgh")) for _ in range(count))
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first, count - 1))
    text = context[2 * first : 2 * last + 1]
    question = Question("q", "who ?", context, (Answer(text, 2 * first),))
    room = max_length - 2 - 3
    made = windows(TOKENIZER, [question], max_length=max_length, stride=min(stride, room), max_question_length=2)
    assert sorted(made.starts[made.best].tolist()) == list(range(0, 2 * count, 2))
    assert made.encoded.lengths.max() <= max_length
    for row, (start, end) in enumerate(made.spans):
        if end:
            begin = made.encoded.offsets[row]
            assert context[made.starts[begin + start] : made.ends[begin + end]] == text
    if last - first < room - min(stride, room):
        assert made.spans.any()  # an answer no longer than the overlap lies in some window whole


def naive_best(starts: list[int], length: int, size: int) -> list[tuple[int, int]]:
    """Return (window, token) for each token where it has the most context, by comparing all windows with each other."""

    def around(start: int, token: int) -> float:
        last = min(start + size, length) - 1
        return min(token - start, last - token) + 0.01 * (last - start + 1) if start <= token <= last else -1.0

    return [
        (max(range(len(starts)), key=lambda number: around(starts[number], token)), token) for token in range(length)
    ]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(9, 16))
def test_best_windows_are_those_of_all_windows(count, stride, max_length):
    context, size = " ".join("abcdefgh"[n % 8] for n in range(count)), max_length - 4
    stride = min(stride, size - 1)
    made = windows(
        TOKENIZER, [Question("q", "who", context)], max_length=max_length, stride=stride, max_question_length=2
    )
    starts = [int(made.starts[offset + 3]) // 2 for offset in made.encoded.offsets[:-1]]
    rows = np.repeat(np.arange(len(made)), made.encoded.lengths)
    best = sorted(zip((made.starts[made.best] // 2).tolist(), rows[made.best].tolist(), strict=True))
    assert [(row, token) for token, row in best] == naive_best(starts, count, size)


def test_windows_of_a_long_context_are_compared_with_their_neighbours_only(monkeypatch):
    compared = []
    minimum = np.minimum
    monkeypatch.setattr(np, "minimum", lambda *arrays: compared.append(1) or minimum(*arrays))
    made = [
        windows(TOKENIZER, [Question("q", "who", "a " * words)], max_length=24, stride=8, max_question_length=2)
        for words in (1000, 2000)
    ]
    assert len(made[0]) > 100 and len(compared) < 8 * sum(map(len, made))


# Answers


def logits_for(made, wanted, height=5.0):
    """Logits that say `wanted` (row, start, end) → score for each, elsewhere −`height`."""
    logits = np.full((len(made), int(made.encoded.lengths.max()) + 2, 2), -height, np.float32)
    for row, start, end, value in wanted:
        logits[row, start, 0] = logits[row, end, 1] = value
    return logits


QUESTIONS = [
    Question("q", "who", "a b c d e f g h", (Answer("d e", 6),)),
    Question("r", "who", "A  b.", (Answer("b.", 3),)),
]
ROWS = windows(TOKENIZER, QUESTIONS, max_length=8, stride=2, max_question_length=1)


def test_answers():
    found = predict_answers(QUESTIONS, ROWS, logits_for(ROWS, [(1, 4, 5, 3.0), (3, 3, 5, 1.0)]))
    assert found["q"].text == "d e" and found["r"].text == "A  b."  # as it stands in the context
    assert found["q"].n_best[0].score == pytest.approx(6.0)
    assert sum(candidate.probability for candidate in found["q"].n_best) == pytest.approx(1.0)
    assert scores_of(QUESTIONS, found) == {"f1": 1.0, "exact_match": 1.0}  # "A" is an article


def test_only_the_best_window_answers_for_a_token():
    logits = logits_for(ROWS, [(1, 4, 4, 2.0), (3, 3, 3, 1.0)])
    logits[0, 6, 0] = logits[0, 5, 1] = 9.0  # begins where the first window shows little around it
    found = predict_answers(QUESTIONS, ROWS, logits)
    assert found["q"].text == "a b c"  # the end at c is best there, with the best start before it
    logits[0, 5, 1] = -5.0
    found = predict_answers(QUESTIONS, ROWS, logits)
    assert found["q"].text == "d"
    assert found["q"].n_best[0].score == pytest.approx(4.0)


def test_order_length_and_question_tokens_are_respected():
    logits = logits_for(ROWS, [(3, 3, 5, 1.0)])
    logits[1, 5, 0] = logits[1, 4, 1] = 9.0  # ends before it starts
    logits[1, 1] = 20.0  # in the question
    assert predict_answers(QUESTIONS, ROWS, logits)["q"].text not in ("", "who")
    long = predict_answers(QUESTIONS, ROWS, logits_for(ROWS, [(1, 4, 5, 3.0)]), max_answer_length=1)
    assert long["q"].text in ("d", "e")
    best = predict_answers(QUESTIONS, ROWS, logits_for(ROWS, [(1, 4, 5, 3.0)]), n_best=1)
    assert len(best["q"].n_best) == 1


def test_no_answer():
    unanswerable = [QUESTIONS[0], Question("r", "who", "A  b.")]
    logits = logits_for(ROWS, [(1, 4, 5, 3.0), (3, 3, 3, 1.0), (3, 0, 0, 1.5), (0, 0, 0, 4.0)])
    found = predict_answers(unanswerable, ROWS, logits)
    # Of q's windows only the first says "nothing here": the least counts.
    assert (found["q"].text, found["q"].no_answer_score) == ("d e", pytest.approx(-10 - 6))
    assert (found["r"].text, found["r"].no_answer_score) == ("", pytest.approx(3.0 - 2.0))
    assert found["r"].n_best[0].text == ""
    assert predict_answers(unanswerable, ROWS, logits, threshold=1.5)["r"].text == "A"
    assert predict_answers(unanswerable, ROWS, logits, may_be_unanswerable=False)["r"].text == "A"
    assert scores_of(unanswerable, found)["f1_unanswerable"] == 1.0


def test_refuses_logits():
    for shape in ((3, 8, 2), (4, 7, 2), (4, 8, 3), (4, 8)):
        with pytest.raises(UserError, match=r"expected \(4, 8 or more, 2\)"):
            predict_answers(QUESTIONS, ROWS, np.zeros(shape))
    logits = np.zeros((4, 8, 2))
    logits[2, 1] = np.nan
    with pytest.raises(UserError, match="row 2"):
        predict_answers(QUESTIONS, ROWS, logits)


def test_perfect_logits_give_perfect_scores():
    logits = np.zeros((len(ROWS), 8, 2), np.float32)
    for row, (start, end) in enumerate(ROWS.spans):
        logits[row, start, 0] = logits[row, end, 1] = 9.0
    assert scores_of(QUESTIONS, predict_answers(QUESTIONS, ROWS, logits)) == {"f1": 1.0, "exact_match": 1.0}


def test_rows_of_questions(tmp_path):
    write(tmp_path / "train.json", [entry()])
    data = load_squad_directory(f"{tmp_path}?n_best=2&stride=2")
    rows = data.encode(data.splits["train"], TOKENIZER, 12)
    assert len(rows.encoded) == len(rows.windows) > 1 and data.per_token
    logits = np.zeros((len(rows.encoded), 12, 2), np.float32)
    for row, (start, end) in enumerate(rows.labels):
        logits[row, start, 0] = logits[row, end, 1] = 9.0
    assert rows.score(logits) == {"f1": 1.0, "exact_match": 1.0}
    (row,) = rows.predictions(logits)
    assert (row["id"], row["answers"], row["predicted"], len(row["n_best"])) == ("q1", ["Anna"], "Anna", 1)
