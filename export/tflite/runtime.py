"""Run .tflite files as an app does, one row of a fixed length at a time. Imports no TensorFlow."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np

from tfdistill.errors import UserError

INPUTS = ("token_ids", "padding_mask", "segment_ids")
LOGITS, PROBABILITIES = "logits", "probabilities"
LONGEST = "serving_default"
# What a file that takes text needs besides built-in operators: TensorFlow Text's tokenizer.
TEXT_OPERATORS = ("custom:FastBertNormalize", "custom:FastWordpieceTokenizeWithOffsets")

# Of a probability, so that its logarithm is finite.
_LEAST = np.float32(1e-30)

_Ids = Sequence[int] | np.ndarray


class EncodedRows(Protocol):
    """What `tfdistill.text.encoded.Encoded` has: row i lies at offsets[i]:offsets[i + 1]."""

    @property
    def token_ids(self) -> np.ndarray: ...
    @property
    def segment_ids(self) -> np.ndarray: ...
    @property
    def offsets(self) -> np.ndarray: ...


def signature_name(length: int, longest: int) -> str:
    """What a file calls the signature that takes `length` tokens, when its longest one takes `longest`."""
    return LONGEST if length == longest else f"length_{length}"


def read_file(path: str | os.PathLike) -> bytes:
    """The bytes of a .tflite file. Raises UserError when it is missing or does not begin like one."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; expected a .tflite file") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a .tflite file") from error
    if content[4:8] != b"TFL3":
        raise UserError(f"{path} is no .tflite file, or damaged ({len(content)} bytes); export it again")
    return content


class Tensor(NamedTuple):
    """Type ("FLOAT32", "INT8" and so on), shape, and whether its values lie in the file."""

    type: str
    shape: tuple[int, ...]
    constant: bool


class Operator(NamedTuple):
    """Builtin name, or "custom:NAME"; version; inputs and outputs, of which optional ones that are left out are missing."""

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_operators(content: bytes, name: str = "the file") -> list[Operator]:
    """All operators of all subgraphs. Raises UserError when the flatbuffer is damaged."""
    from ai_edge_litert import schema_py_generated as schema

    def by_code(kind: type) -> dict[int, str]:
        return {code: key for key, code in vars(kind).items() if not key.startswith("_")}

    names, types, found = by_code(schema.BuiltinOperator), by_code(schema.TensorType), []
    try:
        model = schema.Model.GetRootAs(content, 0)
        codes = [model.OperatorCodes(n) for n in range(model.OperatorCodesLength())]
        for subgraph in (model.Subgraphs(n) for n in range(model.SubgraphsLength())):
            tensors = []
            for each in (subgraph.Tensors(n) for n in range(subgraph.TensorsLength())):
                shape = tuple(each.Shape(n) for n in range(each.ShapeLength()))
                buffer = model.Buffers(each.Buffer())
                tensors.append(Tensor(types[each.Type()], shape, buffer.DataLength() > 0 or buffer.Offset() > 1))
            for each in (subgraph.Operators(n) for n in range(subgraph.OperatorsLength())):
                code = codes[each.OpcodeIndex()]
                builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
                custom = builtin == schema.BuiltinOperator.CUSTOM
                kind = f"custom:{code.CustomCode().decode()}" if custom else names[builtin]
                inputs = [tensors[each.Inputs(n)] for n in range(each.InputsLength()) if each.Inputs(n) >= 0]
                outputs = [tensors[each.Outputs(n)] for n in range(each.OutputsLength())]
                found.append(Operator(kind, code.Version(), tuple(inputs), tuple(outputs)))
    except Exception as error:  # a damaged flatbuffer fails in many ways, all of them meaning the same
        raise UserError(f"{name} is damaged ({type(error).__name__}: {error}); export it again") from error
    return found


def operators(content: bytes, name: str = "the file") -> dict[str, int]:
    """How often each operator occurs, over all subgraphs; those that are not built in as "custom:NAME".

    Raises UserError when the flatbuffer is damaged.
    """
    return dict(sorted(Counter(each.name for each in read_operators(content, name)).items()))


def check_operators(counts: dict[str, int], name: str = "the file") -> None:
    """Raises UserError naming operators that a plain interpreter does not have."""
    if counts.keys() & set(TEXT_OPERATORS):
        raise UserError(
            f"{name} takes text, with TensorFlow Text's operators, which no plain interpreter has; expected the model.tflite that "
            "lies beside it"
        )
    custom = [key.removeprefix("custom:") for key in counts if key.startswith("custom:")]
    if custom:
        raise UserError(
            f"{name} needs the operators {', '.join(custom)}, which no plain interpreter has; export it again"
        )


class TFLiteModel:
    """A .tflite text model with int32 [1, length] inputs and float32 `logits`, [1, C] or, for each token, [1, length, C].

    A file for MediaPipe gives `probabilities` in their place, whose logarithms are then what is called logits here.
    `output` is the one or the other. `lengths` are those of its signatures, from the shortest to the longest, which is `length`.

    Args:
        path: the file.
        threads: threads that one inference may use.

    Raises:
        UserError: the file is missing, damaged, or has other inputs.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        if threads < 1:
            raise UserError(f"threads is {threads}; expected at least 1")
        self.path, self.threads = Path(path), threads
        self._content = read_file(path)
        self._lock = Lock()
        interpreter = self._interpreter()
        self.inputs, self.length, self.output = self._signature(interpreter, LONGEST)
        found = {self.length: LONGEST}
        for name in interpreter.get_signature_list().keys() - {LONGEST}:
            inputs, length, output = self._signature(interpreter, name)
            if (
                (inputs, output) != (self.inputs, self.output)
                or name != signature_name(length, self.length)
                or length > self.length
            ):
                raise UserError(f"{self.path} has a signature '{name}' of {length} tokens; export it again")
            found[length] = name
        self._names = dict(sorted(found.items()))
        self.lengths = tuple(self._names)
        self._idle = [self._runners(interpreter)]

    @property
    def per_token(self) -> bool:
        """Whether there are logits for each token, or only for each text."""
        return len(self._idle[0][self.length].get_output_details()[self.output]["shape"]) == 3

    def _interpreter(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            interpreter = Interpreter(model_content=self._content, num_threads=self.threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{self.path} does not load ({reason}); the file is damaged, export it again") from error
        return interpreter

    def _runners(self, interpreter: Any) -> dict[int, Any]:
        return {length: interpreter.get_signature_runner(name) for length, name in self._names.items()}

    def _signature(self, interpreter: Any, name: str) -> tuple[tuple[str, ...], int, str]:
        """(inputs, length, output)."""
        said = interpreter.get_signature_list().get(name, {"inputs": [], "outputs": []})
        names = tuple(name for name in INPUTS if name in said["inputs"])
        if (
            set(said["inputs"]) - set(INPUTS)
            or names[:2] != INPUTS[:2]
            or said["outputs"] not in ([LOGITS], [PROBABILITIES])
        ):
            raise UserError(
                f"{self.path} has the signature {said['inputs']} → {said['outputs']}; expected {list(INPUTS)} → ['logits']"
            )
        details = interpreter.get_signature_runner(name).get_input_details()
        shapes = {tuple(int(n) for n in details[name]["shape"]) for name in names}
        shape = shapes.pop()
        if shapes or len(shape) != 2 or shape[0] != 1 or any(details[name]["dtype"] is not np.int32 for name in names):
            raise UserError(f"{self.path} has inputs of shape {shape}; expected int32 [1, length] for all of them")
        return names, shape[1], said["outputs"][0]

    def expected(self, logits: np.ndarray) -> np.ndarray:
        """What `predict` should give where the model it was made from gives `logits` (N, C) or (N, L, C)."""
        if self.output == LOGITS:
            return logits
        below = logits - logits.max(axis=-1, keepdims=True)
        return np.maximum(below - np.log(np.exp(below).sum(axis=-1, keepdims=True)), np.log(_LEAST))

    def fitting(self, tokens: int) -> int:
        """The shortest of `lengths` that a row of so many tokens fits in.

        Raises UserError when it is longer than all of them.
        """
        for length in self.lengths:
            if tokens <= length:
                return length
        raise UserError(f"a row has {tokens} tokens; {self.path} takes {self.length} at most")

    def predict(
        self, rows: EncodedRows, *, workers: int = 2, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Logits (N, C) or (N, length, C) float32 of a tokenized corpus. Each row goes to the shortest signature it fits in.

        Args:
            rows: the corpus, such as an `Encoded`.
            workers: interpreters that work side by side, each in a thread of its own.
            progress: called with the number of rows done so far.

        Raises:
            UserError: rows are longer than the file's inputs, or the file fails on them.
        """
        lengths = np.diff(rows.offsets)
        long = int((lengths > self.length).sum())
        if long:
            raise UserError(
                f"{long} of {len(lengths)} rows are longer than {self.path}'s {self.length} tokens (the longest has "
                f"{int(lengths.max())}); tokenize with max_length={self.length}, or export with a larger length"
            )
        count = len(lengths)
        with self._lock:  # interpreters are kept for the next call, and one serves one thread at a time
            while len(self._idle) < min(max(workers, 1), max(count, 1)):
                self._idle.append(self._runners(self._interpreter()))
            interpreters = self._idle[: max(workers, 1)]
            details = interpreters[0][self.length].get_output_details()[self.output]
            logits = np.zeros((count, *(int(n) for n in details["shape"][1:])), np.float32)
            done, counting = 0, Lock()

            def work(start: int, runners: dict[int, Any]) -> None:
                nonlocal done
                for row in range(start, count, len(interpreters)):
                    span = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
                    found = self._run(runners, rows.token_ids[span], rows.segment_ids[span])
                    if found.ndim == 1:
                        logits[row] = found
                    else:
                        logits[row, : len(found)] = found
                    with counting:
                        done += 1
                        if progress is not None and (done % 32 == 0 or done == count):
                            progress(done)

            try:
                with ThreadPoolExecutor(len(interpreters)) as pool:
                    list(pool.map(work, range(len(interpreters)), interpreters))
            except (ValueError, RuntimeError) as error:
                reason = str(error).strip().split("\n")[0]
                raise UserError(
                    f"{self.path} failed on a row ({reason}); expected token ids of the vocabulary it was made with"
                ) from error
        return logits

    def row(self, token_ids: _Ids, segment_ids: _Ids | None = None) -> np.ndarray:
        """Logits (C,) or (length, C) of one text, as an app asks for them; `length` is that of the signature.

        Raises UserError when the row is longer than the file takes.
        """
        segments = np.zeros(len(token_ids), np.int32) if segment_ids is None else segment_ids
        with self._lock:
            return self._run(self._idle[0], token_ids, segments)

    def _run(self, runners: dict[int, Any], token_ids: _Ids, segment_ids: _Ids) -> np.ndarray:
        size = len(token_ids)
        length = self.fitting(size)
        values = {name: np.zeros((1, length), np.int32) for name in self.inputs}
        values["token_ids"][0, :size] = token_ids
        values["padding_mask"][0, :size] = 1
        if "segment_ids" in values:
            values["segment_ids"][0, :size] = segment_ids
        found = runners[length](**values)[self.output][0]
        return found if self.output == LOGITS else np.log(np.maximum(found, _LEAST))


class Rows:
    """A few rows as `EncodedRows`, made from lists of ids.

    Args:
        token_ids: one list for each row.
        segment_ids: likewise; zeros by default.
    """

    def __init__(self, token_ids: Sequence[_Ids], segment_ids: Sequence[_Ids] | None = None):
        if segment_ids is None:
            segment_ids = [np.zeros(len(row), np.int32) for row in token_ids]
        self.token_ids = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in token_ids)])
        self.segment_ids = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in segment_ids)])
        self.offsets = np.concatenate([[0], np.cumsum([len(row) for row in token_ids], dtype=np.int64)])
