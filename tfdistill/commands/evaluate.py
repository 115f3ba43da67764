"""`tfdistill evaluate`: scores of a model, and what it says of each row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tfdistill.commands.tables import show_scores
from tfdistill.errors import UserError
from tfdistill.system.console import say, task
from tfdistill.system.files import atomic_write
from tfdistill.system.tensorflow_import import import_tensorflow


def evaluate(
    model: Annotated[str, typer.Argument(help="a model directory, for instance RUN/student")],
    data: Annotated[
        str, typer.Option("--data", help="as for train; 'squad:DIR?stride=64&n_best=5' sets how SQuAD is read")
    ],
    split: Annotated[str, typer.Option("--split", help="train, dev or test")] = "test",
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help=".jsonl file for what the model says of each row; labels are not needed"),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--length", min=5, max=512, help="word pieces; by default the training length")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Score a model on labelled text, and write its predictions: classes, tags, or answers with the n best.

    Example: `tfdistill evaluate RUN/student --data demo:movie-snippets --split test --json`
    """
    import_tensorflow()
    from tfdistill.models.load import data_for, load, max_length_of
    from tfdistill.models.predict import predict_logits

    loaded = load(model)
    text = data_for(loaded, model, data)
    if split not in text.splits:
        raise UserError(f"--split {split}: {text.name} has the splits {', '.join(text.splits)}")
    labelled, chosen = text.has_labels(split), text.splits[split]
    if not labelled and predictions is None:
        raise UserError(
            f"--split {split}: {text.name} has no labels there; choose another split, or --predictions FILE"
        )
    rows = text.encode(chosen, loaded.tokenizer, max_length or max_length_of(model, 128))
    with task(f"{split}, rows", len(rows.encoded)) as advance:
        logits = predict_logits(loaded, rows.encoded, advance=advance)
    scores = rows.score(logits) if labelled else {}
    if predictions is not None:
        said = rows.predictions(logits)
        atomic_write(predictions, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in said))
        say(f"{predictions}: what {model} says of {len(said):,} rows")
    if as_json:
        print(json.dumps({"model": model, "data": text.name, "split": split, "rows": len(chosen), **scores}))
    elif labelled:
        show_scores(f"{model} on {text.name}", {split: scores})
