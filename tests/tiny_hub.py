"""Tiny text classifiers of KerasHub with random weights, made on the spot."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = ["the plot is very good", "boring", "", "The story: NOT fun, É or ü.", "very " * 40]
TEXTS_B = ["a film", "fun!", "x", "the", "good " * 30]
FAMILIES = ("bert", "distil_bert", "roberta", "xlm_roberta", "deberta_v3", "albert", "f_net", "roformer_v2")
VOCABULARY = (Path(__file__).parent / "models" / "tiny_bert" / "vocab.txt").read_text("utf-8").split()
_CLASSES = {
    "bert": "Bert",
    "distil_bert": "DistilBert",
    "roberta": "Roberta",
    "xlm_roberta": "XLMRoberta",
    "deberta_v3": "DebertaV3",
    "albert": "Albert",
    "f_net": "FNet",
    "roformer_v2": "RoformerV2",
}
_WORDS = ["the", "plot", "is", "good", "bad", "very", "film", "a", "boring", "not", "fun", "story"]


def classifier(family: str, num_classes: int = 3, length: int | None = 24, seed: int = 3, **options: Any) -> Any:
    """Make a classifier of three layers. `length` is that of its preprocessor; None makes it without one."""
    import keras_hub

    models, name = keras_hub.models, _CLASSES[family]
    sizes: dict[str, Any] = {"num_layers": 3, "hidden_dim": 8, "intermediate_dim": 16}
    if family != "f_net":
        sizes["num_heads"] = 2
    sizes |= {"head_size": 4, "max_wavelength": 100} if family == "roformer_v2" else {"max_sequence_length": 32}
    sizes |= {"albert": {"embedding_dim": 6}, "deberta_v3": {"bucket_size": 8}}.get(family, {})
    tokenizer = _tokenizer(models, family)
    backbone = getattr(models, f"{name}Backbone")(vocabulary_size=tokenizer.vocabulary_size() + 3, **sizes)
    preprocessor = None
    if length is not None:
        preprocessor = getattr(models, f"{name}TextClassifierPreprocessor")(tokenizer, sequence_length=length)
    made = getattr(models, f"{name}TextClassifier")(backbone, num_classes, preprocessor=preprocessor, **options)
    rng = np.random.default_rng(seed)
    for weight in made.weights:
        is_scale = weight.path.endswith(("gamma", "scale"))
        weight.assign(rng.normal(scale=0.4, size=weight.shape) + is_scale)
    return made


def _tokenizer(models: Any, family: str) -> Any:
    if family in ("bert", "distil_bert"):
        make = models.BertTokenizer if family == "bert" else models.DistilBertTokenizer
        return make(VOCABULARY, lowercase=True)
    if family == "roformer_v2":
        return models.RoformerV2Tokenizer(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *_WORDS])
    if family == "roberta":
        tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *_bytes(), "th", "the", "is"]
        return models.RobertaTokenizer({token: n for n, token in enumerate(tokens)}, ["t h", "th e", "i s"])
    if family == "xlm_roberta":
        return models.XLMRobertaTokenizer(_sentencepiece(unk_id=0, bos_id=1, eos_id=2))
    pieces = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    names = {"pad_piece": "[PAD]", "unk_piece": "[UNK]"} if family == "deberta_v3" else {"pad_piece": "<pad>"}
    proto = _sentencepiece(**pieces, **names, user_defined_symbols="[MASK]")
    return {"deberta_v3": models.DebertaV3Tokenizer, "albert": models.AlbertTokenizer, "f_net": models.FNetTokenizer}[
        family
    ](proto)


def _bytes() -> list[str]:
    """Return the letters of all bytes in byte-level BPE."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return [chr(byte) for byte in kept] + [chr(256 + n) for n in range(len(others))]


def _sentencepiece(**options: Any) -> bytes:
    import sentencepiece

    model, texts = io.BytesIO(), [" ".join(_WORDS[n:] + _WORDS[:n]) for n in range(len(_WORDS))] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=34, minloglevel=2, **options
    )
    return model.getvalue()
