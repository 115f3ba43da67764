"""Make tiny bundles with random weights, to try a client with.

    python examples/tiny_bundle.py OUT... --quantize fp32

A BERT of two narrow layers with three classes and a vocabulary of ASCII letters, digits and signs, exported for MediaPipe. Its classes
mean nothing, but they differ from text to text, and from one bundle to the next.
"""

from __future__ import annotations

import argparse
import string

import numpy as np

from tfdistill.system.tensorflow_import import import_tensorflow

import_tensorflow()

from tfdistill.export.bundle.bundle import export_bundle  # noqa: E402
from tfdistill.models import presets  # noqa: E402
from tfdistill.models.text_model import TextModel  # noqa: E402
from tfdistill.text.tokenizer import Tokenizer  # noqa: E402

LETTERS = string.ascii_lowercase + string.digits
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *string.punctuation, "film", "good", "bad", "##ing"]
PIECES += [f"##{letter}" for letter in LETTERS]


def tiny_model(seed: int) -> TextModel:
    model = presets.new(
        "tinybert_4l_312",
        vocab_size=len(PIECES),
        num_outputs=3,
        label_names=("bad", "so so", "good"),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    rng = np.random.default_rng(seed)
    for weight in model.weights:  # of a size that tells texts apart
        if "seed" not in weight.path and weight.ndim > 1:
            weight.assign(rng.normal(0, 0.3, weight.shape))
    model.tokenizer = Tokenizer(PIECES)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="+")
    parser.add_argument("--quantize", default="fp32")
    parser.add_argument("--length", type=int, default=48)
    options = parser.parse_args()
    for seed, out in enumerate(options.out):
        export_bundle(tiny_model(seed), out, quantize=options.quantize, length=options.length, mediapipe=True)


if __name__ == "__main__":
    main()
