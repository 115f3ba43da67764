"""Run `tfdistill bench`: measure bundles on this machine or on a phone, and compare them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tfdistill.commands.options import JsonOption, numbers, with_column_options
from tfdistill.commands.run_options import student_of
from tfdistill.commands.tables import show_next_of_bundle
from tfdistill.errors import UserError, optional
from tfdistill.system.console import say, task
from tfdistill.system.files import require_file_place

if TYPE_CHECKING:
    from tfdistill.export.bench.report.bench_rows import Measured
    from tfdistill.models.text_model import TextModel

Files = dict[Path, Path]  # what the user named: its .tflite file
# An older bundle states no SHA-256 of its model. Above this share of other answers a line says that the models differ.
_MOST_DIFFERING = 0.5
# No phone has more cores. More threads than cores only wait for each other.
_MOST_THREADS = 16
# Options that work in one place only; the place itself is an option, or this machine.
_OPTIONS_OF = {
    "adb": {"serial", "benchmark_model", "delegate", "affinity"},
    "this machine": {"lengths", "mlperf"},
}


@with_column_options
def bench(
    context: typer.Context,
    bundles: Annotated[list[Path], typer.Argument(help="bundles or .tflite files; measured alternately")],
    threads: Annotated[str, typer.Option("--threads", help="threads of one inference, such as 1 or 1,2,4")] = "1",
    runs: Annotated[int, typer.Option("--runs", min=1, help="timed runs of each measurement")] = 50,
    mlperf: Annotated[bool, typer.Option("--mlperf", help="MLPerf Mobile's minimum: 1024 runs and 60 s each")] = False,
    baseline: Annotated[Path | None, typer.Option("--baseline", help="bundle or .tflite to compare with")] = None,
    lengths: Annotated[str | None, typer.Option("--lengths", help="tokens of an example, such as 16,32,64")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="also time each operator; here or with --adb")] = False,
    report: Annotated[Path | None, typer.Option("--report", help="page to write, .html; its numbers as .json")] = None,
    data: Annotated[str | None, typer.Option("--data", help="with --model: dev examples where both differ")] = None,
    models: Annotated[
        list[str] | None, typer.Option("--model", help="with --data: a bundle's model; repeatable")
    ] = None,
    adb: Annotated[bool, typer.Option("--adb", help="experimental: on an Android phone, by benchmark_model")] = False,
    serial: Annotated[str | None, typer.Option("--serial", help="with --adb: the phone, see adb devices")] = None,
    benchmark_model: Annotated[Path | None, typer.Option("--benchmark-model", help="with --adb: your build")] = None,
    delegate: Annotated[str, typer.Option("--delegate", help="with --adb: xnnpack, gpu or none")] = "xnnpack",
    affinity: Annotated[str | None, typer.Option("--affinity", help="with --adb: taskset mask, such as f0")] = None,
    ios: Annotated[
        list[Path] | None, typer.Option("--ios", help="experimental: result of the iOS app, one a bundle")
    ] = None,
    ios_params: Annotated[Path | None, typer.Option("--ios-params", help="experimental: iOS options to write")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency, memory and size on this machine or a phone. Only --model needs TensorFlow.

    Example: `tfdistill bench BUNDLE --threads 1,2 --baseline TEACHER.tflite`; on a phone: `tfdistill bench BUNDLE --adb`;
    a page: `tfdistill bench BUNDLE1 BUNDLE2 --lengths 16,32,64 --profile --report report.html`
    """
    place = _place(context)
    files = _files(bundles, baseline, advice=" A phone's serial goes to `--serial`" if adb else "")
    counts = _thread_counts(threads, several=place == "this machine")
    # What can fail, fails before the measurement.
    if report is not None and report.suffix.lower() != ".html":
        raise UserError(f"received --report {report}. Give a path that ends in .html")
    if bool(data) != bool(models):
        raise UserError(
            "`--data` and `--model` need each other. Give the model that the bundle was made from, and data"
        )
    if ios_params is not None:
        require_file_place(ios_params, "choose another `--ios-params`")
        return _write_ios_params(ios_params, files, counts[0], runs)
    if report is not None:
        for path in (report, report.with_suffix(".json")):
            require_file_place(path, "choose another `--report`")
        optional("matplotlib", "quickstart")
    disagreements, doubts = _disagreements(files, data, models or []) if data else ({}, [])
    skipped: list[str] = []
    if adb:
        options = {"tool": benchmark_model, "delegate": delegate, "affinity": affinity}
        measured = _on_android(files, serial, threads=counts[0], runs=runs, profile=profile, **options)
    elif ios:
        measured = _from_ios(files, ios, counts[0], profile)
    else:
        fitting, skipped = _lengths_that_fit(files, lengths)
        measured = _here(files, counts, fitting, runs, mlperf, profile)
    if baseline is not None:
        _compare(baseline, measured, by_tokens=lengths is not None)
    for path, apart in disagreements.items():
        measured[path][0]["disagreements"] = apart
    single = lengths is None and all(len(results) == 1 for results in measured.values())
    if as_json:
        print(json.dumps({str(path): results[0] if single else results for path, results in measured.items()}))
    else:
        from tfdistill.export.bench.report.terminal import show

        show(measured)
        show_next_of_bundle(bundles[0])
    if report is not None:
        _write(report, measured, baseline, data, [*skipped, *doubts])


# --- the request ----------------------------------------------------------------------------------------------------


def _place(context: typer.Context) -> str:
    """Return "adb", "ios", "ios_params" or "this machine", and refuse the options of another place."""
    used = {name for name in context.params if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"}
    places = [name for name in ("adb", "ios", "ios_params") if name in used]
    if len(places) > 1:
        raise UserError(f"{_option(places[0])} and {_option(places[1])} exclude each other. Give one of them")
    place = places[0] if places else "this machine"
    for only, options in _OPTIONS_OF.items():
        for name in options & used if only != place else ():
            need = (
                "is for this machine. Leave it out on a phone" if only == "this machine" else f"needs {_option(only)}"
            )
            raise UserError(f"{_option(name)} {need}")
    return place


def _option(name: str) -> str:
    return f"`--{name.replace('_', '-')}`"


def _files(bundles: Sequence[Path], baseline: Path | None, advice: str) -> Files:
    """Return the .tflite file of each bundle, the baseline first. Bundles must be intact."""
    from tfdistill.export.bundle.manifest import intact

    paths = dict.fromkeys([*([] if baseline is None else [baseline]), *bundles])
    files = {path: path / "model.tflite" if path.is_dir() else path for path in paths}
    for path, file in files.items():
        if not file.is_file():
            raise UserError(f"{file} is missing. Give a bundle made by tfdistill export, or a .tflite file.{advice}")
        if path.is_dir():
            intact(path)
    return files


def _thread_counts(text: str, several: bool) -> tuple[int, ...]:
    counts, most = numbers("--threads", text), max(os.cpu_count() or 1, _MOST_THREADS)
    if max(counts) > most:
        raise UserError(f"received --threads {text}. Give at most {most}; this machine has {os.cpu_count()} processors")
    if len(counts) > 1 and not several:
        raise UserError(f"received --threads {text}. A phone takes one number of threads")
    return counts


def _lengths_that_fit(files: Files, lengths: str | None) -> tuple[dict[Path, tuple[int | None, ...]], list[str]]:
    """Return for each bundle the numbers of tokens its file accepts, and a line for each bundle that misses some."""
    from tfdistill.export.bench.host import signature_lengths
    from tfdistill.export.tflite.operators import check_operators, operators, read_file

    requested = (None,) if lengths is None else numbers("--lengths", lengths)
    fitting: dict[Path, tuple[int | None, ...]] = {}
    skipped = []
    for path, file in files.items():
        check_operators(operators(read_file(file), str(file)), str(file))
        longest = max(signature_lengths(file), default=sys.maxsize)
        too_long = [count for count in requested if count is not None and count > longest]
        fitting[path] = tuple(count for count in requested if count not in too_long)
        if not fitting[path]:
            raise UserError(f"{path} accepts at most {longest} tokens. Give a shorter one than --lengths {lengths}")
        if too_long:
            skipped.append(f"{path} accepts {longest} tokens; skipped --lengths {', '.join(map(str, too_long))}")
    for line in skipped:
        say(line)
    return fitting, skipped


# --- the measurements -----------------------------------------------------------------------------------------------


def _here(
    files: Files,
    threads: tuple[int, ...],
    lengths: dict[Path, tuple[int | None, ...]],
    runs: int,
    mlperf: bool,
    profile: bool,
) -> Measured:
    from tfdistill.export.bench.host import MLPERF_PARTS, MLPERF_QUERIES, MLPERF_SECONDS, Case, bench_cases
    from tfdistill.export.bench.profile import profile_file

    options: dict[str, Any] = {"runs": runs}
    if mlperf:
        options = {
            "runs": max(runs, MLPERF_QUERIES),
            "seconds": MLPERF_SECONDS,
            "repeats": MLPERF_PARTS,
            "pooled": True,
        }
    cases = [Case(file, used, count) for path, file in files.items() for used in threads for count in lengths[path]]
    with task("measuring", options.get("repeats", 3) * len(cases) + profile * len(files)) as advance:
        results = iter(bench_cases(cases, progress=advance, **options))
        measured = {path: [next(results) for _ in range(len(threads) * len(lengths[path]))] for path in files}
        for path, file in files.items() if profile else ():
            longest = measured[path][len(lengths[path]) - 1]  # with the fewest threads
            longest["profile"] = profile_file(file, threads=threads[0], runs=max(runs, 30), tokens=lengths[path][-1])
            advance()
    return measured


def _on_android(files: Files, serial: str | None, **options: Any) -> Measured:
    from tfdistill.export.bench.phone.android import PhoneOptions, bench_on_phone, find_phone

    chosen = PhoneOptions(**options)
    phone = find_phone(serial)
    with task("measuring on the phone", None) as advance:
        results = bench_on_phone(list(files.values()), phone, chosen, progress=lambda message: advance(0, note=message))
    return {path: [result] for path, result in zip(files, results, strict=True)}


def _from_ios(files: Files, results: Sequence[Path], threads: int, profile: bool) -> Measured:
    from tfdistill.export.bench.phone.ios import read_result

    if len(results) != len(files):
        raise UserError(f"received {len(results)} `--ios` for {len(files)} bundles. Give one for each, in their order")
    measured = {}
    for (path, file), result in zip(files.items(), results, strict=True):
        measured[path] = [read_result(result, file, threads=threads)]
        if profile and "profile" not in measured[path][0]:
            raise UserError(
                f"{result} has no table of operators for `--profile`. Build the app with enable_op_profiling"
            )
    return measured


def _write_ios_params(path: Path, files: Files, threads: int, runs: int) -> None:
    from tfdistill.export.bench.phone.ios import write_params

    if len(files) != 1:
        raise UserError(f"received {len(files)} bundles. `--ios-params` is for one")
    (file,) = files.values()
    write_params(path, file, threads=threads, runs=runs)
    say(f"{path}: put it and {file} into the app's benchmark_data, build, run; then: tfdistill bench … --ios RESULT")


def _compare(baseline: Path, measured: Measured, by_tokens: bool) -> None:
    """Add to each result how many times `faster` it is than the baseline with the same threads (and tokens)."""
    from tfdistill.export.bench.host import typical_ms

    def case(result: dict[str, Any]) -> tuple[int, int | None]:
        return result["threads"], result["tokens"] if by_tokens else None

    of_baseline = {case(result): typical_ms(result) for result in measured[baseline]}
    for results in measured.values():
        for result in results:
            if case(result) in of_baseline:  # a baseline that takes shorter examples lacks the longer ones
                result["faster"] = of_baseline[case(result)] / typical_ms(result)


# --- file against Keras ---------------------------------------------------------------------------------------------


def _disagreements(files: Files, data: str, sources: Sequence[str]) -> tuple[dict[Path, dict[str, Any]], list[str]]:
    """Return for each bundle made from one of the models the dev examples where both differ most, and doubts about it."""
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    from tfdistill.export.bundle.origin import bundle_of, is_model_of
    from tfdistill.models.load import load

    bundles = {path: bundle_of(path) for path in files}
    if not any(bundles.values()):
        raise UserError(f"none of {', '.join(map(str, files))} is a bundle. `--model` needs a bundle, for its labels")
    apart, doubts = {}, []
    for source in map(student_of, sources):
        model = load(source, new_head=False)
        origins = {path: is_model_of(model, bundle) for path, bundle in bundles.items() if bundle is not None}
        for path, certain in origins.items():
            if certain is False or path in apart:
                continue
            apart[path] = _against_keras(model, source, bundles[path] or path, files[path], data)
            if certain is None and apart[path]["differing"] > _MOST_DIFFERING * apart[path]["rows"]:
                doubts.append(_doubt(path, source, apart[path]))
        if not any(certain is not False for certain in origins.values()):
            raise UserError(
                f"{', '.join(map(str, origins))} was not exported from --model {source}: other weights, labels or "
                "vocabulary. Give the model that the bundle was exported from"
            )
    for line in doubts:
        say(line)
    return apart, doubts


def _doubt(path: Path, source: str, apart: dict[str, Any]) -> str:
    return (
        f"warning: {apart['differing']} of {apart['rows']} texts get another answer from {path} than from {source}, so that is "
        "probably not its model; this older bundle does not state its model's SHA-256"
    )


def _against_keras(model: TextModel, source: str, bundle: Path, file: Path, data: str) -> dict[str, Any]:
    from tfdistill.export.bench.disagreements import worst_disagreements
    from tfdistill.export.tflite.runtime import TFLiteModel
    from tfdistill.models.load import data_for
    from tfdistill.models.predict import measure

    texts = data_for(model, source, data)
    if texts.per_token:
        raise UserError(f"received --data {data}. Give texts with one label each")
    if not len(texts.splits.get("dev", ())):
        raise UserError(f"--data {data} has no examples in dev, but {', '.join(texts.splits)}. Add a dev split")
    split, tflite = texts.splits["dev"], TFLiteModel(file)
    encoded, logits, scores = measure(model, texts, "dev", max_length=tflite.length, cut_option="")
    with task(f"{bundle.name}: dev", None):
        outputs = tflite.predict(encoded)
    expected, names = tflite.expected(logits), model.label_names
    apart = worst_disagreements(
        model.task, split, expected, outputs, lengths=encoded.lengths, scores=scores, label_names=names
    )
    return {"split": "dev", **apart}


# --- the results ----------------------------------------------------------------------------------------------------


def _write(path: Path, measured: Measured, baseline: Path | None, data: str | None, skipped: Sequence[str]) -> None:
    from tfdistill.export.bench.host import machine
    from tfdistill.export.bench.report.bench_page import write_bench_report

    phone = next(iter(measured.values()))[0].get("phone")
    where = "this machine"
    if phone is not None:
        where = f"{phone['maker']} {phone['model']}" if "android" in phone else "an iPhone"
    write_bench_report(
        measured,
        path,
        title=f"Models on {where}",
        baseline=baseline,
        notes=[f"{line}." for line in skipped],
        facts={
            "Phone": phone,
            "Machine": None if phone else machine(),
            "Versions": {name: metadata.version(name) for name in ("tfdistill", "ai-edge-litert")},
            "Data": data,
        },
        command=" ".join(["tfdistill", *sys.argv[1:]]),
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    say(f"{path}: the page; its numbers are in {path.with_suffix('.json')}")
