"""What TensorFlow Lite's `benchmark_model` is given, on a phone of whatever kind, and what it prints. Imports no TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.export.bench.profile import BUILT_IN, DELEGATE, Operator, profile_of
from tfdistill.export.tflite.operators import operators, read_file
from tfdistill.export.tflite.runtime import INPUTS, LONGEST

_NUMBER = r"([-+.\deE]+)"
_WITHIN = "Delegate/"

# A line of the table of operators: fields behind tabs, the column [start] in older builds only.
_ROW = re.compile(
    rf"^\t *(?P<kind>[^\t]+)(?:\t *{_NUMBER})?\t *{_NUMBER}\t *(?P<ms>[-+.\deE]+)"
    rf"\t *{_NUMBER}%\t *{_NUMBER}%\t *{_NUMBER}\t *(?P<calls>\d+)\t(?P<name>.*)$"
)
# The same as CSV, where a kind may hold commas.
_CSV_ROW = re.compile(
    rf"^(?P<kind>.+?)(?:, {_NUMBER})?, {_NUMBER}, (?P<ms>[-+.\deE]+), {_NUMBER}%, {_NUMBER}%, {_NUMBER}, "
    r"(?P<calls>\d+), (?P<name>.*)$"
)


def parse(output: str, name: str) -> dict[str, Any]:
    """What `benchmark_model` printed, in milliseconds and megabytes.

    It prints its statistics in µs twice, for warm-up and for the runs: `count=50 first=… curr=… min=… max=… avg=… std=…`, newer
    builds with `p5=… median=… p95=…` behind, older ones with `curr=` before `count=`, and `count=50 curr=…(all same)` for runs
    that all took the same time. Whatever else it logs stands on other lines.

    Raises UserError when there are no statistics of runs, or the tool left an option out.
    """
    unknown = re.search(r"Unconsumed cmdline flags:.*", output)
    if unknown:
        raise UserError(f"benchmark_model does not know all options ({unknown[0][:200]}); expected a newer build")
    found = [
        dict(re.findall(r"(\w+)=\s*([-+.\deE]+)", line))
        for line in output.splitlines()
        if "count=" in line and "Timings (" not in line and "Memory (" not in line  # those are sums over operators
    ]
    said = [line for line in found if int(line.get("count", 0))]
    if len(said) < 2:
        errors = [line.strip() for line in output.splitlines() if "ERROR" in line or "Fail" in line]
        raise UserError(
            f"benchmark_model did not measure {name}: {errors[-1][:300] if errors else 'it printed no runs'}"
        )
    last = {key: float(value) for key, value in said[-1].items()}
    runs, warmup = int(last.pop("count")), int(said[-2]["count"])
    if "avg" not in last:  # all the same
        last = dict.fromkeys(("min", "max", "avg", "median", "p95"), last["curr"]) | {"std": 0.0}
    names = {"median": "median", "p95": "p95", "min": "min", "max": "max", "avg": "mean", "std": "std"}
    latency = {ours: last[theirs] / 1e3 for theirs, ours in names.items() if theirs in last}
    result: dict[str, Any] = {"latency_ms": latency, "runs": runs, "warmup": warmup}
    for key, pattern, scale in (
        ("init_ms", rf"Init: {_NUMBER}", 1e-3),
        ("first_ms", rf"First inference: {_NUMBER}", 1e-3),
        ("memory_mb", rf"Memory footprint delta.*overall={_NUMBER}", 1.0),
    ):
        match = re.search(pattern, output)
        result[key] = float(match[1]) * scale if match else None
    delegation = re.search(r"^.*?((?:Explicitly applied|Though) .*delegate.*)$", output, re.MULTILINE)
    result["delegation"] = delegation[1].strip() if delegation else None
    return result


def parse_profile(output: str, name: str) -> dict[str, Any] | None:
    """What `benchmark_model --enable_op_profiling=true` printed of its operators, as `profile_of` gives it; None without a table.

    Read from the tables in run order, in the forms that builds have printed (with and without `[start]`, as a table or, with
    `--op_profiling_output_mode=csv`, as CSV). Operators within a delegate stand in the table itself, or in one of their own
    ("Delegate internal") and then take the place of the delegate's node.

    Raises UserError as `parse`.
    """
    runs = output.rpartition("Operator-wise Profiling Info for Regular Benchmark Runs:")[2]
    found: dict[bool, list[Operator]] = {False: [], True: []}
    inside = listed = False
    for line in runs.splitlines():
        if "=====" in line:
            listed = "Run Order" in line
        elif "Delegate internal" in line:
            inside = True
        match = (_ROW.match(line) or _CSV_ROW.match(line)) if listed else None
        if match is None or match["kind"].strip() == "[node type]":
            continue
        kind, label = match["kind"].strip(), match["name"].strip()
        delegated = inside or label.startswith(_WITHIN)
        if inside:  # all of them are called DelegateOpInvoke; the name tells them apart
            kind = label.removeprefix(_WITHIN).rpartition(":")[0] or kind
        calls = max(int(match["calls"]), 1)  # some builds say 0
        found[inside].append(Operator(kind, DELEGATE if delegated else BUILT_IN, float(match["ms"]) * calls))
    nodes, internal = found[False], found[True]
    if internal:
        nodes = [node for node in nodes if "Delegate" not in node.kind] + internal
    if not nodes:
        return None
    measured = parse(output, name)
    return profile_of(nodes, total_ms=measured["latency_ms"]["mean"], runs=measured["runs"])


def input_options(path: Path) -> tuple[dict[str, str], int]:
    """Options for a full row of ids that every vocabulary has (by default the tool draws from all int32 numbers), and its length.

    Raises UserError for files that are damaged or have other inputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = read_file(path)
    operators(content, path.name)  # raises where the flatbuffer is damaged
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    signatures = {each.signatureKey.decode(): each.subgraphIndex for each in model.signatureDefs or []}
    graph = model.subgraphs[signatures.get(LONGEST, 0)]
    tensors = [graph.tensors[index] for index in graph.inputs]  # in the order in which the tool counts them
    found = [tensor.name.decode() for tensor in tensors]
    names = [next((name for name in INPUTS if name in each), "") for each in found]
    if not all(names) or any(tensor.shape is None or len(tensor.shape) != 2 for tensor in tensors):
        raise UserError(f"{path} has the inputs {', '.join(found)}; expected {', '.join(INPUTS)}, int32 [1, length]")
    ranges = {"token_ids": "0,3", "padding_mask": "1,1", "segment_ids": "0,0"}
    options = {
        "input_layer": ",".join(names),
        "input_layer_shape": ":".join(",".join(str(int(n)) for n in tensor.shape) for tensor in tensors),
        "input_layer_value_range": ":".join(f"{name},{ranges[name]}" for name in names),
    }
    if len(signatures) > 1:
        options["signature_to_run_for"] = LONGEST
    return options, int(tensors[0].shape[1])
