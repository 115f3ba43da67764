"""What a teacher that does not learn says of the training rows, asked once.

Logits are held in memory and kept on disk as float32. [CLS] states, hidden states and attention scores are kept on disk on
request, in 16 bits, and memory-mapped while a stage trains, which then never runs the teacher. All lie in the cache folder under a
key made of what they depend on: the teacher's weights and config, the ids that it reads, the features, layers and format. So
runs of the same teacher on the same rows share them, and none that is there is ever a wrong one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.cache.folder import ABOUT, TEACHER, cache_folder
from tfdistill.data.batching import Examples, dataset
from tfdistill.data.splits import PER_TOKEN
from tfdistill.distill.features import Features, feature, features_of
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import fingerprint
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel, dummy_inputs
from tfdistill.system.console import Advance, readable, say, task
from tfdistill.system.files import atomic_write
from tfdistill.system.reproducibility import reproducible, versions
from tfdistill.system.signals import raise_if_signalled
from tfdistill.text.encoded import Encoded
from tfdistill.training.row_store import ADVICE, Column, Part, RowStore

LEVELS = ("off", "logits", "cls", "all")
FORMATS = {"fp16": "float16", "bf16": "bfloat16"}
# Part of every key. Counts up when the same teacher, by a change of this library, says something else.
_FORMAT = 1
_SHARD_BYTES, _SHARD_ROWS = 1 << 26, 1 << 12  # a shard ends with the batch that reaches one of them
_BATCH = 32  # rows that the teacher reads together where more than logits is asked for
OPTION = "--teacher-cache"


def folder() -> Path:
    """Of all teacher caches."""
    return cache_folder(TEACHER)


class TeacherCache:
    """What is kept on disk of the outputs of teachers.

    Args:
        level: "off": nothing; "logits"; "cls": also pooled vectors and [CLS] states; "all": also all hidden states and attention
            scores. Of these what the terms of a stage read.
        format: of all but logits, "fp16" or "bf16".

    Raises:
        UserError: another level or format.
    """

    def __init__(self, level: str = "logits", format: str = "fp16"):
        if level not in LEVELS:
            raise UserError(f"{OPTION} {level}: expected {', '.join(LEVELS)}")
        if format not in FORMATS:
            raise UserError(f"--cache-format {format}: expected {' or '.join(FORMATS)}")
        if format != "fp16" and level in ("off", "logits"):
            raise UserError(
                f"--cache-format {format} does nothing with {OPTION} {level}: logits are kept in 32 bits; expected {OPTION} cls or "
                "all with it, or leave it out"
            )
        self.level, self.format = level, format
        self._open: dict[str, RowStore] = {}

    @property
    def name(self) -> str:
        """For run.json: runs of other names differ in their last digits."""
        return f"{self.level} {self.format}" if self.level in ("cls", "all") else self.level

    def keeps(self, level: str) -> bool:
        return LEVELS.index(self.level) >= LEVELS.index(level)

    def logits(self, teacher: TextModel, rows: Encoded, title: str) -> np.ndarray:
        """Those of `predict_logits`, bit for bit, whether they are found, or made now."""
        if self.keeps("logits"):
            try:
                store = self.stored_logits(teacher, rows, title)
            except UserError as error:
                if self.level != "logits":
                    raise
                say(f"the teacher's logits are held in memory only: {error}")
            else:
                logits = np.empty((len(rows), teacher.num_outputs), "float32")
                logits[:] = store.read(np.arange(len(rows)))[0]
                return logits
        with task(title, len(rows)) as advance:
            return predict_logits(teacher, rows, advance=advance)

    def stored_logits(self, teacher: TextModel, rows: Encoded, title: str) -> RowStore:
        """Logits on disk; (tokens, C) for each row of a model for tokens."""
        per = "token" if teacher.task in PER_TOKEN else "row"
        column = Column("logits", per, (teacher.num_outputs,))  # type: ignore[arg-type]

        def make(part: Encoded, advance: Advance) -> Iterator[list[np.ndarray]]:
            yield [predict_logits(teacher, part, advance=advance)]

        return self._whole(teacher, rows, (column,), "float32", 64, make, title)

    def features(self, teacher: TextModel, rows: Encoded, names: Mapping[str, bool], title: str) -> RowStore:
        """On disk, features and layers as `tfdistill.training.teacher_outputs.wanted` names them."""
        columns, kind = _columns(teacher, names), FORMATS[self.format]
        forward = _forward(teacher, columns, kind)

        def make(part: Encoded, advance: Advance) -> Iterator[list[np.ndarray]]:
            for batch in dataset(Examples(part), _BATCH, shuffle=False):
                raise_if_signalled()
                yield [value.numpy() for value in forward(batch["student"])]
                advance(len(batch["student"]["token_ids"]))

        return self._whole(teacher, rows, columns, kind, _BATCH, make, title)

    def _whole(
        self,
        teacher: TextModel,
        rows: Encoded,
        columns: tuple[Column, ...],
        dtype: str,
        batch_size: int,
        make: Callable[[Encoded, Advance], Iterator[list[np.ndarray]]],
        title: str,
    ) -> RowStore:
        """A store without gaps. What is missing in it, or damaged, is made."""
        key = _key(teacher, rows, columns, dtype, batch_size)
        if key in self._open:
            return self._open[key]
        shards = (_SHARD_BYTES, _SHARD_ROWS)
        store = RowStore(folder() / key[:16], key, rows.lengths, columns, dtype, batch_size, *shards)
        broken = _check(store)
        if broken:
            with store.locked():
                broken = store.broken(list(broken))  # the other one may have made them
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
    """The shards that are not whole; with a progress bar where reading them all takes a while."""
    if store.nbytes() < 1 << 28 or not store.directory.is_dir():
        return store.broken()
    with task("checking the teacher cache", store.nbytes()) as advance:
        return store.broken(advance=advance)


# --- outputs --------------------------------------------------------------------------------------------------------


def _value(said: Features, name: str) -> Any:
    of, _, layer = name.partition("/")
    return said.layer(of, int(layer or 0))


def _want(names: Sequence[str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in names})


def _columns(teacher: TextModel, names: Mapping[str, bool]) -> tuple[Column, ...]:
    """A column for each of `names`; of features that are not of all tokens the first position."""
    said, columns = features_of(teacher, dummy_inputs(), _want(list(names)), False), []
    for name, of_tokens in names.items():
        shape, kind = tuple(_value(said, name).shape), feature(name.partition("/")[0])
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
        said = features_of(teacher, inputs, _want(names), False)
        values = [_value(said, name) for name in names]
        first = [column.per == "row" and len(column.shape) == 2 for column in columns]
        return [tf.cast(v[:, :1] if only else v, dtype) for v, only in zip(values, first, strict=True)]

    signature = [{"token_ids": ids, "padding_mask": ids, "segment_ids": ids}]
    return tf.function(forward, input_signature=signature, autograph=False)


def _key(teacher: TextModel, rows: Encoded, columns: Sequence[Column], dtype: str, batch_size: int) -> str:
    """SHA-256 over all that the numbers of a store depend on."""
    texts = hashlib.sha256()
    for part in (rows.token_ids, rows.segment_ids, rows.offsets):
        texts.update(f"{part.dtype} {part.shape}".encode())
        texts.update(np.ascontiguousarray(part).data)
    model = {key: value for key, value in teacher.get_config().items() if key not in ("name", "label_names")}
    said = [(column.name, column.per, column.shape) for column in columns]
    shards = (batch_size, _SHARD_BYTES, _SHARD_ROWS)
    whole = [_FORMAT, fingerprint(teacher), model, texts.hexdigest(), said, dtype, shards]
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


# --- what is said ---------------------------------------------------------------------------------------------------


def _announce(store: RowStore, broken: Mapping[Part, str]) -> None:
    """What will be written. Raises UserError where the disk has no room for it: a tenth of what is free has to stay."""
    needed, free = sum(map(store.nbytes, broken)), shutil.disk_usage(store.directory).free
    if needed > 0.9 * free:
        raise UserError(
            f"the teacher cache needs {readable(needed)} in {store.directory}, where {readable(free)} are free; free some room, "
            f"{ADVICE}, or keep less ({OPTION} {', '.join(LEVELS)})"
        )
    damaged = sorted({why for why in broken.values() if why})
    shards = f"{len(broken)} of {len(store.parts)} shards"
    if damaged:
        count = sum(map(bool, broken.values()))
        say(
            f"{store.directory} is damaged ({count} of {len(store.parts)} shards: {damaged[0]}); the teacher reads the rows "
            f"of {shards} again, {readable(needed)}"
        )
    elif len(broken) < len(store.parts):
        say(f"{store.directory} lacks {shards}; the teacher reads their rows, {readable(needed)}")
    else:
        say(
            f"teacher cache: {'; '.join(_named(store.columns))} of {len(store):,} rows, {readable(needed)}, go to {store.directory} "
            f"({readable(free)} free)"
        )


def _named(columns: Sequence[Column]) -> list[str]:
    """In words, such as "hidden_states 2, 4, 6"."""
    layers: dict[str, list[int]] = {}
    for column in columns:
        name, _, layer = column.name.partition("/")
        is_first = column.per == "row" and len(column.shape) == 2
        layers.setdefault(f"[CLS] of {name}" if is_first else name, []).extend([int(layer)] if layer else [])
    return [f"{name} {', '.join(map(str, sorted(numbers)))}".strip() for name, numbers in layers.items()]


def _made_on() -> dict[str, Any]:
    now = reproducible()
    return {"tensorflow": versions()["tensorflow"], **{key: now[key] for key in ("processor", "threads", "onednn")}}


def _about(store: RowStore) -> dict[str, Any]:
    try:
        return dict(json.loads((store.directory / ABOUT).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _describe(store: RowStore, teacher: TextModel) -> None:
    """For `tfdistill cache`, and for those who look into the folder."""
    about = {
        "teacher": f"{teacher.family}, {teacher.num_layers} layers, {teacher.count_params():,} parameters",
        "rows": len(store),
        "features": _named(store.columns),
        "dtype": store.dtype,
        "key": store.key,
        "made_on": _about(store).get("made_on", _made_on()),
    }
    atomic_write(store.directory / ABOUT, json.dumps(about, indent=1) + "\n", ADVICE)


def _compare(store: RowStore) -> None:
    """Tells where a cache was made in another way than it would be here, and notes that it was used."""
    then, now = _about(store).get("made_on", {}), _made_on()
    other = [f"{name} is {now[name]}, there {then[name]}" for name in now if name in then and then[name] != now[name]]
    if other:
        say(
            f"since {store.directory} was made, {'; '.join(other)}: the last digits may be others than those of a new one"
        )
    with suppress(OSError):  # a folder that can only be read does as well
        (store.directory / ABOUT).touch()
