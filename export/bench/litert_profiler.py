"""Profile one .tflite file with the profiler in LiteRT's C library, in a process for `profile_file`.

python -m tfdistill.export.bench.litert_profiler FILE THREADS RUNS WARMUP TOKENS    (TOKENS 0: fill the longest signature)

It prints one line of JSON. This is the only module that calls `libLiteRt` through ctypes, and it is fragile: LiteRT's Python
classes do not offer the profiler, so function names, structures and constants are copied from the headers of ai-edge-litert 2.3
(litert/c/litert_profiler.h, litert_compiled_model.h, litert_opaque_options.h), which pyproject.toml pins. Another version may
refuse or crash; then `profile_file` reports it, and everything but `bench --profile` still works.
"""

from __future__ import annotations

import ctypes
import json
import sys
import tempfile
import time
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.bench.host import row_of, signature_for, signature_lengths
from tfdistill.export.bench.profile import BUILT_IN, DELEGATE
from tfdistill.export.bench.stateful import alone, has_state, without_state
from tfdistill.export.tflite.runtime import INPUTS

_CPU = 1
_READ_WRITE = 2
# Kinds of events (litert_profiler_event.h).
_RUNTIME, _BUILT_IN, _WITHIN_DELEGATE = 1, 1 << 1, (1 << 2, 1 << 3)
_TENSOR_TYPE_BYTES = 1024  # more than a LiteRtRankedTensorType has; we only pass it on


class _Event(ctypes.Structure):
    """Mirror ProfiledEventData."""

    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory", c_size_t * 6),
        ("index", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    )


class Library:
    """Call functions of `libLiteRt`, and raise UserError where they are missing or fail."""

    def __init__(self) -> None:
        import ai_edge_litert

        package = Path(ai_edge_litert.__file__).parent
        library = next((path for end in ("so", "dylib") for path in package.glob(f"libLiteRt.{end}")), None)
        if library is None:
            raise UserError("this build of ai-edge-litert has no libLiteRt")
        self._library = ctypes.CDLL(str(library))

    def __call__(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, f"LiteRt{name}")
        except AttributeError as error:
            raise UserError(f"this build of LiteRT has no LiteRt{name}") from error
        status = function(*arguments)
        if status:
            raise UserError(f"LiteRt{name} failed with status {status}")

    def handle(self, name: str, *arguments: Any) -> c_void_p:
        """Return the handle that a call stores in its last argument."""
        result = c_void_p()
        self(name, *arguments, byref(result))
        return result

    def count(self, name: str, *arguments: Any) -> int:
        """Return the number that a call stores in its last argument."""
        result = c_size_t()
        self(name, *arguments, byref(result))
        return result.value


class Profiled:
    """Compile a file for the processor with its profiler on. Nothing is freed before the process ends.

    Args:
        path: the file.
        threads: threads of one inference.
        tokens: length of the example; 0 fills the longest signature.

    Raises:
        UserError: LiteRT refuses something, or the example does not fit.
    """

    def __init__(self, path: Path, threads: int, tokens: int):
        self._lite_rt = lite_rt = Library()
        self._environment = lite_rt.handle("CreateEnvironment", 0, None)
        self._model = lite_rt.handle("CreateModelFromFile", self._environment, str(path).encode())
        options = lite_rt.handle("CreateOptions")
        lite_rt("SetOptionsHardwareAccelerators", options, _CPU)
        self._kept: list[Any] = [ctypes.CFUNCTYPE(None, c_void_p)(lambda _: None)]  # LiteRT must not free our texts
        for name, text in (
            (b"runtime_options_string", b"enable_profiling = true\n"),
            (b"xnnpack", b"num_threads = %d\n" % threads),
        ):
            payload = ctypes.create_string_buffer(text)
            self._kept.append(payload)
            more = lite_rt.handle("CreateOpaqueOptions", name, ctypes.cast(payload, c_void_p), self._kept[0])
            lite_rt("AddOpaqueOptions", options, more)
        self._compiled = lite_rt.handle("CreateCompiledModel", self._environment, self._model, options)
        self._profiler = lite_rt.handle("CompiledModelGetProfiler", self._compiled)
        lengths = signature_lengths(path)
        fitting = [length for length in lengths if length >= (tokens or max(lengths))]
        if not fitting:
            raise UserError(f"it accepts {max(lengths, default=0)} tokens. An example of {tokens} does not fit")
        self.length, self.tokens = min(fitting), tokens or min(fitting)
        self._number = c_size_t(lengths.index(self.length))
        self._signature = lite_rt.handle("GetModelSignature", self._model, self._number)
        self._inputs, self._outputs = self._buffers("Input"), self._buffers("Output")
        self._fill()

    def run(self) -> None:
        """Run one inference."""
        self._lite_rt(
            "RunCompiledModel",
            self._compiled,
            self._number,
            c_size_t(len(self._inputs)),
            self._inputs,
            c_size_t(len(self._outputs)),
            self._outputs,
        )

    def profiled_run(self) -> tuple[float, list[tuple[str, bool, int, float]]]:
        """Run one inference. Return its milliseconds, and (kind, within a delegate?, its number, ms) of each operator."""
        self._lite_rt("StartProfiler", self._profiler)  # clears the last run
        self.run()
        self._lite_rt("StopProfiler", self._profiler)
        number = c_int()
        self._lite_rt("GetNumProfilerEvents", self._profiler, byref(number))
        events = (_Event * number.value)()
        if number.value:
            self._lite_rt("GetProfilerEvents", self._profiler, number, events)
        whole = [event for event in events if event.kind == _RUNTIME and event.tag == b"Invoke"]
        operators = [
            (event.tag.decode(), event.kind != _BUILT_IN, int(event.index), event.elapsed_us / 1e3)
            for event in events
            if event.kind == _BUILT_IN or event.kind in _WITHIN_DELEGATE
        ]
        if len(whole) != 1 or not operators:
            raise UserError("LiteRT's profiler reported no operators")
        return whole[0].elapsed_us / 1e3, operators

    def output(self) -> np.ndarray:
        """Return the first output of the last run, float32, flat."""
        values = np.empty(self._bytes(self._outputs[0]) // 4, np.float32)
        self._copy(self._outputs[0], values, out=True)
        return values

    def _buffers(self, side: str) -> Any:
        """Allocate buffers for the inputs or outputs of the signature."""
        lite_rt = self._lite_rt
        buffers = (c_void_p * lite_rt.count(f"GetNumSignature{side}s", self._signature))()
        for each in range(len(buffers)):
            tensor = lite_rt.handle(f"GetSignature{side}TensorByIndex", self._signature, c_size_t(each))
            tensor_type = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
            lite_rt("GetRankedTensorType", tensor, tensor_type)
            place = (self._compiled, self._number, c_size_t(each))
            needs = lite_rt.handle(f"GetCompiledModel{side}BufferRequirements", *place)
            create = ("CreateManagedTensorBufferFromRequirements", self._environment, tensor_type, needs)
            buffers[each] = lite_rt.handle(*create).value
        return buffers

    def _fill(self) -> None:
        """Write the example that `bench_file` measures, and noise in place of operators that were cut out."""
        row = row_of(INPUTS, self.tokens, self.length)
        for number, buffer in enumerate(self._inputs):
            name = c_char_p()
            self._lite_rt("GetSignatureInputName", self._signature, c_size_t(number), byref(name))
            noise = np.random.default_rng(0).normal(size=self._bytes(buffer) // 4).astype(np.float32)
            self._copy(buffer, row.get((name.value or b"").decode(), noise), out=False)

    def _bytes(self, buffer: int) -> int:
        return self._lite_rt.count("GetTensorBufferPackedSize", c_void_p(buffer))

    def _copy(self, buffer: int, values: np.ndarray, *, out: bool) -> None:
        handle = c_void_p(buffer)
        place = c_void_p()
        self._lite_rt("LockTensorBuffer", handle, byref(place), _READ_WRITE)
        target, source = (values.ctypes.data, place) if out else (place, values.ctypes.data)
        ctypes.memmove(target, source, values.nbytes)
        self._lite_rt("UnlockTensorBuffer", handle)


def _with_state(path: Path, threads: int, tokens: int) -> tuple[Any, list[tuple[str, Any]]]:
    """Return functions that time the whole file, and each (kind of) operator with a state."""
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()
    interpreter = Interpreter(model_content=content, num_threads=threads)
    run, length = signature_for(interpreter, path.name, tokens or None)
    row = row_of(run.get_input_details(), tokens or length, length)
    parts = []
    for kind, part in alone(content, length):
        single = Interpreter(model_content=part, num_threads=threads)
        single.allocate_tensors()
        (details,) = single.get_input_details()
        # LSTM kernels have a shortcut for zeros.
        values = np.random.default_rng(0).normal(size=details["shape"]).astype(details["dtype"])
        single.set_tensor(details["index"], values)
        parts.append((kind, partial(_milliseconds, single.invoke)))
    return partial(_milliseconds, run, **row), parts


def _milliseconds(run: Any, **row: np.ndarray) -> float:
    start = time.perf_counter()
    run(**row)
    return (time.perf_counter() - start) * 1e3


def _undisturbed(values: np.ndarray) -> np.ndarray:
    """Select the fastest quarter of the runs, which other processes disturbed least."""
    return values <= np.percentile(values, 25)


def measure(path: Path, threads: int, runs: int, warmup: int, tokens: int) -> dict[str, Any]:
    """Measure the operators of a file for `profile_file`."""
    content = path.read_bytes()
    whole: Any = None
    parts: list[tuple[str, Any]] = []
    if has_state(content):
        whole, parts = _with_state(path, threads, tokens)
        with tempfile.NamedTemporaryFile(suffix=".tflite") as rest:
            rest.write(without_state(content))
            rest.flush()
            file = Profiled(Path(rest.name), threads, tokens)
    else:
        file = Profiled(path, threads, tokens)
    for _ in range(warmup):
        file.profiled_run()
        for _, part in [("", whole or file.run), *parts]:
            part()
    kinds = [operator[:3] for operator in file.profiled_run()[1]]
    wholes, plains, sums, times = [], [], [], []
    for _ in range(runs):  # alternate, so that a slow moment affects all alike
        # Run each twice; the first run fills the processor's caches.
        plain = [whole() if whole else _milliseconds(file.run) for _ in range(2)][1]
        for _ in range(2):
            profiled, operators = file.profiled_run()
            alones = [part() for _, part in parts]
        if [operator[:3] for operator in operators] == kinds:
            plains.append(plain)
            wholes.append(plain if whole else profiled)
            sums.append(profiled + sum(alones))
            times.append([*(operator[3] for operator in operators), *alones])
    if not times:
        raise UserError("LiteRT's profiler reported other operators in each run")
    # Select by the sum of separately timed parts: short parts alone would be less disturbed than the long whole.
    kept, kept_plain, kept_sum = (_undisturbed(np.array(each)) for each in (wholes, plains, sums))
    means = np.array(times)[kept_sum].mean(axis=0)
    labels = [
        *((kind, DELEGATE if inside else BUILT_IN) for kind, inside, _ in kinds),
        *((kind, BUILT_IN) for kind, _ in parts),
    ]
    return {
        "total_ms": float(np.array(wholes)[kept].mean()),
        "unprofiled_ms": round(float(np.array(plains)[kept_plain].mean()), 4),
        "runs": len(wholes),
        "partitions": sum(inside and index == 0 for _, inside, index in kinds),
        "timed_alone": sorted({kind for kind, _ in parts}),
        "threads": threads,
        "tokens": file.tokens,
        "length": file.length,
        "operators": [
            {"kind": kind, "runtime": runtime, "ms": float(ms)}
            for (kind, runtime), ms in zip(labels, means, strict=True)
        ],
    }


def main() -> int:
    """Measure in this process and print. Return the exit code: 2 for a file that cannot be profiled."""
    path, *numbers = sys.argv[1:]
    try:
        print(json.dumps(measure(Path(path), *map(int, numbers))))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
