"""`tfdistill augment`: make more training texts, with their provenance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tfdistill.commands.options import with_column_options
from tfdistill.commands.tables import new_name, show_next
from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.files import require_new

if TYPE_CHECKING:
    from tfdistill.augment.write import Format, Plan
    from tfdistill.data.splits import Split


@with_column_options
def augment(
    data: Annotated[
        str, typer.Option(help="a .tsv, .csv or .jsonl file, a directory, tfds:glue/TASK or demo:movie-snippets")
    ],
    out: Annotated[Path, typer.Option(help="directory to write, which is a data source")],
    method: Annotated[
        str, typer.Option(help="tang (masks, same part of speech, n-grams) or tinybert (masked LM and GloVe)")
    ] = "tang",
    copies: Annotated[int, typer.Option(min=1, help="copies of each text (Tang et al.: 10 for pairs)")] = 20,
    split: Annotated[str, typer.Option(help="the split to augment; the others do not change")] = "train",
    p_mask: Annotated[float, typer.Option(min=0, max=1, help="tang: probability that a word is masked")] = 0.1,
    p_pos: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="tang: probability of another word of the same part of speech; 0 needs no tagger"
        ),
    ] = 0.1,
    p_ngram: Annotated[
        float, typer.Option("--p-ngram", min=0, max=1, help="tang: probability that an n-gram is kept")
    ] = 0.25,
    ngram: Annotated[tuple[int, int], typer.Option(help="tang: shortest and longest n-gram")] = (1, 5),
    tokens_of: Annotated[
        str | None, typer.Option("--mask-tokens", help="tang: mask tokens of this model directory instead of words")
    ] = None,
    tagger: Annotated[
        str | None, typer.Option(help="tang: a model of NLTK's perceptron tagger; one is fetched by default")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="tinybert: a directory with a masked LM; else one is trained")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="tinybert: minutes to train a masked LM if the teacher has none; 3 by default"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="tinybert: steps instead of minutes, equal on every machine")
    ] = None,
    masked_lm: Annotated[str | None, typer.Option(help="tinybert: a directory with a masked LM")] = None,
    glove: Annotated[
        str | None, typer.Option(help="tinybert: a GloVe text file, or none; GloVe 6B 50d is fetched by default")
    ] = None,
    p_replace: Annotated[float, typer.Option(min=0, max=1, help="tinybert: probability of replacing a word")] = 0.4,
    candidates: Annotated[int, typer.Option(min=1, help="tinybert: candidates for each replaced word")] = 15,
    only_copies: Annotated[bool, typer.Option("--only-copies", help="leave out the examples of the split")] = False,
    file_format: Annotated[str, typer.Option("--format", help="jsonl or tsv")] = "jsonl",
    seed: Annotated[int, typer.Option(min=0, help="seed of everything random")] = 1,
    force: Annotated[bool, typer.Option("--force", help="replace other work at `--out`")] = False,
) -> None:
    """Make more training texts. The same command resumes an interrupted run.

    Example: `tfdistill augment --data demo:movie-snippets --method tang --copies 4 --out AUGMENTED`
    """
    from tfdistill.augment.write import PROVENANCE, augment_data, tang_plan
    from tfdistill.data.text_sources import load_data

    _require_one_of("--method", method, ("tang", "tinybert"))
    _require_one_of("--format", file_format, ("jsonl", "tsv"))
    if minutes is not None and steps is not None:
        raise UserError("`--minutes` and `--steps` exclude each other. Use one of them.")
    require_new(out, PROVENANCE)
    text = load_data(data)
    _require_one_of("--split", split, tuple(text.splits))
    source = text.splits[split]
    if method == "tang":
        words = {"p_mask": p_mask, "p_pos": p_pos, "p_ng": p_ngram, "ngram": ngram}
        from tfdistill.models.names import model_directory

        tokens = None if tokens_of is None else str(model_directory(tokens_of))
        plan = tang_plan(source, copies=copies, seed=seed, tagger=tagger, tokens_of=tokens, **words)
    else:
        trained = {"minutes": minutes, "steps": steps}
        plan = _tinybert_plan(source, copies, seed, masked_lm, teacher, trained, glove, p_replace, candidates)
    kind: Format = "tsv" if file_format == "tsv" else "jsonl"
    made = augment_data(text, plan, out, split=split, only_copies=only_copies, file_format=kind, force=force)
    say(
        f"{out}: {made['rows']} examples in {split}, {made['copies_made']} of them new; "
        f"{made['copies_left_out']} copies were duplicates"
    )
    recipe = "bilstm" if method == "tang" else "tinybert"
    following = ["--teacher", teacher or "TEACHER", "--data", out, "--set", "copies=0", "--out", new_name("RUN")]
    show_next("tfdistill", "train", recipe, *following)


def _require_one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"`{option} {value}` is unknown. Use one of {', '.join(choices)}.")


def _tinybert_plan(
    split: Split,
    copies: int,
    seed: int,
    mlm: str | None,
    teacher: str | None,
    trained: dict[str, float | None],
    glove: str | None,
    p: float,
    k: int,
) -> Plan:
    """Plan TinyBERT's augmentation; trains a masked LM on `split` if the teacher has none."""
    from tfdistill.augment.glove import PACKAGE, load_glove
    from tfdistill.augment.tinybert import augment_tinybert
    from tfdistill.augment.write import Augmented, Plan, named
    from tfdistill.models.fingerprint import fingerprint
    from tfdistill.models.load import load
    from tfdistill.recipes._task_masked_lm import masked_lm_for
    from tfdistill.training.word_candidates import finder, load_masked_lm

    if mlm is None and teacher is None:
        raise UserError(
            "`--method tinybert` needs a masked language model. Give `--masked-lm DIR`, or `--teacher DIR` to train one."
        )
    source = mlm or masked_lm_for(load(str(teacher)), split, seed=seed, **trained)  # type: ignore[arg-type]
    masked_lm = load_masked_lm(source)
    find = finder(masked_lm, None if glove == "none" else load_glove(glove), k=k)
    settings = {
        "p": p,
        "k": k,
        "mlm": fingerprint(masked_lm),
        "glove": " ".join(PACKAGE[:2]) if glove is None else named(glove),
    }

    def make(part: Split, first: int) -> Augmented:
        return augment_tinybert(part.texts, part.texts_b, find=find, copies=copies, seed=seed, p=p, first=first)

    return Plan("tinybert", copies, seed, make, settings, rows=256)
