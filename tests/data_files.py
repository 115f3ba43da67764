"""Write small data files for tests, and check the errors that they cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError

TRAIN = "text\tlabel\ngood film\tpositive\nbad film\tnegative\n"


def write(folder: Path, files: dict[str, str | bytes]) -> str:
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder)


def jsonl(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def tsv(*labels: object) -> str:
    return "text\tlabel\n" + "".join(f"text {i}\t{label}\n" for i, label in enumerate(labels))


def fails(spec: str, *parts: str, **options) -> None:
    """Loading fails with one line that has all of `parts`."""
    with pytest.raises(UserError) as caught:
        load_data(spec, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
