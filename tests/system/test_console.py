"""Test that names are printed as they are: no markup, no control characters."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tfdistill.system.console import make_table, say, say_error, show, show_prose, show_table, task
from tfdistill.system.escapes import markdown, markdown_code, visible

NAMES = ["[/red]", "[bold]B", "[/]", "w[/red]", "\\[x]", ":smile:", "[link=file:///]x[/link]", "$x$", "{task.total}"]
EVIL = [
    "A\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\x7f",
    "a\rb",
    "x\u202ey",
    "\u2066z",
    "l\u2028m",
    "\udcff",
]


def harmless(text: str) -> bool:
    """Whether text, apart from line breaks, has no character that a terminal obeys."""
    unsafe = ("Cc", "Cs", "Zl", "Zp")
    return not any(
        unicodedata.category(letter) in unsafe or unicodedata.bidirectional(letter)[:2] in ("LR", "RL", "PD", "FS")
        for letter in text.replace("\n", "")
    )


@given(st.text() | st.text(st.characters(max_codepoint=0x2100)))
@example("\x1b\x85\u2028\u202e\u2069\ud800\x7f\n")
def test_visible_text_is_one_harmless_line(text):
    shown = visible(text)
    assert len(shown.splitlines()) <= 1 and harmless(shown)
    shown.encode("utf-8")
    if text.isprintable() and text.isascii():
        assert shown == text


@pytest.mark.parametrize("name", [*NAMES, *EVIL])
def test_every_way_to_print(name, capsys):
    say(name)
    say_error(f"a {name}")
    show(name)
    show_prose(name)
    show_table(make_table([name, "b"], [[name, 1], ["x", name]], title=name, caption=name, bold=0))
    with task(name, 1) as advance:
        advance(1, note=name)
    captured = capsys.readouterr()
    assert harmless(captured.out) and harmless(captured.err)
    assert captured.out.count(visible(name)) == 7 and captured.err.count(visible(name)) >= 3


def test_numbers_are_not_broken_in_a_narrow_table(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    show_table(make_table(["name", "count", "share"], [["a/long/path/of/a/run", "22,714,371", "100.0 %"]]))
    out = capsys.readouterr().out
    assert "22,714,371" in out and "100.0 %" in out


@pytest.mark.parametrize(
    "text", ["# x", "- x", "1. x", "=====", "<!-- x", "<b>", "`x`", "|a|b|", "[a](b)", "*a*", "&lt;"]
)
def test_markdown_is_plain_text(text):
    escaped = markdown(f" {text}\n")
    assert "\n" not in escaped and not escaped.startswith(tuple("#-=<`|[*&"))
    for mark in "<`|[*":
        assert escaped.count(mark) == escaped.count(f"\\{mark}")


@given(st.text(st.sampled_from("`a <|\n"), min_size=1))
def test_inline_code_ends_where_it_should(text):
    code = markdown_code(text)
    fence = code[: len(code) - len(code.lstrip("`"))]
    assert code.endswith(fence) and fence not in code[len(fence) : -len(fence)].split(" ") and "\n" not in code
