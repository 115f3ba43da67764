"""Answers from logits: classes, several labels, numbers, entities and tags."""

from __future__ import annotations

import numpy as np
import pytest

from tfdistill.data.decisions import decide, decide_tags, words_of


def test_a_class_with_its_probability():
    answer = decide("classification", np.log([0.2, 0.7, 0.1]), ("a", "b", "c"))
    assert (answer["label"], list(answer["probabilities"])) == ("b", ["b", "a", "c"])
    assert answer["score"] == pytest.approx(0.7) and sum(answer["probabilities"].values()) == pytest.approx(1)


def test_several_labels_are_those_above_one_half():
    answer = decide("multilabel", np.array([2.0, -1.0, 0.5]), ("a", "b", "c"))
    assert answer["labels"] == ["a", "c"]
    assert answer["probabilities"]["b"] == pytest.approx(0.2689414)
    assert decide("multilabel", np.array([-2.0, -1.0]), ("a", "b"))["labels"] == []


def test_a_number():
    assert decide("regression", np.array([1.5]), ()) == {"value": 1.5}


def tags(text: str, chosen: list[str], names: tuple[str, ...]) -> dict:
    logits = [np.where(np.array(names) == tag, np.log(3.0), 0.0) for tag in chosen]
    return decide_tags(text, words_of(text), logits, names)


def test_entities_have_the_characters_of_the_text():
    names = ("O", "B-PER", "I-PER")
    (entity,) = tags("  Ada Lovelace wrote.", ["B-PER", "I-PER", "O", "O"], names)["entities"]
    score = entity.pop("score")
    assert entity == {"entity": "PER", "text": "Ada Lovelace", "start": 2, "end": 14}
    assert score == pytest.approx(0.6)


def test_the_scheme_is_that_of_all_tags():
    """A text in which only O and plain kinds occur is still read by prefixes."""
    assert tags("Ada Bo", ["B-PER", "B-PER"], ("O", "B-PER", "I-PER"))["entities"][1]["text"] == "Bo"
    assert tags("Ada Bo", ["PER", "PER"], ("O", "PER"))["entities"][0]["text"] == "Ada Bo"


def test_parts_of_speech_are_tags_of_all_words():
    answer = tags("cats run", ["NOUN", "VERB"], ("NOUN", "VERB"))
    assert [(each["tag"], each["text"], each["start"], each["end"]) for each in answer["tags"]] == [
        ("NOUN", "cats", 0, 4),
        ("VERB", "run", 5, 8),
    ]
