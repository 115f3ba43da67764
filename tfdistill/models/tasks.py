"""The tasks of models: what their heads read, and how they are named."""

from __future__ import annotations

from dataclasses import dataclass

from tfdistill.errors import UserError


@dataclass(frozen=True)
class Task:
    """What differs between the heads of two tasks.

    Args:
        reads: the feature that the logits are computed from; of "hidden_states" the last layer's.
        architecture: how transformers' classes for this task end.
        tensor: transformers' name of the head's dense layer; "" if the head is over the vocabulary.
        default_outputs: size of the logits' last axis by default; None means the size of the vocabulary.
        fixed: whether that is the only possible size.
        pooled: whether the encoder needs a pooler.
        labelled: whether the outputs are classes with names.
        problem_type: how config.json tells the tasks of one architecture apart.
    """

    reads: str
    architecture: str
    tensor: str = ""
    default_outputs: int | None = 2
    fixed: bool = False
    pooled: bool = True
    labelled: bool = False
    problem_type: str | None = None

    @property
    def over_vocabulary(self) -> bool:
        return self.default_outputs is None

    @property
    def per_token(self) -> bool:
        """Whether there are logits for each token, (B, L, C), rather than for each example, (B, C)."""
        return self.reads == "hidden_states"


def _sequence(problem_type: str, outputs: int = 2) -> Task:
    return Task(
        "pooled",
        "ForSequenceClassification",
        "classifier",
        outputs,
        labelled=True,
        problem_type=problem_type,
    )


HEADS: dict[str, Task] = {
    "classification": _sequence("single_label_classification"),
    "multilabel": _sequence("multi_label_classification"),
    "regression": _sequence("regression", outputs=1),
    "token_classification": Task("hidden_states", "ForTokenClassification", "classifier", pooled=False, labelled=True),
    "question_answering": Task("hidden_states", "ForQuestionAnswering", "qa_outputs", fixed=True, pooled=False),
    "masked_lm": Task("hidden_states", "ForMaskedLM", default_outputs=None, fixed=True, pooled=False),
    "pretraining": Task("hidden_states", "ForPreTraining", default_outputs=None, fixed=True),
    "next_sentence": Task("pooled", "ForNextSentencePrediction", "cls.seq_relationship", fixed=True),
}


SEQUENCE_TASKS = ("classification", "multilabel", "regression")


_WITHOUT_NEXT_SENTENCE = (*SEQUENCE_TASKS, "token_classification", "question_answering", "masked_lm")


# Families without attention layers: their layers, sizes and limits differ from those of transformers.
NOT_TRANSFORMERS = ("bilstm", "static")

# These families were trained without next-sentence prediction and have no head for it. ELECTRA's and ALBERT's own
# pre-training heads, for replaced tokens and for the order of sentences, are not among our tasks.
_BY_FAMILY = {
    **dict.fromkeys(("distilbert", "roberta", "electra", "albert"), _WITHOUT_NEXT_SENTENCE),
    "bilstm": (*SEQUENCE_TASKS, "token_classification"),
    "static": (*SEQUENCE_TASKS, "token_classification"),
}


def tasks_of(family: str) -> tuple[str, ...]:
    """Return the tasks that a family has heads for."""
    return _BY_FAMILY.get(family, tuple(HEADS))


def task_of(name: str, family: str) -> Task:
    """Return the task called `name`.

    Raises:
        UserError: an unknown task, or one that the family has no head for.
    """
    known = tasks_of(family)
    if name not in HEADS:
        raise UserError(f"task '{name}' is unknown. Use one of {', '.join(HEADS)}.")
    if name not in known:
        raise UserError(f"A {family} model has no head for '{name}'. Use one of {', '.join(known)}.")
    return HEADS[name]


def outputs_of(task: str, requested: int | None, vocab_size: int) -> int:
    """Return the size of the logits' last axis.

    Raises:
        UserError: the task allows one size only, and another one was requested.
    """
    head = HEADS[task]
    if task == "classification" and requested == 1:
        raise UserError("A classification has at least 2 classes, received 1. Use task 'regression' for one output.")
    size = vocab_size if head.default_outputs is None else head.default_outputs
    if requested is None or requested == size or (not head.fixed and requested >= 1):
        return size if requested is None else requested
    expected = f"{size}, or leave it out" if head.fixed else "at least 1"
    raise UserError(f"`num_outputs` is {requested} for the task '{task}'. Use {expected}.")
