"""Print the table of docs/scaling.md for your numbers: operations and hours of a general distillation.

    python benchmarks/scaling.py --pieces 3.3e9 --devices 8 --peak 312e12 --utilisation 0.35 --price 2.0

Nothing is run. Matrix products and attention are counted; a backward pass counts as two forward passes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

VOCABULARY, MASKED = 30522, 0.15


@dataclass(frozen=True)
class Model:
    """Weights that each piece is multiplied by, and what attention and the masked-LM head need of sizes."""

    products: int
    width: int  # of attention
    layers: int
    body: int  # between the layers

    def forward(self, length: int) -> float:
        """Operations for one piece."""
        return 2 * self.products + 4 * self.layers * length * self.width

    @property
    def head(self) -> float:
        return 2 * MASKED * (self.body**2 + self.body * VOCABULARY)


def bert(width: int, layers: int, feed_forward: int) -> Model:
    return Model(layers * (4 * width**2 + 2 * width * feed_forward), width, layers, width)


def bottleneck(body: int, intra: int, layers: int, feed_forwards: int, feed_forward: int, shared: bool) -> Model:
    """IB-BERT and MobileBERT; `shared`: queries and keys come from the bottleneck, values from the body (Sun et al. 2020, table 1)."""
    attention = 2 * intra**2 + (body if shared else intra) * intra + intra**2
    inside = body * intra * (2 if shared else 1) + intra * body
    return Model(layers * (inside + attention + feed_forwards * 2 * intra * feed_forward), intra, layers, body)


BASE = bert(768, 12, 3072)
RUNS = {
    "TinyBERT 4×312 from BERT-base": (bert(312, 4, 1200), BASE, 3, False),
    "TinyBERT 6×768 from BERT-base": (bert(768, 6, 3072), BASE, 3, False),
    "DistilBERT 6×768 from BERT-base": (bert(768, 6, 3072), BASE, 3, True),
    "MobileBERT from IB-BERT": (bottleneck(512, 128, 24, 4, 512, True), bottleneck(512, 1024, 24, 1, 4096, False), 58, True),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=float, default=3.3e9, help="word pieces of the text")
    parser.add_argument("--length", type=int, default=128, help="of a sequence")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--peak", type=float, default=312e12, help="operations a second of a device")
    parser.add_argument("--utilisation", type=float, default=0.35, help="share of the peak that is reached")
    parser.add_argument("--price", type=float, default=0.0, help="of a device for an hour")
    options = parser.parse_args()
    rate = options.devices * options.peak * options.utilisation
    table = Table(
        title=f"{options.devices} devices of {options.peak / 1e12:g} TFLOP/s, {100 * options.utilisation:g} % reached"
    )
    columns = ("", "student", "teacher", "GFLOP a sequence", "passes", "FLOP in all", "hours", "sequences/s", "cost")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for name, (student, teacher, passes, masked) in RUNS.items():
        step = 3 * student.forward(options.length) + teacher.forward(options.length)
        step += masked * (3 * student.head + teacher.head)
        total = passes * options.pieces * step
        hours = total / rate / 3600
        table.add_row(
            name,
            f"{student.products / 1e6:.1f} M",
            f"{teacher.products / 1e6:.1f} M",
            f"{step * options.length / 1e9:.0f}",
            str(passes),
            f"{total:.1e}",
            f"{hours:.1f}",
            f"{rate / step / options.length:,.0f}",
            f"{options.devices * hours * options.price:,.0f}" if options.price else "–",
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
