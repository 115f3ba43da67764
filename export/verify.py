"""Check that a bundle is whole and still gives the answers it was made with.

`python -m tfdistill.export.verify BUNDLE` needs ai-edge-litert (which brings NumPy) and tokenizers, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfdistill.errors import UserError
from tfdistill.export.bundle.golden_check import check_golden
from tfdistill.export.bundle.manifest import ADVICE, GOLDEN, MODEL, Check, intact, read_lines, read_object
from tfdistill.export.bundle.manifest_check import check_file, check_manifest, check_signature, check_text_model
from tfdistill.export.tflite.metadata import VOCABULARY
from tfdistill.export.tflite.runtime import TFLiteModel


def verify_bundle(directory: str | os.PathLike) -> list[Check]:
    """Check a bundle, on any machine with ai-edge-litert and tokenizers.

    Worked out again: checksums and sizes of all files and the manifest's own; of model.tflite its operators (all built in), which of
    them delegates take, its zipped size (within 2 %), signatures, output, whether the types of its tensors are those of
    the quantization, whether LSTMs make it a BiLSTM, and the model card, vocabulary and labels within it; the operators of
    model-text.tflite, which is not run; labels; golden.json, whose texts are tokenized with the bundle's own vocabulary, run
    through the file, and compared in ids (all the same), logits (within its tolerance, itself checked) and probabilities (within
    1e-5).

    Only sealed, since it takes data, the Keras model or the machine that exported it: accuracy and parity (`parity`, `test`,
    `parity_random`, and of `text_in` what it gives), `latency`, `parameters`, `max_length`, `versions`, recipe.json, README.md, what
    labels mean, and word pieces that no golden text has.

    Returns:
        What was found right.

    Raises:
        UserError: the first thing that is wrong.
    """
    try:
        return _checks(Path(directory))
    except RecursionError as error:  # how deep is too deep differs between reading and writing, and between Pythons
        raise UserError(f"{directory} has JSON that is nested too deeply; {ADVICE}") from error


def _checks(directory: Path) -> list[Check]:
    manifest, whole = intact(directory)
    check_manifest(directory, manifest)
    checks = [whole, *check_file(directory, manifest)]
    model = TFLiteModel(directory / MODEL)
    checks += check_signature(directory, manifest, model)
    pieces, outputs = len(read_lines(directory / VOCABULARY)), len(manifest["label_names"])
    golden = read_object(directory / GOLDEN)
    right = check_golden(directory, golden, model, manifest["task"], manifest["quantization"], pieces, outputs)
    return [*checks, *check_text_model(directory, manifest, len(golden["vectors"])), right]


def main(words: Sequence[str] | None = None) -> int:
    """`python -m tfdistill.export.verify`: 0, or 2 when a bundle is not as it was made."""
    parser = argparse.ArgumentParser(
        prog="python -m tfdistill.export.verify",
        description="Check bundles again: checksums, operators, test vectors. Needs no TensorFlow.",
    )
    parser.add_argument("bundle", nargs="+", type=Path, help="a directory made by tfdistill export")
    try:
        for bundle in parser.parse_args(words).bundle:
            for check in verify_bundle(bundle):
                print(f"ok  {check}")
    except UserError as error:
        print(f"tfdistill: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        print(f"tfdistill: {error.name} is not installed: pip install ai-edge-litert tokenizers", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
