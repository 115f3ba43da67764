"""The recipe minilm: its terms, layers and relation heads."""

import pytest
from tiny_recipes import data, make, teacher, write_text

from tfdistill.errors import UserError
from tfdistill.models.load import save
from tfdistill.recipes.minilm import Relations, relation_terms
from tfdistill.training.run_directory import run


def terms(settings, model=None):
    recipe = make("minilm", data(), settings, model)
    return recipe, {term.name: term for term in recipe.stages[0].terms}


@pytest.mark.heavy
def test_three_relations_of_the_last_layers():
    recipe, found = terms([])
    assert [stage.name for stage in recipe.stages] == ["relations", "fine-tuning"]
    assert list(found) == [f"{name}_relation_kl" for name in ("queries", "keys", "values")]
    assert {term.layers for term in found.values()} == {((2, 4),)} and {t.weight for t in found.values()} == {1.0}


@pytest.mark.heavy
def test_the_first_paper_compares_attention_and_values():
    _, found = terms(["relations.version=minilm", "relations.teacher_layer=3", "relations.value_weight=0.5"])
    assert list(found) == ["attention_scores_attention_kl", "values_relation_kl"]
    assert found["values_relation_kl"].options == {"heads": 2} and found["values_relation_kl"].weight == 0.5
    assert found["values_relation_kl"].layers == ((2, 3),)


@pytest.mark.heavy
def test_a_term_without_weight_is_left_out():
    _, found = terms(["relations.query_weight=0"])
    assert list(found) == ["keys_relation_kl", "values_relation_kl"]


@pytest.mark.parametrize(
    ("sizes", "requested", "heads"),
    [((16, 16), None, 1), ((64, 16), None, 4), ((48, 32), None, 2), ((16, 8), 8, 8), ((24, 16), 8, 8)],
)
def test_relation_heads_divide_both_sizes(sizes, requested, heads):
    large, small = (teacher(width=width, layers=1) for width in sizes)
    found = relation_terms(small, large, Relations(heads=requested))
    assert [term.options["heads"] for term in found] == [heads] * 3


@pytest.mark.heavy
def test_large_teachers_teach_from_an_upper_middle_layer():
    (term, *_) = relation_terms(teacher(layers=1), teacher(width=8, layers=24), Relations())
    assert term.layers == ((1, 21),)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("settings", "message"),
    [(["relations.heads=3"], "relations.heads"), (["relations.teacher_layer=5"], "relations.teacher_layer")],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make("minilm", data(), settings)


@pytest.mark.heavy
def test_general_stage_on_plain_text_with_another_hidden_size(tmp_path):
    save(teacher(width=32), tmp_path / "general")
    general = [f"general.text={write_text(tmp_path / 'text.txt')}", f"general.teacher=hf:{tmp_path / 'general'}"]
    recipe = make("minilm", data(), [*general, "general.length=16", "relations.epochs=0"])
    assert [stage.name for stage in recipe.stages] == ["general", "fine-tuning"]
    result = run(recipe, tmp_path / "run", debug=True)
    assert set(result.scores) == {"dev", "test"}
