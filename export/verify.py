"""Check that a bundle is intact and that its file still gives the outputs it was exported with.

`python -m tfdistill.export.verify BUNDLE` needs ai-edge-litert (which brings NumPy) and tokenizers,
and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdistill.errors import UserError
from tfdistill.export.bundle.golden_check import check_golden
from tfdistill.export.bundle.manifest import MODEL, Check, intact
from tfdistill.export.tflite.operators import TEXT_MODEL, TEXT_OPERATORS, check_operators, operators, read_file
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.system.escapes import visible


def verify_bundle(directory: str | os.PathLike) -> list[Check]:
    """Check a bundle on any machine that has ai-edge-litert and tokenizers.

    Three things are checked: the SHA-256 and size of each file, and of the manifest itself; that
    model.tflite needs only built-in operators (model-text.tflite may also need TensorFlow Text's
    tokenizer, and is not run); and golden.json, whose texts are tokenized with the bundle's
    vocabulary and run through model.tflite.

    All else in the manifest is protected by its checksum only. A checksum detects damage, not
    intent: who changes a bundle can compute it again.

    Args:
        directory: the bundle, written by this version or an older one.

    Returns:
        The checks that passed.

    Raises:
        UserError: the first check that failed, in one line.
    """
    directory = Path(directory)
    manifest, files = intact(directory)
    checks = [files, _check_operators(directory / MODEL)]
    if TEXT_MODEL in manifest["files"]:
        checks.append(_check_operators(directory / TEXT_MODEL, allowed=TEXT_OPERATORS))
    return [*checks, check_golden(directory, TFLiteModel(directory / MODEL))]


def _check_operators(path: Path, allowed: Sequence[str] = ()) -> Check:
    counts = operators(read_file(path), path.name)
    check_operators({name: count for name, count in counts.items() if name not in allowed}, path.name)
    custom = sum(counts.get(name, 0) for name in allowed)
    detail = f", {custom} of them TensorFlow Text's" if custom else ", all built in"
    return Check("operators", f"{path.name} has {sum(counts.values())} of {len(counts)} kinds{detail}")


def main(words: Sequence[str] | None = None) -> int:
    """Run `python -m tfdistill.export.verify` and return its exit code: 0, or 2 for a bundle that fails a check."""
    parser = argparse.ArgumentParser(
        prog="python -m tfdistill.export.verify",
        description="Check bundles: checksums, operators, golden vectors. Needs no TensorFlow.",
    )
    parser.add_argument("bundle", nargs="+", type=Path, help="a directory written by tfdistill export")
    try:
        for bundle in parser.parse_args(words).bundle:
            for check in verify_bundle(bundle):
                print(visible(f"ok  {check}"))
    except UserError as error:
        print(f"tfdistill: {visible(' '.join(str(error).split()))}", file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        print(f"tfdistill: {error.name} is not installed: pip install ai-edge-litert tokenizers", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
