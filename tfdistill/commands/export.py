"""`tfdistill export` and `tfdistill verify`: bundles, and whether they are as they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tfdistill.commands.bench import numbers
from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.files import require_new, sha256
from tfdistill.system.tensorflow_import import import_tensorflow

_LOSS_TO_TRAIN = 0.5  # points on dev from which quantization-aware training is worth its time


def export(
    model: Annotated[str, typer.Argument(help="a model directory, for instance RUN/student")],
    out: Annotated[Path, typer.Option("--out", help="directory to write")],
    quantize: Annotated[
        str,
        typer.Option(
            "--quantize", help="fp32, fp16, dynamic_int8, weight_int8, weight_int4; int8 and int8_int16 need --data"
        ),
    ] = "dynamic_int8",
    length: Annotated[
        int | None, typer.Option("--length", min=5, max=512, help="word pieces; by default the training length")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths", help="several, such as 16,32,64: one file, a signature for each, the weights held once"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="score the file on dev and test of this data; train calibrates int8 and int8_int16"
        ),
    ] = None,
    max_drop: Annotated[
        float, typer.Option("--max-drop", help="points that the file may lose on dev against Keras; else exit code 3")
    ] = 1.0,
    golden_from_data: Annotated[
        bool,
        typer.Option(
            "--golden-from-data", help="put up to 200 texts of --data (dev) into golden.json: it ships in apps"
        ),
    ] = False,
    mediapipe: Annotated[
        bool,
        typer.Option(
            "--mediapipe", help="for MediaPipe's TextClassifier: probabilities, and a tokenizer in the file's metadata"
        ),
    ] = False,
    card: Annotated[
        list[str] | None,
        typer.Option(
            "--card",
            help="KEY=VALUE of the model card in the file: name, description, version, author, license; may be repeated",
        ),
    ] = None,
    text_in: Annotated[
        bool,
        typer.Option(
            "--text-in",
            help="also model-text.tflite, which takes text and needs TensorFlow Text's operators in the runtime",
        ),
    ] = False,
) -> None:
    """Write a bundle: the TFLite file, its vocabulary, labels, test vectors and manifest.

    Example: `tfdistill export RUN/student --quantize dynamic_int8 --out BUNDLE`
    """
    import_tensorflow()
    from tfdistill.export.bundle.bundle import check_request, export_bundle
    from tfdistill.export.bundle.manifest import MANIFEST
    from tfdistill.export.convert.modes import MODES
    from tfdistill.export.tflite.accuracy_gate import AccuracyDropped
    from tfdistill.models.load import load, max_length_of, recipe_of

    if length is not None and lengths is not None:
        raise UserError("--length and --lengths were given; expected one of them")
    about = _fields(card or [])
    sizes = (length or max_length_of(model, 64),) if lengths is None else numbers("--lengths", lengths)
    console, loaded = Console(), load(model)
    # What can be refused is refused before dev and test are read.
    check_request(
        loaded, quantize=quantize, length=sizes, max_drop=max_drop, mediapipe=mediapipe, card=about, text_in=text_in
    )
    require_new(
        out, MANIFEST, "Expected a new name or the directory of a bundle, which is replaced: choose another `--out`."
    )
    calibrated = MODES[quantize].calibrated
    if calibrated and data is None:
        raise UserError(f"--quantize {quantize} measures ranges on training data and got none; expected --data DIR")
    measured: dict[str, Any] = {"dev": None, "test": None}
    calibration = golden_data = None
    if golden_from_data and data is None:
        raise UserError("--golden-from-data takes texts of --data and got none; expected --data")
    if data is not None:
        from tfdistill.data.batching import some_rows
        from tfdistill.export.convert.convert import CALIBRATION_ROWS
        from tfdistill.models.load import data_for
        from tfdistill.models.predict import measure

        read = data_for(loaded, model, data)
        for name, needed in (("train", calibrated), ("dev", golden_from_data)):
            if needed and name not in read.splits:
                why = f"--quantize {quantize} is calibrated on it" if name == "train" else "--golden-from-data takes it"
                raise UserError(f"{read.name} has the splits {', '.join(read.splits)} and no {name}; {why}: add it")
        if golden_from_data:
            if read.per_token:
                raise UserError(f"--golden-from-data takes single texts or pairs and got {read.name}; leave it out")
            golden_data = read.splits["dev"]
        for name in measured.keys() & read.splits.keys():
            measured[name] = measure(loaded, read, name, max_length=sizes[-1])
        if calibrated:
            rows = read.encode(read.splits["train"], loaded.tokenizer, sizes[-1]).encoded
            calibration = rows.take(some_rows(len(rows), CALIBRATION_ROWS))
    try:
        path = export_bundle(
            loaded,
            out,
            quantize=quantize,
            length=sizes,
            max_drop=max_drop,
            recipe=recipe_of(model) or None,
            calibration=calibration,
            golden_data=golden_data,
            mediapipe=mediapipe,
            card=about,
            latency=True,
            text_in=text_in,
            **measured,
        )
    except AccuracyDropped as error:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(f"tfdistill: {error}")
        _advise(loaded, model, data, quantize)
        raise typer.Exit(3) from None
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    size = (path / "model.tflite").stat().st_size
    taken = ", ".join(map(str, sizes))
    sizes_told = f"{size / 1e6:.1f} MB ({manifest['zipped_bytes'] / 1e6:.1f} zipped)"
    console.print(f"{path}: model.tflite, {sizes_told}, {quantize}, length {taken}", highlight=False, soft_wrap=True)
    console.print(f"manifest.json: sha256 {sha256(path / 'manifest.json')}", highlight=False, soft_wrap=True)
    if text_in:
        said = manifest["text_in"]
        console.print(
            f"{said['file']}: {100 * said['same_ids']:.0f} % of the {said['rows']} golden texts get the same ids; needs "
            "TensorFlow Text's operators, which LiteRT's and MediaPipe's ready-made packages do not have",
            highlight=False,
            soft_wrap=True,
        )
    console.print(*_tables(manifest), sep="\n")
    if manifest["judged"] and manifest["parity"]["drop"] > _LOSS_TO_TRAIN:
        _advise(loaded, model, data, quantize)
    if manifest["judged"] and 0 < max_drop * manifest["parity"]["rows"] < 100:
        rows = manifest["parity"]["rows"]
        said = f"dev has {rows} rows, and one of them weighs some {100 / rows:.1f} points; --max-drop {max_drop:g} wants more rows"
        console.print(said, highlight=False, soft_wrap=True)
    if not manifest["judged"]:
        why = "no --data was given" if data is None else "--data has no labelled dev split"
        said = f"not judged: {why}, so it is unknown how many points the file loses; the manifest says so too"
        console.print(said, highlight=False, soft_wrap=True)
    console.print(f"next: tfdistill verify {path}  ·  tfdistill bench {path}", highlight=False, soft_wrap=True)


def _advise(loaded: Any, model: str, data: str | None, quantize: str) -> None:
    """What to do about a static int8 file that loses points, if its student was not trained for that already."""
    from tfdistill.models.quantization_aware import QuantizationAware

    if quantize == "int8" and loaded.family != "bilstm" and not isinstance(loaded, QuantizationAware):
        said = f"tfdistill train quantization_aware --teacher {model} --data {data} --out RUN8"
        say(f"the student can be trained on with the rounding of int8: {said}, then export RUN8/student")


def _fields(said: list[str]) -> dict[str, str]:
    """`key=value` texts as a dictionary. Raises UserError for anything else, and fields that no model card has."""
    from tfdistill.export.tflite.metadata import CARD

    for each in said:
        if each.partition("=")[0].strip() not in CARD or "=" not in each:
            raise UserError(f"--card {each}: expected key=value with one of {', '.join(CARD)}")
    return {key.strip(): value.strip() for key, _, value in (each.partition("=") for each in said)}


def _tables(manifest: dict[str, Any]) -> list[Table]:
    """How good the file is beside Keras, how fast it was here, and what accelerators take of it."""
    splits = {name: manifest[key] for name, key in (("dev", "parity"), ("test", "test")) if manifest[key]}
    tables = []
    if splits:
        scored = {name: said for name, said in splits.items() if "metric" in said}
        metric = next(iter(scored.values()))["metric"] if scored else None
        errors = "expected_calibration_error"
        table = Table(title="the file beside Keras")
        for column in ("", *splits):
            table.add_column(column, justify="left" if not column else "right")
        lines = [("rows", "rows", "{:,}")]
        if metric:
            said_of = metric.replace("_", " ")
            lines += [(f"{said_of}, Keras", f"keras_{metric}", "{:.4f}"), (f"{said_of}, file", metric, "{:.4f}")]
            lines += [("points lost", "drop", "{:.2f}")]
        if any(errors in said for said in scored.values()):
            told = errors.replace("_", " ")
            lines += [(f"{told}, Keras", f"keras_{errors}", "{:.4f}"), (f"{told}, file", errors, "{:.4f}")]
        lines += [
            ("argmax as Keras", "argmax_agreement", "{:.1%}"),
            ("largest difference", "max_abs_difference", "{:.2g}"),
        ]
        for name, key, shown in lines:
            table.add_row(
                name, *(shown.format(said[key]).replace("%", " %") if key in said else "–" for said in splits.values())
            )
        tables.append(table)
    latency = manifest["latency"]
    cold, memory = _number(latency["first_ms"], 1), _number(latency["memory_delta_mb"], 1)
    table = Table(title="here, one thread", caption=f"cold start {cold} ms, memory {memory} MB")
    for column in ("word pieces", "median ms", "p90 ms"):
        table.add_column(column, justify="right")
    for tokens, said in latency["by_tokens"].items():
        table.add_row(tokens, _number(said["median"], 2), _number(said["p90"], 2))
    return [*tables, table]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def verify(bundle: Annotated[Path, typer.Argument(help="a directory made by export")]) -> None:
    """Check a bundle again: checksums, operators, test vectors. Needs no TensorFlow.

    Example: `tfdistill verify BUNDLE`
    """
    from tfdistill.export.verify import verify_bundle

    console = Console()
    for check in verify_bundle(bundle):
        console.print(f"ok  {check}", highlight=False, soft_wrap=True)
