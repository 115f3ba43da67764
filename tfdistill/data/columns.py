"""Choose the columns of data files: a name such as "data.csv?text=utterance&label=intent", and proposals for missing ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tfdistill.errors import UserError, listing, nearest, short

COLUMNS = ("text", "text_b", "label")
OPTIONS = {"text": "--text-column", "text_b": "--text-b-column", "label": "--label-column"}

Columns = Mapping[
    str, str
]  # the names of the columns in the file, by text, text_b and label; without an entry as there

# Usual names of the columns in data sets, the likeliest first.
_USUAL = {
    "text": ("sentence", "utterance", "sentence1", "review", "content", "tweet", "comment", "comment_text", "body",
             "question", "premise", "query", "message", "document"),
    "label": ("labels", "intent", "class", "category", "target", "sentiment", "topic", "emotion", "rating", "score"),
}  # fmt: skip
_NUMBER = re.compile(r"\s*[+-]?[0-9][0-9.,]*\s*")
_PLACES = re.compile(r"[a-z]+:")


def with_columns(source: str, columns: Columns) -> str:
    """Return the name of the data in `source` with these columns.

    Args:
        source: a file or a directory, perhaps with a query such as "?task=regression".
        columns: the names of the columns in the file, by text, text_b and label.

    Raises:
        UserError: the data are not files with columns, or the name holds columns already.
    """
    options = " ".join(OPTIONS[role] for role in columns)
    if source == "-" or (_PLACES.match(source) and not Path(source).exists()):
        raise UserError(
            f"{source} has no columns to choose. Remove `{options}`, which is for .tsv, .csv and .jsonl files."
        )
    given = [f"{role}=" for role in columns if re.search(rf"[?&]{role}=", source)]
    if given:
        raise UserError(f"{source} has {given[0]} in its name already. Remove `{options}`.")
    query = "&".join(f"{role}={quote(name, safe=' /')}" for role, name in columns.items())
    return f"{source}{'&' if re.search(r'[?](task|text|text_b|label)=', source) else '?'}{query}"


def split_name(spec: str) -> tuple[str, dict[str, str]]:
    """Split the name of files into the path and what its query says, see `parse_query`. A path with a "?" stays whole.

    Raises:
        UserError: as in `parse_query`.
    """
    name, mark, query = spec.rpartition("?")
    if mark and "=" in query and not Path(spec).expanduser().exists():
        return name, parse_query(spec, query)
    return spec, {}


def parse_query(spec: str, query: str) -> dict[str, str]:
    """Parse the part of a data name behind the "?": the task, and the columns of text, text_b and label.

    Raises:
        UserError: a key is unknown or repeated, a value is empty, or two columns are the same.
    """
    values: dict[str, str] = {}
    known = ("task", *COLUMNS)
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key not in known or key in values or not value:
            problem = "is given twice" if key in values else "is empty" if key in known else "is unknown"
            raise UserError(
                f"{spec}: '{short(key)}' {problem}. Give {listing(known)} once, as in "
                f"'data.csv?text=utterance&label=intent'{nearest(key, known) if key not in known else ''}."
            )
        values[key] = unquote(value)
    chosen = [values[role] for role in COLUMNS if role in values]
    if len(set(chosen)) < len(chosen):
        raise UserError(f"{spec} names one column twice. Give text, text_b and label different columns.")
    return values


def renamed(cells: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Return a row with the chosen columns called text, text_b and label, and without others of these names."""
    roles = {name: role for role, name in columns.items()}
    return {roles.get(name, name): value for name, value in cells.items() if name in roles or name not in columns}


def missing(
    role: str, columns: Columns, names: Iterable[str], rows: Sequence[Mapping[str, Any]], advice: str = ""
) -> str:
    """Return the message for a column that a file lacks, with the likely ones by name and content.

    Args:
        role: text, text_b or label.
        columns: the chosen columns.
        names: the columns that the file has.
        rows: its first rows.
        advice: a better advice than to choose or rename columns.
    """
    names = [name for name in names if name]
    proposals = {
        key: name for key, name in proposed(names, rows).items() if key == role or key not in (*names, *columns)
    }
    if role == "text_b":
        proposals = {}
    meant = f" (did you mean '{short(proposals[role])}'?)" if role in proposals else ""
    option = f" (`{OPTIONS[role]}`)" if role in columns else ""
    if not advice:
        chosen = " ".join(f"{OPTIONS[key]} {_word(name)}" for key, name in proposals.items())
        rename = "name the column label" if role == "label" else "name the columns text, text_b, label"
        advice = f"{f'Add `{chosen}`, or ' if chosen else ''}{rename}."
        advice = advice[:1].upper() + advice[1:]
    return f"no column '{short(columns.get(role, role))}'{option}; found {listing(names) or 'none'}{meant}. {advice}"


def proposed(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns that probably are the text and the label, as far as names and content tell.

    The text is never a column of few different values or of numbers, nor one with a usual name of labels.
    """
    values = {name: [str(row[name]) for row in rows if row.get(name) not in (None, "")] for name in names}
    lower = {name.lower(): name for name in reversed(names)}
    of_labels = [lower[name] for name in ("label", *_USUAL["label"]) if name in lower]
    texts = [name for name in names if name not in of_labels and _looks_like_text(values[name])]
    usual = [lower[name] for name in _USUAL["text"] if name in lower and (lower[name] in texts or not rows)]
    text = (
        next(iter(usual), None)
        or _near("text", lower, texts)
        or max(texts, key=lambda name: _length(values[name]), default=None)
    )
    labels = [name for name in names if name != text and _looks_like_classes(values[name])]
    label = next(iter(of_labels), None) or _near("label", lower, names)
    if label is None and labels:
        label = min(labels, key=lambda name: (len(set(values[name])), _length(values[name])))
    return {role: name for role, name in (("text", text), ("label", label)) if name is not None}


def _near(role: str, lower: Mapping[str, str], allowed: Sequence[str]) -> str | None:
    others = {name for key, usual in _USUAL.items() if key != role for name in (key, *usual)}
    match = re.search(
        r"'(.*)'", nearest(role, [name for key, name in lower.items() if key not in others and name in allowed])
    )
    return match[1] if match else None


def _looks_like_text(values: Sequence[str]) -> bool:
    few = len(values) > 3 and len(set(values)) <= len(values) / 2
    return bool(values) and not few and not all(_NUMBER.fullmatch(value) for value in values)


def _looks_like_classes(values: Sequence[str]) -> bool:
    return 1 < len(set(values)) < len(values)


def _length(values: Sequence[str]) -> float:
    return sum(map(len, values)) / max(1, len(values))


def _word(name: str) -> str:
    return name if re.fullmatch(r"[\w.-]+", name) else "'" + name.replace("'", "'\\''") + "'"
