"""`tfdistill evaluate`: compute a model's scores on labelled data, and write its predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfdistill.commands.model_and_data import ModelAndData
from tfdistill.commands.options import JsonOption, with_column_options
from tfdistill.commands.tables import new_name, show_next, show_scores
from tfdistill.errors import UserError
from tfdistill.system.console import say, task
from tfdistill.system.files import atomic_write, require_file_place

if TYPE_CHECKING:
    from tfdistill.data.dataset import Data


@with_column_options
def evaluate(
    model: Annotated[str, typer.Argument(help="a run, or a model directory")],
    data: Annotated[
        str, typer.Option("--data", help="as for train; 'squad:DIR?stride=64&n_best=5' sets how SQuAD is read")
    ],
    split: Annotated[str, typer.Option("--split", help="train, dev or test")] = "test",
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", help="write the prediction for each example to this .jsonl file; needs no labels"
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", min=5, max=512, help="tokens of an example; by default as in training")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model on labelled data, and write its predictions: classes, tags, or the n best answers.

    Example: `tfdistill evaluate RUN --data demo:movie-snippets --split test --json`
    """
    if predictions is not None:
        require_file_place(predictions, "choose another `--predictions`")
    checked = ModelAndData(model, data)
    if checked.data is not None:
        _is_labelled(checked.data, split, predictions)
    loaded, dataset = checked.load()
    assert dataset is not None
    from tfdistill.models.predict import predict_logits, say_cut
    from tfdistill.models.training_record import max_length_of

    labelled = _is_labelled(dataset, split, predictions)
    length = max_length or max_length_of(model)
    rows = dataset.encode(dataset.splits[split], loaded.tokenizer, length)
    say_cut(rows, loaded, length, option="--max-length", split=split)
    with task(f"{split}, examples", len(rows.encoded)) as advance:
        logits = predict_logits(loaded, rows.encoded, advance=advance)
    scores = rows.score(logits) if labelled else {}
    if predictions is not None:
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in rows.predictions(logits)]
        atomic_write(predictions, "".join(lines), "choose another `--predictions`")
        say(f"{predictions}: {len(lines):,} predictions of {model}")
    if as_json:
        count = len(dataset.splits[split])
        print(json.dumps({"model": model, "data": dataset.name, "split": split, "rows": count, **scores}))
    elif labelled:
        show_scores(f"{model} on {dataset.name}", {split: scores})
        show_next("tfdistill", "export", model, "--data", data, "--out", new_name("BUNDLE"))


def _is_labelled(dataset: Data, split: str, predictions: Path | None) -> bool:
    """Return whether a split has labels. Raises UserError if there is no such split, or nothing to do with it."""
    if split not in dataset.splits:
        raise UserError(
            f"--split {split}: {dataset.name} has the splits {', '.join(dataset.splits)}. Choose one of them."
        )
    labelled = dataset.has_labels(split)
    if not labelled and predictions is None:
        raise UserError(
            f"--split {split}: {dataset.name} has no labels there. Choose another split, or add --predictions."
        )
    return labelled
