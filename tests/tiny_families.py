"""A tiny config of each family, with a vocabulary, for tests of model directories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.static_config import StaticConfig

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefgh")]
WORDS += ["good", "film", "the", "##ness", "was", "!", ".", "?", "not", "very", "bad"]
NAMES = ("no", "yes", "perhaps")
MOBILE = {
    "vocab_size": 50,
    "hidden_size": 10,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 7,
    "max_position_embeddings": 16,
    "embedding_size": 3,
    "intra_bottleneck_size": 6,
    "initializer_range": 0.3,
    "num_feedforward_networks": 2,
}
BERT = {
    "vocab_size": 50,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertConfig(**BERT),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=50, dim=6, n_layers=2, n_heads=2, hidden_dim=9, max_position_embeddings=16, initializer_range=0.3
    ),
    "roberta": lambda: RobertaConfig(**BERT),
    "electra": lambda: ElectraConfig(**BERT, embedding_size=5),
    "albert": lambda: AlbertConfig(**BERT, embedding_size=5),
    "mobilebert": lambda: MobileBertConfig(**MOBILE),
    "ib_bert": lambda: MobileBertConfig(
        **MOBILE, key_query_shared_bottleneck=False, normalization_type="layer_norm"
    ),
    "bilstm": lambda: BiLSTMConfig(vocab_size=50, embedding_size=6, lstm_size=5, dense_size=7),
    "static": lambda: StaticConfig(
        vocab_size=50, embedding_size=6, convolution_layers=2, convolution_size=5, dense_layers=2, dense_size=7
    ),
    "pruned": lambda: BertConfig(
        **BERT, heads_per_layer=(2, 1), query_key_sizes=(4, 3), value_sizes=(4, 2), intermediate_sizes=(12, 7),
        attention_head_size=4, embedding_size=5,
    ),
}  # fmt: skip
