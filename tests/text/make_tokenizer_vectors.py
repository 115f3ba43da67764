"""Make vectors/bert_tokenizer.json with Hugging Face's tokenizer; run by hand, not by the tests.

Texts and vocabularies are written for this purpose.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from transformers import BertTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL, CAPITAL, DIGITS = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¿¡«»„“”…–—€£°·、。！？「」"
LETTERS = "ßæøłđıςσαβγδεοабвгджёйиあいうがか한글कमतअבגד\u0307\u0301\u0308🙂🚗👍🏽♥️"
WORDS = (
    "the a cat dog sat on mat un play ##ing ##ed ##s ##able strass ##e cafe nai ##ve turk ##ce new 10 ##0 mask sep cls"
)
CASED_WORDS = "The Cat New York I It ##ing ##ed ##s Straße café É ##É İ ##İ Σ ##Σ MASK"
CHINESE = "我们在家吃饭的是不了人大北京上海中国語日本"


def vocabulary(words: str, letters: str) -> list[str]:
    characters = list(dict.fromkeys(letters))
    return list(dict.fromkeys([*SPECIAL, *words.split(), *characters, *("##" + character for character in characters)]))


VOCABULARIES = {
    "uncased": vocabulary(WORDS, SMALL + DIGITS + SIGNS + LETTERS),
    "cased": vocabulary(CASED_WORDS, SMALL + CAPITAL + DIGITS + SIGNS + LETTERS + "äöüÄÖÜéèçñåøÅ"),
    "chinese": vocabulary("北京 ##京 中国 ##国 abc", SMALL + DIGITS + SIGNS + CHINESE),
}
SETTINGS = [
    {"vocabulary": "uncased", "lower_case": True},
    {"vocabulary": "uncased", "lower_case": True, "strip_accents": False},
    {"vocabulary": "cased", "lower_case": False},
    {"vocabulary": "cased", "lower_case": False, "strip_accents": True},
    {"vocabulary": "chinese", "lower_case": True},
    {"vocabulary": "chinese", "lower_case": True, "tokenize_chinese_chars": False},
]
TEXTS = [
    "",
    " ",
    " \t\n\r ",
    "\u00a0\u2003\u3000",
    "The cat sat on the mat.",
    "UNPLAYABLE plays, played; playing!",
    "Cats' 100% don't-know",
    "Café naïve Türkçe Ångström",
    "Cafe\u0301 nai\u0308ve",
    "İstanbul Iğdır ıI",
    "Straße STRASSE ẞ",
    "ΣΑΣ ΟΔΟΣ σας ς",
    "Ёжик и йод",
    "Łódź Đuro Øre Æ",
    "我们在北京吃饭。",
    "中国abc中国 ABC",
    "日本語とabc",
    "\uf900\ufa10 豈",
    "𠀀a𪜀b\U0002b820c\U0002b920d",
    "한글 \u1112\u1161\u11ab글",
    "がか\u3099 か\u3099",
    "हिन्दी कमत",
    "שָׁלוֹם אבגד",
    "🙂",
    "a🙂b 🚗",
    "👍🏽 👨\u200d👩\u200d👧 ♥️",
    "a [MASK] b",
    "a[MASK]b",
    "[SEP]",
    "[CLS][SEP][PAD][UNK][MASK]",
    "[mask] [Mask] [MASK [MASK]]",
    "[[SEP]]",
    "[MA\u200bSK] [MA\uf8f0SK]",
    "[MASK]\u0301e",
    "[unused1] ##ing #",
    "a\u0000b\u0001c\u007fd",
    "a\ufffdb \ufffd",
    "a\u00adb a\u200bb a\ufeffb a\u2060b",
    "a\ue000b \uf8f0 \uf8f1\uf8f2 \U000f0000c \U0010fffdd",
    "a\u0378b \U000e0080 \ufdd0",
    "a\tb\nc\rd\u000be\u000cf\u0085g",
    *(f"a{space}b" for space in "\u00a0\u1680\u2000\u2007\u200a\u2028\u2029\u202f\u205f\u3000"),
    "a\u180eb\u2800c",
    "a…b–c—d«e»f„g“h”i¿j¡k",
    "$1+2=3<4>^`|~€5£6°7·8",
    "a\u166db\u2e2fc\u2e43d\u0483e",
    "e\u0301\u0308\u0327o\u20dd",
    "ﬁ ﬂ ① Ⅷ ℝ Ⓐ ｆｕｌｌ",
    "𝐀𐐀𞤀Ꞛ\u1c89",
    *(letter * count for letter in ("a", "é", "İ", "🙂", "中") for count in (100, 101)),
    "e\u0301" * 60,
    "a\u00ad" * 120,
    "a-" * 110,
    "cat " * 600,
    "thecat" * 17,
]
PAIRS = [
    ["the cat sat on the mat", "a dog"],
    ["dog", "cat " * 20],
    ["a b c d e f", "f e d c b a"],
    ["", "cat"],
    ["cat", ""],
    ["", ""],
    ["[SEP] a", "b [MASK]"],
    ["cat " * 9, "dog " * 4],
    ["cat " * 4, "dog " * 9],
    ["cat " * 7, "dog " * 8],
]
LENGTHS = [5, 8, 13, 32]


def hugging_face(pieces: list[str], settings: dict) -> BertTokenizerFast:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        names = {"lower_case": "do_lower_case"}
        config = {names.get(key, key): value for key, value in settings.items() if key != "vocabulary"}
        Path(directory, "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **config}))
        return BertTokenizerFast.from_pretrained(directory)


def cases() -> list[dict]:
    made = []
    for settings in SETTINGS:
        tokenizer = hugging_face(VOCABULARIES[settings["vocabulary"]], settings)
        pairs = {}
        for length in LENGTHS:
            both = tokenizer([a for a, _ in PAIRS], [b for _, b in PAIRS], truncation=True, max_length=length)
            pairs[str(length)] = [both["input_ids"], both["token_type_ids"]]
        single = tokenizer(TEXTS, truncation=True, max_length=512)["input_ids"]
        made.append({"settings": settings, "ids": single, "pairs": pairs if settings == SETTINGS[0] else {}})
    return made


if __name__ == "__main__":
    path = Path(__file__).parent / "vectors" / "bert_tokenizer.json"
    path.parent.mkdir(exist_ok=True)
    content = {"vocabularies": VOCABULARIES, "texts": TEXTS, "pairs": PAIRS, "cases": cases()}
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    print(path.name, path.stat().st_size, "bytes")
