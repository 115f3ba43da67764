"""Load texts from TensorFlow Datasets: GLUE (Wang et al. 2019), and other sets with one or two texts and one label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tfdistill.data import glue
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError, listing, nearest, optional
from tfdistill.system.console import say

# TFDS sorts features by name; these are the tasks' own text orders.
GLUE_TEXTS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "stsb": ("sentence1", "sentence2"),
    "mnli": ("premise", "hypothesis"),
    "mnli_matched": ("premise", "hypothesis"),
    "mnli_mismatched": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
    "ax": ("premise", "hypothesis"),
}
_SPLITS = {
    "train": "train",
    "validation": "dev",
    "validation_matched": "dev",
    "test": "test",
    "test_matched": "test",
}


def load(name: str, splits: Sequence[str] | None = None) -> TextData:
    """Load the data set `name`, such as "glue/sst2", which TFDS downloads into its own folder if needed.

    The features must have one or two texts, and a class label or a float `label`. The split "validation" is called dev; the dev
    and test of MNLI are the matched ones. A split whose labels are all -1, as in GLUE's tests, has none; a single row with -1 has
    none either.

    Args:
        name: of the data set.
        splits: names of the splits, also of those that are not train, dev and test; None for these three.

    Raises:
        MissingExtra: tensorflow_datasets is not installed.
        UserError: the name or split is unknown, the features do not fit, or the data can be neither read nor downloaded.
    """
    tfds = optional("tensorflow_datasets", "tfds")
    builder = _builder(tfds, name)
    columns, label_column, label_names = _columns(tfds, name, builder.info.features)
    say(f"tfds:{name}: reading it from TFDS_DATA_DIR, or downloading it first")
    try:
        with bounded_waits():
            builder.download_and_prepare()
    except Exception as error:  # a data set's own script may raise anything: no connection, no room, a moved file
        raise _unreachable(name, error) from error
    available = {_SPLITS.get(split, split): split for split in list(builder.info.splits) or _usual_splits(name)}
    wanted = [split for split in ("train", "dev", "test") if split in available] if splits is None else list(splits)
    for split in wanted:
        if split not in available:
            raise UserError(f"tfds:{name} has no split '{split}'; found {listing(available)}")
    loaded = {}
    for split in wanted:
        try:
            loaded[split] = _read(tfds, builder, available[split], columns, label_column, label_names is None)
        except Exception as error:
            raise _unreachable(name, error) from error
    task = name.partition("/")[2].partition(":")[0] if name.startswith("glue/") else ""
    return TextData(f"tfds:{name}", loaded, label_names, metrics=glue.metrics(task))


@contextmanager
def bounded_waits(seconds: float = 20.0, attempts: int = 2) -> Iterator[None]:
    """Let downloads of TFDS give up soon where there is no network; by default they try for minutes.

    Args:
        seconds: the wait for a connection, and for each further piece of a download.
        attempts: how often a connection is tried again.
    """
    requests: Any = optional("requests", "tfds")
    downloader: Any = optional("tensorflow_datasets.core.download.downloader", "tfds")
    request = requests.Session.request

    def bounded(self: Any, method: str, url: str, **options: Any) -> Any:
        if options.get("timeout") is None:
            options["timeout"] = seconds
        return request(self, method, url, **options)

    retries = getattr(downloader, "MAX_RETRIES", attempts)
    try:
        requests.Session.request, downloader.MAX_RETRIES = bounded, attempts
        yield
    finally:
        requests.Session.request, downloader.MAX_RETRIES = request, retries


def _builder(tfds: Any, name: str) -> Any:
    task = name.partition("/")[2].partition(":")[0]
    if name.startswith("glue/") and task not in GLUE_TEXTS:
        raise UserError(f"got tfds:{name}; expected one of {listing(GLUE_TEXTS, 12)}{nearest(task, GLUE_TEXTS)}")
    if name == "glue":
        raise UserError(f"got tfds:glue without a task; expected tfds:glue/<task>, one of {listing(GLUE_TEXTS, 12)}")
    try:
        return tfds.builder(name)
    except ImportError as error:
        raise _unreachable(name, error) from error
    except Exception as error:
        known = tfds.list_builders()
        if name.partition("/")[0].partition(":")[0] in known:
            raise _unreachable(name, error) from error
        raise UserError(f"TensorFlow Datasets has no '{name}'{nearest(name, known)}") from error


def _usual_splits(name: str) -> list[str]:
    """Return the splits of a data set whose own list is empty, as under `tfds.testing.mock_data`."""
    task = name.partition("/")[2].partition(":")[0]
    if name.startswith("glue/mnli"):
        validation_and_test = ["validation_matched", "test_matched"] if task == "mnli" else ["validation", "test"]
        return (["train"] if task == "mnli" else []) + validation_and_test
    return ["test"] if task == "ax" else ["train", "validation", "test"]


def _unreachable(name: str, error: Exception) -> UserError:
    if isinstance(error, ModuleNotFoundError):
        return UserError(
            f"tfds:{name} needs the library {error.name}, which is not installed. Run pip install {error.name}."
        )
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return UserError(
        f"cannot read or download tfds:{name} ({type(error).__name__}: {reason[:200]}). "
        "Check TFDS_DATA_DIR or the connection, or use your own files."
    )


def _columns(tfds: Any, name: str, features: Any) -> tuple[tuple[str, ...], str, tuple[str, ...] | None]:
    """Return the text columns, the label column, and the class names (None for regression)."""
    found = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    texts = tuple(key for key, feature in found.items() if isinstance(feature, tfds.features.Text))
    dataset, _, rest = name.partition("/")
    if dataset == "glue":
        texts = GLUE_TEXTS[rest.partition(":")[0]]
    classes = [key for key, feature in found.items() if isinstance(feature, tfds.features.ClassLabel)]
    label = found.get("label")
    is_float = label is not None and label.shape == () and np.issubdtype(label.np_dtype, np.floating)
    if len(texts) not in (1, 2) or not (is_float or len(classes) == 1):
        raise UserError(
            f"tfds:{name} has the features {listing(found) or 'none'}; expected one or two texts and one label"
        )
    if is_float:
        return texts, "label", None
    return texts, classes[0], tuple(found[classes[0]].names)


def _read(tfds: Any, builder: Any, split: str, columns: tuple[str, ...], label_column: str, regression: bool) -> Split:
    parts: list[list[str]] = [[] for _ in columns]
    labels = []
    for batch in tfds.as_numpy(builder.as_dataset(split=split, batch_size=1024, shuffle_files=False)):
        for part, column in zip(parts, columns, strict=True):
            part.extend(text.decode("utf-8") for text in batch[column])
        labels.append(batch[label_column])
    joined = np.concatenate(labels).astype(np.float32 if regression else np.int64) if labels else np.zeros(0, np.int64)
    return Split(parts[0], parts[1] if len(parts) == 2 else None, None if (joined == -1).all() else joined)
