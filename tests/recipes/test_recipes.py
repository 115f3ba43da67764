"""Every recipe: runs in a few steps, its student exports, and it learns what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from helpers import mirrored
from tiny_recipes import (
    SMALL,
    TINY,
    bottleneck_teacher,
    data,
    dualtrain_settings,
    make,
    split,
    teacher,
    with_extra,
    with_general_stage,
    without_chance,
    write_text,
)

from tfdistill.data.batching import dataset
from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.models.load import load, save
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import find, finetune, names
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training import callbacks, evaluation, runner, search
from tfdistill.training.baseline import on_labels_alone
from tfdistill.training.execution import Execution
from tfdistill.training.rows import prepare
from tfdistill.training.run_directory import run
from tfdistill.training.runner import train
from tfdistill.training.search import search_learning_rate
from tfdistill.training.settings import parse_settings
from tfdistill.training.teacher_outputs import stage_examples, with_teacher_logits
from tfdistill.training.trainer import Trainer

# --- all of them ----------------------------------------------------------------------------------------------------


# soft_targets is run in the same way by tests/test_cli.py, bilstm by the quickstart's test; the others take half a minute each.
RUN_BY_SLOW = (
    "soft_targets",
    "bilstm",
    "privileged",
    "pkd",
    "mobilebert",
    "xtremedistil",
    "layerdrop",
    "head_pruning",
    "neuron_pruning",
    "quantization_aware",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in RUN_BY_SLOW else name for name in SMALL],
)
def test_debug_run_then_export(name, tmp_path):
    shallow = teacher(layers=4 if name in ("soft_targets", "pkd") else 2)
    result = run(make(name, data(), [], shallow), tmp_path / "run", debug=True, gradient_norms=True)
    done = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert done["state"] == "done" and set(done["scores"]) == {"dev", "test"}
    for stage in done["stages"]:
        norms = done["gradient_norms"][stage["name"]]
        weights = {term["name"]: term["weight"] for term in stage["terms"]}
        assert set(norms) == set(weights)
        assert all(np.isfinite(norm) and (norm > 0) == (weights[term] > 0) for term, norm in norms.items()), norms
    bundle = export_bundle(load(tmp_path / "run" / "student"), tmp_path / "bundle", quantize="fp32", length=12)
    assert (bundle / "model.tflite").stat().st_size > 1000
    assert result.rows >= 32


@pytest.mark.parametrize("name", names())
def test_docstring_says_paper_idea_command_score_and_cost(name):
    doc = find(name).__doc__
    for word in ("Idea: ", "Command: ", "Published: ", "Cost: "):
        assert word in doc, word
    assert f"train {name} " in doc


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("soft_targets", "multilabel"),
        pytest.param("soft_targets", "regression", marks=pytest.mark.slow),
        pytest.param("privileged", "multilabel", marks=pytest.mark.slow),
        pytest.param("tinybert", "regression", marks=pytest.mark.slow),
    ],
)
def test_other_heads(name, task, tmp_path):
    recipe = make(name, data(task=task), [])
    result = run(recipe, tmp_path / "run", debug=True)
    first = next(iter(result.scores["dev"]))
    assert first == {"multilabel": "micro_f1", "regression": "spearman"}[task]


@pytest.mark.parametrize(("name", "settings"), [("pkd", []), ("xtremedistil", ["joint=true"])])
@pytest.mark.slow
def test_pairs(name, settings, tmp_path):
    run(make(name, data(pair=True), settings), tmp_path / "run", debug=True)
    assert load(tmp_path / "run" / "student") is not None


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        *(
            pytest.param(name, "sgd", marks=() if name == "soft_targets" else pytest.mark.slow, id=f"{name}-sgd")
            for name in (*SMALL, "dualtrain_sharedproj")
        ),
        *(
            pytest.param(name, "adamw", marks=pytest.mark.slow, id=f"{name}-adamw")
            for name in (*SMALL, "dualtrain_sharedproj")
        ),
    ],
)
def test_two_devices_train_as_one(name, optimizer, tmp_path, text_file):
    """Same global batch: weights to 1e-5 with SGD, losses to 1e-4 with Adam. Also what clips the gradient is the whole batch's."""
    settings, found = ["rate=0"] if name == "layerdrop" else [], []
    if name == "dualtrain_sharedproj":
        settings = [*dualtrain_settings(tmp_path, text_file), "general.mixed_epochs=1"]
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            recipe = without_chance(make(name, data(36), settings), optimizer)
            result = train(recipe, seed=1, max_steps=4, gradient_norms=name != "soft_targets")
        clipped = [norm for stage in result.gradient_norms.values() for norm in stage.values()]
        found.append(
            (result.student.get_weights(), [point["loss"] for point in result.curve if "loss" in point], clipped)
        )
    (ours, losses, norms), (theirs, other_losses, other_norms) = found
    np.testing.assert_allclose(losses, other_losses, rtol=1e-4)
    np.testing.assert_allclose(norms, other_norms, rtol=1e-4)
    if optimizer == "sgd":
        for one, two in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-5)


ON_TEXT = ("tinybert", "distilbert", "mobilebert", "dualtrain_sharedproj")


@pytest.mark.parametrize(
    ("name", "on_text"),
    [
        *(pytest.param(name, False) for name in SMALL),
        *(pytest.param(name, True) for name in ON_TEXT),
    ],
)
@pytest.mark.slow
def test_a_step_compiled_by_xla_trains_as_a_plain_one(name, on_text, tmp_path, text_file):
    """The whole step, in batches of one width, on labelled texts or with the stages on plain text. Weights agree to 1e-5 with SGD."""
    found, settings = [], ["rate=0"] if name == "layerdrop" else []
    if on_text:
        settings = with_general_stage(name, tmp_path, text_file)
    for execution in (Execution(), Execution(jit=True, buckets=(12,))):
        keras.utils.set_random_seed(1)
        recipe = without_chance(make(name, data(36), settings, teacher(layers=2) if on_text else None), "sgd")
        result = train(replace(recipe, execution=execution), seed=1, max_steps=3)
        found.append((result.student.get_weights(), [point["loss"] for point in result.curve if "loss" in point]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    rounded = name == "quantization_aware"  # a last digit may decide whether a value is rounded up or down
    for one, two in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4 if rounded else 1e-5)


# --- what each is about ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scores", "kept"), [((0.9, 0.1, 0.5), 0.9), ((0.1, 0.9, 0.5), 0.9), ((0.1, 0.2, 0.5), 0.5)])
def test_a_stage_that_only_makes_the_student_worse_changes_nothing(monkeypatch, scores, kept):
    recipe = make("soft_targets", data(36), [])
    stage = replace(recipe.stages[0], start_counts=True, evaluations=2, patience=1)
    start, given = recipe.student.get_weights(), iter(scores)
    for module in (callbacks, evaluation):
        monkeypatch.setattr(module, "dev_scores", lambda *_: {"accuracy": next(given)})
    result = train(replace(recipe, stages=(stage,)), seed=1, max_steps=2, score_test=False)
    assert result.scores == {"dev": {"accuracy": kept}}
    same = [np.array_equal(a, b) for a, b in zip(start, recipe.student.get_weights(), strict=True)]
    assert all(same) == (scores[0] == kept) and not list(given)  # what the start gave is not what patience waits for


def test_soft_targets_may_come_before_hard_labels():
    recipe = make("soft_targets", data(), ["pretrain_on_soft_targets=true"])
    assert [[term.name for term in stage.terms] for stage in recipe.stages] == [["soft_kl"], ["hard_labels"]]
    assert recipe.stages[0].terms[0].weight == 1.0


def test_soft_targets_student_has_the_dropout_that_is_asked_for(tmp_path):
    student = make("soft_targets", data(), ["num_layers=1", "dropout=0"]).student
    assert student.config.hidden_dropout_prob == student.config.attention_probs_dropout_prob == 0
    save(student, tmp_path / "student")
    module = find("soft_targets")
    chosen = parse_settings(module.Settings, [f"student=hf:{tmp_path / 'student'}", "dropout=0.1"])
    with pytest.raises(UserError, match=r"dropout is set to 0\.1 for student=hf:"):
        module.recipe(teacher(), data(), chosen)


def test_rows_without_labels_train_the_soft_term_only(tmp_path):
    more = replace(split(16, 7), labels=None)
    recipe = make("soft_targets", data(unlabelled=more), ["epochs=1"])
    result = train(recipe, seed=0)
    assert result.rows == 48
    assert np.isfinite([point["hard_labels"] for point in result.curve]).all()
    with pytest.raises(UserError, match="unlabelled rows"):
        train(replace(make("soft_targets", data(), []), stages=(replace(recipe.stages[0], rows="unlabelled"),)), seed=0)


def test_privileged_columns_reach_the_teacher_and_never_the_student():
    one = make("privileged", data(), [])
    swapped = {name: replace(each, texts_extra=(["c d e"] * len(each),)) for name, each in one.data.splits.items()}
    two = replace(one, data=replace(one.data, splits=swapped))
    first, second = (with_teacher_logits(each, prepare(each, 0)) for each in (one, two))
    np.testing.assert_array_equal(first.train.encoded.token_ids, second.train.encoded.token_ids)
    assert np.abs(first.teacher_logits - second.teacher_logits).max() > 1e-3
    plain = prepare(replace(one, privileged=False), 0)
    np.testing.assert_array_equal(plain.train.encoded.token_ids, first.train.encoded.token_ids)
    with pytest.raises(UserError, match="text_extra"):
        find("privileged").recipe(teacher(), data())


def test_an_exported_student_of_a_privileged_teacher_reads_its_own_text_alone(tmp_path):
    """Train step and exported file: what is privileged has no way into either."""
    recipe = make("privileged", data(), [])
    prepared = with_teacher_logits(recipe, prepare(recipe, 0))
    (batch,) = dataset(stage_examples(recipe, prepared, 0), 32, shuffle=False).take(1)
    text = prepared.train.encoded.take(range(32))
    width = int(text.lengths.max())
    assert (
        set(batch["student"]) == {"token_ids", "padding_mask", "segment_ids"}
        and not batch["student"]["segment_ids"].numpy().any()
    )
    assert (
        batch["student"]["padding_mask"].numpy().sum() == text.lengths.sum()
        and batch["student"]["token_ids"].shape[1] == width
    )
    bundle = export_bundle(recipe.student, tmp_path / "bundle", quantize="fp32", length=12)
    (signature,) = Interpreter(str(bundle / "model.tflite")).get_signature_list().values()
    plain = export_bundle(make("soft_targets", data(), []).student, tmp_path / "plain", quantize="fp32", length=12)
    assert [signature] == list(Interpreter(str(plain / "model.tflite")).get_signature_list().values())
    assert len(signature["inputs"]) == 3


def test_privileged_loss_is_the_papers():
    recipe = make("privileged", data(), ["temperature=5", "soft_weight=0.3"])
    soft, hard = recipe.stages[0].terms
    assert soft.options == {"temperature": 5.0, "student_temperature": 1.0}
    assert (soft.weight, hard.weight) == (0.3, 0.7)


def test_a_privileged_teacher_is_finetuned_on_pairs():
    recipe = finetune.recipe(teacher(), with_extra(data()), finetune.Settings(privileged=True, max_length=16))
    assert recipe.data.splits["train"].texts_b[:2] == ["no", "yes"]
    with pytest.raises(UserError, match="text_extra"):
        finetune.recipe(teacher(), data(), finetune.Settings(privileged=True))


@pytest.mark.parametrize(("mapping", "layers"), [("skip", ((1, 2),)), ("last", ((1, 3),))])
def test_pkd_starts_from_the_first_layers_and_matches_below_the_last(mapping, layers):
    recipe = make("pkd", data(), [f"mapping={mapping}"])
    (patient,) = (term for term in recipe.stages[0].terms if getattr(term, "layers", ()))
    assert patient.layers == layers
    for ours, theirs in zip(recipe.student.encoder.blocks, recipe.teacher.encoder.blocks, strict=False):
        np.testing.assert_array_equal(ours.query.kernel, theirs.query.kernel)


def test_tinybert_defaults_are_the_papers():
    settings = find("tinybert").Settings()
    recipe = find("tinybert").recipe(teacher(width=24), data(), parse_settings(type(settings), ["student=layers"]))
    transformer, prediction = recipe.stages
    assert (transformer.epochs, transformer.learning_rate, transformer.batch_size) == (20, 5e-5, 32)
    assert (prediction.epochs, prediction.learning_rate) == (3, 3e-5)
    assert (settings.student, settings.copies, settings.temperature) == ("tinybert_4l_312", 20, 1.0)
    assert [term.on for term in transformer.terms] == ["embeddings", "hidden_states", "attention_scores"]
    assert transformer.terms[1].layers == ((1, 2), (2, 4))
    pair = find("tinybert").recipe(teacher(), data(pair=True), parse_settings(type(settings), ["student=layers"]))
    assert (recipe.max_length, pair.max_length) == (64, 128)


def test_tinybert_projections_and_mappings():
    for projection, kinds in (("per_layer", "fit"), ("shared", "shared"), ("identity", None)):
        recipe = make("tinybert", data(), [f"transformer.projection={projection}", "transformer.mapping=1:1,2:3"])
        terms = recipe.stages[0].terms
        assert terms[0].project == terms[1].project == kinds
        assert terms[1].layers == terms[2].layers == ((1, 1), (2, 3))
    with pytest.raises(UserError, match="uniform"):
        make("tinybert", data(), ["transformer.mapping=middle"])


@pytest.mark.slow
def test_tinybert_general_stage_takes_a_narrow_student_along(tmp_path, text_file):
    save(teacher(head="masked_lm", width=16), tmp_path / "general")
    save(teacher(width=8, layers=2), tmp_path / "student")
    options = [
        f"student=hf:{tmp_path / 'student'}",
        f"general.text={text_file}",
        f"general.teacher=hf:{tmp_path / 'general'}",
    ]
    options += ["general.length=12", "general.batch_size=4", "general.epochs=1", "transformer.epochs=1", "epochs=1"]
    recipe = make("tinybert", data(), options)
    assert [stage.name for stage in recipe.stages] == ["general", "transformer layers", "prediction layer"]
    result = run(recipe, tmp_path / "run", debug=True)
    assert result.curve[0]["stage"] == "general"
    general = make("tinybert", data(), [*options, "general.only=true"])
    assert [stage.name for stage in general.stages] == ["general"]
    with pytest.raises(UserError, match="plain text"):
        make("tinybert", data(), ["general.only=true"])


@pytest.fixture
def text_file(tmp_path, monkeypatch) -> Path:
    """Plain text in documents, and a cache of its own."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "text.txt")


@pytest.mark.parametrize("kl_on", [pytest.param("all", marks=pytest.mark.slow), "masked"])
def test_distilbert_general_stage_hands_its_encoder_on(tmp_path, text_file, kl_on):
    save(teacher(head="masked_lm"), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", f"general.kl_on={kl_on}"]
    options += ["general.length=12", "general.batch_size=4", "general.epochs=2", "soft_weight=0.5"]
    recipe = make("distilbert", data(), options)
    general = recipe.stages[0]
    assert [(term.name, term.weight) for term in general.terms] == [
        ("soft_kl", 5.0),
        ("masked_lm", 2.0),
        ("hidden_states_cosine", 1.0),
    ]
    assert recipe.student.family == "distilbert" and general.student.task == "masked_lm"
    start = general.student.encoder.embedding.embeddings.numpy().copy()
    result = train(replace(recipe, stages=(general,)), seed=0, max_steps=6)
    np.testing.assert_array_equal(
        general.student.encoder.blocks[0].query.kernel, recipe.student.encoder.blocks[0].query.kernel
    )
    assert np.abs(recipe.student.encoder.embedding.embeddings.numpy() - start).max() > 0
    assert all(np.isfinite(point["loss"]) for point in result.curve) and "dev" in result.scores


def test_distilbert_general_stage_goes_on_from_the_student_it_is_given(tmp_path, text_file):
    save(teacher(head="masked_lm"), tmp_path / "general")
    general = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "general.length=12"]
    save(make("distilbert", data(), []).student, tmp_path / "student")
    for options, same in (([], True), (["initialization=random"], False)):
        recipe = make("distilbert", data(), [*general, *options])
        cut = make("distilbert", data(), []).student.encoder.blocks[0].query.kernel.numpy()
        kernels = [model.encoder.blocks[0].query.kernel.numpy() for model in (recipe.student, recipe.stages[0].student)]
        np.testing.assert_array_equal(*kernels)
        assert np.array_equal(kernels[0], cut) == same
    recipe = make("distilbert", data(), [*general, f"student=hf:{tmp_path / 'student'}"])
    given = load(tmp_path / "student")
    np.testing.assert_array_equal(
        recipe.stages[0].student.encoder.blocks[0].query.kernel, given.encoder.blocks[0].query.kernel
    )


def test_layers_of_a_student_that_has_its_own_are_refused():
    with pytest.raises(UserError, match="num_layers is for student=layers, and student=minilm_l6_384 has its own"):
        make("soft_targets", data(), ["student=minilm_l6_384", "num_layers=2"])


def test_distilbert_takes_every_second_layer():
    recipe = make("distilbert", data(), [])
    blocks = recipe.student.encoder.blocks
    for ours, number in zip(blocks, (1, 4), strict=True):
        np.testing.assert_array_equal(ours.query.kernel, recipe.teacher.encoder.blocks[number - 1].query.kernel)


@pytest.mark.parametrize(
    ("schedule", "stages"),
    [
        ("auxiliary", ["task"]),
        ("joint", ["task: transfer", "task"]),
        ("progressive", ["task: transfer, layer 1", "task: transfer, layer 2", "task"]),
    ],
)
def test_mobilebert_schedules_with_a_bottleneck_teacher(schedule, stages):
    recipe = make("mobilebert", data(), [f"schedule={schedule}"], bottleneck_teacher())
    assert [stage.name for stage in recipe.stages] == stages
    ours, theirs = recipe.student, recipe.teacher
    for a, b in ((ours.encoder.embeddings, theirs.encoder.embeddings), (ours.head, theirs.head)):
        for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
            np.testing.assert_array_equal(x, y)
    assert ours.num_layers == theirs.num_layers and ours.config.normalization_type == "no_norm"
    assert ("embeddings" in recipe.stages[0].freeze) == (schedule == "progressive")


@pytest.mark.slow
def test_mobilebert_trains_progressively():
    assert train(
        make("mobilebert", data(), ["schedule=progressive"], bottleneck_teacher()), seed=0, max_steps=2
    ).scores["dev"]


@pytest.mark.slow
def test_mobilebert_on_plain_text_with_next_sentences(tmp_path, text_file):
    save(bottleneck_teacher("pretraining"), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "schedule=joint"]
    options += ["general.length=16", "general.batch_size=4", "general.epochs=1", "transfer.epochs=1"]
    recipe = make("mobilebert", data(), options, bottleneck_teacher())
    stages = ["plain text: transfer", "plain text", "task: transfer", "task"]
    assert [stage.name for stage in recipe.stages] == stages
    assert [term.name for term in recipe.stages[1].terms] == ["soft_cross_entropy", "masked_lm", "next_sentence"]
    result = train(recipe, seed=0, max_steps=2)
    assert [entry["stage"] for entry in result.curve if entry["stage"].startswith("plain")]


def test_xtremedistil_stages():
    recipe = make("xtremedistil", data(), [])
    assert [stage.name for stage in recipe.stages] == [
        "representation",
        *(f"{kind}, {part} and above" for kind in ("logits", "labels") for part in ("head", "layer_1", "embeddings")),
    ]
    assert recipe.student.config.pooling == "max" and recipe.stages[0].monitor == "loss"
    more = replace(split(16, 7), labels=None)
    joint = make("xtremedistil", data(unlabelled=more), ["joint=true", "joint.pseudo_labels=1"])
    assert [term.name for term in joint.stages[0].terms] == [
        "hard_labels",
        "soft_kl",
        "representation",
        "pseudo_labels",
    ]


def test_dualtrain_gives_a_narrow_student_with_its_own_vocabulary(tmp_path, text_file):
    recipe = make("dualtrain_sharedproj", data(), [*dualtrain_settings(tmp_path, text_file), "general.mixed_epochs=1"])
    assert [stage.name for stage in recipe.stages] == ["teacher on mixed text", "dual training", "fine-tuning"]
    assert recipe.student.config.hidden_size == 8 and recipe.student.num_layers == 2
    lm = recipe.stages[0].teacher
    before = [np.array(model.encoder.blocks[0].query.kernel) for model in (lm, recipe.student)]
    result = run(recipe, tmp_path / "run", debug=True, gradient_norms=True)
    for old, model in zip(before, (lm, result.student), strict=True):
        assert np.abs(np.array(model.encoder.blocks[0].query.kernel) - old).max() > 0
    assert all(norm > 0 for norm in result.gradient_norms["dual training"].values())
    again = load(tmp_path / "run" / "student")
    bundle = export_bundle(again, tmp_path / "bundle", quantize="fp32", length=12)
    assert (bundle / "vocab.txt").read_text("utf-8").split() == list(recipe.student.tokenizer.vocabulary)
    assert again.tokenizer.vocabulary == recipe.student.tokenizer.vocabulary != recipe.teacher.tokenizer.vocabulary
    with pytest.raises(UserError, match="plain text"):
        make("dualtrain_sharedproj", data(), [])


# --- several teachers, other vocabularies, baselines ----------------------------------------------------------------


def test_several_teachers_are_averaged():
    recipe = make("soft_targets", data(), [])
    other = teacher()
    other.head.bias.assign([3.0, -1.0])
    both = replace(recipe, other_teachers=(other,), teacher_weights=(1.0, 3.0))
    prepared = with_teacher_logits(both, prepare(both, 0))
    a, b = (predict_logits(model, prepared.train.encoded) for model in both.teachers)
    np.testing.assert_allclose(prepared.teacher_logits, 0.25 * a + 0.75 * b, atol=1e-6)
    few = prepared.first(3)
    assert (
        len(few.train.encoded) == len(few.texts) == len(few.train.labels) == 3
        and few.texts.texts == prepared.texts.texts[:3]
    )
    np.testing.assert_array_equal(few.teacher_logits, prepared.teacher_logits[:3])
    np.testing.assert_array_equal(few.train.encoded.token_ids, prepared.train.encoded.take(range(3)).token_ids)
    with pytest.raises(UserError, match="one for each"):
        replace(both, teacher_weights=(1.0,))


def other_vocabulary(model: TextModel) -> TextModel:
    vocabulary = list(Tokenizer.from_directory(TINY).vocabulary)
    model.tokenizer = Tokenizer([*vocabulary[:5], *vocabulary[5:][::-1]])
    return model


def test_a_teacher_with_another_vocabulary_reads_its_own_pieces(tmp_path):
    recipe = make("soft_targets", data(), [])
    train(replace(recipe, teacher=other_vocabulary(teacher())), seed=0, max_steps=1)
    recipe = make("tinybert", data(), ["copies=0"])
    result = train(replace(recipe, teacher=other_vocabulary(teacher())), seed=0, max_steps=2)
    assert all(np.isfinite(point["loss"]) for point in result.curve) and {"accuracy"} <= set(result.scores["dev"])


@pytest.mark.slow
def test_the_baseline_takes_as_many_steps_on_labels():
    more = replace(split(32, 7), labels=None)
    recipe = make("tinybert", data(unlabelled=more), ["transformer.epochs=3", "epochs=1", "copies=0"])
    baseline = on_labels_alone(recipe)
    assert baseline.teacher is None and len(baseline.stages) == 1
    distilled, alone = (train(r, seed=0).curve for r in (recipe, baseline))
    last_of_stage = {entry["stage"]: entry["step"] for entry in distilled}
    assert alone[-1]["step"] == sum(last_of_stage.values())


# --- learning -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_search_leaves_the_student_as_it_was_and_its_trainer_changes_nothing():
    made = find("soft_targets").recipe(
        teacher(), data(), parse_settings(find("soft_targets").Settings, ["max_length=12", "batch_size=8"])
    )
    start = made.student.get_weights()
    trainer = Trainer(made.student, made.stages)
    scores = search_learning_rate(made, [1e-3, 1e-2], seed=0, steps=3, trainer=trainer)
    assert sorted(scores) == [1e-3, 1e-2] and sorted(scores.values(), reverse=True) == list(scores.values())
    assert all(0 <= score <= 1 for score in scores.values())
    for before, after in zip(start, made.student.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)

    compiled = trainer.distiller
    train(made, seed=0, max_steps=3, trainer=trainer)
    assert trainer.distiller is compiled
    searched = made.student.get_weights()
    made.student.set_weights(start)
    train(made, seed=0, max_steps=3)
    for one, other in zip(searched, made.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_of_equal_scores_the_lower_loss_wins(monkeypatch):
    losses = {1e-4: 3.0, 1e-3: 2.0, 1e-2: 2.5}

    def trained(recipe, **_):
        loss = losses[recipe.stages[0].learning_rate]
        return runner.Result(recipe.student, curve=[{"loss": loss}], scores={"dev": {"accuracy": 0.5}})

    monkeypatch.setattr(search, "train", trained)
    made = make("soft_targets", data(), [])
    assert list(search_learning_rate(made, list(losses), seed=0, steps=1)) == [1e-3, 1e-2, 1e-4]
