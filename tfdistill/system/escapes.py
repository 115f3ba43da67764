"""Escape text that others wrote, for a terminal and for Markdown. Imports nothing but Python's own library."""

from __future__ import annotations

import re

# Control characters move the cursor or change the terminal; U+2028, U+2029 and U+0085 break lines, bidirectional controls
# reorder what is shown, and lone surrogates (from file names) cannot be printed at all.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Markup anywhere, and at the start of a line bullets, numbers, rules and underlines of headings.
_MARKDOWN = re.compile(r"[\\`*_\[\]<>#|~&$]|^[-+=]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")


def visible(text: object) -> str:
    r"""Return text on one line, with an escape such as `\x1b` for each character that would not be shown as itself."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), str(text))


def markdown(text: object) -> str:
    """Return text that Markdown shows as it is, in a paragraph or in a cell of a table."""
    return _MARKDOWN.sub(lambda match: f"\\{match[0]}", visible(text).strip())


def markdown_code(text: object) -> str:
    """Return text as inline code, with any backticks in it."""
    shown = visible(text)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence, space = "`" * (longest + 1), " " if longest or not shown.strip() else ""
    return f"{fence}{space}{shown}{space}{fence}"
