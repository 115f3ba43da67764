"""Signals: noted, deferred, raised, and a process that ends in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tfdistill.system.signals import (
    deferred_signals,
    exits_on_signals,
    raise_if_signalled,
    signal_received,
    signals_over_errors,
)


@pytest.mark.heavy
def test_sigterm_ends_a_process_that_is_in_native_code():
    code = (
        "import hashlib\nfrom tfdistill.system.signals import exits_on_signals\n"
        "with exits_on_signals(grace=0.3):\n  print('on', flush=True)\n  hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"on\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 143 and b"last checkpoint" in err and err.count(b"\n") == 1


@pytest.fixture
def ctrl_c():
    """Heard, as in a terminal; what a shell starts in the background ignores it."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


def test_ctrl_c_stays_ignored_where_it_was(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with exits_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_is_only_noted_waits_for_the_end(ctrl_c, number, expected):
    """What workers that stop together need. What an error after it is taken for does not wait."""
    reached = []
    with pytest.raises(expected), exits_on_signals(), deferred_signals():
        assert not signal_received()
        os.kill(os.getpid(), number)
        raise_if_signalled()
        assert signal_received()
        reached.append("end")
    assert reached == ["end"] and not signal_received()
    with pytest.raises(expected), exits_on_signals(), deferred_signals(), signals_over_errors():
        os.kill(os.getpid(), number)
        raise ValueError("what native code made of it")
    with pytest.raises(expected), exits_on_signals(), deferred_signals():
        os.kill(os.getpid(), number)
        raise_if_signalled(now=True)
