"""Compare the speed of TinyBERT's augmentation in batches with that of one masked sentence at a time.

    python benchmarks/augment.py --texts 64 --out benchmarks/results/augment.json

The model has the size of MiniLM (6 layers, 384) and random weights, since predictions do not affect the time. Three ways run on
the same queries; in each, all copies share candidates:
    one at a time, eager     the model called on one query, as in the authors' code
    one at a time, compiled  the same in a graph that is traced once
    batches                  `Finder`: queries of similar length together, with the head at the masked position only
The ways alternate `--repeats` times; the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.system.files import atomic_write
from tfdistill.system.tensorflow_import import import_tensorflow

CANDIDATES = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=64, help="texts in batches")
    parser.add_argument("--singles", type=int, default=40, help="queries one at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    import_tensorflow()
    import tensorflow as tf

    from tfdistill.augment.tinybert import Finder
    from tfdistill.data.demo import minilm_directory
    from tfdistill.data.text_sources import load_data
    from tfdistill.models.bert_config import BertConfig
    from tfdistill.models.text_model import TextModel
    from tfdistill.text.tokenizer import Tokenizer
    from tfdistill.training.word_candidates import fill_mask

    config = BertConfig(
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=max(1, options.width // 32),
        intermediate_size=4 * options.width,
    )
    model = TextModel(config, task="masked_lm")
    tokenizer = Tokenizer.from_directory(minilm_directory())
    texts = load_data("demo:movie-snippets").splits["train"].texts[: options.texts]

    queries: list[dict[str, np.ndarray]] = []
    batched = fill_mask(model)

    def remember(inputs: dict[str, np.ndarray], k: int) -> np.ndarray:
        queries.extend(
            {name: values[[row]] for name, values in inputs.items()} for row in range(len(inputs["token_ids"]))
        )
        return batched(inputs, k)

    Finder(tokenizer, remember)(texts)  # traces the graph, and collects the queries
    queries = [_without_padding(query) for query in queries]
    singles = queries[:: max(1, len(queries) // options.singles)][: options.singles]
    compiled = tf.function(
        lambda inputs: model(inputs, training=False), reduce_retracing=True, input_signature=[_signature(tf)]
    )

    def one_at_a_time(forward: Callable[[dict[str, Any]], Any]) -> float:
        started = time.perf_counter()
        for query in singles:
            logits = forward({name: tf.constant(query[name]) for name in _NAMES}).numpy()
            np.argsort(-logits[0, query["masked_positions"][0, 0]])[:CANDIDATES]
        return (time.perf_counter() - started) / len(singles)

    def in_batches() -> float:
        started = time.perf_counter()
        Finder(tokenizer, batched)(texts)
        return (time.perf_counter() - started) / len(queries)

    ways = {
        "one at a time, eager": lambda: one_at_a_time(lambda inputs: model(inputs, training=False)),
        "one at a time, compiled": lambda: one_at_a_time(compiled),
        "batches": in_batches,
    }
    for way in ways.values():
        way()  # warm
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            seconds[name].append(way())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "model": f"{options.layers} layers, width {options.width}",
        "texts": len(texts),
        "queries": len(queries),
        "queries_one_at_a_time": len(singles),
        "mean_pieces": float(np.mean([query["token_ids"].shape[1] for query in queries])),
        "milliseconds_a_query": {name: round(1000 * value, 3) for name, value in medians.items()},
        "times_faster": {name: round(value / medians["batches"], 2) for name, value in medians.items()},
    }
    print(json.dumps(result, indent=2))
    if options.out is not None:
        atomic_write(options.out, json.dumps(result, indent=2) + "\n")


_NAMES = ("token_ids", "padding_mask", "segment_ids")


def _signature(tf: Any) -> dict[str, Any]:
    return {name: tf.TensorSpec((1, None), tf.int32) for name in _NAMES}


def _without_padding(query: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    length = int(query["padding_mask"].sum())
    return {name: values if name == "masked_positions" else values[:, :length] for name, values in query.items()}


if __name__ == "__main__":
    main()
