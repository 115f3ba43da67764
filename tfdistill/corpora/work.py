"""Plan the work of `tfdistill corpus`, take a directory for it, and finish it with a manifest.

The work has three steps over parts of the text; see `tfdistill.corpora.build`. This module knows
which parts are done, which failed, and whether a directory holds the same work.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tfdistill.corpora import storage
from tfdistill.corpora.manifest import MANIFEST, Manifest
from tfdistill.corpora.plain_text import SUFFIXES, Span, spans, text_files
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.load import load
from tfdistill.system.files import CHOOSE_OUT, parse_json, sha256
from tfdistill.system.identity import require_same
from tfdistill.system.lazy import tf
from tfdistill.system.reproducibility import versions
from tfdistill.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

STEPS = ("hashes", "repeats", "shards")
_PLAN, _FAILED = "work/plan.json", "work/failed.txt"
SPANS_TOGETHER = 16  # The hashes of this number of spans fit into memory.


@dataclass(frozen=True)
class Work:
    """Hold all that a step needs; workers receive it as text.

    Args:
        out: directory of the corpus, on a file system that all workers reach.
        tokenizer: directory of the vocabulary.
        spans: the part of the text of each shard.
        held_out: share of the documents that is kept from training.
        seed: decides about held-out documents and augmentation.
        rows: whether each document is an example, instead of running text.
        max_length: with `rows`, tokens of an example.
        copies: with `rows`, augmented copies of each example (Tang et al. 2019, without parts of speech).
        teacher: with `rows`, directory of the model whose logits are stored.
        least_characters: shorter documents are left out.
        least_letters: documents with a smaller share of letters are left out.
    """

    out: str
    tokenizer: str
    spans: tuple[Span, ...]
    held_out: float = 0.02
    seed: int = 0
    rows: bool = False
    max_length: int = 64
    copies: int = 0
    teacher: str | None = None
    least_characters: int = 20
    least_letters: float = 0.5

    def as_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    @lru_cache(maxsize=1)
    def from_text(cls, text: str) -> Work:
        content = json.loads(text)
        return cls(**{**content, "spans": tuple(Span(**span) for span in content["spans"])})

    @property
    def ranges(self) -> int:
        """The number of ranges of hashes, each compared on its own."""
        return -(-len(self.spans) // SPANS_TOGETHER)

    def parts(self, step: str) -> int:
        """Return the number of parts of a step."""
        return self.ranges if step == "repeats" else len(self.spans)

    def done(self, step: str, part: int) -> str:
        """Return the file that exists once a part is complete."""
        return storage.join(self.out, "work", f"{step}-{part:05}.{'json' if step == 'shards' else 'npy'}")

    def is_done(self, step: str, part: int) -> bool:
        return storage.exists(self.done(step, part))


def spans_of(source: str, size: int) -> tuple[Span, ...]:
    """Cut a text into parts of about `size` bytes. Raises UserError if there is no text."""
    if "://" in source:
        inside = [storage.join(where, name) for where, _, names in tf.io.gfile.walk(source) for name in names]
        files = sorted(name for name in inside or [source] if name.endswith(SUFFIXES))
        if not files:
            raise UserError(f"there are no .txt or .txt.gz files at {source}. Give a file or a directory of them.")
    else:
        files = [str(path.absolute()) for path in text_files(source)]
    return tuple(span for file in files for span in spans(file, size))


def shard_name(part: int) -> str:
    """Return the name of a shard's directory."""
    return f"shard-{part:05}"


@lru_cache(maxsize=1)
def tokenizer_of(directory: str) -> Tokenizer:
    """Load the tokenizer of a directory, which may be on another machine."""
    with storage.here(directory) as path:
        return Tokenizer.from_directory(path)


@lru_cache(maxsize=1)
def teacher_of(directory: str) -> TextModel:
    """Load the teacher. Raises UserError if it does not classify or score texts."""
    with storage.here(directory) as path:
        teacher = load(path, new_head=False)
    if teacher.task not in ("classification", "regression", "multilabel"):
        raise UserError(f"{directory} is a {teacher.task} model. Use a teacher that classifies or scores texts.")
    return teacher


# --- begin ----------------------------------------------------------------------------------------------------------


def begin(work: Work) -> bool:
    """Take the directory `work.out`, and return whether its corpus is complete.

    Raises:
        UserError: something else is there, or a file of the text cannot be read.
    """
    settings = _settings(work)
    for name in (MANIFEST, _PLAN):
        if storage.exists(storage.join(work.out, name)):
            stored = _stored_settings(work, name)
            stored.setdefault("label_names", settings["label_names"])  # which older versions did not store
            require_same(work.out, settings, stored, f"repeat the same command, or {CHOOSE_OUT}")
            if failure(work) is not None:
                tf.io.gfile.remove(storage.join(work.out, _FAILED))
            return name == MANIFEST
    if not _is_free(work.out):
        raise UserError(f"{work.out} is not empty. Give a new directory or a corpus, or {CHOOSE_OUT}.")
    storage.put(storage.join(work.out, _PLAN), json.dumps({"settings": settings}).encode())
    return False


def _is_free(out: str) -> bool:
    """Return whether `out` holds only what a process leaves that is killed before it writes the plan."""
    if not storage.exists(out):
        return True
    names = {name.rstrip("/") for name in tf.io.gfile.listdir(out)} - {".lock"}
    return not names or (
        names == {"work"}
        and all(name.endswith(storage.PART) for name in tf.io.gfile.listdir(storage.join(out, "work")))
    )


def _settings(work: Work) -> dict[str, Any]:
    """Return all that decides about the content, including the content of the files."""
    options = {key: value for key, value in asdict(work).items() if key not in ("out", "spans", "tokenizer")}
    # The steps number sentences by the cuts between the spans.
    cuts = json.dumps([asdict(span) for span in work.spans])
    return {
        **options,
        "vocabulary": tokenizer_of(work.tokenizer).fingerprint,
        "teacher": None if work.teacher is None else identity(teacher_of(work.teacher)),
        "label_names": None if work.teacher is None else teacher_of(work.teacher).label_names,
        "files": [[name, *_content(name)] for name in sorted({span.path for span in work.spans})],
        "shards": [len(work.spans), hashlib.sha256(cuts.encode()).hexdigest()[:16]],
    }


def _content(path: str) -> list[int | str]:
    """Return bytes and SHA-256 of a file; for a remote one, bytes and time of change in ns."""
    try:
        status = tf.io.gfile.stat(path)
        return [status.length, status.mtime_nsec if "://" in path else sha256(path)]
    except storage.failures() as error:
        raise UserError(
            f"cannot read {path}: {storage.why(error)}. The text must stay until its corpus is made."
        ) from error


def _stored_settings(work: Work, name: str) -> dict[str, Any]:
    """Return the settings in the plan or manifest. Raises UserError if it is damaged."""
    try:
        return dict(json.loads(storage.get(storage.join(work.out, name)))["settings"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{work.out} is damaged ({name}: {error}). Delete it, then repeat the command.") from error


# --- failures -------------------------------------------------------------------------------------------------------


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Read what a step wrote; remove a damaged file, so that the same command makes it again."""
    try:
        yield
    except (ValueError, EOFError, KeyError, TypeError, RecursionError) as error:
        tf.io.gfile.remove(path)
        raise UserError(f"{path} was damaged and is removed. Repeat the same command, which makes it again.") from error


def note_failure(work: Work, message: str) -> None:
    """Store the first error of the workers; later ones may follow from it."""
    if failure(work) is None:
        storage.put(storage.join(work.out, _FAILED), message.encode())


def failure(work: Work) -> str | None:
    """Return the first error of the workers."""
    path = storage.join(work.out, _FAILED)
    return storage.get(path).decode() if storage.exists(path) else None


# --- finish ---------------------------------------------------------------------------------------------------------


def finish(work: Work, source: str) -> Manifest:
    """Write the manifest of all shards and remove the files of the steps.

    Raises:
        UserError: no text is left to train on, or a part's file is damaged.
    """
    path = storage.join(work.out, MANIFEST)
    if storage.exists(path):
        try:
            manifest = Manifest.from_json(parse_json(storage.get(path), path, "delete it", strict=True))
        except ValueError as error:
            raise UserError(f"{work.out} is damaged ({error}). Delete it, then repeat the command.") from error
    else:
        manifest = _manifest(work, source)
        for place in (work.out, *(storage.join(work.out, name) for name in manifest.shards)):
            storage.sweep(place)
        storage.put(path, manifest.as_text().encode())
    # A process that is killed after the manifest leaves this folder to the next one.
    place = storage.join(work.out, "work")
    if storage.exists(place):
        tf.io.gfile.rmtree(place)
    return manifest


def _manifest(work: Work, source: str) -> Manifest:
    totals: Counter[str] = Counter()
    sums: dict[str, str] = {}
    for part in range(len(work.spans)):
        with readable(work.done("shards", part)):
            done = json.loads(storage.get(work.done("shards", part)))
            totals.update({key: value for key, value in done["about"].items() if isinstance(value, int)})
            sums |= done["sha256"]
    if not totals["train_tokens"]:
        raise UserError(
            f"{source} has no text to train on. Give sentences in UTF-8, or lower `--least-characters` and `--least-letters`."
        )
    settings = _stored_settings(work, _PLAN)
    names = [shard_name(part) for part in range(len(work.spans))]
    return Manifest(source, settings, settings["vocabulary"], versions(), dict(totals), names, sums)
