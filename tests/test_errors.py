"""Messages of errors: their parts, and the style of representative ones."""

from __future__ import annotations

import pytest

from tfdistill.data.load import load_any
from tfdistill.errors import DivergedError, MissingExtra, UserError, listing, nearest, optional, with_advice
from tfdistill.system.devices import make_strategy
from tfdistill.system.files import atomic_directory, read_json, require_new


def test_parts_of_messages():
    assert nearest("Txt", ["label", "text"]) == " (did you mean 'text'?)"
    assert nearest("TEXT", ["Text"]) == " (did you mean 'Text'?)"
    assert nearest("zzz", ["label", "text"]) == ""
    assert listing("abc") == "a, b, c"
    assert listing("abcde", 3) == "a, b, c, and 2 more"


def test_advice_is_a_separate_sentence():
    assert with_advice("x is missing", "choose another `--out`") == "x is missing. Choose another `--out`."
    assert with_advice("x is missing", "Add it.") == "x is missing. Add it."
    assert with_advice("x is missing", "") == "x is missing"


def test_errors_with_values():
    error = DivergedError(3, "kl")
    assert (error.step, error.term) == (3, "kl") and "'kl'" in str(error) and "step 3" in str(error)
    with pytest.raises(MissingExtra, match=r"tfdistill\[hub\]"):
        optional("not_a_library.module", "hub")


def _in_file(directory):
    with atomic_directory(directory / "file"):
        pass


@pytest.mark.parametrize(
    ("fail", "name"),
    [
        (lambda directory: read_json(directory / "none.json", "Fetch it again."), "none.json"),
        (lambda directory: require_new(directory), "`--out`"),
        (_in_file, "`--out`"),
        (lambda directory: load_any(str(directory / "none.tsv")), "none.tsv"),
        (lambda directory: load_any(f"conll:{directory}"), "conll"),
        (lambda directory: load_any(f"squad:{directory}"), "train*.json"),
        (lambda directory: load_any("glue:sst"), "glue:TASK:DIR"),
        (lambda directory: make_strategy("all"), "`--strategy all`"),
    ],
)
def test_messages_are_one_line_and_name_the_file_or_option(tmp_path, fail, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError) as error:
        fail(tmp_path)
    message = str(error.value)
    assert name in message and "\n" not in message and len(message) < 400
