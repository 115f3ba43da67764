"""DistilBERT (Sanh et al. 2019): a BERT encoder without token types and without next-sentence prediction."""

from __future__ import annotations

from typing import Any

from tfdistill.models.bert import BertEncoder
from tfdistill.models.distilbert_config import DistilBertConfig


class DistilBertEncoder(BertEncoder):
    """Encode tokens as `BertEncoder` does."""

    can_skip = True

    def __init__(self, config: DistilBertConfig, pooler: bool = True, **kwargs: Any):
        super().__init__(config.as_bert(), pooler, **kwargs)
