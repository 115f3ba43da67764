"""Parts of error messages."""

from __future__ import annotations

from tfdistill.errors import listing, nearest, with_advice


def test_messages():
    assert nearest("Txt", ["label", "text"]) == " (did you mean 'text'?)"
    assert nearest("TEXT", ["Text"]) == " (did you mean 'Text'?)"
    assert nearest("zzz", ["label", "text"]) == ""
    assert listing("abc") == "a, b, c"
    assert listing("abcde", 3) == "a, b, c, and 2 more"


def test_advice_is_a_sentence_of_its_own():
    assert with_advice("x is missing", "choose another `--out`") == "x is missing. Choose another `--out`."
    assert with_advice("x is missing", "Add it.") == "x is missing. Add it."
    assert with_advice("x is missing", "") == "x is missing"
