from __future__ import annotations

import numpy as np
import pytest

from tfdistill.augment.parts_of_speech import PosTable
from tfdistill.augment.tang import augment_tang
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import bilstm
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.settings import parse_settings

TEXTS = ["playing the film again", "a book of the play", "film and book and play"] * 2
SPLIT = Split(TEXTS, None, np.array([0, 1, 0, 1, 0, 1]))


def by_list(words):
    return ["NN" if word in ("film", "book", "play") else "X" for word in words]


@pytest.fixture
def teacher():
    model = TextModel(BertConfig(10, 8, 1, 2, 16, 16), 2)
    model.tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "film", "the", "book"])
    return model


def settings(*assignments):
    return parse_settings(bilstm.Settings, ["embedding_size=6", "lstm_size=4", "copies=30", *assignments])


def test_defaults_exchange_no_words_and_fetch_nothing(teacher, monkeypatch):
    monkeypatch.setattr(bilstm, "default_tagger", None)
    made = augmented(teacher, settings())(SPLIT, 3)
    assert made.texts == augment_tang(TEXTS, copies=30, seed=3).texts


def augmented(teacher, chosen):
    return chosen.augmentation.split_maker(teacher, chosen.copies)


def test_settings_reach_the_augmentation(teacher, monkeypatch):
    monkeypatch.setattr(bilstm, "default_tagger", by_list)
    made = augmented(
        teacher,
        settings(
            "augmentation.p_pos=0.4", "augmentation.p_mask=0.2", "augmentation.p_ngram=0.5", "augmentation.ngram=2-3"
        ),
    )(SPLIT, 3)
    table = PosTable.build(TEXTS, by_list)
    options = {"p_pos": 0.4, "p_mask": 0.2, "p_ng": 0.5, "ngram": (2, 3), "pos": table}
    assert made.texts == augment_tang(TEXTS, copies=30, seed=3, **options).texts


def test_tokens(teacher):
    made = augmented(teacher, settings("augmentation.whole_word=false", "augmentation.p_mask=0.5"))(SPLIT, 3)
    words = {word for text in made.texts for word in text.split()}
    assert {"play[MASK]", "[MASK]ing", "[MASK][MASK]"} <= words


def test_layers(teacher):
    data = TextData("corpus", {"train": SPLIT, "dev": SPLIT}, ("a", "b"))
    made = bilstm.recipe(teacher, data, settings("lstm_layers=2"))
    assert made.student.config.num_layers == 2 and made.augment is not None
    assert bilstm.recipe(teacher, data, settings("copies=0")).augment is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("augmentation.ngram=5-2", "augmentation.ngram=5-2"),
        ("augmentation.ngram=0-2", "augmentation.ngram=0-2"),
        ("augmentation.ngram=3", "augmentation.ngram=3"),
        ("augmentation.p_pos=0.95", "p_pos=0.95"),
    ],
)
def test_mistakes(assignment, message):
    with pytest.raises(UserError, match=message):
        settings(assignment)
