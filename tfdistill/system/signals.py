"""Handle Ctrl-C and SIGTERM, as schedulers send it: running work saves what it can, and SIGTERM ends all within ten seconds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 9.0
_LATE = b"tfdistill: still busy 9 s after SIGTERM, so it was stopped. The last checkpoint is intact.\n"
_received: int | None = None  # the number of the signal that was received
_deferred = False  # inside `deferred_signals`


@contextmanager
def exits_on_signals(grace: float = GRACE) -> Iterator[None]:
    """Let SIGTERM raise SystemExit(143) and Ctrl-C KeyboardInterrupt in the main thread during the block.

    A main thread in native code, such as a long step, learns of SIGTERM only afterwards; a second thread ends the process
    `grace` seconds later if it is still running. All writing is atomic, so nothing stays half written. An exception that is
    raised while TensorFlow's native code calls Python (in tracing or a callback) may come out as another one, or not at all:
    `signals_over_errors` and `raise_if_signalled` handle that. Outside the main thread, or if SIGTERM already has a handler,
    this does nothing.

    Args:
        grace: seconds from SIGTERM to the end of the process.
    """
    global _received
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        global _received
        _received = number
        if number == signal.SIGTERM:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the saving
        raise_if_signalled()

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    left = threading.Event()
    threading.Thread(target=_guard, args=(reader, grace, left), daemon=True).start()
    _received = None
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # Ctrl-C stays ignored if it was, as in processes that a shell starts in the background.
    numbers = [
        signal.SIGTERM,
        *([signal.SIGINT] if signal.getsignal(signal.SIGINT) is signal.default_int_handler else []),
    ]
    handlers = {number: signal.signal(number, stop) for number in numbers}
    try:
        with signals_over_errors():
            yield
    finally:
        _received = None
        left.set()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(former)
        os.close(writer)


def raise_if_signalled(now: bool = False) -> None:
    """Raise SystemExit or KeyboardInterrupt if a signal was received.

    Args:
        now: raise inside `deferred_signals` too.
    """
    if _deferred and not now:
        return
    if _received == signal.SIGINT:
        raise KeyboardInterrupt
    if _received is not None:
        raise SystemExit(128 + _received)


def reinstall_handler() -> None:
    """Install the handler of SIGTERM again: TensorFlow replaces it when workers connect, by one that stops nothing."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def signal_received() -> bool:
    """Return whether a signal was received."""
    return _received is not None


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Raise a signal at the end of the block only; until then `signal_received` reports it.

    For workers that train together, which have to stop at the same step.
    """
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    raise_if_signalled()


@contextmanager
def signals_over_errors() -> Iterator[None]:
    """Replace any error after a signal, which native code may have made of it, by the exception of the signal."""
    try:
        yield
    except Exception:
        raise_if_signalled(now=True)
        raise


def _guard(reader: int, grace: float, left: threading.Event) -> None:
    """End the process `grace` seconds after SIGTERM unless the main thread has `left` the block.

    Python writes the number of a signal to the pipe at once, even while the main thread is in native code.
    """
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] == signal.SIGTERM and not left.wait(grace):
                os.write(2, _LATE)
                os._exit(143)
