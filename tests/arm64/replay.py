"""Run a bundle's golden vectors in LiteRT and compare the classes; needs ai-edge-litert and numpy alone.

    python tests/arm64/replay.py BUNDLE...

`make arm64` runs it under qemu-aarch64, with the wheel of ai-edge-litert for ARM. Exit code 1: a class differs from the one where the
bundle was made, or logits differ by more than golden.json allows.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.runtime import TFLiteModel


def replay(bundle: Path) -> bool:
    """Whether all texts come out as in golden.json; says so in one line."""
    model = TFLiteModel(bundle / "model.tflite")
    golden = json.loads((bundle / "golden.json").read_text("utf-8"))
    same, largest = 0, 0.0
    for vector in golden["vectors"]:
        expected = np.atleast_2d(vector["logits"])
        found = np.atleast_2d(model.row(vector["token_ids"], vector["segment_ids"]))[: len(expected)]
        same += bool((found.argmax(axis=1) == expected.argmax(axis=1)).all())
        largest = max(largest, float(np.abs(found - expected).max()))
    texts = len(golden["vectors"])
    print(
        f"{platform.machine()}, {bundle.name}: {same} of {texts} texts in the same class, logits off by {largest:.2g} at most, "
        f"{golden['tolerance']:.2g} allowed",
        flush=True,
    )
    return texts > 0 and same == texts and largest <= golden["tolerance"]


def main() -> int:
    try:
        return 0 if all([replay(Path(each)) for each in sys.argv[1:]]) else 1
    except (UserError, OSError, ValueError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
