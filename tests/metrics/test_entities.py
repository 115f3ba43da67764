from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.errors import UserError
from tfdistill.metrics.entities import Entity, entities, entity_scores

# What `get_entities` of seqeval 1.2.2 gave for these.
EXPECTED = [
    ("B-PER I-PER O B-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
    ("I-PER I-PER I-LOC O I-LOC B-LOC", [("PER", 0, 1), ("LOC", 2, 2), ("LOC", 4, 4), ("LOC", 5, 5)]),
    ("B-PER B-PER I-PER", [("PER", 0, 0), ("PER", 1, 2)]),
    ("S-PER B-LOC I-LOC E-LOC O E-ORG", [("PER", 0, 0), ("LOC", 1, 3), ("ORG", 5, 5)]),
    ("O I-PER I-ORG I-PER", [("PER", 1, 1), ("ORG", 2, 2), ("PER", 3, 3)]),
    ("E-PER I-PER E-PER", [("PER", 0, 0), ("PER", 1, 2)]),
    ("S-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
    ("B-PER E-PER I-PER", [("PER", 0, 1), ("PER", 2, 2)]),
    ("I-PER E-PER E-PER", [("PER", 0, 1), ("PER", 2, 2)]),
    ("B I O B", [("_", 0, 1), ("_", 3, 3)]),
    ("B-A-B I-A-B I-A", [("A-B", 0, 1), ("A", 2, 2)]),
    ("O O", []),
    ("", []),
    ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),
    ("B-PER O I-PER S-PER S-PER", [("PER", 0, 0), ("PER", 2, 2), ("PER", 3, 3), ("PER", 4, 4)]),
    (
        "I-PER S-PER I-PER B-LOC E-LOC E-LOC I-LOC O",
        [("PER", 0, 0), ("PER", 1, 1), ("PER", 2, 2), ("LOC", 3, 4), ("LOC", 5, 5), ("LOC", 6, 6)],
    ),
]


@pytest.mark.parametrize(("tags", "expected"), EXPECTED)
def test_entities_are_those_of_seqeval(tags, expected):
    assert [tuple(entity) for entity in entities(tags.split())] == expected


def test_scores():
    labels = [row.split() for row in ("B-PER I-PER O B-LOC", "I-PER I-PER I-LOC O", "B-ORG O")]
    predictions = [row.split() for row in ("B-PER I-PER O B-ORG", "B-PER I-PER B-LOC I-LOC", "O O")]
    # seqeval 1.2.2: f1_score 0.4444…, precision_score 0.5, recall_score 0.4, accuracy_score 0.5
    assert entity_scores(labels, predictions) == pytest.approx(
        {"f1": 4 / 9, "precision": 0.5, "recall": 0.4, "accuracy": 0.5}
    )
    assert entity_scores([["O"]], [["O"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "accuracy": 1.0}


def test_sentences_do_not_run_together():
    assert entity_scores([["B-A"], ["I-A"]], [["B-A"], ["I-A"]])["f1"] == 1.0
    assert entities(["I-A"]) == [Entity("A", 0, 0)]


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, 3), st.integers(0, 2)), max_size=5),
    st.sampled_from(["2", "ES"]),
)
def test_tags_give_back_their_entities(plan, scheme):
    tags, expected = [], []
    for kind, length, gap in plan:
        tags += ["O"] * gap
        expected.append((kind, len(tags), len(tags) + length - 1))
        inside = [f"I-{kind}"] * (length - 1)
        if scheme == "ES":
            inside = [*inside[:-1], f"E-{kind}"] if inside else []
        tags += [f"{'S' if scheme == 'ES' and length == 1 else 'B'}-{kind}", *inside]
    assert [tuple(entity) for entity in entities(tags)] == expected


@given(st.lists(st.sampled_from(["O", *(f"{p}-{k}" for p in "BIES" for k in "AB")]), max_size=9))
def test_entities_cover_all_words_that_are_not_o(tags):
    found = entities(tags)
    covered = [place for _, first, last in found for place in range(first, last + 1)]
    assert covered == [place for place, tag in enumerate(tags) if tag != "O"]
    assert all(tags[place].endswith(kind) for kind, first, last in found for place in range(first, last + 1))


# What seqeval gives, with `suffix=True` where tags have suffixes, and for L, U and M after they are I, S and I.
OTHER_SCHEMES = [
    ("B-PER L-PER O U-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),
    ("U-PER U-PER B-LOC M-LOC E-LOC", [("PER", 0, 0), ("PER", 1, 1), ("LOC", 2, 4)]),
    ("PER-B PER-I O LOC-S LOC-B", [("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 4)]),
    ("PER PER O LOC PER", [("PER", 0, 1), ("LOC", 3, 3), ("PER", 4, 4)]),
    ("person-actor person-actor person-politician", [("person-actor", 0, 1), ("person-politician", 2, 2)]),
    ("NN VB VB", [("NN", 0, 0), ("VB", 1, 2)]),
    ("B-PER X", [("PER", 0, 0), ("X", 1, 1)]),
]


@pytest.mark.parametrize(("tags", "expected"), OTHER_SCHEMES)
def test_other_schemes(tags, expected):
    assert [tuple(entity) for entity in entities(tags.split())] == expected


def reference(tags: list[str]) -> list[tuple[str, int, int]]:
    """Return the entities by the rules of conlleval, one question for each pair of neighbours."""
    parts = [("O", "")] + [tag.split("-") if tag != "O" else ("O", "") for tag in tags] + [("O", "")]
    found, first = [], 0
    for place in range(1, len(parts)):
        (before, kind_before), (now, kind) = parts[place - 1], parts[place]
        ends = before in "ES" or (before in "BI" and (now in "BSO" or kind != kind_before))
        if before != "O" and ends:
            found.append((kind_before, first, place - 2))
        if now in "BS" or (now in "IE" and (before in "ESO" or kind != kind_before)):
            first = place - 1
    return found


@given(st.lists(st.sampled_from(["O", *(f"{p}-{k}" for p in "BIES" for k in ("X", "Y"))]), max_size=9))
def test_entities_are_those_of_conlleval(tags):
    assert [tuple(entity) for entity in entities(tags)] == reference(tags)
    suffixed = [tag if tag == "O" else "-".join(reversed(tag.split("-"))) for tag in tags]
    assert [tuple(entity) for entity in entities(suffixed)] == reference(tags)


def test_accuracy_comes_first_for_parts_of_speech():
    assert next(iter(entity_scores([["NN", "VB"]], [["NN", "NN"]]))) == "accuracy"
    assert next(iter(entity_scores([["PER", "O"]], [["O", "O"]]))) == "f1"
    assert next(iter(entity_scores([["B-PER"]], [["O"]]))) == "f1"


def test_refuses():
    with pytest.raises(UserError, match="empty tag"):
        entities(["O", ""])
    with pytest.raises(UserError, match="1 sentences and 2"):
        entity_scores([["O"]], [["O"], ["O"]])
    with pytest.raises(UserError, match="sentence 1 has 2 words and 1"):
        entity_scores([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(UserError, match="no tagged words"):
        entity_scores([[]], [[]])
