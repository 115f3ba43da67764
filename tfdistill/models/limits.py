"""Check token ids, segments and lengths against the tables of a model, once for each data set.

TensorFlow reads zeros beyond a table on a GPU, and stops with an error in the middle of a step on a CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.text.encoded import Encoded


def most_tokens(config: Any, default: Any = None) -> Any:
    """Return the largest number of tokens of an example that a model reads; `default` if it has no limit.

    Args:
        config: the sizes of an encoder, such as `model.config`.
        default: for a BiLSTM.
    """
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa leaves the first rows of the position table out.
    return default if positions is None else positions - getattr(config, "first_position", 0)


def check_encoded(config: Any, rows: Encoded, who: str = "model", *, cut_to: int | None = None) -> None:
    """Check tokenized examples, such as those of a split.

    Args:
        config: the sizes of an encoder, such as `model.config`.
        rows: the examples.
        who: what to call the model in a message, such as "teacher".
        cut_to: the number of tokens that the examples will be cut to.

    Raises:
        UserError: an id, a segment or a length that the model has no row for.
    """
    most = int(np.diff(rows.offsets).max(initial=0))
    most = most if cut_to is None else min(most, cut_to)
    check_ids(config, rows.token_ids, rows.segment_ids, most, who)


def check_ids(config: Any, token_ids: Any, segment_ids: Any, tokens: int, who: str = "model") -> None:
    """Check ids, segments and the length of examples in any shape.

    Args:
        config: the sizes of an encoder. A BiLSTM has no limit of the length, a DistilBERT reads no segments.
        token_ids: integers of any shape.
        segment_ids: likewise, or None.
        tokens: number of tokens of the longest example.
        who: what to call the model in a message.

    Raises:
        UserError: an id, a segment or a length that the model has no row for.
    """
    least, most = _range(token_ids)
    if least < 0 or most >= config.vocab_size:
        wrong = least if least < 0 else most
        raise UserError(
            f"The texts have the token id {wrong}, but the {who}'s vocabulary has {config.vocab_size} tokens. "
            "Use the model's own tokenizer."
        )
    limit = most_tokens(config)
    if limit is not None and tokens > limit:
        raise UserError(
            f"A text has {tokens} tokens, but the {who} reads at most {limit}. "
            f"Use `--length` or `max_length` {limit} or less."
        )
    segments = 2 if getattr(config, "pair", False) else getattr(config, "type_vocab_size", 0)
    least, most = _range(segment_ids) if segments and segment_ids is not None else (0, 0)
    if segments == 1 and most == 1:
        raise UserError(
            f"The examples are pairs of texts, but the {who} has one segment (type_vocab_size is 1). "
            "Use a model that was trained on pairs, or data with one text for each example."
        )
    if least < 0 or most > max(segments - 1, 0):
        wrong = least if least < 0 else most
        raise UserError(f"The examples have the segment {wrong}, but the {who} has {segments} segments. Use 0 and 1.")


def _range(values: Any) -> tuple[int, int]:
    values = np.asarray(values)
    return int(values.min(initial=0)), int(values.max(initial=0))
