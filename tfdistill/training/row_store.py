"""Arrays of a corpus on disk, read row by row from memory-mapped files.

Rows are stored in the order in which batches are read for prediction, the longest first, in shards of whole batches. A shard
that is missing or damaged is computed again alone, from the same batches, and so with the same bits. Padding is not stored,
and the place of a row follows from the lengths of the rows. A shard holds only numbers, followed by the SHA-256 of the
store's key, the shard's number and these numbers. It is written to a temporary name, flushed and renamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np

from tfdistill.cache.folder import cache_lock
from tfdistill.data.batching import plan
from tfdistill.errors import UserError
from tfdistill.system.files import atomic_write, require_writable

DTYPES = {"float32": np.dtype("float32"), "float16": np.dtype("float16"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
ADVICE = "set TFDISTILL_CACHE to another folder"
_CHECKSUM = 32  # bytes
_READ = 1 << 24  # bytes that are checked at a time


@dataclass(frozen=True)
class Column:
    """One array of a store.

    Args:
        name: for instance "logits", or "hidden_states/2" for one layer.
        per: a row has one value, or one for each "token", or each "pair" of tokens.
        shape: of a value: (C,) classes, (H,) of a hidden state, (A,) heads of a pair.
    """

    name: str
    per: Literal["row", "token", "pair"]
    shape: tuple[int, ...]

    def sizes(self, lengths: np.ndarray) -> np.ndarray:
        """Return the number of values in each row, (n,) int64."""
        return lengths.astype(np.int64) ** ("row", "token", "pair").index(self.per) * int(np.prod(self.shape))

    def of_row(self, length: int) -> tuple[int, ...]:
        """Return the shape of a row's value: `shape`, (L, *shape), or (A, L, L)."""
        if self.per == "pair":
            return (*self.shape, length, length)
        return (length, *self.shape) if self.per == "token" else self.shape

    @property
    def batch_shape(self) -> tuple[int | None, ...]:
        """Return the shape of a batch, with None for the numbers of rows and tokens."""
        if self.per == "pair":
            return (None, *self.shape, None, None)
        return (None, None, *self.shape) if self.per == "token" else (None, *self.shape)


@dataclass(frozen=True)
class Part:
    """A shard: the rows `order[first:last]` of the store."""

    number: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class RowStore:
    """Columns of one dtype for all rows of a corpus.

    Args:
        directory: directory of the shards; made when the first is written.
        key: identifies everything that the numbers depend on; shards of another key count as damaged.
        lengths: tokens in each row, (n,).
        dtype: one of `DTYPES`.
        batch_size: rows that are predicted together.
        shard_bytes: a shard ends with the batch that reaches this size.
        shard_rows: a shard ends with the batch that reaches this number of rows.
        chosen: row numbers, where `take` took some; None for all.
    """

    directory: Path
    key: str
    lengths: np.ndarray
    columns: tuple[Column, ...]
    dtype: str
    batch_size: int = 64
    shard_bytes: int = 1 << 26
    shard_rows: int = 1 << 12
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lengths if self.chosen is None else self.chosen)

    def take(self, rows: np.ndarray) -> RowStore:
        """Return some rows as a store with the same files."""
        taken = replace(self, chosen=rows if self.chosen is None else self.chosen[rows])
        for name in ("order", "parts", "_starts", "_maps"):  # computed once
            object.__setattr__(taken, name, getattr(self, name))
        return taken

    # --- places

    @cached_property
    def order(self) -> np.ndarray:
        """Return the rows in the order of the shards, (n,)."""
        return np.concatenate(plan(self.lengths, self.batch_size, seed=0, epoch=0, shuffle=False))

    @cached_property
    def _row_bytes(self) -> np.ndarray:
        """Return the bytes of each row, in order."""
        numbers = sum(column.sizes(self.lengths[self.order]) for column in self.columns)
        return numbers * DTYPES[self.dtype].itemsize

    @cached_property
    def parts(self) -> list[Part]:
        """Return the shards, which end between batches."""
        parts: list[Part] = []
        first = filled = 0
        for start in range(0, len(self.order), self.batch_size):
            stop = min(start + self.batch_size, len(self.order))
            filled += int(self._row_bytes[start:stop].sum())
            if filled >= self.shard_bytes or stop - first >= self.shard_rows or stop == len(self.order):
                parts.append(Part(len(parts), first, stop))
                first, filled = stop, 0
        return parts

    def nbytes(self, part: Part | None = None) -> int:
        """Return the bytes on disk, of one shard or of all."""
        if part is None:
            return sum(self.nbytes(each) for each in self.parts)
        return int(self._row_bytes[part.first : part.last].sum()) + _CHECKSUM

    @cached_property
    def _starts(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the shard of each row and, for each column, where the row begins in it."""
        shard = np.empty(len(self.order), np.int64)
        starts = [np.empty(len(self.order), np.int64) for _ in self.columns]
        for part in self.parts:
            rows, begin = self.order[part.first : part.last], 0
            shard[rows] = part.number
            for column, places in zip(self.columns, starts, strict=True):
                ends = begin + np.cumsum(column.sizes(self.lengths[rows]))
                places[rows] = np.append(begin, ends[:-1])
                begin = int(ends[-1])
        return shard, starts

    def path(self, part: Part) -> Path:
        """Return the file of a shard."""
        return self.directory / f"{part.number:05d}.rows"

    # --- reading

    def open(self) -> RowStore:
        """Map all shards, which have to be intact. The files may be deleted afterwards."""
        assert self._maps
        return self

    @cached_property
    def _maps(self) -> list[np.ndarray]:
        """Return the numbers of each shard."""
        kind = DTYPES[self.dtype]
        return [
            np.memmap(self.path(part), kind, mode="r", shape=((self.nbytes(part) - _CHECKSUM) // kind.itemsize,))
            for part in self.parts
        ]

    def read(self, rows: np.ndarray, width: int | None = None) -> list[np.ndarray]:
        """Return the columns of some rows, each (batch, ...), with zeros after a row's last token.

        Args:
            rows: numbers of rows.
            width: tokens of the batch; by default those of the longest of the rows.
        """
        rows = np.asarray(rows) if self.chosen is None else self.chosen[rows]
        shard, starts = self._starts
        shard, lengths = shard[rows], self.lengths[rows]
        width = int(lengths.max(initial=1)) if width is None else int(width)
        columns = []
        for column, places in zip(self.columns, starts, strict=True):
            out = np.zeros((len(rows), *column.of_row(width)), DTYPES[self.dtype])
            columns.append(out)
            if column.per == "row":
                numbers = out.reshape(len(rows), -1)
                for number in np.unique(shard):
                    here = np.flatnonzero(shard == number)
                    numbers[here] = self._maps[number][places[rows[here], None] + np.arange(numbers.shape[1])]
                continue
            for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
                shape, start = column.of_row(int(length)), int(places[row])
                values = self._maps[shard[place]][start : start + int(np.prod(shape))]
                out[place][tuple(map(slice, shape))] = values.reshape(shape)
        return columns

    # --- intact or not

    def broken(
        self, parts: Sequence[Part] | None = None, advance: Callable[[int], Any] = lambda size: None
    ) -> dict[Part, str]:
        """Return the shards that cannot be read, each with the reason; "" for missing ones."""
        broken = {}
        for part in self.parts if parts is None else parts:
            why = self._look(part)
            if why is not None:
                broken[part] = why
            advance(self.nbytes(part))
        return broken

    def _look(self, part: Part) -> str | None:
        path, checksum = self.path(part), self._hash(part)
        if path.exists() and not path.is_file():  # reading a named pipe would wait for ever
            return "not a file"
        try:
            with open(path, "rb") as file:
                size, expected = path.stat().st_size, self.nbytes(part)
                if size != expected:
                    return f"{size} bytes, expected {expected}"
                left = expected - _CHECKSUM
                while left:
                    content = file.read(min(left, _READ))
                    checksum.update(content)
                    left -= len(content)
                return None if file.read() == checksum.digest() else "another checksum"
        except FileNotFoundError:
            return ""
        except OSError as error:
            return str(error.strerror or error)

    def _hash(self, part: Part) -> Any:
        return hashlib.sha256(f"{self.key} {part.number} ".encode())

    def write(self, part: Part, batches: Iterable[Sequence[np.ndarray]]) -> None:
        """Write a shard. `batches` return the columns of its rows, in order, some rows at a time and padded to any length.

        Raises UserError for numbers that are not finite or do not fit the dtype, and where the file cannot be written.
        """
        kept: list[list[bytes]] = [[] for _ in self.columns]
        lengths = iter(self.lengths[self.order[part.first : part.last]])
        for batch in batches:
            sizes = [int(next(lengths)) for _ in batch[0]]
            for column, values, packed in zip(self.columns, batch, kept, strict=True):
                if column.per == "row":
                    packed.append(self._packed(column, values))
                    continue
                for row, size in zip(values, sizes, strict=True):
                    packed.append(self._packed(column, row[tuple(map(slice, column.of_row(size)))]))
        checksum, content = self._hash(part), [piece for packed in kept for piece in packed]
        for piece in content:
            checksum.update(piece)
        whole = b"".join([*content, checksum.digest()])
        assert len(whole) == self.nbytes(part), "other rows than the shard has"
        atomic_write(self.path(part), whole, ADVICE)

    def _packed(self, column: Column, values: np.ndarray) -> bytes:
        with np.errstate(over="ignore"):
            packed = values.astype(DTYPES[self.dtype])
        if not np.isfinite(packed).all():
            if np.isnan(values).any():
                raise UserError(f"The teacher's {column.name} are NaN. Check its weights.")
            raise UserError(f"The teacher's {column.name} overflow {self.dtype}. Use `--cache-format bf16`.")
        return packed.tobytes()

    # --- one process at a time

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing; if one does, a line says so and it is waited for.

        What a killed process left half written is removed. Raises UserError where nothing can be written.
        """
        require_writable(self.directory, ADVICE)
        with cache_lock(self.directory):
            try:
                for path in self.directory.glob(".*"):
                    path.unlink()
            except OSError as error:
                raise UserError(f"cannot write in {self.directory}: {error.strerror}; {ADVICE}") from error
            yield
