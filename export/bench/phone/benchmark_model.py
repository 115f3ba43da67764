"""Write the options of TensorFlow Lite's `benchmark_model` and read its output, on Android and iOS.

Experimental: the forms of the output are those in the tool's source, never seen on a phone.
"""

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

# A line of the table of operators: fields separated by tabs; older builds have a column [start].
_ROW = re.compile(
    rf"^\t *(?P<kind>[^\t]+)(?:\t *{_NUMBER})?\t *{_NUMBER}\t *(?P<ms>[-+.\deE]+)"
    rf"\t *{_NUMBER}%\t *{_NUMBER}%\t *{_NUMBER}\t *(?P<calls>\d+)\t(?P<name>.*)$"
)
# The same line as CSV, where a kind may contain commas.
_CSV_ROW = re.compile(
    rf"^(?P<kind>.+?)(?:, {_NUMBER})?, {_NUMBER}, (?P<ms>[-+.\deE]+), {_NUMBER}%, {_NUMBER}%, {_NUMBER}, "
    r"(?P<calls>\d+), (?P<name>.*)$"
)


def parse(output: str, name: str) -> dict[str, Any]:
    """Read the statistics that `benchmark_model` printed.

    The tool prints them in µs, for warm-up and then for the runs: `count=50 first=… curr=… min=… max=… avg=… std=…`. Newer
    builds add `p5=… median=… p95=…`, older ones print `curr=` before `count=`, and runs of equal time give
    `count=50 curr=…(all same)`.

    Args:
        output: all that the tool printed.
        name: of the measured file, for messages.

    Returns:
        latency_ms (median, p95, min, max, mean, std; ms), runs, warmup, init_ms, first_ms, memory_mb and delegation, None
        where the output does not have them.

    Raises:
        UserError: there are no statistics of runs, or the tool ignored an option.
    """
    unknown = re.search(r"Unconsumed cmdline flags:.*", output)
    if unknown:
        raise UserError(f"benchmark_model does not know all options ({unknown[0][:200]}). Use a newer build")
    lines = [
        dict(re.findall(r"(\w+)=\s*([-+.\deE]+)", line))
        for line in output.splitlines()
        if "count=" in line and "Timings (" not in line and "Memory (" not in line  # sums over operators
    ]
    counted = [line for line in lines if int(line.get("count", 0))]
    if len(counted) < 2:
        errors = [line.strip() for line in output.splitlines() if "ERROR" in line or "Fail" in line]
        raise UserError(
            f"benchmark_model did not measure {name}: {errors[-1][:300] if errors else 'it printed no runs'}"
        )
    last = {key: float(value) for key, value in counted[-1].items()}
    runs, warmup = int(last.pop("count")), int(counted[-2]["count"])
    if "avg" not in last:  # all the same
        last = dict.fromkeys(("min", "max", "avg", "median", "p95"), last["curr"]) | {"std": 0.0}
    names = {"median": "median", "p95": "p95", "min": "min", "max": "max", "avg": "mean", "std": "std"}
    latency = {key: last[printed] / 1e3 for printed, key in names.items() if printed in last}
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
    """Read the operators that `benchmark_model --enable_op_profiling=true` printed.

    It reads the tables in run order, in all forms that builds print (with and without `[start]`, as a table or, with
    `--op_profiling_output_mode=csv`, as CSV). Operators within a delegate are in the same table, or in a separate one
    ("Delegate internal"); then they replace the delegate's node.

    Args:
        output: all that the tool printed.
        name: of the measured file, for messages.

    Returns:
        A profile as `profile_of` returns it; None without a table.

    Raises:
        UserError: as for `parse`.
    """
    runs = output.rpartition("Operator-wise Profiling Info for Regular Benchmark Runs:")[2]
    nodes: list[Operator] = []
    internal: list[Operator] = []
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
        if inside:  # their kind is always DelegateOpInvoke
            kind = label.removeprefix(_WITHIN).rpartition(":")[0] or kind
        calls = max(int(match["calls"]), 1)  # some builds print 0
        (internal if inside else nodes).append(
            Operator(kind, DELEGATE if delegated else BUILT_IN, float(match["ms"]) * calls)
        )
    if internal:
        nodes = [node for node in nodes if "Delegate" not in node.kind] + internal
    if not nodes:
        return None
    measured = parse(output, name)
    return profile_of(nodes, total_ms=measured["latency_ms"]["mean"], runs=measured["runs"])


def input_options(path: Path) -> tuple[dict[str, str], int]:
    """Return options for a full example of ids that every vocabulary has, and its length in tokens.

    Without them the tool draws ids from all int32 numbers.

    Raises:
        UserError: the file is damaged or has other inputs.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = read_file(path)
    operators(content, path.name)  # raises where the flatbuffer is damaged
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    signatures = {each.signatureKey.decode(): each.subgraphIndex for each in model.signatureDefs or []}
    graph = model.subgraphs[signatures.get(LONGEST, 0)]
    tensors = [graph.tensors[index] for index in graph.inputs]  # in the tool's order
    actual = [tensor.name.decode() for tensor in tensors]
    names = [next((name for name in INPUTS if name in each), "") for each in actual]
    if not all(names) or any(tensor.shape is None or len(tensor.shape) != 2 for tensor in tensors):
        raise UserError(
            f"{path} has the inputs {', '.join(actual)}. They must be {', '.join(INPUTS)}, int32 [1, length]"
        )
    ranges = {"token_ids": "0,3", "padding_mask": "1,1", "segment_ids": "0,0"}
    options = {
        "input_layer": ",".join(names),
        "input_layer_shape": ":".join(",".join(str(int(n)) for n in tensor.shape) for tensor in tensors),
        "input_layer_value_range": ":".join(f"{name},{ranges[name]}" for name in names),
    }
    if len(signatures) > 1:
        options["signature_to_run_for"] = LONGEST
    return options, int(tensors[0].shape[1])
