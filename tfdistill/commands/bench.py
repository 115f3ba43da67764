"""`tfdistill bench`: latency, memory, size and operators of bundles, on this machine or a phone, as a table, JSON or a page."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from tfdistill.errors import UserError, optional

Measured = dict[Path, list[dict[str, Any]]]
# More than any phone has; beyond it and the machine's own number threads only wait for each other.
_MOST_THREADS = 16


def numbers(option: str, text: str) -> tuple[int, ...]:
    """`16,32,64` as numbers. Raises UserError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"{option} {text}: expected whole numbers above 0 with commas between them, such as 16,32,64")
    return tuple(sorted({int(part) for part in parts}))


def bench(
    bundles: Annotated[list[Path], typer.Argument(help="bundles or .tflite files; measured in turn")],
    threads: Annotated[str, typer.Option("--threads", help="threads of the interpreter, such as 1 or 1,2,4")] = "1",
    runs: Annotated[int, typer.Option("--runs", min=1, help="timed runs of each measurement")] = 50,
    mlperf: Annotated[
        bool,
        typer.Option("--mlperf", help="MLPerf Mobile's minimum: 1024 runs and 60 s of each measurement, in six turns"),
    ] = False,
    baseline: Annotated[
        Path | None, typer.Option("--baseline", help="bundle or .tflite to measure along and to compare with")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option("--lengths", help="rows of so many word pieces, such as 16,32,64; by default as many as fit"),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="also where the time goes, operator by operator; on this machine or --adb")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="page to write, such as report.html; its numbers go beside it")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="with --model: list the dev texts on which the file and Keras differ most"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="with --data: the model directory a bundle was made from; may be repeated"),
    ] = None,
    adb: Annotated[
        bool,
        typer.Option(
            "--adb",
            help="measure on an Android phone, with TensorFlow Lite's benchmark_model; --serial names one of several",
        ),
    ] = False,
    serial: Annotated[str | None, typer.Option("--serial", help="which phone, as adb devices says it")] = None,
    benchmark_model: Annotated[
        Path | None,
        typer.Option("--benchmark-model", help="built for the phone; by default it lies in /data/local/tmp"),
    ] = None,
    delegate: Annotated[str, typer.Option("--delegate", help="on the phone: xnnpack, gpu, nnapi or none")] = "xnnpack",
    affinity: Annotated[
        str | None, typer.Option("--affinity", help="on the phone: mask of cores for taskset, such as f0")
    ] = None,
    ios: Annotated[
        list[Path] | None,
        typer.Option("--ios", help="result of TensorFlow Lite's iOS benchmark app, one for each bundle"),
    ] = None,
    ios_params: Annotated[
        Path | None, typer.Option("--ios-params", help="write the app's benchmark_params.json for one bundle, and stop")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Latency, memory and size on this machine, or on a phone. Needs no TensorFlow, save for --model.

    Example: `tfdistill bench BUNDLE --threads 1,2 --baseline TEACHER.tflite`; on a phone: `tfdistill bench BUNDLE --adb`;
    a page: `tfdistill bench BUNDLE1 BUNDLE2 --lengths 16,32,64 --profile --report report.html`
    """
    from tfdistill.export.bundle.manifest import intact
    from tfdistill.export.tflite.operators import check_operators, operators, read_file

    counts = numbers("--threads", threads)
    if baseline is not None:
        bundles = [baseline, *(bundle for bundle in bundles if bundle != baseline)]
    bundles = list(dict.fromkeys(bundles))
    files = {path: path / "model.tflite" if path.is_dir() else path for path in bundles}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        serial_hint = "; a phone's serial goes to --serial" if adb else ""
        raise UserError(
            f"{missing[0]} is missing; expected a bundle made by tfdistill export, or a .tflite file{serial_hint}"
        )
    for path in bundles:
        if path.is_dir():
            intact(path)  # what is measured is what was exported
    most = max(os.cpu_count() or 1, _MOST_THREADS)
    if max(counts) > most:
        raise UserError(f"--threads {threads}: expected at most {most}; this machine has {os.cpu_count()} processors")
    if report is not None and report.suffix.lower() != ".html":
        raise UserError(f"--report {report}: expected a path that ends in .html")
    if bool(data) != bool(models):
        raise UserError(
            "--data and --model work together; expected the data, and the model that the bundle was made from"
        )
    phone_options = serial or benchmark_model or affinity or delegate != "xnnpack"
    if phone_options and not adb:
        raise UserError("--serial, --benchmark-model, --delegate and --affinity are for a phone; expected --adb")
    if (adb or ios or ios_params) and (lengths is not None or mlperf or len(counts) > 1):
        raise UserError(
            "--lengths, --mlperf and several --threads are for this machine; expected one full row with --adb"
        )
    if adb and ios:
        raise UserError("--adb and --ios were given; expected one of them")
    if ios_params is not None:
        _write_ios_params(ios_params, files, counts[0], runs)
        return
    skipped: list[str] = []
    # What may fail is done before measuring.
    if report is not None:
        optional("matplotlib", "quickstart")
    compared = _disagreements(files, data, models or []) if data else {}
    if ios:
        measured = _from_ios(files, ios, counts[0], profile)
    elif adb:
        measured = _on_phone(files, serial, benchmark_model, counts[0], runs, delegate, affinity, profile)
    else:
        for file in files.values():
            check_operators(operators(read_file(file), str(file)), str(file))
        asked = (None,) if lengths is None else numbers("--lengths", lengths)
        rows, skipped = _rows_that_fit(files, asked)
        for line in skipped:
            Console(stderr=True).print(line, highlight=False, soft_wrap=True)
        measured = _here(files, counts, rows, runs, mlperf, profile)
    if baseline is not None:
        _against(baseline, measured, by_tokens=lengths is not None)
    for path, found in compared.items():
        measured[path][0]["disagreements"] = found
    from tfdistill.export.bench.report.terminal import show

    single = all(len(found) == 1 for found in measured.values()) and lengths is None
    if as_json:
        print(json.dumps({str(path): found[0] if single else found for path, found in measured.items()}))
    else:
        show(measured, Console(), compared=baseline is not None)
    if report is not None:
        _write(report, measured, baseline, data, skipped, on_phone=adb, on_ios=bool(ios))


def _rows_that_fit(
    files: dict[Path, Path], asked: tuple[int | None, ...]
) -> tuple[dict[Path, tuple[int | None, ...]], list[str]]:
    """For each bundle the numbers of tokens that its file takes, and a line for each that does not take all of them.

    Raises UserError when a file takes none.
    """
    from tfdistill.export.bench.host import longest_row

    rows, skipped = {}, []
    for path, file in files.items():
        longest = longest_row(file)
        long = [count for count in asked if count is not None and longest is not None and count > longest]
        rows[path] = tuple(count for count in asked if count not in long)
        said = ", ".join(map(str, long))
        if not rows[path]:
            raise UserError(f"{path} takes {longest} word pieces; received --lengths {said}; expected one that fits")
        if long:
            skipped.append(f"{path} takes {longest} word pieces: rows of {said} are left out")
    return rows, skipped


def _here(
    files: dict[Path, Path],
    threads: tuple[int, ...],
    rows: dict[Path, tuple[int | None, ...]],
    runs: int,
    mlperf: bool,
    profile: bool,
) -> Measured:
    from tfdistill.export.bench.host import MLPERF_QUERIES, MLPERF_SECONDS, MLPERF_TURNS, Case, bench_cases
    from tfdistill.export.bench.profile import profile_file
    from tfdistill.system.console import task

    repeats, turns = (1, MLPERF_TURNS) if mlperf else (3, 1)
    cases: list[Case] = [
        (file, used, count) for path, file in files.items() for used in threads for count in rows[path]
    ]
    with task("measuring", repeats * turns * len(cases) + profile * len(files)) as advance:
        results = iter(
            bench_cases(
                cases,
                runs=max(runs, MLPERF_QUERIES) if mlperf else runs,
                seconds=MLPERF_SECONDS if mlperf else 0.0,
                repeats=repeats,
                turns=turns,
                progress=lambda *_: advance(),
            )
        )
        measured = {path: [next(results) for _ in range(len(threads) * len(rows[path]))] for path in files}
        for path, file in files.items() if profile else ():
            # The longest row with the fewest threads.
            longest = measured[path][len(rows[path]) - 1]
            longest["profile"] = profile_file(file, threads=threads[0], runs=max(runs, 30), tokens=rows[path][-1])
            advance()
    return measured


def _on_phone(
    files: dict[Path, Path],
    serial: str | None,
    tool: Path | None,
    threads: int,
    runs: int,
    delegate: str,
    affinity: str | None,
    profile: bool,
) -> Measured:
    from tfdistill.export.bench.phone.android import bench_on_phone, find_phone
    from tfdistill.system.console import task

    phone = find_phone(serial)
    with task("measuring on the phone", None) as advance:
        results = bench_on_phone(
            list(files.values()),
            phone,
            tool=tool,
            threads=threads,
            runs=runs,
            delegate=delegate,
            affinity=affinity,
            profile=profile,
            progress=lambda said: advance(0, note=said),
        )
    return {path: [found] for path, found in zip(files, results, strict=True)}


def _from_ios(files: dict[Path, Path], results: list[Path], threads: int, profile: bool) -> Measured:
    from tfdistill.export.bench.phone.ios import read_result

    if len(results) != len(files):
        raise UserError(
            f"{len(results)} results of --ios and {len(files)} bundles were given; expected one --ios for each bundle, in order"
        )
    measured = {
        path: [read_result(result, file, threads=threads)]
        for (path, file), result in zip(files.items(), results, strict=True)
    }
    if profile:
        without = [found[0]["phone"]["result"] for found in measured.values() if "profile" not in found[0]]
        if without:
            raise UserError(
                f"{without[0]} has no table of operators; expected the log of an app built with -p and enable_op_profiling"
            )
    return measured


def _write_ios_params(path: Path, files: dict[Path, Path], threads: int, runs: int) -> None:
    from tfdistill.export.bench.phone.ios import write_params

    if len(files) != 1:
        raise UserError(f"--ios-params is for one bundle; received {len(files)}")
    (file,) = files.values()
    write_params(path, file, threads=threads, runs=runs)
    Console().print(
        f"{path}: put it and {file} into the app's benchmark_data, build, run; then: tfdistill bench … --ios RESULT",
        highlight=False,
        soft_wrap=True,
    )


def _against(baseline: Path, measured: Measured, by_tokens: bool) -> None:
    """Say how much faster than the baseline's each is: of rows of so many tokens, or else of full ones."""

    def middle(found: dict[str, Any]) -> float:
        latency = found["latency_ms"]
        return latency.get("median", latency["mean"])

    def case(found: dict[str, Any]) -> tuple[int, int | None]:
        return found["threads"], found["tokens"] if by_tokens else None

    of_baseline = {case(found): found for found in measured[baseline]}
    for results in measured.values():
        for found in results:
            if case(found) in of_baseline:  # a baseline that takes shorter rows was not measured with all
                found["faster"] = middle(of_baseline[case(found)]) / middle(found)


def _disagreements(files: dict[Path, Path], data: str | None, sources: list[str]) -> dict[Path, dict[str, Any]]:
    """For each bundle that one of the models fits, the texts on which both differ most. Imports TensorFlow."""
    from tfdistill.system.tensorflow_import import import_tensorflow

    import_tensorflow()
    from tfdistill.export.bench.disagreements import worst_disagreements
    from tfdistill.export.tflite.runtime import TFLiteModel
    from tfdistill.models.load import data_for, load
    from tfdistill.models.predict import measure
    from tfdistill.system.console import task

    loaded = [(source, load(source)) for source in sources]
    found: dict[Path, dict[str, Any]] = {}
    for path, file in files.items():
        fitting = [(source, model) for source, model in loaded if _fits(model, path)]
        if not fitting:
            continue
        source, model = fitting[0]
        text = data_for(model, source, data or "")
        if text.per_token:
            raise UserError(f"--data {data}: expected texts with a class or a number each")
        if "dev" not in text.splits:
            raise UserError(f"--data {data}: expected a dev split, found {', '.join(text.splits)}")
        split = text.splits["dev"]
        tflite = TFLiteModel(file)
        encoded, logits, scores = measure(model, text, "dev", max_length=tflite.length)
        with task(f"{path.name}: dev", len(split)) as advance:
            done = 0

            def progress(rows: int, step: Any = advance) -> None:
                nonlocal done
                step(rows - done)
                done = rows

            given = tflite.predict(encoded, progress=progress)
        found[path] = {
            "split": "dev",
            **worst_disagreements(
                model.task,
                split,
                tflite.expected(logits),
                given,
                lengths=encoded.lengths,
                scores=scores,
                label_names=model.label_names,
            ),
        }
    if not found:
        raise UserError(
            f"none of the files was made from {', '.join(sources)}: another family, number of parameters, vocabulary or labels; "
            "expected a bundle, and the model it was made from"
        )
    return found


def _fits(model: Any, bundle: Path) -> bool:
    """Whether a bundle was made from such a model: its family, parameters, labels and vocabulary."""
    from tfdistill.export.convert.convert import parameters_of

    try:
        said = json.loads((bundle / "manifest.json").read_text("utf-8"))
        vocabulary = (bundle / "vocab.txt").read_text("utf-8").split("\n")
    except (OSError, ValueError):
        return False
    pieces = [*model.tokenizer.vocabulary]
    names = list(model.label_names or said.get("label_names", []))
    theirs = tuple(said.get(key) for key in ("family", "parameters", "label_names"))
    same = theirs == (model.family, parameters_of(model), names)
    return same and vocabulary[: len(pieces)] == pieces


def _write(
    path: Path,
    measured: Measured,
    baseline: Path | None,
    data: str | None,
    skipped: list[str],
    *,
    on_phone: bool,
    on_ios: bool,
) -> None:
    from tfdistill.export.bench.host import machine
    from tfdistill.export.bench.report.bench_page import write_bench_report

    first = next(iter(measured.values()))[0]
    versions = {name: metadata.version(name) for name in ("tfdistill", "ai-edge-litert")}
    where = "on an iPhone" if on_ios else "on this machine"
    if on_phone:
        where = f"on {first['phone']['maker']} {first['phone']['model']}"
    write_bench_report(
        measured,
        path,
        title=f"Models {where}",
        baseline=baseline,
        notes=[f"{line}." for line in skipped],
        facts={
            "Phone": first.get("phone"),
            "Machine": None if "phone" in first else machine(),
            "Versions": versions,
            "Data": data,
        },
        command=" ".join(["tfdistill", *sys.argv[1:]]),
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    Console(stderr=True).print(
        f"{path}: the page, its numbers in {path.with_suffix('.json')}", highlight=False, soft_wrap=True
    )
