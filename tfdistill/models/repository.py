"""Download models from the Hugging Face hub, into the cache that huggingface_hub keeps for all its users.

The cache, tokens, HF_HUB_OFFLINE, HF_ENDPOINT and HF_HOME are those of huggingface_hub.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError, listing
from tfdistill.models.google_config import GOOGLE_CONFIG
from tfdistill.models.repository_errors import TooManyRestarts, explain, is_away
from tfdistill.models.weight_files.choose import FORMS, has_weights, why_not
from tfdistill.models.weight_files.sharded import shard_names
from tfdistill.system.console import Advance, readable, task
from tfdistill.system.notes import note

CONFIGS = ("config.json", GOOGLE_CONFIG)
# Files of tokenizers, and the ones that this library adds.
SIDE_FILES = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "labels.txt",
    "recipe.json",
)
_OF_STUDENTS = ("quantization.safetensors", "projections.safetensors")
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(\S+))?", re.ASCII)
_CHECKPOINT = re.compile(r"checkpoint|.*\.index|.*\.data-\d+-of-\d+")
_SNAPSHOT = re.compile(r"models--([^/\\]+)--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]{40})")
_RESTARTS = 5  # of one file, before its download is given up


@dataclass(frozen=True)
class Repository:
    """A model on the hub: org/name, and a branch, tag or commit, main by default."""

    name: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Repository | None:
        """Return the repository that ORG/NAME or ORG/NAME@REVISION names; None for other texts."""
        match = _NAME.fullmatch(text)
        return match and cls(match[1], match[2] or "main")

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


def commit_of(directory: str | Path | None) -> str | None:
    """Return org/name@commit of a directory in the cache of the hub; None for other directories."""
    match = _SNAPSHOT.search(str(directory or ""))
    return f"{match[1]}/{match[2]}@{match[3]}" if match else None


def download(repository: Repository) -> Path:
    """Return the directory in the cache with the files of a model that `load` reads; download the missing ones.

    Without a network, or with HF_HUB_OFFLINE=1, it is the directory of an earlier download.

    Raises:
        UserError: there is no such repository, revision or file, no access, no network, or a file arrives damaged.
    """
    constants = _constants()
    if constants.HF_HUB_OFFLINE:
        if (kept := cached(repository)) is None:
            raise UserError(
                f"{repository} is not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to download it. "
                "Unset HF_HUB_OFFLINE, or use a directory."
            )
        return kept
    with _quiet():
        try:
            from huggingface_hub import HfApi

            info = HfApi(constants.ENDPOINT, library_name="tfdistill").model_info(
                repository.name,
                revision=repository.revision,
                files_metadata=True,
                timeout=constants.HF_HUB_ETAG_TIMEOUT,
            )
            sizes = {str(each.rfilename): each.size for each in info.siblings or ()}
            if not isinstance(info.sha, str):
                raise UserError(f"{constants.ENDPOINT} names no commit of {repository}. Check HF_ENDPOINT.")
            return _Download(repository, info.sha, sizes).run()
        except UserError:
            raise
        except Exception as error:  # huggingface_hub raises what its HTTP library raises too
            kept = cached(repository) if is_away(error) else None
            if kept is None:
                raise explain(error, repository.name, repository.revision) from error
            note(f"note: {constants.ENDPOINT} cannot be reached; {repository} is read from {kept}")
            return kept


def cached(repository: Repository) -> Path | None:
    """Return the directory of an earlier complete download, without a network; None if there is none."""
    for name in CONFIGS:
        path = _in_cache(repository.name, name, repository.revision)
        if path is not None and has_weights(path.parent):
            return path.parent
    return None


class _Download:
    """One download: the files of a commit, with their sizes where the hub states them."""

    def __init__(self, repository: Repository, commit: str, sizes: dict[str, int | None]):
        self.repository, self.commit, self.sizes = repository, commit, sizes

    def run(self) -> Path:
        """Return the directory. The weights come last, so that a directory with weights is complete."""
        side, weights = self._wanted()
        if weights[0].endswith(".index.json"):
            self._fetch([*side, weights[0]])
            shards = shard_names(self._path(weights[0]))
            if missing := [name for name in shards if name not in self.sizes]:
                raise UserError(
                    f"{self.repository} has no file {listing(missing)}, which its {weights[0]} names. Use another revision."
                )
            self._fetch(shards)
        else:
            self._fetch([*side, *weights])
        self._remember(side[0])
        return self._path(side[0]).parent

    def _wanted(self) -> tuple[list[str], list[str]]:
        """Return the small files, of which the first is a config, and the weights in one form."""
        names, where = self.sizes, f"{self.repository} (commit {self.commit[:8]})"
        configs = [name for name in CONFIGS if name in names]
        if not configs:
            raise UserError(f"{where} has no {CONFIGS[0]}. Use the repository of a model that transformers loads.")
        weights = next(([name] for name in FORMS if name in names), [])
        if not weights and any(name.endswith(".index") and "/" not in name for name in names):
            weights = [name for name in names if "/" not in name and _CHECKPOINT.fullmatch(name)]
        if not weights:
            raise UserError(f"{where} has no weights that can be read. {why_not(names)}")
        return [*configs, *(name for name in (*SIDE_FILES, *_OF_STUDENTS) if name in names)], weights

    def _cached(self, name: str, revision: str) -> Path | None:
        return _in_cache(self.repository.name, name, revision)

    def _path(self, name: str) -> Path:
        path = self._cached(name, self.commit)
        assert path is not None, name  # it was fetched
        return path

    def _fetch(self, names: Sequence[str]) -> None:
        """Download the files that are not in the cache, and check them."""
        missing = [name for name in names if self._cached(name, self.commit) is None]
        if not missing:
            return
        total = sum(self.sizes[name] or 0 for name in missing)
        self._require_space(total)
        with task(f"downloading {self.repository}, {readable(total)}", total or None) as advance:
            for name in missing:
                path = self._hub_download(name, self.commit, tqdm_class=_bar(advance, name))
                _verify(path, self.sizes[name], f"{self.repository}: {name}")

    def _require_space(self, total: int) -> None:
        cache = Path(_constants().HF_HUB_CACHE)
        above = next(each for each in (cache, *cache.absolute().parents) if each.exists())
        if (free := shutil.disk_usage(above).free) < total:
            raise UserError(
                f"{self.repository} needs {readable(total)}, and {cache} has {readable(free)} left. "
                "Free some space, or set HF_HOME."
            )

    def _remember(self, name: str) -> None:
        """Let the cache know the commit of a branch or tag, for use without a network."""
        if self.repository.revision == self.commit:
            return
        if self._cached(name, self.repository.revision) != self._path(name):
            self._hub_download(name, self.repository.revision)

    def _hub_download(self, name: str, revision: str, **options: Any) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(
                self.repository.name,
                name,
                revision=revision,
                cache_dir=_constants().HF_HUB_CACHE,
                endpoint=_constants().ENDPOINT,
                library_name="tfdistill",
                **options,
            )
        )


def _constants() -> Any:
    """Import the settings of huggingface_hub, which it reads from the environment."""
    try:
        from huggingface_hub import constants
    except ImportError as error:
        raise UserError("huggingface_hub is not installed. Run pip install huggingface_hub.") from error
    return constants


def _in_cache(repository: str, name: str, revision: str) -> Path | None:
    """Return the place of a file in the cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name, cache_dir=_constants().HF_HUB_CACHE, revision=revision)
    return Path(path) if isinstance(path, str) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep huggingface_hub from printing a line for each request that it repeats."""
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _bar(advance: Advance, file: str) -> type:
    """Return a class for huggingface_hub's progress bars, which advances ours."""
    from tqdm.std import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):
        restarts = 0

        def __init__(self, *args: Any, **options: Any):
            super().__init__(disable=True)

        def update(self, n: float | None = 1) -> None:
            # The server cannot resume, and the file starts over: for ever, if the connection always breaks.
            if n and n < 0:
                self.restarts += 1
                if self.restarts > _RESTARTS:
                    raise TooManyRestarts(file)
            advance(n or 0)

    return Bar


def _verify(path: Path, size: int | None, what: str) -> None:
    """Compare a file with its size and with the checksum that names it in the cache; remove it if they differ."""
    blob = path.resolve()
    wrong = size is not None and blob.stat().st_size != size
    if not wrong and re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", blob.name):
        wrong = blob.name not in _checksums(blob)
    if wrong:
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise UserError(f"{what} arrived damaged: its size or checksum is not the hub's. Run the command again.")


def _checksums(path: Path) -> set[str]:
    """Return the names that a hub may give to a file: SHA-256 for large ones, git's SHA-1 or a plain one for others."""
    digests = [hashlib.sha256()]
    if len(path.name) == 40:
        digests = [hashlib.sha1(f"blob {path.stat().st_size}\0".encode()), hashlib.sha1()]
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            for digest in digests:
                digest.update(block)
    return {digest.hexdigest() for digest in digests}
