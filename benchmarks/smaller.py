"""Make a student's file smaller: fewer tokens in the vocabulary, and the word embeddings as a product of two matrices.

    python benchmarks/smaller.py STUDENT --data DATA --pieces 11900 8000 0 --columns 160 96 --out benchmarks/results/smaller.json

Tries each size of the vocabulary (0: the tokens of the training data only), each number of columns, and the first of each together;
nothing is trained afterwards. Prints and writes, for each, parameters, the file's bytes, its score on test in LiteRT, and the share of
held-out words that are tokenized differently.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tfdistill.compress.trim import trim_model
from tfdistill.export.convert.convert import convert_model
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.metrics.scores import score
from tfdistill.models.load import data_for, load
from tfdistill.models.predict import encode
from tfdistill.models.training_record import max_length_of
from tfdistill.system.console import task
from tfdistill.system.files import atomic_write


def measured(model: Any, data: Any, length: int, mode: str) -> dict[str, Any]:
    """Bytes and test score of the model's file."""
    split = data.splits["test"]
    calibration = encode(model, data.splits["train"].take(range(200)), length)
    with tempfile.TemporaryDirectory() as place:
        file = convert_model(model, place, name="m", length=length, modes=[mode], calibration=calibration)[mode]
        logits = TFLiteModel(file.path).predict(encode(model, split, length), workers=1)
    scores = score(data.task, split.labels, logits, data.metrics)
    return {"parameters": model.count_params(), "bytes": file.bytes, "metric": next(iter(scores)), **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", default="demo:movie-snippets")
    parser.add_argument("--pieces", type=int, nargs="*", default=[11900, 0])
    parser.add_argument("--columns", type=int, nargs="*", default=[160, 96])
    parser.add_argument("--mode", default="dynamic_int8")
    parser.add_argument("--length", type=int, help="word pieces; by default the training length")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/smaller.json"))
    options = parser.parse_args()
    model = load(options.model)
    data, length = data_for(model, options.model, options.data), options.length or max_length_of(options.model)
    whole = len(model.tokenizer.vocabulary)
    variants: list[tuple[int, int | None]] = [(whole, None), *((pieces, None) for pieces in options.pieces)]
    variants += [(whole, columns) for columns in options.columns]
    variants += [(options.pieces[0], options.columns[0])] if options.pieces and options.columns else []
    results = []
    with task("variants", len(variants)) as advance:
        for pieces, columns in variants:
            small, report = model, None
            if (pieces, columns) != (whole, None):
                small, report = trim_model(model, data, at_least=pieces, embedding_size=columns, max_length=length)
            row = {
                "pieces": len(small.tokenizer.vocabulary),
                "columns": columns,
                **measured(small, data, length, options.mode),
            }
            if report is not None:
                row["table_lost"] = report["embedding_loss"]
                row["words_cut_otherwise"] = report["splits"]["test"]["resegmented"]
            results.append(row)
            advance(1)
    result = {
        "family": model.family,
        "data": data.name.rpartition("/")[2],
        "mode": options.mode,
        "length": length,
        "files": results,
    }
    atomic_write(options.out, json.dumps(result, indent=1) + "\n")
    table = Table(title=f"{model.family}, {options.mode}")
    for heading in (
        "pieces",
        "columns",
        "parameters",
        "bytes",
        "smaller by",
        f"test {results[0]['metric']}",
        "words cut otherwise",
    ):
        table.add_column(heading, justify="right")
    for row in results:
        table.add_row(
            f"{row['pieces']:,}",
            str(row["columns"] or "all"),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['bytes']:,}",
            f"{100 * (1 - row['bytes'] / results[0]['bytes']):.1f} %",
            f"{row[row['metric']]:.4f}",
            f"{100 * row.get('words_cut_otherwise', 0):.2f} %",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
