"""Write the logits of a PyTorch classifier of transformers as answers: `train --teacher answers:FILE` learns from them.

    python classifier.py MODEL TEXTS.jsonl ANSWERS.jsonl

MODEL is a name or directory that `AutoModelForSequenceClassification` loads; TEXTS has a `text` (and `text_b`) in each line.
Needs torch and transformers. The class names are those of the model's config, and have to be those of the data.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

BATCH = 32

Rows = list[dict[str, Any]]


def batches(rows: Iterable[dict[str, Any]], size: int) -> Iterator[Rows]:
    """Yield the rows, `size` at a time."""
    rest = iter(rows)
    while batch := list(islice(rest, size)):
        yield batch


def answers(
    rows: Iterable[dict[str, Any]], logits_of: Callable[[Rows], Sequence[Sequence[float]]], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield one answer for each row; `logits_of` computes the logits of a batch, one list for each row."""
    for batch in batches(rows, BATCH):
        for row, logits in zip(batch, logits_of(batch), strict=True):
            texts = {key: row[key] for key in ("text", "text_b") if row.get(key) is not None}
            yield {**texts, "logits": dict(zip(names, map(float, logits), strict=True))}


def main(name: str, source: str, target: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSequenceClassification.from_pretrained(name).eval()
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]

    @torch.inference_mode()
    def logits_of(batch: Rows) -> list[list[float]]:
        pairs = [row["text_b"] for row in batch] if "text_b" in batch[0] else None
        inputs = tokenizer([row["text"] for row in batch], pairs, truncation=True, padding=True, return_tensors="pt")
        return model(**inputs).logits.float().tolist()

    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as out:
        for answer in answers(map(json.loads, lines), logits_of, names):
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
