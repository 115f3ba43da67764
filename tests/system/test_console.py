"""Test that names are printed as they are: no markup, no control characters."""

from __future__ import annotations

import io
import re
import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress

from tfdistill.system import console as console_module
from tfdistill.system.console import make_table, progress_line, say, say_error, show, show_prose, show_table, task
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


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(console_module, "clock", made)
    return made


def lines_of_ten_minutes(clock, capsys) -> list[str]:
    with task("soft_targets: soft_targets", 100) as advance:
        for step in range(100):
            clock.now += 6.0
            advance(1, note=f"loss {1 / (step + 1):.4f}")
    return capsys.readouterr().err.splitlines()


def test_without_a_terminal_there_is_a_line_every_thirty_seconds(clock, capsys):
    lines = lines_of_ten_minutes(clock, capsys)
    assert len(lines) == 21  # after 6 seconds, then every 30, and the end
    assert lines[0] == "soft_targets: soft_targets: 1 %, 0:06 elapsed, loss 1.0000"
    assert lines[1] == "soft_targets: soft_targets: 6 %, 0:36 elapsed, 9:24 left, loss 0.1667"
    assert lines[-1] == "soft_targets: soft_targets: 100 %, 10:00 elapsed, loss 0.0100"


def test_what_does_not_advance_is_shown_too(clock, capsys):
    shown = []
    with task("converting", None):
        for minute in range(3):
            clock.now += 60.0
            for _ in range(100):  # another thread prints the line
                if len(shown) > minute:
                    break
                shown += capsys.readouterr().err.splitlines()
                time.sleep(0.05)
    assert shown == [f"converting, {minute}:00 elapsed" for minute in (1, 2, 3)]


def test_steps_of_an_earlier_process_do_not_count_for_the_speed(clock, capsys):
    with task("labels", 1000) as advance:
        advance(500)
        for _ in range(10):
            clock.now += 10.0
            advance(1)
    assert "1:21:40 left" in capsys.readouterr().err


def terminal(width: int, monkeypatch) -> io.StringIO:
    written = io.StringIO()
    made = Console(file=written, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    monkeypatch.setattr(console_module, "console", made)
    return written


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("name", ["labels", "xtremedistil: representations of the teacher, first stage", "好看的" * 20])
def test_in_a_terminal_times_loss_and_score_are_never_cut(clock, monkeypatch, width, name):
    written = terminal(width, monkeypatch)
    with task(name, 1000) as advance:
        for _ in range(10):
            clock.now += 60.0
            advance(10, note="loss 1.0972, dev accuracy 0.3333")
    shown = re.sub(r"\x1b\[[0-9?]*[a-zA-Z]", "", written.getvalue()).replace("\n", "\r").split("\r")
    line = next(each for each in shown if "loss" in each)
    assert "10 % 10:00 1:30:00 left loss 1.0972, dev accuracy 0.3333" in line
    assert cell_len(line) < width and line.startswith(name[:3])


@given(st.text(max_size=60), st.integers(20, 200), st.integers(0, 10**6), st.text(max_size=60))
def test_a_line_fits_every_terminal(name, width, done, note):
    with Progress(disable=True) as progress:
        number = progress.add_task(visible(name), total=1000, note=visible(note))
        progress.update(number, completed=done)
        assert cell_len(progress_line(progress.tasks[0], width)) < width
