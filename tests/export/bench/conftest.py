"""Two small files to measure, and results to report."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A BERT and a BiLSTM of 8 tokens, converted to fp32."""
    from tfdistill.export.convert.convert import convert_model
    from tfdistill.models.bert_config import BertConfig
    from tfdistill.models.bilstm_config import BiLSTMConfig
    from tfdistill.models.text_model import TextModel

    out = tmp_path_factory.mktemp("bench")
    # Four tokens are the smallest vocabulary.
    bert = TextModel(BertConfig(4, 16, 1, 2, 32, max_position_embeddings=16), 2)
    lstm = TextModel(BiLSTMConfig(4, 8, 8, dense_size=8), 2)
    return [
        convert_model(model, out, name=model.family, length=8, modes=["fp32"])["fp32"].path for model in (bert, lstm)
    ]
