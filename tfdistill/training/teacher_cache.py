"""Outputs of a frozen teacher for the training examples, computed once and kept on disk.

Logits are kept as float32 and read into memory. [CLS] states, hidden states and attention scores are kept on request, in
16 bits, and memory-mapped while a stage trains, which then never runs the teacher. The key of a cache is made of everything
its numbers depend on: the teacher's weights and config, its token ids, the features, layers and format. So runs of the same
teacher on the same examples share it, and it is never a wrong one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.cache.folder import ABOUT, TEACHER, cache_folder
from tfdistill.data.batching import Examples, dataset
from tfdistill.data.splits import PER_TOKEN
from tfdistill.distill.features import Features, feature, features_of
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import fingerprint
from tfdistill.models.predict import predict_logits
from tfdistill.system.console import Advance, readable, say, task
from tfdistill.system.files import atomic_write, read_json
from tfdistill.system.identity import differences
from tfdistill.system.lazy import tf
from tfdistill.system.reproducibility import reproducible, versions
from tfdistill.system.signals import raise_if_signalled
from tfdistill.text.encoded import Encoded
from tfdistill.training.row_store import ADVICE, Column, Part, RowStore

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

LEVELS = ("off", "logits", "cls", "all")
FORMATS = {"fp16": "float16", "bf16": "bfloat16"}
OPTION = "--teacher-cache"
# Part of every key. Increase it when a change of this library changes the outputs of the same teacher.
_FORMAT = 1
_SHARD_BYTES, _SHARD_ROWS = 1 << 26, 1 << 12  # a shard ends with the batch that reaches one of them
_BATCH = 32  # examples that the teacher reads together for more than logits


def folder() -> Path:
    """Return the directory of all teacher caches."""
    return cache_folder(TEACHER)


class TeacherCache:
    """What is kept on disk of the outputs of teachers.

    Args:
        level: "off"; "logits"; "cls", also pooled vectors and [CLS] states; "all", also all hidden states and attention
            scores. Only what the terms of a stage read is kept.
        format: number format of everything except logits, "fp16" or "bf16".

    Raises:
        UserError: another level or format.
    """

    def __init__(self, level: str = "logits", format: str = "fp16"):
        if level not in LEVELS:
            raise UserError(f"`{OPTION} {level}` is unknown. Use {', '.join(LEVELS)}.")
        if format not in FORMATS:
            raise UserError(f"`--cache-format {format}` is unknown. Use {' or '.join(FORMATS)}.")
        if format != "fp16" and level in ("off", "logits"):
            raise UserError(
                f"`--cache-format {format}` has no effect with `{OPTION} {level}`. Use `{OPTION} cls` or `all`, or remove it."
            )
        self.level, self.format = level, format
        self._open: dict[str, RowStore] = {}

    @property
    def name(self) -> str:
        """Return the name for run.json. Runs with other names differ in their last digits."""
        return f"{self.level} {self.format}" if self.level in ("cls", "all") else self.level

    def keeps(self, level: str) -> bool:
        """Return whether this cache keeps a level."""
        return LEVELS.index(self.level) >= LEVELS.index(level)

    def logits(self, teacher: TextModel, rows: Encoded, title: str) -> np.ndarray:
        """Return the values of `predict_logits`, bit for bit, read from the cache or computed.

        A full disk is an error only if more than logits were requested.
        """
        if self.keeps("logits"):
            try:
                store = self.stored_logits(teacher, rows, title)
            except UserError as error:
                if self.level != "logits":
                    raise
                say(f"the teacher's logits are kept in memory only: {error}")
            else:
                logits = np.empty((len(rows), teacher.num_outputs), "float32")
                logits[:] = store.read(np.arange(len(rows)))[0]
                return logits
        with task(title, len(rows)) as advance:
            return predict_logits(teacher, rows, advance=advance)

    def stored_logits(self, teacher: TextModel, rows: Encoded, title: str) -> RowStore:
        """Return the logits on disk, computed if need be; (tokens, C) per example for a model with labels of tokens."""
        per = "token" if teacher.task in PER_TOKEN else "row"
        column = Column("logits", per, (teacher.num_outputs,))  # type: ignore[arg-type]

        def make(part: Encoded, advance: Advance) -> Iterator[list[np.ndarray]]:
            yield [predict_logits(teacher, part, advance=advance)]

        return self._complete(teacher, rows, (column,), "float32", 64, make, title)

    def features(self, teacher: TextModel, rows: Encoded, names: Mapping[str, bool], title: str) -> RowStore:
        """Return features on disk, computed if need be. `names` are those of `tfdistill.training.teacher_outputs.wanted`."""
        columns, kind = _columns(teacher, names), FORMATS[self.format]
        forward = _forward(teacher, columns, kind)

        def make(part: Encoded, advance: Advance) -> Iterator[list[np.ndarray]]:
            for batch in dataset(Examples(part), _BATCH, shuffle=False):
                raise_if_signalled()
                yield [value.numpy() for value in forward(batch["student"])]
                advance(len(batch["student"]["token_ids"]))

        return self._complete(teacher, rows, columns, kind, _BATCH, make, title)

    def _complete(
        self,
        teacher: TextModel,
        rows: Encoded,
        columns: tuple[Column, ...],
        dtype: str,
        batch_size: int,
        make: Callable[[Encoded, Advance], Iterator[list[np.ndarray]]],
        title: str,
    ) -> RowStore:
        """Return a complete store. Shards that are missing or damaged are computed."""
        key = cache_key(teacher, rows, columns, dtype, batch_size)
        if key in self._open:
            return self._open[key]
        shards = (_SHARD_BYTES, _SHARD_ROWS)
        store = RowStore(folder() / key[:16], key, rows.lengths, columns, dtype, batch_size, *shards)
        broken = _check(store)
        if broken:
            with store.locked():
                broken = store.broken(list(broken))  # another process may have made them
                if broken:
                    _announce(store, broken)
                    _describe(store, teacher)
                    with task(title, sum(part.last - part.first for part in broken)) as advance:
                        for part in broken:
                            raise_if_signalled()
                            store.write(part, make(rows.take(store.order[part.first : part.last]), advance))
        else:
            _compare(store)
        self._open[key] = store.open()
        return store


def _check(store: RowStore) -> dict[Part, str]:
    """Return the shards that are not intact; with a progress bar if reading them all takes a while."""
    if store.nbytes() < 1 << 28 or not store.directory.is_dir():
        return store.broken()
    with task("checking the teacher cache", store.nbytes()) as advance:
        return store.broken(advance=advance)


# --- outputs --------------------------------------------------------------------------------------------------------


def _value(outputs: Features, name: str) -> Any:
    of, _, layer = name.partition("/")
    return outputs.layer(of, int(layer or 0))


def _want(names: Sequence[str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in names})


def _columns(teacher: TextModel, names: Mapping[str, bool]) -> tuple[Column, ...]:
    """Return a column for each of `names`. Features that are not of all tokens have the first position only."""
    from tfdistill.models.text_model import dummy_inputs

    outputs, columns = features_of(teacher, dummy_inputs(), _want(list(names)), False), []
    for name, of_tokens in names.items():
        shape, kind = tuple(_value(outputs, name).shape), feature(name.partition("/")[0])
        if kind.per_pair:
            columns.append(Column(name, "pair", shape[1:2]))
        elif of_tokens:
            columns.append(Column(name, "token", shape[2:]))
        else:
            columns.append(Column(name, "row", (1, shape[2]) if kind.per_token else shape[1:]))
    return tuple(columns)


def _forward(teacher: TextModel, columns: Sequence[Column], dtype: str) -> Callable[[Any], list[Any]]:
    ids = tf.TensorSpec((None, None), tf.int32)
    names = [column.name for column in columns]

    def forward(inputs: dict[str, Any]) -> list[Any]:
        outputs = features_of(teacher, inputs, _want(names), False)
        values = [_value(outputs, name) for name in names]
        first = [column.per == "row" and len(column.shape) == 2 for column in columns]
        return [tf.cast(v[:, :1] if only else v, dtype) for v, only in zip(values, first, strict=True)]

    signature = [{"token_ids": ids, "padding_mask": ids, "segment_ids": ids}]
    return tf.function(forward, input_signature=signature, autograph=False)


def cache_key(teacher: TextModel, rows: Encoded, columns: Sequence[Column], dtype: str, batch_size: int) -> str:
    """Return the SHA-256 of everything that the numbers of a store depend on."""
    texts = hashlib.sha256()
    for part in (rows.token_ids, rows.segment_ids, rows.offsets):
        texts.update(f"{part.dtype} {part.shape}".encode())
        texts.update(np.ascontiguousarray(part).data)
    model = {key: value for key, value in teacher.get_config().items() if key not in ("name", "label_names")}
    about = [(column.name, column.per, column.shape) for column in columns]
    shards = (batch_size, _SHARD_BYTES, _SHARD_ROWS)
    whole = [_FORMAT, fingerprint(teacher), model, texts.hexdigest(), about, dtype, shards]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


# --- messages -------------------------------------------------------------------------------------------------------


def _announce(store: RowStore, broken: Mapping[Part, str]) -> None:
    """Report what will be written. Raises UserError if that would take more than nine tenths of the free disk space."""
    needed, free = sum(map(store.nbytes, broken)), shutil.disk_usage(store.directory).free
    if needed > 0.9 * free:
        raise UserError(
            f"The teacher cache needs {readable(needed)} in {store.directory}, and {readable(free)} are free. "
            f"Free some room, {ADVICE}, or use another `{OPTION}` ({', '.join(LEVELS)})."
        )
    damages = sorted({why for why in broken.values() if why})
    state = f"damaged ({damages[0]})" if damages else "incomplete" if len(broken) < len(store.parts) else "new"
    say(
        f"teacher cache {store.directory}: {state}; the teacher computes {'; '.join(_named(store.columns))} for "
        f"{len(broken)} of {len(store.parts)} shards, {readable(needed)} ({readable(free)} free)"
    )


def _named(columns: Sequence[Column]) -> list[str]:
    """Return the columns in words, such as "hidden_states 2, 4, 6"."""
    layers: dict[str, list[str]] = {}
    for column in columns:
        name, _, layer = column.name.partition("/")
        is_first = column.per == "row" and len(column.shape) == 2
        layers.setdefault(f"[CLS] of {name}" if is_first else name, []).extend([layer] if layer else [])
    return [f"{name} {', '.join(sorted(numbers, key=int))}".strip() for name, numbers in layers.items()]


def made_on() -> dict[str, Any]:
    """Return what the last digits of a teacher's outputs depend on."""
    now = reproducible()
    return {"tensorflow": versions()["tensorflow"], **{key: now[key] for key in ("processor", "threads", "onednn")}}


def _about(store: RowStore) -> dict[str, Any]:
    with suppress(UserError):
        return read_json(store.directory / ABOUT, ADVICE)
    return {}


def _describe(store: RowStore, teacher: TextModel) -> None:
    """Write what the cache holds, for `tfdistill cache`."""
    about = {
        "teacher": f"{teacher.family}, {teacher.num_layers} layers, {teacher.count_params():,} parameters",
        "rows": len(store),
        "features": _named(store.columns),
        "dtype": store.dtype,
        "key": store.key,
        "made_on": _about(store).get("made_on", made_on()),
    }
    atomic_write(store.directory / ABOUT, json.dumps(about, indent=1) + "\n", ADVICE)


def _compare(store: RowStore) -> None:
    """Report if the cache was made on another machine or version, and note that it was used."""
    now = made_on()
    other = differences(now, {**now, **_about(store).get("made_on", {})})
    if other:
        say(f"since {store.directory} was made, {'; '.join(other.values())}: results may differ in the last digits")
    with suppress(OSError):  # a folder that can only be read is good enough
        (store.directory / ABOUT).touch()
