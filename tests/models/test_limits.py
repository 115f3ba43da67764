"""Ids, segments and lengths beyond the tables of a model are one line, on every road."""

import numpy as np
import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.export.convert.convert import _probe
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.limits import check_encoded, check_ids
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.text.encoded import Encoded

SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
SINGLE = BertConfig(**SIZES, max_position_embeddings=16, type_vocab_size=1)
BERT = BertConfig(**SIZES, max_position_embeddings=16)


def encoded(ids, segments=None):
    ids = np.array(ids, np.int32)
    segments = np.zeros_like(ids) if segments is None else np.array(segments, np.int32)
    return Encoded(ids, segments, np.array([0, len(ids)]))


@pytest.mark.parametrize(
    ("config", "rows", "message"),
    [
        (BERT, encoded([1, 50]), "token id 50.*50 tokens"),
        (BERT, encoded([1, -1]), "-1"),
        (BERT, encoded([1] * 17), "17 tokens.*at most 16"),
        (SINGLE, encoded([1, 2], [0, 1]), "type_vocab_size is 1"),
        (BERT, encoded([1, 2], [0, 2]), "segment 2"),
        (BiLSTMConfig(vocab_size=50), encoded([1, 60]), "60"),
    ],
)
def test_what_is_beyond_a_table_is_one_line(config, rows, message):
    with pytest.raises(UserError, match=message) as caught:
        check_encoded(config, rows, "student")
    assert "student" in str(caught.value) and "\n" not in str(caught.value)


def test_what_fits_passes():
    check_encoded(BERT, encoded([0, 49] * 8, [0, 1] * 8))
    check_encoded(SINGLE, encoded([1] * 16))
    check_encoded(BERT, encoded([1] * 30), cut_to=16)
    check_encoded(BERT, encoded([]))
    check_encoded(DistilBertConfig(vocab_size=50, max_position_embeddings=16), encoded([1, 2], [0, 1]))  # it reads none
    check_encoded(BiLSTMConfig(vocab_size=50), encoded([1] * 999, [0] * 999))
    check_ids(BERT, np.zeros((2, 3), int), None, 3)


def test_logits_are_not_computed_of_what_is_beyond():
    with pytest.raises(UserError, match="17 tokens"):
        predict_logits(tiny_bert(1), encoded([1] * 17))


def test_the_probe_of_an_export_has_pairs_only_where_there_are_two_segments():
    for model, pairs in ((TextModel(SINGLE), False), (tiny_bert(1), True), (tiny_bilstm(pair=True), True)):
        rows, inputs = _probe(model, [4, 8])
        assert bool(rows.segment_ids.any()) is bool(inputs["segment_ids"].any()) is pairs
        model(inputs)
