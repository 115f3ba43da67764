"""Corpora of random words for tests: their text, vocabulary and shards."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from tfdistill.corpora.work import Work, spans_of
from tfdistill.corpora.workers import make_corpus
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.load import save
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY = Path(__file__).parent / "models" / "tiny_bert"
WORDS = [f"w{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS])


def save_vocabulary(directory: Path) -> str:
    directory.mkdir()
    TOKENIZER.save(directory)
    return str(directory)


def write_text(path: Path, count: int = 90, seed: int = 0, one_a_line: bool = False) -> Path:
    """Write documents of sentences; some sentences are in several."""
    rng = np.random.default_rng(seed)
    common = [" ".join(rng.choice(WORDS, 9)).capitalize() + "." for _ in range(4)]
    made = []
    for _ in range(count):
        lines = [" ".join(rng.choice(WORDS, rng.integers(8, 13))).capitalize() + "." for _ in range(rng.integers(1, 5))]
        lines += [common[rng.integers(4)]] * (rng.random() < 0.3)
        made.append((" " if one_a_line else "\n").join(lines))
    made += made[:5] if one_a_line else []
    path.write_text(("\n" if one_a_line else "\n\n").join(made) + "\n", encoding="utf-8")
    return path


def made(
    tmp_path: Path, vocabulary: str, source: Path, size: int = 1500, out: str = "corpus", workers: int = 1, **options
) -> Path:
    work = Work(str(tmp_path / out), vocabulary, spans_of(str(source), size), **{"held_out": 0.1, **options})
    make_corpus(work, str(source), workers=workers)
    return tmp_path / out


def make_teacher(directory: Path) -> TextModel:
    keras.utils.set_random_seed(3)
    config = BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24)
    model = TextModel(config, 2, label_names=("no", "yes"))
    model.tokenizer = Tokenizer.from_directory(TINY)
    save(model, directory)
    return model


LETTERS = [" ".join(row) for row in np.random.default_rng(0).choice(list("abcdefgh"), (60, 12))]


def labelled(tmp_path: Path, **options) -> Path:
    text = tmp_path / "texts.txt"
    text.write_text("\n".join([*LETTERS, LETTERS[0], *LETTERS[:4]]) + "\n", "utf-8")
    chosen = {"rows": True, "teacher": str(tmp_path / "teacher"), "max_length": 16, **options}
    return made(tmp_path, str(tmp_path / "teacher"), text, 200, out="labelled", **chosen)
