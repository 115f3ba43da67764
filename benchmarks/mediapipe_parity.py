"""MediaPipe's TextClassifier beside the Keras model, on real texts.

    python benchmarks/mediapipe_parity.py MODEL DATA --length 64 --out benchmarks/results/mediapipe.json

MODEL is a directory such as quickstart/models/student-3-layers, DATA what `tfdistill evaluate` takes. The model goes into a bundle
for MediaPipe; its classifier gets the texts of the test split, the Keras model our own word pieces of them. Texts of ASCII
letters and others are counted apart: MediaPipe's tokenizer lower-cases ASCII only and takes unknown words for padding.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from tfdistill.data.metrics import softmax
from tfdistill.data.sources import load_data
from tfdistill.export.bundle import export_bundle
from tfdistill.files import atomic_write
from tfdistill.load import load
from tfdistill.predict import encode, predict_logits
from tfdistill.progress import task


def compare(expected: np.ndarray, found: np.ndarray, chosen: np.ndarray) -> dict[str, float | int]:
    """Agreement of probabilities (n, C) on the chosen rows."""
    if not chosen.any():
        return {"texts": 0}
    difference = np.abs(expected[chosen] - found[chosen])
    return {
        "texts": int(chosen.sum()),
        "same_class": float((expected[chosen].argmax(1) == found[chosen].argmax(1)).mean()),
        "largest_difference": float(difference.max()),
        "share_off_by_more_than_0.01": float((difference.max(axis=1) > 0.01).mean()),
    }


def main() -> None:
    from mediapipe.tasks.python import text

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--quantize", nargs="+", default=["fp32", "dynamic_int8"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load(options.model)
    test = load_data(options.data, label_names=model.label_names).splits["test"]
    expected = softmax(predict_logits(model, encode(model, test, options.length)))
    ascii_only = np.array([each.isascii() for each in test.texts])
    results = {}
    with tempfile.TemporaryDirectory() as work:
        for mode in options.quantize:
            bundle = export_bundle(
                model, Path(work, mode), quantize=mode, length=options.length, mediapipe=True, max_drop=None
            )
            names = (bundle / "labels.txt").read_text("utf-8").split("\n")[:-1]
            found = np.zeros_like(expected)
            with (
                text.TextClassifier.create_from_model_path(str(bundle / "model.tflite")) as classifier,
                task(f"MediaPipe reads the test split, {mode}", len(test)) as advance,
            ):
                for row, each in enumerate(test.texts):
                    for category in classifier.classify(each).classifications[0].categories:
                        found[row, names.index(category.category_name)] = category.score
                    advance()
            results[mode] = {
                "ascii": compare(expected, found, ascii_only),
                "other": compare(expected, found, ~ascii_only),
            }
    said = json.dumps({"model": Path(options.model).name, "length": options.length, "results": results}, indent=2)
    print(said)
    if options.out is not None:
        atomic_write(options.out, said + "\n")


if __name__ == "__main__":
    main()
