"""Run a bundle's golden vectors in LiteRT and compare the classes; needs ai-edge-litert and numpy alone.

    python tests/arm64/replay.py BUNDLE...

`make arm64` runs it under qemu-aarch64, with the wheel of ai-edge-litert for ARM. Exit code 1: logits differ by more than
golden.json allows, or the class is another one than where the bundle was made and was not nearly tied with it: less apart than that.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.tflite.runtime import TFLiteModel


def replay(bundle: Path) -> bool:
    """Whether all texts come out as in golden.json; says so in one line."""
    model = TFLiteModel(bundle / "model.tflite")
    golden = json.loads((bundle / "golden.json").read_text("utf-8"))
    same, largest, tied = 0, 0.0, []
    for vector in golden["vectors"]:
        expected = np.atleast_2d(vector["logits"])
        found = np.atleast_2d(model.row(vector["token_ids"], vector["segment_ids"]))[: len(expected)]
        best, other = expected.argmax(axis=1), found.argmax(axis=1)
        rows = np.arange(len(expected))
        apart = float((expected[rows, best] - expected[rows, other]).max())
        same += bool((best == other).all())
        if 0 < apart <= golden["tolerance"]:
            tied.append(apart)
        largest = max(largest, float(np.abs(found - expected).max()))
    texts = len(golden["vectors"])
    ties = f", {len(tied)} in another that was nearly tied with it ({max(tied):.2g} apart)" if tied else ""
    print(
        f"{platform.machine()}, {bundle.name}: {same} of {texts} texts in the same class{ties}, logits off by {largest:.2g} at most, "
        f"{golden['tolerance']:.2g} allowed",
        flush=True,
    )
    return texts > 0 and same + len(tied) == texts and largest <= golden["tolerance"]


def main() -> int:
    try:
        return 0 if all([replay(Path(each)) for each in sys.argv[1:]]) else 1
    except (UserError, OSError, ValueError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
