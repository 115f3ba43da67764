"""Turn the votes of people into answers: the share of each class among the votes for a text.

    python votes.py VOTES.csv ANSWERS.jsonl

VOTES has the columns text, annotator and label, one vote a row. A second vote of an annotator for a text replaces the first.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def shares(votes: Iterable[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield one answer for each text, in the order in which the texts first occur. All classes are named."""
    latest: dict[str, dict[str, str]] = {}
    for vote in votes:
        latest.setdefault(vote["text"], {})[vote["annotator"]] = vote["label"]
    names = sorted({label for labels in latest.values() for label in labels.values()})
    for text, labels in latest.items():
        counts = Counter(labels.values())
        yield {"text": text, "probs": {name: counts[name] / len(labels) for name in names}}


def main(source: str, target: str) -> None:
    with open(source, encoding="utf-8-sig", newline="") as rows, open(target, "w", encoding="utf-8") as out:
        for answer in shares(csv.DictReader(rows)):
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
