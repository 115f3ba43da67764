"""Make terms for soft targets, for each task."""

from __future__ import annotations

from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.errors import UserError


def soft_term(task: str, temperature: float, weight: float = 1.0) -> Match:
    """Make a term with the teacher's predictions as targets.

    T²·KL of classes (of tags at each token, of answers over positions), T²·BCE of multi-label heads, squared error of regression.
    """
    if task == "regression":
        return Match(losses.logits_mse, weight=weight)
    special = {"multilabel": losses.soft_binary_cross_entropy, "question_answering": losses.span_kl}
    loss = special.get(task, losses.soft_kl)
    return Match(loss, weight=weight, options={"temperature": temperature})


def cross_entropy_term(
    task: str, temperature: float, weight: float = 1.0, *, student_temperature: float | None = None
) -> Match:
    """Make the term of `soft_term` without T²: CE(σ(z_t/T), σ(z_s/T)), or CE(σ(z_t/T), σ(z_s)) with `student_temperature=1`.

    For answers it is KL over the positions, which has the gradient of the cross-entropy.
    """
    if task == "regression":
        return Match(losses.logits_mse, weight=weight)
    if task == "question_answering":
        if student_temperature not in (None, temperature):
            raise UserError("Generalized distillation does not support question answering. Use soft_targets.")
        return Match(losses.span_kl, weight=weight / temperature**2, options={"temperature": temperature})
    loss = losses.soft_binary_cross_entropy if task == "multilabel" else losses.soft_cross_entropy
    own = temperature if student_temperature is None else student_temperature
    return Match(loss, weight=weight, options={"temperature": temperature, "student_temperature": own})


def soft_and_hard_terms(task: str, share: float, temperature: float) -> tuple[Term, ...]:
    """Make share·soft targets + (1 - share)·labels, without terms of weight 0."""
    terms = (soft_term(task, temperature, share), HardLabels(task=task, weight=1 - share))
    return tuple(term for term in terms if term.weight)
