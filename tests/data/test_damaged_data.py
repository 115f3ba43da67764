"""Test damaged data files: each is refused in one line, read as a reference reader does, or a line says what was read.

`make torture` tries 2,000 of them (`DATA_MUTATIONS`).
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_readers import KINDS, check

TRIED = int(os.environ.get("DATA_MUTATIONS", "150"))
SECONDS = 10
MOST_MEMORY = 1_000_000  # kB more than before
Random = np.random.Generator

INSERTED = ['"', '""', "\t", ",", ";", "|", "\r", "\n", "\r\n", "\0", "\x0b", "\x1b[31m", "\x85", "\u2028", "\ufeff", "#", "# ",
            "[", "]", "{", "}", "\\", "'", " ", "-1", "0", "1.0", "nan", "null", "true", "1" * 400, "\ud800"]  # fmt: skip
VALUES = [None, True, False, 0, -1, 1.5, "", "0", "false", [], {}, [["x"]], "x" * 10_000, 2**70, [1, 0, 1]]


def place(random: Random, content: bytes | list) -> int:
    return int(random.integers(len(content) + 1))


def one_of(random: Random, values: list):
    return values[int(random.integers(len(values)))]


# --- ways to damage -------------------------------------------------------------------------------------------------


def flip_bits(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    for position in random.integers(0, len(content), int(random.integers(1, 5))):
        damaged[position] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def truncate(content: bytes, random: Random) -> bytes:
    return content[: place(random, content)]


def remove_some(content: bytes, random: Random) -> bytes:
    begin = place(random, content)
    return content[:begin] + content[begin + int(random.integers(1, 9)) :]


def insert(content: bytes, random: Random) -> bytes:
    for _ in range(int(random.integers(1, 4))):
        begin = place(random, content)
        content = content[:begin] + one_of(random, INSERTED).encode("utf-8", "surrogatepass") + content[begin:]
    return content


def insert_random_bytes(content: bytes, random: Random) -> bytes:
    begin = place(random, content)
    return content[:begin] + random.bytes(int(random.integers(1, 20))) + content[begin:]


def _lines(content: bytes, random: Random, change) -> bytes:
    lines = content.splitlines(keepends=True)
    change(lines, int(random.integers(len(lines))))
    return b"".join(lines)


def delete_a_line(content: bytes, random: Random) -> bytes:
    return _lines(content, random, lambda lines, n: lines.pop(n))


def duplicate_a_line(content: bytes, random: Random) -> bytes:
    return _lines(content, random, lambda lines, n: lines.insert(place(random, lines), lines[n]))


def join_lines(content: bytes, random: Random) -> bytes:
    def join(lines: list[bytes], n: int) -> None:
        lines[n] = lines[n].rstrip(b"\r\n")

    return _lines(content, random, join)


def swap_lines(content: bytes, random: Random) -> bytes:
    def swap(lines: list[bytes], n: int) -> None:
        m = int(random.integers(len(lines)))
        lines[n], lines[m] = lines[m], lines[n]

    return _lines(content, random, swap)


def swap_separators(content: bytes, random: Random) -> bytes:
    one, other = (one_of(random, [b"\t", b",", b";", b" ", b"\n", b"|", b'"']) for _ in range(2))
    return content.replace(one, other)


def change_line_ends(content: bytes, random: Random) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(
        b"\n", one_of(random, [b"\r", b"\r\n", b"\n\n", b"\n\r", "\u2028".encode()])
    )


def change_the_encoding(content: bytes, random: Random) -> bytes:
    name = one_of(random, ["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "cp437", "utf-7"])
    return content.decode().encode(name, "replace")


def put_a_huge_cell(content: bytes, random: Random) -> bytes:
    begin = place(random, content)
    return (
        content[:begin]
        + one_of(random, [b"x", b"word ", b"[", b'"', b"9", b",", b"\t", b"\n"]) * 1_000_000
        + content[begin:]
    )


def change_numbers(content: bytes, random: Random) -> bytes:
    values = [b"-1", b"1.0", b"01", b"1e400", b"999999999999999999999", b"2", b"NaN", b""]
    return re.sub(rb"\d+", lambda match: one_of(random, [match[0], *values]), content)


def change_words(content: bytes, random: Random) -> bytes:
    values = [
        b"None",
        b"good, bad",
        b"bad#good",
        b"['good']",
        b"GOOD",
        b"O",
        b"X-Y",
        b"B-",
        b"_",
        b"True",
        b" ",
        b"label",
    ]
    return re.sub(rb"good|bad|B-PER|text|label|O\b", lambda match: one_of(random, [*[match[0]] * 9, *values]), content)


def change_json_types(content: bytes, random: Random) -> bytes:
    """Put another value for one of a JSON file; for other files as `change_words`."""

    def change(value):
        if isinstance(value, dict | list) and value and random.random() < 0.8:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = one_of(random, keys)
            value[key] = change(value[key])
            return value
        return one_of(random, VALUES)

    if content[:1] != b"{":
        return change_words(content, random)
    if content.startswith(b'{\n "version"'):
        return json.dumps(change(json.loads(content))).encode()
    lines = [json.loads(line) for line in content.decode().splitlines()]
    number = int(random.integers(len(lines)))
    lines[number] = change(lines[number])
    return "".join(json.dumps(row) + "\n" for row in lines).encode()


DAMAGES = [flip_bits, truncate, remove_some, insert, insert_random_bytes, delete_a_line, duplicate_a_line, join_lines, swap_lines,
           swap_separators, change_line_ends, change_the_encoding, put_a_huge_cell, change_numbers, change_words,
           change_json_types]  # fmt: skip


@contextmanager
def limited() -> Iterator[None]:
    """Fail if the block takes more than 10 s of processor time or 1 GB of memory."""

    def expired(*_: object) -> None:
        raise AssertionError(f"took more than {SECONDS} s")

    before, former = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, signal.signal(signal.SIGVTALRM, expired)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, former)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


@pytest.fixture
def printed(capsys):
    return lambda: capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read_as_the_reference_reads_it(kind, printed):
    assert check(KINDS[kind], KINDS[kind].whole.encode(), printed) == "same"


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, printed):
    random = np.random.default_rng(list(KINDS).index(kind))
    for number in range(-(-TRIED // len(KINDS))):
        damage = DAMAGES[number % len(DAMAGES)]
        content = damage(KINDS[kind].whole.encode(), random)
        try:
            with limited():
                check(KINDS[kind], content, printed)
        except BaseException as error:
            error.add_note(f"{damage.__name__}, number {number}: {content[:1000]!r}")
            raise


ALPHABETS = {
    "tsv": 'ab"\t\n\r, 01-|',
    "csv": 'ab",;\n\r\t 01|',
    "conll": "ab1#\t\n OB-X_",
    "plain text": "ab\t\n\r \x0b\u2028",
}
HEADERS = {"tsv": "text\tlabel\n", "csv": "text,label\n"}


@pytest.mark.parametrize("kind", ALPHABETS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_any_text_is_read_as_the_reference_reads_it(kind, printed, data):
    content = HEADERS.get(kind, "") + data.draw(st.text(ALPHABETS[kind], max_size=40))
    check(KINDS[kind], content.encode(), printed)


LINES = st.sampled_from(
    [
        "a\tgood",
        "b\tbad",
        'x "y"\tgood',
        '"x"\tbad',
        '"x ""y"""\tgood',
        '"a',
        'b"\tbad',
        "\tgood",
        "c\t",
        "d",
        "",
        "e\t1",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(lines=st.lists(LINES, max_size=6))
def test_any_lines_of_a_table(printed, lines):
    for kind, separator in (("tsv", "\t"), ("csv", ",")):
        content = "\n".join(["text\tlabel", *lines]).replace("\t", separator)
        check(KINDS[kind], content.encode(), printed)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.floats()
    | st.sampled_from(["", "a", "b", "-1", "0", "a|b", "['a']", "\u2028"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "a"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(rows=st.lists(st.fixed_dictionaries({"text": st.just("a") | JSON, "label": JSON}), min_size=1, max_size=4))
def test_any_objects(printed, rows):
    check(KINDS["jsonl"], "".join(json.dumps(row) + "\n" for row in rows).encode(), printed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    answers=JSON,
    name=JSON,
    impossible=st.just(False) | JSON,
    start=st.integers(-3, 20),
    text=st.text("Bob", max_size=3),
)
def test_any_questions(printed, answers, name, impossible, start, text):
    right = {"id": "1", "question": "who?", "answers": [{"text": text, "answer_start": start}], "is_impossible": False}
    for changed in ({}, {"answers": answers}, {"id": name}, {"is_impossible": impossible}):
        paragraph = {"context": "Bob was in Paris.", "qas": [right | changed]}
        check(KINDS["squad"], json.dumps({"data": [{"paragraphs": [paragraph]}]}).encode(), printed)
