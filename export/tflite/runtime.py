"""Run .tflite files as an app does, one row of a fixed length at a time. Imports no TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.tflite.operators import read_file
from tfdistill.export.tflite.signatures import check_signatures
from tfdistill.system.native_output import without_native_stderr

INPUTS = ("token_ids", "padding_mask", "segment_ids")
LOGITS, PROBABILITIES = "logits", "probabilities"
LONGEST = "serving_default"
_LEAST = np.float32(1e-30)  # the least probability, so that its logarithm is finite

_Ids = Sequence[int] | np.ndarray


class EncodedRows(Protocol):
    """Tokenized rows such as `tfdistill.text.encoded.Encoded`; row i is offsets[i]:offsets[i + 1]."""

    @property
    def token_ids(self) -> np.ndarray: ...
    @property
    def segment_ids(self) -> np.ndarray: ...
    @property
    def offsets(self) -> np.ndarray: ...


def signature_name(length: int, longest: int) -> str:
    """Return the name of a file's signature of `length` tokens if its longest one takes `longest`."""
    return LONGEST if length == longest else f"length_{length}"


class TFLiteModel:
    """A .tflite text model with int32 [1, length] inputs and float32 `logits`: [1, C], or [1, length, C] for tokens.

    A file for MediaPipe returns `probabilities` instead; their logarithms are its logits here.

    Args:
        path: the file.
        name: what messages call it; by default the path.

    Attributes:
        inputs: names of the inputs, two or three of `INPUTS`.
        output: "logits" or "probabilities".
        length: tokens in a row of the longest signature.
        lengths: tokens in a row of each signature, ascending.

    Raises:
        UserError: the file is missing or damaged, or has other inputs or outputs.
    """

    def __init__(self, path: str | os.PathLike, name: str | None = None):
        self.path = Path(path)
        self._title = name or str(path)
        self._content = read_file(path)
        self._lock = Lock()
        check_signatures(self._content, self._title)
        interpreter = self._interpreter()
        try:
            names = self._read_signatures(interpreter)
        except (ValueError, RuntimeError, KeyError, TypeError) as error:  # such as a name that is not UTF-8
            raise self._damaged(error) from error
        self._names = dict(sorted(names.items()))
        self.lengths = tuple(self._names)
        self._idle = [self._runners(interpreter)]

    @property
    def outputs(self) -> int:
        """The number of logits of a text or a token."""
        return int(self._output_shape[-1])

    @property
    def _output_shape(self) -> Sequence[int]:
        return self._idle[0][self.length].get_output_details()[self.output]["shape"]

    def _interpreter(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with without_native_stderr():  # XNNPACK writes a line when its first delegate is made
                interpreter = Interpreter(model_content=self._content, num_threads=1)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise self._damaged(error) from error
        return interpreter

    def _damaged(self, error: Exception) -> UserError:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return UserError(f"{self._title} does not load ({reason}); the file is damaged, export it again")

    def _read_signatures(self, interpreter: Any) -> dict[int, str]:
        """Set what all signatures have in common, and return the name of the signature of each length."""
        self.inputs, self.length, self.output = self._signature(interpreter, LONGEST)
        names = {self.length: LONGEST}
        for name in interpreter.get_signature_list().keys() - {LONGEST}:
            inputs, length, output = self._signature(interpreter, name)
            if (
                (inputs, output) != (self.inputs, self.output)
                or name != signature_name(length, self.length)
                or length > self.length
            ):
                raise UserError(f"{self._title} has a signature '{name}' of {length} tokens; export it again")
            names[length] = name
        return names

    def _runners(self, interpreter: Any) -> dict[int, Any]:
        return {length: interpreter.get_signature_runner(name) for length, name in self._names.items()}

    def _signature(self, interpreter: Any, name: str) -> tuple[tuple[str, ...], int, str]:
        """Return the inputs, length and output of a signature."""
        signature = interpreter.get_signature_list().get(name, {"inputs": [], "outputs": []})
        inputs, outputs = signature["inputs"], signature["outputs"]
        names = tuple(name for name in INPUTS if name in inputs)
        if set(inputs) - set(INPUTS) or names[:2] != INPUTS[:2] or outputs not in ([LOGITS], [PROBABILITIES]):
            raise UserError(
                f"{self._title} has the signature {inputs} → {outputs}; expected {list(INPUTS)} → ['logits']"
            )
        details = interpreter.get_signature_runner(name).get_input_details()
        shapes = {tuple(int(n) for n in details[name]["shape"]) for name in names}
        shape = shapes.pop()
        if shapes or len(shape) != 2 or shape[0] != 1 or any(details[name]["dtype"] is not np.int32 for name in names):
            raise UserError(f"{self._title} has inputs of shape {shape}; expected int32 [1, length] for all of them")
        return names, shape[1], outputs[0]

    def expected(self, logits: np.ndarray) -> np.ndarray:
        """Return what `predict` should return for rows whose Keras logits are `logits`, (N, C) or (N, L, C)."""
        if self.output == LOGITS:
            return logits
        below = logits - logits.max(axis=-1, keepdims=True)
        return np.maximum(below - np.log(np.exp(below).sum(axis=-1, keepdims=True)), np.log(_LEAST))

    def fitting(self, tokens: int) -> int:
        """Return the shortest of `lengths` that a row of this many tokens fits in, or raise UserError."""
        for length in self.lengths:
            if tokens <= length:
                return length
        raise UserError(f"a row has {tokens} tokens; {self._title} takes at most {self.length}")

    def predict(
        self, rows: EncodedRows, *, workers: int = 2, progress: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Predict logits; each row runs in the shortest signature that it fits in.

        Args:
            rows: tokenized rows, such as an `Encoded`.
            workers: number of interpreters, each in its own thread.
            progress: called with the number of rows that were done since the last call.

        Returns:
            Float32 logits (N, C) or (N, length, C).

        Raises:
            UserError: rows are longer than the file's inputs, or the file fails on them.
        """
        lengths = np.diff(rows.offsets)
        long = int((lengths > self.length).sum())
        if long:
            raise UserError(
                f"{long} of {len(lengths)} rows are longer than {self._title}'s {self.length} tokens (the longest has "
                f"{int(lengths.max())}); tokenize with max_length={self.length}, or export with a larger length"
            )
        count = len(lengths)
        with self._lock:  # interpreters are kept for the next call, and each serves one thread at a time
            while len(self._idle) < min(max(workers, 1), max(count, 1)):
                self._idle.append(self._runners(self._interpreter()))
            interpreters = self._idle[: max(workers, 1)]
            logits = np.zeros((count, *(int(n) for n in self._output_shape[1:])), np.float32)
            done, reported, counting = 0, 0, Lock()

            def work(start: int, runners: dict[int, Any]) -> None:
                nonlocal done, reported
                for row in range(start, count, len(interpreters)):
                    span = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
                    values = self._run(runners, rows.token_ids[span], rows.segment_ids[span])
                    if values.ndim == 1:
                        logits[row] = values
                    else:
                        logits[row, : len(values)] = values
                    with counting:
                        done += 1
                        if progress is not None and (done % 32 == 0 or done == count):
                            progress(done - reported)
                            reported = done

            try:
                with ThreadPoolExecutor(len(interpreters)) as pool:
                    list(pool.map(work, range(len(interpreters)), interpreters))
            except (ValueError, RuntimeError) as error:
                reason = str(error).strip().split("\n")[0]
                raise UserError(f"{self._title} failed on a row ({reason}); expected ids of its vocabulary") from error
        return logits

    def row(self, token_ids: _Ids, segment_ids: _Ids | None = None) -> np.ndarray:
        """Return logits (C,) or (length, C) of one text, as an app would; `length` belongs to the signature.

        Raises:
            UserError: the row is longer than the file takes.
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
        outputs = runners[length](**values)[self.output][0]
        return outputs if self.output == LOGITS else np.log(np.maximum(outputs, _LEAST))


class Rows:
    """A few rows as `EncodedRows`.

    Args:
        token_ids: one list of ids for each row.
        segment_ids: one list of segment ids for each row; zeros by default.
    """

    def __init__(self, token_ids: Sequence[_Ids], segment_ids: Sequence[_Ids] | None = None):
        if segment_ids is None:
            segment_ids = [np.zeros(len(row), np.int32) for row in token_ids]
        self.token_ids = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in token_ids)])
        self.segment_ids = np.concatenate([np.zeros(0, np.int32), *(np.asarray(row, np.int32) for row in segment_ids)])
        self.offsets = np.concatenate([[0], np.cumsum([len(row) for row in token_ids], dtype=np.int64)])
