"""Errors that a user sees. The command line prints their message as one line and exits with `exit_code`.

Style of messages: what is wrong, then what to do, in two short sentences. Name the value received and what was expected
("received X, expected Y"), put options in backticks, and name the file and line if there is one.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

LONGEST_NAME = 100  # characters of a name that a message shows


class UserError(Exception):
    """An error that the user can fix. The message says what is wrong and what to do."""

    exit_code = 2


class MissingExtra(UserError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str):
        super().__init__(f"{library} is not installed. Run pip install 'tfdistill[{extra}]'.")


class DivergedError(UserError):
    """A loss became NaN or infinite.

    Args:
        step: the optimizer step, from 1.
        term: the name of the loss term.
        cause: a sentence that says why, if that is known.
    """

    def __init__(self, step: int, term: str, cause: str = ""):
        advice = "Lower the learning rate (`--set learning_rate=...`), or look at the inputs of that step."
        super().__init__(f"loss term '{term}' became NaN or infinite at step {step}. {cause or advice}")
        self.step, self.term, self.cause = step, term, cause


def optional(library: str, extra: str) -> ModuleType:
    """Import an optional library; raises MissingExtra with the command that installs it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingExtra(library.split(".")[0], extra) from error


def with_advice(problem: str, advice: str) -> str:
    """Return the message "problem. Advice."; the advice may lack its capital and full stop."""
    return f"{problem}. {advice[:1].upper()}{advice[1:]}{'' if advice.endswith('.') else '.'}" if advice else problem


def short(text: object, limit: int = 60) -> str:
    """Return a text for a message: on one line, without control characters, and cut after `limit` characters."""
    whole = str(text)
    line = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in whole[: limit + 1]
    )
    return line if len(line) <= limit else f"{line[:limit]}…"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `choices`, or "" if none is close, for a message."""
    # Finding close matches of long texts takes hours.
    by_lower = {choice.lower(): choice for choice in choices if len(choice) <= LONGEST_NAME}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1) if len(name) <= LONGEST_NAME else []
    return f" (did you mean '{short(by_lower[close[0]], LONGEST_NAME)}'?)" if close else ""


def listing(names: Iterable[str], limit: int = 10) -> str:
    """Return at most `limit` names, separated by commas, for a message."""
    names = list(names)
    shown = ", ".join(short(name, LONGEST_NAME) for name in names[:limit])
    return shown + (f", and {len(names) - limit} more" if len(names) > limit else "")
