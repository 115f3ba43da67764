"""No pickle runs anything: each is refused by the name that it would call, in either form of a .bin file."""

from __future__ import annotations

import io
import itertools
import pickle
import sys
import time

import numpy as np
import pytest
import torch_files
from hypothesis import given, settings
from hypothesis import strategies as st
from malicious_pickles import malicious, placements, reaches_builtins, spellings
from torch_files import number, state_dict, storage, tensor, text, zip_file

from tfdistill.errors import UserError
from tfdistill.models.weight_files.torch_file import open_torch
from tfdistill.models.weight_files.torch_pickle import Refused, read_pickle

ALL = list(malicious())


EVENTS: list[tuple] | None = None  # what Python did while a pickle was read
WATCHED = ("import", "exec", "compile", "open", "os", "subprocess", "socket", "pickle", "marshal", "ctypes")


def _hook(event: str, args: tuple) -> None:
    if EVENTS is not None and event.split(".")[0] in WATCHED:
        EVENTS.append((event, args))


@pytest.fixture(scope="module")
def hooked():
    sys.addaudithook(_hook)  # for the rest of the process; it is silent outside of `refused`


def refused(content: bytes) -> str:
    """The message of a refusal, during which nothing was imported, opened, compiled or started."""
    global EVENTS
    file, EVENTS = io.BytesIO(content), []
    try:
        with pytest.raises(Refused) as caught:
            read_pickle(file)
        assert not EVENTS
    finally:
        EVENTS = None
    return str(caught.value)


def test_there_are_more_than_two_hundred():
    assert len(ALL) > 400 and len({opcodes for _, _, opcodes in ALL}) == len(ALL)


def test_pickles_are_refused_by_name_and_run_nothing(hooked):
    ways = itertools.cycle(range(6))
    for name, way, opcodes in ALL:
        where, content = list(placements(opcodes))[next(ways)]
        assert name in refused(content), (name, way, where)


def test_all_spellings_at_all_places(hooked):
    for way, opcodes in spellings("posix", "system", "touch touched"):
        for where, content in placements(opcodes):
            assert "posix.system" in refused(content), (way, where)


def test_python_would_have_run_them(tmp_path):
    pickle.loads(reaches_builtins(str(tmp_path / "touched"))).close()
    assert (tmp_path / "touched").is_file()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", range(5))
def test_files_with_malicious_pickles_are_refused_by_name(tmp_path, legacy, place):
    touched = tmp_path / "touched"
    bad = reaches_builtins(str(touched))
    path = tmp_path / "pytorch_model.bin"
    if legacy:  # one of the five pickles
        good = [b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02M\xe9\x03."]
        good += [b"\x80\x02}" + text("little_endian") + b"\x88s.", state_dict({}), b"\x80\x02]."]
        path.write_bytes(b"".join(bad if n == place else part for n, part in enumerate(good)))
    else:
        where = [bad, *(content for _, content in placements(bad[2:-1]))][place]
        path.write_bytes(zip_file(where, {}))
    with pytest.raises(UserError, match=r"pytorch_model\.bin.*open") as caught:
        open_torch(path)
    assert "\n" not in str(caught.value) and not touched.exists()


SHARED = storage("0", "FloatStorage", 4)
ODD = {
    "extension registry": b"\x80\x02\x82\x01.",
    "two more extension registries": b"\x80\x02\x83\x01\x00\x84\x01\x00\x00\x00.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "set": b"\x80\x04\x8f.",
    "call of a dict": b"\x80\x02})R.",
    "call of a text": b"\x80\x02" + text("posix.system") + b")R.",
    "call of a storage's dtype": b"\x80\x02ctorch\nFloatStorage\n)R.",
    "instance of an allowed name": b"\x80\x02)\x81.",
    "allowed name as an instance": b"(icollections\nOrderedDict\n.",
    "state of a list": b"\x80\x02]}b.",
    "state of an allowed name": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "OrderedDict of numbers": b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.",
    "key that is a number": b"\x80\x02}K\x01K\x01s.",
    "key of a list": b"\x80\x02]K\x01K\x01s.",
    "persistent text": b"\x80\x02" + text("0") + b"Q.",
    "persistent id of protocol 0": b"Pstorage\n.",
    "persistent object of another kind": b"\x80\x02(" + text("module") + text("os") + b"tQ.",
    "storage without a dtype": b"\x80\x02(" + text("storage") + b"K\x01" + text("0") + text("cpu") + b"K\x01tQ.",
    "negative size": b"\x80\x02" + tensor(SHARED, (-1,), (1,)) + b".",
    "negative stride": b"\x80\x02" + tensor(SHARED, (2,), (-1,), 1) + b".",
    "negative offset": b"\x80\x02" + tensor(SHARED, (2,), (1,), -1) + b".",
    "beyond the storage": b"\x80\x02" + tensor(SHARED, (5,), (1,)) + b".",
    "offset beyond the storage": b"\x80\x02" + tensor(SHARED, (2,), (1,), 3) + b".",
    "stride beyond the storage": b"\x80\x02" + tensor(SHARED, (2, 2), (4, 1)) + b".",
    "a number repeated without end": b"\x80\x02" + tensor(SHARED, (2**40, 2**40), (0, 0)) + b".",
    "size of 80 bits": b"\x80\x02" + tensor(SHARED, (2**80,), (0,)) + b".",
    "sizes that are floats": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + SHARED + b"K\x00G" + b"\0" * 8 + b"))\x89}tR.",
    "more strides than sizes": b"\x80\x02" + tensor(SHARED, (2,), (1, 1)) + b".",
    "seventeen axes": b"\x80\x02" + tensor(SHARED, (1,) * 17, (1,) * 17) + b".",
    "tensor without a storage": b"\x80\x02" + tensor(b"N", (1,), (1,)) + b".",
    "parameter of no tensor": b"\x80\x02ctorch._utils\n_rebuild_parameter\n}\x89}\x87R.",
    "view outside of its storage": b"\x80\x02"
    + storage("0", "FloatStorage", 4, b"(" + text("1") + number(3) + number(2) + b"t")
    + b".",
    "memo that was not put": b"\x80\x02h\x07.",
    "no value": b"\x80\x02.",
    "no end": b"\x80\x02}",
    "no mark": b"\x80\x02K\x01K\x01t.",
    "text that ends early": b"\x80\x02X\xff\xff\xff\x7fab.",
    "bytes that end early": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fab.",
    "frame that ends early": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "text that is not UTF-8": b"\x80\x02X\x01\0\0\0\xff.",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_pickles_are_refused(hooked, name):
    assert len(refused(ODD[name])) < 400


BOMBS = {
    # Ten lists of ten of the list before: a billion items, if anything walks through them.
    "billion laughs": b"\x80\x02" + b"](K\x01K\x01e" + b"".join(b"q%c(" % n + b"h%c" % n * 10 + b"t" for n in range(30)) + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 300_000 + b".",
    "deep marks": b"(" * 300_000 + b".",
    "high memo": b"\x80\x02}r\xff\xff\xff\xff.",
    "many opcodes": b"\x80\x02" + b"N" * 3_000_000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_take_neither_time_nor_memory(tmp_path, name):
    (tmp_path / "pytorch_model.bin").write_bytes(zip_file(BOMBS[name], {}))
    start = time.process_time()
    if name == "high memo":
        assert not open_torch(tmp_path / "pytorch_model.bin")
    else:
        with pytest.raises(UserError, match="pytorch_model"):
            open_torch(tmp_path / "pytorch_model.bin")
    assert time.process_time() - start < 10


VALID = torch_files.pickled({"a": np.zeros((2, 3), "float32"), "b": np.zeros(4, "int64")})


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(VALID)), st.integers(0, 30))
def test_any_bytes_give_values_or_one_refusal(extra, at, removed):
    for content in (extra, VALID[:at] + extra + VALID[at + removed :]):
        before = set(sys.modules)
        try:
            read_pickle(io.BytesIO(content))
        except Refused as error:
            assert "\n" not in str(error) and len(str(error)) < 500
        assert set(sys.modules) == before


def test_names_are_shown_without_control_characters():
    shown = refused(b"\x80\x02c\x1b[2Jos\nsys\x07tem\n.")
    assert "\x1b" not in shown and "\x07" not in shown and "tem" in shown
