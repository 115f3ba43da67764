"""Make small tokenizers of other kinds than BERT's, with the settings of well-known models, and awkward texts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# Ten scripts, then what breaks tokenizers.
ALPHABETS = [
    "abcdefgh ijklmnop", "абвгдежз ийклмн", "αβγδεζ ηθικλς", "אבגדה וזחט", "ابتثج حخدُّ", "कखगघि ङच्छ",
    "กขคงจ ฉชซ", "我们在家 吃饭", "あいうカキク がギ", "가나다 라마바",
    "\u0301\u200d\u00ad\ufeff\t\n\u00a0\u3000\u2028", "🙂👍🏽👨‍👩‍👧♥️", "!?.,;:'\"-—…()[]{}<>/\\#@", "ＡｂＣ①½ﬁßİıǅ", "0123456789 ",
]  # fmt: skip
SPECIAL = ["<s>", "</s>", "<mask>", "[MASK]", "[CLS]", "<pad>", " <mask>", "▁", "Ġ", "##"]


def awkward(count: int, seed: int = 0, special: float = 0.06) -> list[str]:
    """Return texts of at most eight parts, each of letters of one alphabet or, with probability `special`, a special token."""
    generator = random.Random(seed)

    def part() -> str:
        if generator.random() < special:
            return generator.choice(SPECIAL)
        letters = "".join(generator.choices(generator.choice(ALPHABETS), k=generator.randint(1, 9)))
        return letters.upper() if generator.random() < 0.2 else letters

    texts = [
        generator.choice(["", " ", "  "]).join(part() for _ in range(generator.randint(0, 8))) for _ in range(count)
    ]
    return ["", " ", "\n", "a" * 300, *texts][:count]


def _marks(names: list[str]) -> list[AddedToken]:
    return [AddedToken(name, lstrip=name == "<mask>", normalized=False, special=True) for name in names]


def roberta(texts: list[str], *, prefix: bool = False, size: int = 600) -> tokenizers.Tokenizer:
    """Learn a byte-level BPE tokenizer as RoBERTa's."""
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=_marks(ROBERTA), initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=prefix)
    return library


def xlm_roberta(texts: list[str], size: int = 700) -> tokenizers.Tokenizer:
    """Learn a Unigram tokenizer as XLM-R's."""
    library = tokenizers.Tokenizer(models.Unigram())
    library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=_marks(ROBERTA), unk_token="<unk>", show_progress=False
    )
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return library


def albert(texts: list[str], size: int = 700) -> tokenizers.Tokenizer:
    """Learn a Unigram tokenizer as ALBERT's."""
    names = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    library = tokenizers.Tokenizer(models.Unigram())
    library.normalizer = normalizers.Sequence(
        [normalizers.Replace("``", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    library.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=_marks(names), unk_token="<unk>", show_progress=False
    )
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return library


def metaspace_bpe(texts: list[str], size: int = 700) -> tokenizers.Tokenizer:
    """Learn a BPE tokenizer with Metaspace and bytes for what it lacks."""
    library = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=_marks(ROBERTA), show_progress=False)
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return library


def wordpiece(texts: list[str], size: int = 600) -> tokenizers.Tokenizer:
    """Learn a WordPiece tokenizer with a cleaning that is not BERT's."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    library = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=_marks(names), show_progress=False)
    library.train_from_iterator(texts, trainer)
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return library


KINDS = {
    "roberta": roberta,
    "roberta with prefix": lambda texts: roberta(texts, prefix=True),
    "xlm-roberta": xlm_roberta,
    "albert": albert,
    "metaspace bpe": metaspace_bpe,
    "wordpiece": wordpiece,
}


def write(directory: Path, library: tokenizers.Tokenizer, **config: object) -> Path:
    """Write tokenizer.json and tokenizer_config.json."""
    directory.mkdir(exist_ok=True, parents=True)
    library.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory
