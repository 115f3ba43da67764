"""The PyTorch side of training.py, in the environment of `make fidelity`: a plain distillation loop, as in Hugging Face's examples.

    python torch_peer.py DIRECTORY --threads 2

DIRECTORY holds `teacher` and `student` (transformers' format), train.npz and dev.npz (flat `ids` and `segments`, `offsets`, `labels`)
and settings.json. Each step: the teacher's forward, the student's forward and backward, padded to the longest row of the batch.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from transformers import AutoModelForSequenceClassification


def batches(rows: dict[str, np.ndarray], order: np.ndarray, size: int) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    offsets = rows["offsets"]
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        lengths = offsets[chosen + 1] - offsets[chosen]
        inputs = {name: np.zeros((len(chosen), lengths.max()), np.int64) for name in ("ids", "mask", "segments")}
        for n, (row, length) in enumerate(zip(chosen, lengths, strict=True)):
            span = slice(offsets[row], offsets[row] + length)
            inputs["ids"][n, :length], inputs["segments"][n, :length] = rows["ids"][span], rows["segments"][span]
            inputs["mask"][n, :length] = 1
        ids, mask, segments = (torch.from_numpy(inputs[name]) for name in ("ids", "mask", "segments"))
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        yield given, torch.from_numpy(rows["labels"][chosen].astype(np.int64))


def accuracy(model: Any, rows: dict[str, np.ndarray]) -> float:
    model.eval()
    right, order = 0, np.argsort(np.diff(rows["offsets"]), kind="stable")
    with torch.no_grad():
        for inputs, labels in batches(rows, order, 64):
            right += int((model(**inputs).logits.argmax(-1) == labels).sum())
    model.train()
    return right / len(order)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    said = json.loads((options.directory / "settings.json").read_text("utf-8"))
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    train, dev = (dict(np.load(options.directory / f"{name}.npz")) for name in ("train", "dev"))
    teacher, student = (
        AutoModelForSequenceClassification.from_pretrained(options.directory / name) for name in ("teacher", "student")
    )
    teacher.eval()
    student.train()
    count, size, temperature = len(train["labels"]), said["batch_size"], said["temperature"]
    steps = int(np.ceil(count / size)) * said["epochs"]
    optimizer = torch.optim.AdamW(student.parameters(), lr=said["learning_rate"], weight_decay=0.01)
    warm = max(1, int(0.1 * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    started, first, curve = time.monotonic(), 0.0, []
    for epoch in range(said["epochs"]):
        order = np.random.default_rng(epoch).permutation(count)
        for inputs, labels in batches(train, order, size):
            with torch.no_grad():
                targets = softmax(teacher(**inputs).logits / temperature, -1)
            logits = student(**inputs).logits
            soft = kl_div(log_softmax(logits / temperature, -1), targets, reduction="batchmean") * temperature**2
            loss = said["soft_weight"] * soft + (1 - said["soft_weight"]) * cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            first = first or time.monotonic() - started
        curve.append([time.monotonic() - started, accuracy(student, dev)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"curve": curve, "first_step_seconds": first, "peak_memory_mb": peak}))


if __name__ == "__main__":
    main()
