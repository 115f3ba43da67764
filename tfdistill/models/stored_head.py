"""Decide whether a model takes the head of its directory, or may get a new one with random weights. Nobody else decides that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from tfdistill.errors import UserError, listing
from tfdistill.models.class_order import have_same_classes, is_unnamed
from tfdistill.models.hf_names import PREFIXES, head_names, head_tensor, pooler_names
from tfdistill.models.hf_weights import fill, found_name
from tfdistill.models.tasks import HEADS, tasks_of
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.system.console import say

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_MADE_BY_PRETRAINING = ("masked_lm", "pretraining", "next_sentence")


class MissingHead(UserError):
    """A model has no head for what it is used for."""


@dataclass(frozen=True)
class StoredHead:
    """Describe the head of a model directory.

    Args:
        task: the task of the head, one of `HEADS`; None if there is none.
        size: the number of outputs of a head over classes; None if there is none.
        label_names: the class names, in the order of the outputs.
        promised: the entry of config.json that promises a head; "" if there is none.
        is_certain: whether config.json has the task, so that the head is for no other one of the same architecture.
    """

    task: str | None
    size: int | None = None
    label_names: tuple[str, ...] | None = None
    promised: str = ""
    is_certain: bool = False

    def misfit(self, task: str, num_outputs: int | None, label_names: Sequence[str] | None) -> str:
        """Return why this head over classes cannot be used, to continue "the model has …"; "" if it can."""
        if self.task is None or self.size is None:
            return f"no head for {task}"
        other = self.is_certain or HEADS[self.task].architecture != HEADS[task].architecture
        if (other and self.task != task) or (task == "classification" and self.size == 1):
            return f"a head for {self.task}, not for {task}"
        if num_outputs not in (None, self.size):
            return f"a head of {self.size} outputs, not of {num_outputs}"
        if label_names is not None and not have_same_classes(self.label_names, label_names):
            own = listing(self.label_names or (), 5)
            return f"a head for the classes {own}, not for {listing(label_names, 5)}"
        return ""


def stored_head(
    raw: dict[str, Any], size: int | None, names: tuple[str, ...] | None, file: object, family: str
) -> StoredHead:
    """Find out which head a directory has.

    Args:
        raw: the parsed config.json.
        size: the number of outputs of the head over classes in the weights; None if there is none.
        names: the class names of the directory.
        file: config.json, for messages.
        family: the family of the model.

    Raises:
        UserError: a classification with one class, or an unknown problem_type.
    """
    known = [head.problem_type for head in HEADS.values() if head.problem_type is not None]
    if raw.get("problem_type") not in (None, *known):
        raise UserError(f"{file}: problem_type is {raw['problem_type']!r:.60}. Use {', '.join(known)}, or remove it.")
    task, promised = _promise(raw, names, family)
    if task is None and size is not None and "For" not in _architecture(raw):
        task = _sequence_task(raw)
    if task == "classification" and size == 1:
        if raw.get("problem_type"):
            raise UserError(
                f"{file}: problem_type is {raw['problem_type']}, and the head has one output. Set it to regression, or remove it."
            )
        task = "regression"  # as transformers takes one output
    size = size if task is not None and HEADS[task].labelled else None
    return StoredHead(task, size, names, promised, bool(raw.get("problem_type")))


def _architecture(raw: dict[str, Any]) -> str:
    classes = raw.get("architectures")
    return str(classes[0]) if isinstance(classes, list) and classes else ""


def _sequence_task(raw: dict[str, Any]) -> str:
    problems = {head.problem_type: name for name, head in HEADS.items() if head.problem_type is not None}
    return problems.get(str(raw.get("problem_type")), "classification")


def _promise(raw: dict[str, Any], names: tuple[str, ...] | None, family: str) -> tuple[str | None, str]:
    """Return the task of the head that config.json promises, and the entry that does."""
    architecture = _architecture(raw)
    if architecture == "AlbertForPreTraining":  # besides the order of sentences it has the masked-LM head
        return "masked_lm", f"architectures {architecture}"
    for name, head in HEADS.items():
        if architecture.endswith(head.architecture) and name in tasks_of(family):
            return (name if head.problem_type is None else _sequence_task(raw)), f"architectures {architecture}"
    if architecture:  # A class without a head, or with one that is not supported. Class names may be left from before.
        return None, ""
    if raw.get("problem_type"):
        return _sequence_task(raw), f"problem_type {raw['problem_type']}"
    return (None, "") if is_unnamed(names) else (_sequence_task(raw), "id2label")


def require_promised(head: StoredHead, tensors: Tensors, family: str) -> None:
    """Raise UserError if config.json promises a head over classes or positions, and the file has no such tensor."""
    is_named = head.promised and head.task not in (None, *_MADE_BY_PRETRAINING)
    tensor = head_tensor(str(head.task), family) if is_named else ""
    if tensor and f"{tensor}.weight" not in tensors and "head.kernel" not in tensors:
        raise UserError(
            f"{tensors.path} has no tensor '{tensor}.weight', which config.json promises ({head.promised})"
            f"{similar(tensor, tensors)}. "
            "Merge and save the whole model again, with its head."
        )


# Parts of the names that other libraries give to heads.
_HEADS = {"classifier", "score", "scores", "logits", "head", "lm", "out"}
_ENCODER = (".layer.", "embeddings.")


def similar(expected: str, names: Iterable[str], limit: int = 4) -> str:
    """Return "; it has …" with the names of tensors that may be the expected one under another name, or ""."""

    def words(name: str) -> set[str]:
        return set(name.replace("_", ".").split(".")) - {"weight", "bias", "kernel", "dense", "bert", "transform"}

    wanted = words(expected) | _HEADS
    some = [name for name in names if words(name) & wanted and not any(part in name for part in _ENCODER)]
    some.sort(key=lambda name: (-SequenceMatcher(None, expected, name).ratio(), name))
    return f"; it has {', '.join(some[:limit])}" if some else ""


def fill_head(
    model: TextModel,
    stored: StoredHead,
    tensors: Tensors,
    problem: str,
    new_head: bool | None,
) -> list[str]:
    """Fill the head and the pooler that it needs, or let them keep their random weights, with a line that says so.

    Args:
        model: a new model, with the name for messages in `loaded_from`.
        stored: the head of the directory.
        tensors: all tensors of the directory.
        problem: why the stored head over classes cannot be used; "" if it can, and for heads without classes.
        new_head: False refuses random weights.

    Returns:
        The parts with random weights, such as ["head", "pooler"].

    Raises:
        UserError: config.json promises a tensor that is missing, or only some tensors of a part are there.
        MissingHead: a part would be new, and `new_head` is False.
    """
    prefix, new = PREFIXES[model.family], []
    for part, named in _parts(model).items():
        missing = [name for name, _, _ in named if found_name(tensors, name, prefix) is None]
        if part == "head" and problem:
            new.append(part)
        elif not missing:
            fill(iter(named), tensors, prefix)
        elif len(missing) < len(named) or _is_needed(part, model, stored, new):
            kind = MissingHead if part != "pooler" and len(missing) == len(named) else UserError
            raise kind(
                f"{tensors.path} has no tensor '{missing[0]}', which the {part} for {model.task} needs"
                f"{similar(missing[0], tensors)}. Use the weights of the whole model."
            )
        else:
            new.append(part)
            problem = problem or f"no {part} for {model.task}"
    if new:
        if stored.size is None and HEADS[model.task].labelled:
            problem += similar(head_tensor(model.task, model.family), tensors)
        say_or_refuse(str(model.loaded_from), problem, model.task, new_head, new)
    return new


def _parts(model: TextModel) -> dict[str, list[tuple[str, Any, bool]]]:
    """Return the tensors of each part of the head, in the order in which parts depend on each other."""
    heads, pairs = list(head_names(model)), "cls.seq_relationship"
    if model.nsp_head is None:
        parts = {"head": heads}
    else:
        parts = {"head": [each for each in heads if not each[0].startswith(pairs)]}
        parts["next-sentence head"] = [each for each in heads if each[0].startswith(pairs)]
    return {**parts, "pooler": list(pooler_names(model))}


def _is_needed(part: str, model: TextModel, stored: StoredHead, new: Sequence[str]) -> bool:
    """Return whether a part must be in the file: the pooler of a head that is there, and what config.json promises."""
    if part == "pooler":
        return ("head" if model.nsp_head is None else "next-sentence head") not in new
    promised = {
        "masked_lm": {("masked_lm", "head"), ("pretraining", "head")},
        "pretraining": {(task, name) for task in _MADE_BY_PRETRAINING for name in ("head", "next-sentence head")},
        "next_sentence": {("next_sentence", "head"), ("pretraining", "next-sentence head")},
    }
    return bool(stored.promised) and (model.task, part) in promised.get(str(stored.task), {(stored.task, "head")})


def say_or_refuse(name: str, problem: str, task: str, new_head: bool | None, new: Sequence[str]) -> None:
    """Say that parts of a model are new, or raise MissingHead if `new_head` is False."""
    if new_head is False:
        how = f"Fine-tune it first: tfdistill finetune {name} --data DATA --out TEACHER"
        if task in _MADE_BY_PRETRAINING:
            how = f"Pre-train it first: tfdistill pretrain {name} --text TEXT --out MODEL"
        raise MissingHead(f"{name} has {problem}. {how}")
    parts = " and ".join(new)
    say(
        f"{name} has {problem}: its new {parts} start{'' if len(new) > 1 else 's'} with random weights (newly initialized)"
    )
