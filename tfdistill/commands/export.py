"""Write bundles, and verify them: `tfdistill export` and `tfdistill verify`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfdistill.commands.model_and_data import ModelAndData
from tfdistill.commands.options import numbers, with_column_options
from tfdistill.commands.tables import show_next_of_bundle, show_next_of_export
from tfdistill.errors import UserError
from tfdistill.metrics.notation import percent, shown
from tfdistill.system.console import make_table, say, say_error, show, show_table
from tfdistill.system.files import require_new, sha256

if TYPE_CHECKING:
    from tfdistill.data.dataset import Data
    from tfdistill.export.bundle.bundle import BundleData
    from tfdistill.export.bundle.request import ExportRequest

_MOST_LOST = 1.0  # percentage points on dev
# Percentage points lost on dev from which quantization-aware training is worth its time.
_LOSS_TO_TRAIN = 0.5

_QUANTIZE = "fp32, fp16, dynamic_int8, weight_int8; int8 and int8_int16 need --data"
_LENGTHS = "several lengths, such as 16,32,64: one file with a signature for each, which share the weights"
_DATA = "compare the file with the model on dev and test of this data; train calibrates int8 and int8_int16"
_MAX_DROP = "percentage points that the file may lose on dev against Keras, otherwise exit code 3; 1, or two examples"
_GOLDEN = "add up to 200 dev examples of --data to golden.json, which ships in apps"
_MEDIAPIPE = "for MediaPipe's TextClassifier: probabilities, and a tokenizer in the file's metadata"
_CARD = "KEY=VALUE of the file's model card: name, description, version, author, license; may be repeated"
_TEXT_IN = "also write model-text.tflite, which takes text and needs TensorFlow Text's operators in the runtime"


@with_column_options
def export(
    model: Annotated[str, typer.Argument(help="a run, or a model directory")],
    out: Annotated[Path, typer.Option("--out", help="directory to write")],
    quantize: Annotated[str, typer.Option("--quantize", help=_QUANTIZE)] = "dynamic_int8",
    length: Annotated[
        int | None, typer.Option("--length", min=5, max=512, help="tokens in a row; default: the training length")
    ] = None,
    lengths: Annotated[str | None, typer.Option("--lengths", help=_LENGTHS)] = None,
    data: Annotated[str | None, typer.Option("--data", help=_DATA)] = None,
    max_drop: Annotated[float | None, typer.Option("--max-drop", help=_MAX_DROP)] = None,
    golden_from_data: Annotated[bool, typer.Option("--golden-from-data", help=_GOLDEN)] = False,
    mediapipe: Annotated[bool, typer.Option("--mediapipe", help=_MEDIAPIPE)] = False,
    card: Annotated[list[str] | None, typer.Option("--card", help=_CARD)] = None,
    text_in: Annotated[bool, typer.Option("--text-in", help=_TEXT_IN)] = False,
    force: Annotated[bool, typer.Option("--force", help="replace a bundle at --out")] = False,
) -> None:
    """Write a bundle: the TFLite file, its vocabulary, labels, golden vectors and manifest.

    Example: `tfdistill export RUN --quantize dynamic_int8 --out BUNDLE`
    """
    from tfdistill.export.bundle.manifest import MANIFEST
    from tfdistill.export.bundle.request import ExportRequest
    from tfdistill.models.training_record import max_length_of, recipe_of

    if length is not None and lengths is not None:
        raise UserError("received `--length` and `--lengths`; give one of them")
    if golden_from_data and data is None:
        raise UserError("`--golden-from-data` takes examples of `--data`; add `--data`")
    require_new(out, MANIFEST if force else None, "Choose a new name, or use --force to replace a bundle.")
    fields = _fields(card or [])
    sizes = (length or max_length_of(model),) if lengths is None else numbers("--lengths", lengths)
    checked = ModelAndData(model, data)
    loaded, dataset = (checked.stored, checked.data) if checked.stored is not None else checked.load()
    request = ExportRequest.of(
        loaded,  # type: ignore[arg-type]  # a stored model is validated as the built one
        out,
        quantize=quantize,
        length=sizes,
        max_drop=_allowed(dataset) if max_drop is None else max_drop,
        mediapipe=mediapipe,
        text_in=text_in,
        card=fields,
    )
    if request.conversion.calibrated and data is None:
        raise UserError(f"`--quantize {quantize}` is calibrated on training examples; add `--data`")
    if dataset is not None:
        _require_splits(dataset, request, golden_from_data)
    if checked.stored is not None:
        loaded, dataset = checked.load()
        request = request.with_model(loaded)
    recipe = recipe_of(model) or None
    from tfdistill.export.bundle.bundle import BundleData, write_bundle
    from tfdistill.export.convert.request import reads_pairs
    from tfdistill.export.tflite.accuracy_gate import AccuracyDropped

    try:
        used = BundleData(recipe=recipe) if dataset is None else _read(request, dataset, golden_from_data, recipe)
        path = write_bundle(request, used, latency=True)
    except AccuracyDropped as error:
        say_error(str(error))
        _advise(request, model, data)
        raise typer.Exit(3) from None
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    _summarize(manifest, path)
    if manifest["judged"] and manifest["parity"]["drop"] > _LOSS_TO_TRAIN:
        _advise(request, model, data)
    if not manifest["judged"]:
        reason = "there is no `--data`" if data is None else "`--data` has no labelled dev split"
        show(f"not judged: {reason}, so the loss of accuracy is unknown; the manifest says so too")
    pairs = loaded.task == "question_answering" if dataset is None else getattr(dataset, "is_pair", False)
    show_next_of_export(path, pairs or reads_pairs(request.model))


def _allowed(data: Data | None) -> float:
    """Return the points that a file may lose on dev by default: 1, or two examples where each is worth more than half."""
    rows = len(data.splits["dev"]) if data is not None and "dev" in data.splits else 0
    return max(_MOST_LOST, 200 / rows) if rows else _MOST_LOST


def _advise(request: ExportRequest, model: str, data: str | None) -> None:
    for line in quantization_advice(request, model, data):
        say(line)


def _fields(words: list[str]) -> dict[str, str]:
    """Parse `key=value` words as fields of a model card."""
    from tfdistill.export.tflite.metadata import CARD

    fields = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key.strip() not in CARD or not equals:
            raise UserError(f"`--card {word}` is invalid; expected key=value with one of {', '.join(CARD)}")
        fields[key.strip()] = value.strip()
    return fields


def _require_splits(data: Data, request: ExportRequest, golden: bool) -> None:
    """Raise UserError if the data have not what `--quantize` and `--golden-from-data` need."""
    calibrated = bool(request.conversion.calibrated)
    needs = {"train": (calibrated, f"--quantize {request.quantization}"), "dev": (golden, "--golden-from-data")}
    for split, (needed, option) in needs.items():
        if needed and split not in data.splits:
            raise UserError(f"{data.name} has no {split} split but {', '.join(data.splits)}; `{option}` needs it")
    if golden and data.per_token:
        raise UserError(f"{data.name} has neither texts nor pairs; remove `--golden-from-data`")


def _read(request: ExportRequest, data: Data, golden: bool, recipe: dict[str, Any] | None) -> BundleData:
    """Evaluate the model on dev and test, and pick examples for calibration and golden.json."""
    from tfdistill.data.batching import some_rows
    from tfdistill.export.bundle.bundle import BundleData
    from tfdistill.export.convert.convert import CALIBRATION_ROWS
    from tfdistill.models.predict import measure, say_cut

    model, longest, calibrated = request.model, request.conversion.longest, bool(request.conversion.calibrated)
    _require_splits(data, request, golden)
    examples = data.splits["dev"] if golden else None
    calibration = None
    if calibrated:
        rows = data.encode(data.splits["train"], model.tokenizer, longest)
        say_cut(rows, model, longest, option="--length", split="train")
        calibration = rows.encoded.take(some_rows(len(rows.encoded), CALIBRATION_ROWS))
    dev, test = (
        measure(model, data, split, max_length=longest, cut_option="--length") if split in data.splits else None
        for split in ("dev", "test")
    )
    source = {"name": data.name, "fingerprint": data.fingerprint}
    return BundleData(dev, test, calibration, examples, recipe, source)


def quantization_advice(request: ExportRequest, model: str, data: str | None) -> list[str]:
    """Propose quantization-aware training for a static int8 file, unless its student was trained so already."""
    from tfdistill.models.quantization_aware import QuantizationAware
    from tfdistill.models.tasks import NOT_TRANSFORMERS

    student = request.model
    if request.quantization != "int8" or student.family in NOT_TRANSFORMERS or isinstance(student, QuantizationAware):
        return []
    command = f"tfdistill train quantization_aware --teacher {model} --data {data} --out RUN8"
    return [f"the student can be trained with the rounding of int8: {command}, then export RUN8/student"]


def _summarize(manifest: dict[str, Any], path: Path) -> None:
    """Print the size, accuracy and latency of a bundle."""
    size, zipped = (number / 1e6 for number in (manifest["files"]["model.tflite"]["bytes"], manifest["zipped_bytes"]))
    lengths = ", ".join(map(str, manifest["lengths"]))
    show(f"{path}: model.tflite, {size:.1f} MB ({zipped:.1f} zipped), {manifest['quantization']}, length {lengths}")
    show(f"manifest.json: sha256 {sha256(path / 'manifest.json')}")
    if manifest["golden"]["left_out"]:
        golden = manifest["golden"]
        show(f"golden.json: {golden['texts']} texts; {golden['left_out']} more would make it too large to verify")
    if text_in := manifest["text_in"]:
        show(
            f"{text_in['file']}: {100 * text_in['same_ids']:.0f} % of the {text_in['rows']} golden texts get the same ids; needs "
            "TensorFlow Text's operators, which LiteRT's and MediaPipe's ready-made packages do not have"
        )
    if manifest["parity"] or manifest["test"]:
        show_table(_accuracy_table(manifest))
    show_table(_latency_table(manifest["latency"]))
    allowed, rows = manifest["max_drop"], (manifest["parity"] or {}).get("rows", 0)
    if manifest["judged"] and 0 < allowed * rows < 100:
        show(
            f"dev has {rows} examples, each worth {100 / rows:.1f} points; `--max-drop {allowed:g}` needs more examples"
        )


def _accuracy_table(manifest: dict[str, Any]) -> Any:
    """Compare the file with the Keras model, one column for each split."""
    splits = {name: manifest[key] for name, key in (("dev", "parity"), ("test", "test")) if manifest[key]}
    lines: list[tuple[str, str, Callable[[Any], str]]] = [("examples", "rows", "{:,}".format)]
    metric = next((scores["metric"] for scores in splits.values() if "metric" in scores), None)
    for name in (metric, "expected_calibration_error"):
        if name is not None and any(name in scores for scores in splits.values()):
            title, form = name.replace("_", " "), partial(shown, name)
            lines += [(f"{title}, Keras", f"keras_{name}", form), (f"{title}, file", name, form)]
        if name == metric and metric is not None:
            lines += [("points lost", "drop", "{:.2f}".format)]
    lines += [("same answer as Keras", "argmax_agreement", percent)]
    lines += [("largest difference of logits", "max_abs_difference", "{:.2g}".format)]
    rows = []
    for title, key, write in lines:
        rows.append((title, *(write(scores[key]) if key in scores else "–" for scores in splits.values())))
    return make_table(("", *splits), rows, title="the file compared with Keras")


def _latency_table(latency: dict[str, Any]) -> Any:
    """Show the latency of each signature on this machine."""
    cold, memory = _number(latency["first_ms"], 1), _number(latency["memory_delta_mb"], 1)
    rows = [
        (tokens, _number(times["median"], 2), _number(times["p90"], 2))
        for tokens, times in latency["by_tokens"].items()
    ]
    caption = f"cold start {cold} ms, memory {memory} MB"
    return make_table(("tokens", "median ms", "p90 ms"), rows, title="this machine, one thread", caption=caption)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def verify(bundles: Annotated[list[Path], typer.Argument(help="directories written by export")]) -> None:
    """Check bundles: checksums, operators, golden vectors. Needs no TensorFlow.

    Example: `tfdistill verify BUNDLE`
    """
    from tfdistill.export.verify import verify_bundle

    for bundle in bundles:
        if len(bundles) > 1:
            show(f"{bundle}:")
        show(*(f"ok  {check}" for check in verify_bundle(bundle)))
    show_next_of_bundle(bundles[0])
