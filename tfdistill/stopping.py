"""SIGTERM, as schedulers send it: what is under way saves what it can, and the process is gone within ten seconds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

GRACE = 9.0
_LATE = b"tfdistill: still busy 9 s after SIGTERM, stopped at once; the last checkpoint that was written holds\n"


@contextmanager
def exits_on_sigterm(grace: float = GRACE) -> Iterator[None]:
    """Inside the block SIGTERM raises SystemExit(143) in the main thread, as Ctrl-C raises KeyboardInterrupt.

    A main thread that is in native code, say a long step, hears of it only afterwards; so a thread ends the process if it is
    still there `grace` seconds later. All writing is atomic, nothing is left half done. Does nothing outside the main thread or
    where SIGTERM has a handler already.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the saving
        raise SystemExit(128 + number)

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_guard, args=(reader, grace), daemon=True).start()
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(former)
        os.close(writer)


def _guard(reader: int, grace: float) -> None:
    """Waits for the number of a signal, which Python writes there at once, whatever the main thread does."""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while number := pipe.read(1):
            if number[0] == signal.SIGTERM:
                time.sleep(grace)
                os.write(2, _LATE)
                os._exit(143)
