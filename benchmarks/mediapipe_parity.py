"""Compare MediaPipe's TextClassifier with LiteRT and Keras on real texts.

    python benchmarks/mediapipe_parity.py --models RUN1/student RUN2/student --data DATA --length 32

Each model (such as quickstart/models/student-3-layers) is exported to a bundle for MediaPipe in each quantization. Two losses are
separated: that of the file against Keras (quantization), both on our tokens of the test split; and that of the client on the same
file, MediaPipe on the texts against LiteRT on our tokens. The client is evaluated on the test split's ASCII texts, and separately on
its other texts and on the hundred awkward ones of golden.json, each difference there with its likely reason: MediaPipe's tokenizer
lower-cases ASCII only, keeps accents and control characters, splits [MASK] and similar tokens, and reads unknown words as padding.
DATA is any --data of `tfdistill evaluate`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tfdistill.data.splits import Split
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.bundle.golden import TEXTS
from tfdistill.export.tflite.runtime import EncodedRows, TFLiteModel
from tfdistill.metrics.scores import softmax
from tfdistill.models.load import data_for, load
from tfdistill.models.predict import encode, predict_logits
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write

NEAR = 0.01  # probabilities that are further apart than this count as different
LONGEST_WORD = 100  # letters; longer words are [UNK] for us


def agreement(expected: np.ndarray, values: np.ndarray) -> dict[str, Any]:
    """How alike probabilities (n, C) are."""
    if not len(expected):
        return {"texts": 0}
    difference = np.abs(expected - values).max(axis=1)
    return {
        "texts": len(expected),
        "same_class": float((expected.argmax(axis=1) == values.argmax(axis=1)).mean()),
        "largest_difference": float(difference.max()),
        f"share_off_by_more_than_{NEAR}": float((difference > NEAR).mean()),
    }


def reason(text: str, ids: Sequence[int], unknown: int) -> str:
    """Why MediaPipe's tokenizer gives other pieces for a text whose ids with ours are these."""
    folded = "".join(letter for letter in unicodedata.normalize("NFD", text) if unicodedata.category(letter) != "Mn")
    if any(f"[{name}]" in text for name in ("MASK", "CLS", "SEP", "PAD", "UNK")):
        return "special pieces written out: MediaPipe splits them"
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Co") and letter not in "\t\n\r" for letter in text):
        return "control characters: MediaPipe keeps them"
    if any(len(word) > LONGEST_WORD for word in text.split()):
        return f"words of over {LONGEST_WORD} letters: MediaPipe's limit is another"
    if any(unicodedata.category(letter) in ("Zs", "Zl", "Zp") and letter != " " for letter in text):
        return "other spaces than ASCII's: MediaPipe keeps them"
    if unknown in ids:
        return "words without a piece: MediaPipe takes them for padding"
    if folded != text:
        return "accents: MediaPipe keeps them"
    if any(letter != letter.lower() and not letter.isascii() for letter in text):
        return "capitals outside ASCII: MediaPipe keeps them"
    return "not known"


def of_mediapipe(path: Path, texts: Sequence[str], names: Sequence[str], report: str) -> np.ndarray:
    """MediaPipe's probabilities (n, C) of the texts."""
    from mediapipe.tasks.python import text

    values = np.zeros((len(texts), len(names)))
    with text.TextClassifier.create_from_model_path(str(path)) as classifier, task(report, len(texts)) as advance:
        for row, each in enumerate(texts):
            for category in classifier.classify(each).classifications[0].categories:
                values[row, names.index(category.category_name)] = category.score
            advance()
    return values


def client_loss(
    texts: Sequence[str], ids: EncodedRows, unknown: int, own: np.ndarray, reference: np.ndarray, chosen: np.ndarray
) -> dict[str, Any]:
    """`agreement` of LiteRT and MediaPipe on the chosen rows, and how often which reason stands behind a difference."""
    reasons: Counter[str] = Counter()
    for row in chosen[np.abs(own[chosen] - reference[chosen]).max(axis=1) > NEAR]:
        span = slice(int(ids.offsets[row]), int(ids.offsets[row + 1]))
        reasons[reason(texts[row], ids.token_ids[span].tolist(), unknown)] += 1
    return {**agreement(own[chosen], reference[chosen]), "reasons": dict(reasons.most_common())}


def one_model(name: str, source: str, data: str, length: int, modes: Sequence[str], rows: int | None) -> dict[str, Any]:
    """What is found for a model in each mode."""
    model = load(source)
    test = data_for(model, source, data).splits["test"]
    test = test if rows is None else Split(test.texts[:rows])
    ids = encode(model, test, length)
    awkward = model.tokenizer.encode(list(TEXTS), max_length=length)
    unknown = model.tokenizer.vocabulary.index("[UNK]")
    keras = softmax(predict_logits(model, ids))
    plain = np.array([each.isascii() for each in test.texts])
    results = {}
    with tempfile.TemporaryDirectory() as work:
        for mode in modes:
            bundle = export_bundle(model, Path(work, mode), quantize=mode, length=length, mediapipe=True)
            names = (bundle / "labels.txt").read_text("utf-8").split("\n")[:-1]
            file = TFLiteModel(bundle / "model.tflite")
            litert, of_awkward = (np.exp(file.predict(each, workers=1)) for each in (ids, awkward))
            report = f"{name} {mode}: MediaPipe"
            mediapipe = of_mediapipe(file.path, test.texts, names, report)
            odd = of_mediapipe(file.path, TEXTS, names, report)
            results[mode] = {
                "quantization": agreement(keras, litert),
                "client": {
                    "ascii": client_loss(test.texts, ids, unknown, litert, mediapipe, np.flatnonzero(plain)),
                    "other": client_loss(test.texts, ids, unknown, litert, mediapipe, np.flatnonzero(~plain)),
                    "golden": client_loss(TEXTS, awkward, unknown, of_awkward, odd, np.arange(len(TEXTS))),
                },
                "both": agreement(keras[plain], mediapipe[plain]),
            }
    return {"family": model.family, "parameters": model.count_params(), "results": results}


def table(values: dict[str, Any]) -> Table:
    """Classes and differences, a row for each model and mode."""
    shown = Table(title="same class, and largest difference of a probability")
    for heading in ("model", "mode", "texts", "file against Keras", "MediaPipe against the file", "golden texts"):
        shown.add_column(heading, justify="left" if heading in ("model", "mode") else "right")

    def cell(report: dict[str, Any]) -> str:
        return f"{report['same_class']:.2%}, {report['largest_difference']:.2g}" if report["texts"] else "–"

    for name, report in values.items():
        for mode, each in report["results"].items():
            client = each["client"]
            texts = str(client["ascii"]["texts"])
            shown.add_row(name, mode, texts, cell(each["quantization"]), cell(client["ascii"]), cell(client["golden"]))
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True, help="model directories")
    parser.add_argument("--data", required=True)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--quantize", nargs="+", default=["fp32", "dynamic_int8"])
    parser.add_argument("--rows", type=int, help="the first so many texts of the test split; by default all")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mediapipe.json"))
    options = parser.parse_args()
    values = {}
    for source in options.models:
        # RUN/student is named after its run.
        path = Path(source)
        name = path.parent.name if path.name == "student" else path.name
        values[name] = one_model(name, source, options.data, options.length, options.quantize, options.rows)
        report = {"data": Path(options.data).name, "length": options.length, "models": values}
        atomic_write(options.out, json.dumps(report, indent=2) + "\n")
    Console().print(table(values))


if __name__ == "__main__":
    main()
