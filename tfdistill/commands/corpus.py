"""`tfdistill corpus`: make a corpus of plain text of any size, in shards that training reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfdistill.commands.tables import new_name, show_next
from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.tensorflow_import import import_tensorflow


def corpus(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="a .txt or .txt.gz file, a directory of them, or demo:plain-text")],
    out: Annotated[str, typer.Option(help="directory to write; the same command resumes", metavar="DIR")],
    tokenizer: Annotated[
        str, typer.Option(help="directory with the vocabulary of the models that will read it")
    ] = "demo:minilm",
    rows: Annotated[bool, typer.Option("--rows", help="each document is an example, instead of running text")] = False,
    teacher: Annotated[
        str | None, typer.Option(help="with `--rows`: a fine-tuned model, whose logits are stored")
    ] = None,
    copies: Annotated[
        int, typer.Option(min=0, help="with `--rows`: augmented copies of each example (masks, n-grams)")
    ] = 0,
    max_length: Annotated[
        int | None,
        typer.Option(min=4, help="with `--rows`: tokens of an example; by default the teacher's, or 64"),
    ] = None,
    held_out: Annotated[float, typer.Option(min=0, max=0.99, help="share of the documents kept from training")] = 0.02,
    least_characters: Annotated[int, typer.Option(min=0, help="leaves out shorter documents")] = 20,
    least_letters: Annotated[
        float, typer.Option(min=0, max=1, help="leaves out documents with a smaller share of letters, without spaces")
    ] = 0.5,
    shard_mb: Annotated[
        float, typer.Option(min=0.001, help="megabytes of text of a shard; more needs more memory")
    ] = 16.0,
    seed: Annotated[int, typer.Option(min=0, help="decides about held-out documents and augmentation")] = 1,
    runner: Annotated[
        str, typer.Option(help="local (processes of this machine), or Apache Beam's direct, flink, spark, dataflow")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="number of processes, with local and direct")] = 1,
) -> None:
    """Make a corpus of plain text: clean, without repeated sentences, tokenized, in shards.

    Example: `tfdistill corpus demo:plain-text --out CORPUS --workers 2`

    Training reads it as `--text corpus:CORPUS` (pretrain) or `--set text=corpus:CORPUS` (general stages), and one with
    `--rows --teacher` as `--set labelled=CORPUS` (soft_targets). Options after `--` go to Apache Beam.
    """
    if not rows and (teacher is not None or copies or max_length is not None):
        raise UserError("`--teacher`, `--copies` and `--max-length` are for separate examples. Add `--rows`.")
    from tfdistill.corpora.work import Work, spans_of
    from tfdistill.corpora.workers import RUNNERS, make_corpus
    from tfdistill.models.stored_model import open_directory
    from tfdistill.models.training_record import max_length_of

    if runner != "local" and runner not in RUNNERS:
        raise UserError(f"`--runner {runner}` is unknown. Use local, {', '.join(RUNNERS)}.")
    if context.args and runner == "local":
        raise UserError(f"{' '.join(context.args)} is for Apache Beam. Add `--runner`, or remove it.")
    work = Work(
        out=out.rstrip("/") if "://" in out else str(Path(out).absolute()),
        tokenizer=_directory(tokenizer),
        spans=spans_of(source, round(shard_mb * 1e6)),
        held_out=held_out,
        seed=seed,
        rows=rows,
        max_length=max_length or max_length_of(teacher or ""),
        copies=copies,
        teacher=None if teacher is None else _directory(teacher),
        least_characters=least_characters,
        least_letters=least_letters,
    )
    if work.teacher is not None and "://" not in work.teacher:
        open_directory(work.teacher).require_head()
    import_tensorflow()
    totals = make_corpus(work, source, runner, workers, context.args).totals
    say(
        f"{work.out}: {len(work.spans)} shards, {totals['bytes'] / 1e6:,.1f} MB of text, {totals['documents']:,} documents, "
        f"{totals['repeated_sentences']:,} repeated {'examples' if work.rows else 'sentences'} left out, "
        f"{totals['train_tokens']:,} tokens to train on, {totals['held_out_tokens']:,} held out"
    )
    if totals.get("cut_examples"):
        say(
            f"{100 * totals['cut_examples'] / totals['examples']:.1f} % of the examples ({totals['cut_examples']:,} of "
            f"{totals['examples']:,}) are longer than {work.max_length} tokens and are cut; `--max-length` keeps more"
        )
    text = f"corpus:{work.out}"
    if not work.rows:
        show_next("tfdistill", "pretrain", tokenizer, "--text", text, "--out", new_name("MLM"))
    elif teacher is not None:
        words = ["--teacher", teacher, "--data", "DATA", "--set", f"labelled={work.out}", "--out", new_name("RUN")]
        show_next("tfdistill", "train", "soft_targets", *words)


def _directory(name: str) -> str:
    """Return the directory of a vocabulary or a model."""
    from tfdistill.models.names import kept_directory, model_directory

    path = name.removeprefix("hf:")
    return path if "://" in path else str((kept_directory(name) or model_directory(name)).absolute())
