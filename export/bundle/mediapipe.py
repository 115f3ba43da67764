"""Which models MediaPipe's TextClassifier can run: one that reads a single uncased text and gives probabilities of classes."""

from __future__ import annotations

from tfdistill.errors import UserError


def check_fits(task: str, pair: bool, lengths: int, lower_case: bool) -> None:
    """Raises UserError for a model that TextClassifier cannot run, or would run wrongly.

    Args:
        task: of the model.
        pair: whether it is known to read two texts.
        lengths: how many the file is to have.
        lower_case: whether its tokenizer lower-cases.
    """
    if task != "classification" or pair:
        raise UserError(
            f"MediaPipe's TextClassifier sorts single texts into classes; received a model for "
            f"{'pairs' if pair else task}; leave --mediapipe out"
        )
    if lengths > 1:
        raise UserError(f"MediaPipe takes files of one length; received {lengths}; give one --length")
    if not lower_case:
        raise UserError(
            "MediaPipe's tokenizer lower-cases every text and this vocabulary is cased; leave --mediapipe out"
        )
