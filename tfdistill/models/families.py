"""Describe RoBERTa, ELECTRA and ALBERT, which are BERT encoders with other embeddings, poolers and heads."""

from __future__ import annotations

from typing import Any

from tfdistill.models.bert import BertEncoder


class LikeBertEncoder(BertEncoder):
    """Encode tokens as `BertEncoder` does."""

    can_skip = True

    def __init__(self, config: Any, pooler: bool = True, **kwargs: Any):
        super().__init__(config.as_bert(), pooler, share=getattr(config, "layer_weights", None), **kwargs)
