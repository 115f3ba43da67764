"""Ctrl-C, and SIGTERM as schedulers send it: what is under way saves what it can; after SIGTERM all ends within ten seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 9.0
_LATE = b"tfdistill: still busy 9 s after SIGTERM, stopped at once; the last checkpoint that was written holds\n"
_asked: int | None = None  # the signal that has come
_noted_only = False  # inside `noted`


@contextmanager
def exits_on_signals(grace: float = GRACE) -> Iterator[None]:
    """Inside the block SIGTERM raises SystemExit(143) in the main thread and Ctrl-C KeyboardInterrupt.

    A main thread that is in native code, say a long step, hears of SIGTERM only afterwards; so a thread ends the process if it
    is still there `grace` seconds later. All writing is atomic, nothing is left half done. An exception that comes while
    TensorFlow's native code calls Python (it traces a step, it runs a callback) may come out of there as another one, or not at
    all: `heard` and `raise_if_asked` are for that. Does nothing outside the main thread or where SIGTERM has a handler already.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        global _asked
        _asked = number
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the saving
        raise_if_asked()

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    left = threading.Event()
    threading.Thread(target=_guard, args=(reader, grace, left), daemon=True).start()
    _asked = None
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Where Ctrl-C is ignored, as by what a shell starts in the background, it stays so.
    numbers = [
        signal.SIGTERM,
        *([signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []),
    ]
    handlers = {number: signal.signal(number, stop) for number in numbers}
    try:
        with heard():
            yield
    finally:
        _asked = None
        left.set()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former)
        os.close(writer)


def raise_if_asked(now: bool = False) -> None:
    """Raises what the signal that has come asks for, SystemExit or KeyboardInterrupt; nothing if none has, or inside `noted` unless
    `now`."""
    if _noted_only and not now:
        return
    if _asked == signal.SIGINT:
        raise KeyboardInterrupt
    if _asked is not None:
        raise SystemExit(128 + _asked)


def take_back() -> None:
    """Hear of SIGTERM again: TensorFlow puts a handler of its own in the place of Python's when workers meet, and it stops nothing."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def asked() -> bool:
    """Whether a signal has come."""
    return _asked is not None


@contextmanager
def noted() -> Iterator[None]:
    """Inside the block a signal raises nothing by itself, `asked` says that it has come; at the end of the block it is raised.

    For workers that train together: they have to stop at the same step.
    """
    global _noted_only
    _noted_only = True
    try:
        yield
    finally:
        _noted_only = False
    raise_if_asked()


@contextmanager
def heard() -> Iterator[None]:
    """Inside the block any error after a signal is taken for what native code made of it, and becomes what was asked for."""
    try:
        yield
    except Exception:
        raise_if_asked(now=True)
        raise


def _guard(reader: int, grace: float, left: threading.Event) -> None:
    """Waits for the number of a signal, which Python writes there at once, whatever the main thread does, until that has `left`."""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] == signal.SIGTERM and not left.wait(grace):
                os.write(2, _LATE)
                os._exit(143)
