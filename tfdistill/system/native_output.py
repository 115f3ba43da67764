"""Hide what native code writes to stderr: it comes from C++ before any log level is read, so the descriptor is redirected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_native_stderr() -> Iterator[None]:
    """Hide everything that is written to stderr in the block. Python errors still appear, as exceptions."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
