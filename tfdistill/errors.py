"""The errors a user sees. The command line prints their text as one line and exits with `exit_code`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class UserError(Exception):
    """Something the user can mend. The message says what was received, what was expected and what to do."""

    exit_code = 2


class MissingExtra(UserError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str):
        super().__init__(f"{library} is not installed, and this needs it: pip install 'tfdistill[{extra}]'")


class DivergedError(UserError):
    """A loss became NaN or infinite. `step` counts optimizer steps from 1, `term` is the loss term's name."""

    def __init__(self, step: int, term: str):
        super().__init__(
            f"loss term '{term}' became NaN or infinite at step {step}; expected a finite number. "
            "Lower the learning rate (--set learning_rate=...), or look at the inputs of that step."
        )
        self.step, self.term = step, term


def optional(library: str, extra: str) -> ModuleType:
    """Import `library`, or raise MissingExtra with the line that installs it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingExtra(library.split(".")[0], extra) from error


def with_advice(problem: str, advice: str) -> str:
    """Return the message "problem. Advice." of a user error; the advice may lack its capital and full stop."""
    return f"{problem}. {advice[:1].upper()}{advice[1:]}{'' if advice.endswith('.') else '.'}" if advice else problem


def nearest(name: str, choices: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the closest of `choices`, or "" when none is close: a part of an error message."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f" (did you mean '{by_lower[found[0]]}'?)" if found else ""


def listing(names: Iterable[str], limit: int = 10) -> str:
    """The names with commas between them, at most `limit`, for error messages."""
    names = list(names)
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")
