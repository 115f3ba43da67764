"""Compare the class names of a model's outputs with other names, and find the order that joins both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tfdistill.errors import UserError, listing


def generic_names(count: int) -> tuple[str, ...]:
    """Return the names that transformers gives to outputs without names: LABEL_0, LABEL_1 and so on."""
    return tuple(f"LABEL_{number}" for number in range(count))


def is_unnamed(names: Sequence[str] | None) -> bool:
    """Return whether outputs have no names, or only those of `generic_names`."""
    return not names or tuple(names) == generic_names(len(names))


def checked_names(names: Iterable[str] | None, count: int, origin: str = "label_names") -> tuple[str, ...] | None:
    """Return the class names of `count` outputs as a tuple, or None.

    Raises:
        UserError: a text in place of several, another number of names, a name that is not a text, empty, or repeated.
    """
    if names is None:
        return None
    if isinstance(names, str):
        raise UserError(f"{origin} is the text '{names}'. Give a list with one name for each output.")
    names = tuple(names)
    if len(names) != count:
        raise UserError(f"Received {len(names)} label names for {count} outputs ({origin}). Use one for each.")
    seen = set()
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{origin} has the name {name!r}. Give a text that is not empty for each output.")
        if any(each in name for each in "\n\r\0"):
            raise UserError(
                f"{origin} has the name {name!r}. Use names without line breaks, since labels.txt has one a line."
            )
        if name in seen:
            raise UserError(f"{origin} has '{name}' more than once. Give each class one name.")
        seen.add(name)
    return names


def have_same_classes(own: Sequence[str] | None, names: Sequence[str]) -> bool:
    """Return whether outputs called `own` can be put in the order of `names`: the same set of names, or no names."""
    return set(own or ()) == set(names) or (is_unnamed(own) and (own is None or len(own) == len(names)))


def column_order(own: Sequence[str], names: Sequence[str], who: str, where: str) -> np.ndarray:
    """Return the place in `own` of each of `names`.

    Args:
        own: the names of a model's outputs, in their order.
        names: the names in the order to have.
        who: the model, for messages.
        where: what has the order `names`, for messages.

    Raises:
        UserError: the two are different sets, with the classes that differ.

    >>> column_order(("no", "yes"), ("yes", "no"), "the model", "the data")
    array([1, 0])
    """
    places = {name: place for place, name in enumerate(own)}
    wanted = set(names)
    missing, more = [name for name in names if name not in places], [name for name in own if name not in wanted]
    if missing or more:
        differences = [f"{listing(some, 5)} only in {place}" for some, place in ((more, who), (missing, where)) if some]
        raise UserError(
            f"{who} and {where} have different classes: {'; '.join(differences)}. Use a model that was fine-tuned on "
            "these classes (tfdistill finetune)."
        )
    return np.array([places[name] for name in names], np.int64)
