"""Print a line where rich may not be installed, as for `python -m tfdistill.export.verify`."""

from __future__ import annotations

import sys

from tfdistill.system.escapes import visible


def note(message: str) -> None:
    """Print one line on stderr: above the progress bars if rich is installed, else plainly."""
    try:
        from tfdistill.system.console import say
    except ModuleNotFoundError:
        print(visible(message), file=sys.stderr)
    else:
        say(message)
