"""Run the PyTorch side of training.py: plain distillation loops as in Hugging Face's examples and TinyBERT's code.

    python torch_peer.py DIRECTORY --threads 2

It runs in the environment of `make fidelity`. DIRECTORY contains `teacher` and `student` (transformers' format), train.npz and dev.npz
(flat `ids` and `segments`, `offsets`, `labels`) and settings.json. Each step is the teacher's forward pass and the student's forward
and backward pass, padded to the longest example of the batch. TinyBERT's attention is compared after its softmax, which is what
transformers returns; the cost is the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, softmax
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
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        yield values, torch.from_numpy(rows["labels"][chosen].astype(np.int64))


def accuracy(model: Any, rows: dict[str, np.ndarray]) -> float:
    model.eval()
    right, order = 0, np.argsort(np.diff(rows["offsets"]), kind="stable")
    with torch.no_grad():
        for inputs, labels in batches(rows, order, 64):
            right += int((model(**inputs).logits.argmax(-1) == labels).sum())
    model.train()
    return right / len(order)


class SoftTargets:
    """KL of logits at a temperature, and labels."""

    reads: ClassVar[dict[str, bool]] = {}

    def __init__(self, settings: dict[str, Any], student: Any, teacher: Any):
        self.temperature, self.soft_weight = settings["temperature"], settings["soft_weight"]
        self.parameters: list[Any] = []

    def __call__(self, student: Any, teacher: Any, labels: torch.Tensor) -> torch.Tensor:
        targets = softmax(teacher.logits / self.temperature, -1)
        soft = kl_div(log_softmax(student.logits / self.temperature, -1), targets, reduction="batchmean")
        hard = cross_entropy(student.logits, labels)
        return self.soft_weight * soft * self.temperature**2 + (1 - self.soft_weight) * hard


class TransformerLayers:
    """TinyBERT's embeddings, hidden states and attention, each layer of the student with a projection of its own."""

    reads: ClassVar[dict[str, bool]] = {"output_hidden_states": True, "output_attentions": True}

    def __init__(self, settings: dict[str, Any], student: Any, teacher: Any):
        self.pairs = settings["layers"]
        widths = student.config.hidden_size, teacher.config.hidden_size
        self.projections = torch.nn.ModuleList(torch.nn.Linear(*widths, bias=False) for _ in range(len(self.pairs) + 1))
        self.parameters = list(self.projections.parameters())

    def __call__(self, student: Any, teacher: Any, labels: torch.Tensor) -> torch.Tensor:
        loss = torch.zeros(())
        for number, (own, other) in enumerate([(0, 0), *self.pairs]):
            states = self.projections[number](student.hidden_states[own])
            loss = loss + mse_loss(states, teacher.hidden_states[other])
        for own, other in self.pairs:
            loss = loss + mse_loss(student.attentions[own - 1], teacher.attentions[other - 1])
        return loss


class PredictionLayer:
    """TinyBERT's soft cross-entropy."""

    reads: ClassVar[dict[str, bool]] = {}

    def __init__(self, settings: dict[str, Any], student: Any, teacher: Any):
        self.parameters: list[Any] = []

    def __call__(self, student: Any, teacher: Any, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(student.logits, softmax(teacher.logits, -1))


STAGES = {"soft_targets": (SoftTargets,), "tinybert": (TransformerLayers, PredictionLayer)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    settings = json.loads((options.directory / "settings.json").read_text("utf-8"))
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    train, dev = (dict(np.load(options.directory / f"{name}.npz")) for name in ("train", "dev"))
    # With eager attention transformers gives attention maps, and measures slower.
    attention = "eager" if settings["recipe"] == "tinybert" else "sdpa"
    teacher, student = (
        AutoModelForSequenceClassification.from_pretrained(options.directory / name, attn_implementation=attention)
        for name in ("teacher", "student")
    )
    teacher.eval()
    student.train()
    count, size = len(train["labels"]), settings["batch_size"]
    steps = int(np.ceil(count / size)) * settings["epochs"]
    started, step_seconds, curve = time.monotonic(), [], []
    for stage in STAGES[settings["recipe"]]:
        loss_of = stage(settings, student, teacher)
        parameters = [*student.parameters(), *loss_of.parameters]
        optimizer = torch.optim.AdamW(parameters, lr=settings["learning_rate"], weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(warmup_linear, steps=steps))
        for epoch in range(settings["epochs"]):
            order = np.random.default_rng(epoch).permutation(count)
            for inputs, labels in batches(train, order, size):
                began = time.monotonic()
                with torch.no_grad():
                    teacher_outputs = teacher(**inputs, **stage.reads)
                loss = loss_of(student(**inputs, **stage.reads), teacher_outputs, labels)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                step_seconds.append(time.monotonic() - began)
            if stage is STAGES[settings["recipe"]][-1]:
                curve.append([time.monotonic() - started, accuracy(student, dev)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"curve": curve, "step_seconds": step_seconds, "peak_memory_mb": peak}))


def warmup_linear(step: int, steps: int) -> float:
    warm = max(1, int(0.1 * steps))
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))


if __name__ == "__main__":
    main()
