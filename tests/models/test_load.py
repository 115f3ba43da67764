"""Loading and saving by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill.errors import UserError
from tfdistill.models.hf import save_directory
from tfdistill.models.load import data_for, load, save
from tfdistill.models.training_record import max_length_of, recipe_of
from tfdistill.text.tokenizer import Tokenizer

TINY_BERT = Path(__file__).parent / "tiny_bert"


@pytest.mark.heavy
def test_a_saved_model_opens_with_and_without_the_prefix(tmp_path):
    model = tiny_bert(label_names=["a", "b", "c"])
    model.tokenizer = Tokenizer.from_directory(TINY_BERT)
    directory = save(model, tmp_path / "model")
    for source in (directory, f"hf:{directory}"):
        again = load(source)
        assert (again.label_names, again.loaded_from) == (("a", "b", "c"), str(directory))
        np.testing.assert_array_equal(again(inputs()), model(inputs()))


def test_what_recipe_json_says_is_read_if_it_can_be(tmp_path):
    model = tiny_bert()
    model.tokenizer = Tokenizer.from_directory(TINY_BERT)
    directory = str(save_directory(model, tmp_path / "model", recipe={"max_length": 16}))
    assert recipe_of(f"hf:{directory}") == {"max_length": 16} and max_length_of(directory) == 16
    (tmp_path / "model" / "recipe.json").write_text("[", "utf-8")
    assert recipe_of(directory) == {} and max_length_of(directory) == 64


def test_data_of_another_number_of_classes_are_refused(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\na\tno\nb\tyes\n", "utf-8")
    with pytest.raises(UserError, match="3"):
        data_for(tiny_bert(), "MODEL", str(tmp_path))
    assert data_for(tiny_bert(outputs=2), "MODEL", str(tmp_path)).num_outputs == 2


@pytest.mark.heavy
def test_a_run_is_its_student(tmp_path):
    model = load(TINY_BERT)
    save(model, tmp_path / "run" / "student")
    assert load(tmp_path / "run").count_params() == model.count_params()


def test_a_run_without_a_student_is_named(tmp_path):
    (tmp_path / "run.json").write_text("{}", "utf-8")
    with pytest.raises(UserError, match="not finished"):
        load(tmp_path)
