"""Options of the recipes: built and looked at, not trained."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tiny_recipes import NAMES, SMALL, bottleneck_teacher, data, make, split, teacher, with_extra, write_text

from tfdistill import losses
from tfdistill.data.batching import some_rows
from tfdistill.data.splits import Split
from tfdistill.distill.features import Features
from tfdistill.distill.label_terms import PseudoLabels
from tfdistill.distill.step import Step
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.bert import BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.distilbert import DistilBertConfig
from tfdistill.models.hf import save_directory
from tfdistill.models.load import load, save
from tfdistill.models.presets import reduced_table, student_from_layers
from tfdistill.models.text_model import TextModel
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.recipes import find, names
from tfdistill.training import run_directory, task_masked_lm
from tfdistill.training import word_candidates as fill_mask
from tfdistill.training.rows import prepare
from tfdistill.training.runner import train
from tfdistill.training.settings import parse_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shallow() -> TextModel:
    """A teacher of two layers, which no test changes."""
    return teacher(layers=2)


# --- rows without a label -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("soft_targets", ["num_layers=1"], ["all"]),
        ("soft_targets", ["num_layers=1", "soft_weight=0"], ["labelled"]),
        ("privileged", [], ["all"]),
        ("pkd", [], ["all"]),
        ("tinybert", [], ["all", "all"]),
        ("bilstm", [], ["all"]),
        ("bilstm", ["alpha=0.5"], ["all"]),
        ("bilstm", ["alpha=1"], ["labelled"]),
        ("xtremedistil", ["joint=true"], ["all"]),
        ("xtremedistil", [], ["all"] * 4 + ["labelled"] * 3),
        ("distilbert", [], ["labelled"]),
        ("distilbert", ["soft_weight=0.5"], ["all"]),
        ("mobilebert", ["schedule=joint", "soft_weight=0"], ["all", "labelled"]),
        ("layerdrop", ["depth=1"], ["labelled"]),
        ("layerdrop", ["depth=1", "soft_weight=0.5"], ["all"]),
        ("head_pruning", ["epochs=1", "soft_weight=0"], ["labelled"]),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"], ["all"]),
        ("neuron_pruning", ["steps=2"], ["all", "all"]),
        ("neuron_pruning", ["steps=2", "soft_weight=0"], ["labelled", "labelled"]),
    ],
)
def test_rows_without_a_label_train_where_the_teacher_is_asked(name, settings, rows, shallow):
    unlabelled = replace(split(16, 7), labels=None)
    text = data()
    if name != "privileged":
        text = data(unlabelled=unlabelled)
    assert [stage.rows for stage in make(name, text, settings, shallow).stages] == rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("bilstm", ["alpha=0.5"]),
        ("xtremedistil", ["joint=true", "joint.pseudo_labels=1"]),
        ("distilbert", ["soft_weight=0.5"]),
        ("layerdrop", ["depth=1", "soft_weight=0.5"]),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"]),
        ("neuron_pruning", ["steps=1"]),
    ],
)
def test_batches_of_rows_without_a_label_have_a_loss(name, settings):
    """Batches of four, of which some have no label at all and some nothing else."""
    recipe = make(name, data(16, unlabelled=replace(split(48, 7), labels=None)), settings, teacher(layers=2))
    result = train(
        replace(recipe, stages=tuple(replace(each, batch_size=4) for each in recipe.stages)), seed=0, max_steps=12
    )
    assert result.rows >= 64
    losses = [value for point in result.curve for key, value in point.items() if key == "loss"]
    assert losses and np.isfinite(losses).all()


# --- general stages -------------------------------------------------------------------------------------------------


@pytest.fixture
def text_file(tmp_path, monkeypatch) -> Path:
    """Plain text in documents, and a cache of its own."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "text.txt")


def test_dualtrain_ends_after_the_general_stage_and_goes_on_from_its_student(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [
        f"general.text={text_file}",
        f"general.teacher=hf:{tmp_path / 'general'}",
        "general.width=8",
        "general.vocab_size=24",
    ]
    first = make(
        "dualtrain_sharedproj",
        data(),
        [*options, "general.length=16", "general.only=true", "general.direction=down", "general.whole_words=true"],
        shallow,
    )
    assert [stage.name for stage in first.stages] == ["dual training"]
    assert first.stages[0].terms[0].direction == "down" and first.stages[0].source.masking.whole_words
    save(first.student, tmp_path / "student")
    second = make("dualtrain_sharedproj", data(), [f"student=hf:{tmp_path / 'student'}"], shallow)
    assert [stage.name for stage in second.stages] == ["fine-tuning"]
    assert second.student.tokenizer.vocabulary == first.student.tokenizer.vocabulary
    for ours, theirs in zip(second.student.get_weights(), first.student.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_dualtrain_is_as_small_as_its_docstring_says():
    module = find("dualtrain_sharedproj")
    sizes = module.narrow_sizes(SimpleNamespace(config=presets.PRESETS["bert_base"]), 48)
    student = presets.new("bert_base", vocab_size=4928, num_outputs=2, **sizes)
    assert student.count_params() == 603_026 and round(109_483_778 / student.count_params()) == 182
    assert "17, 58 and 182 times" in " ".join(module.__doc__.split())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["student=hf:DIR", "general.text=FILE"],
            "student=hf:DIR comes from a general stage; leave text or student out",
        ),
        (["student=hf:DIR", "width=96"], "width does nothing here; expected student=narrow with it"),
        (["student=minilm_l6_384"], "student is 'minilm_l6_384'; expected narrow, or hf:DIR"),
        (["general.only=true"], "plain text"),
    ],
)
def test_dualtrain_students(settings, message, shallow):
    with pytest.raises(UserError, match=message):
        make("dualtrain_sharedproj", data(), settings, shallow)


# --- BiLSTM students ------------------------------------------------------------------------------------------------


def test_pseudo_labels_are_of_rows_without_a_label():
    logits, theirs = (
        tf.constant([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        tf.constant([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]),
    )
    value, count = PseudoLabels()(
        Step(Features(logits=logits), Features(logits=theirs), labels=tf.constant([0, -1, -1]))
    )
    np.testing.assert_allclose(value, [0.0, 1.313262, 0.313262], atol=1e-6)  # log(1 + e) and log(1 + 1/e)
    np.testing.assert_array_equal(count, [0, 1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (data(), "letters is for classification and has the splits train, dev, test: expected .* 'unlabelled'"),
        (data(task="multilabel"), "letters is for multilabel .* leave pseudo_labels out"),
        (data(task="regression"), "letters is for regression"),
    ],
)
def test_pseudo_labels_need_classes_and_unlabelled_text(text, message, shallow):
    with pytest.raises(UserError, match=message):
        make("xtremedistil", text, ["joint=true", "joint.pseudo_labels=1"], shallow)


@pytest.mark.parametrize("family", ["bert", "distilbert", "mobilebert"])
def test_bilstm_starts_from_the_teachers_table(family, shallow):
    model = {
        "bert": lambda: shallow,
        "distilbert": lambda: student_from_layers(shallow, layers=[1], family="distilbert"),
        "mobilebert": bottleneck_teacher,
    }[family]()
    table = model.encoder.embedding.embeddings.numpy()
    for size in (4, 300):  # no wider than the teacher's
        width = min(size, table.shape[1])
        ours = make("bilstm", data(), [f"embedding_size={size}"], model).student.encoder.embedding.embeddings
        np.testing.assert_array_equal(ours, reduced_table(table, width))


def test_bilstm_options(shallow):
    recipe = make("bilstm", data(), ["alpha=0.25", "optimizer=adadelta", "learning_rate=1"], shallow)
    (stage,) = recipe.stages
    assert [(term.name, term.weight) for term in stage.terms] == [("logits_mse", 0.75), ("hard_labels", 0.25)]
    assert (stage.optimizer, stage.learning_rate, stage.warmup, stage.clip_norm) == ("adadelta", 1.0, 0.0, None)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_bilstm_dense_layer_is_the_papers_or_the_open_versions(activation, shallow):
    settings = [] if activation == "relu" else [f"dense_activation={activation}"]
    student = make("bilstm", data(), settings, shallow).student
    np.testing.assert_allclose(
        student.encoder.dense.activation(tf.constant([-1.0, 2.0])), np.tanh([-1.0, 2.0]) if settings else [0.0, 2.0]
    )
    assert student.config.dense_act == activation


def test_bilstm_makes_half_as_many_copies_of_pairs(shallow):
    module = find("bilstm")
    small = ["embedding_size=8", "lstm_size=4"]
    copies = [
        module.recipe(shallow, text, parse_settings(module.Settings, [*small, *more])).settings["copies"]
        for text, more in ((data(), []), (data(pair=True), []), (data(pair=True), ["copies=20"]))
    ]
    assert copies == [20, 10, 20]


@pytest.mark.parametrize(
    ("task", "settings", "loss"),
    [
        ("classification", [], "half_squared_log_odds"),
        ("classification", ["logit_target=logits"], "half_squared_distance"),
        ("multilabel", [], "half_squared_distance"),
        ("regression", [], "half_squared_distance"),
    ],
)
def test_xtremedistil_learns_the_papers_logits_or_the_authors(task, settings, loss):
    stages = make("xtremedistil", data(task=task), settings, teacher(task, layers=1)).stages
    assert [term.name for stage in stages if stage.name.startswith("logits") for term in stage.terms] == [loss] * 3


@pytest.mark.parametrize("task", ["token_classification", "question_answering"])
def test_xtremedistil_says_that_it_needs_texts_with_classes(task, shallow):
    text = SimpleNamespace(task=task, name="X", is_pair=False)
    with pytest.raises(
        UserError, match=f"X is for {task}; .* use soft_targets, or for tags bilstm with --set copies=0"
    ):
        find("xtremedistil").recipe(shallow, text)


def test_xtremedistil_options(shallow):
    recipe = make("xtremedistil", data(), ["representation=mse", "layer=1"], shallow)
    (term,) = recipe.stages[0].terms
    assert (term.loss, term.layers) == (losses.representation_mse, ((1, 1),))
    (term,) = make("xtremedistil", data(), [], shallow).stages[0].terms
    assert (term.loss, term.layers) == (losses.representation_kl, ((1, 2),))


# --- TinyBERT -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mapping", "layers"), [("top", ((1, 3), (2, 4))), ("bottom", ((1, 1), (2, 2)))])
def test_tinybert_mappings(mapping, layers):
    recipe = make("tinybert", data(), [f"transformer.mapping={mapping}"], teacher(layers=4))
    assert [term.layers for term in recipe.stages[0].terms] == [(), layers, layers]


def test_tinybert_exchanges_words_for_those_of_a_masked_lm_and_glove(tmp_path, shallow):
    save(teacher(head="masked_lm", layers=1), tmp_path / "mlm")
    (tmp_path / "vectors.txt").write_text("bcd 1 0\nhigh 0.9 0.1\nlow 0 1\nmiddle 0.5 0.5\n", "utf-8")
    options = [
        f"augmentation.masked_lm=hf:{tmp_path / 'mlm'}",
        f"augmentation.glove={tmp_path / 'vectors.txt'}",
        "augmentation.p_replace=1",
        "augmentation.candidates=2",
    ]
    recipe = make("tinybert", data(), [*options, "copies=8"], shallow)
    made = recipe.augment(Split(["bcd , e"], None, np.array([1])), 3)
    first, comma, last = zip(*(text.split() for text in made.texts), strict=True)
    assert set(first) == {"high", "middle"} and set(comma) == {","}
    assert len(set(last)) == 2 and all(len(word) == 1 and word.isalpha() for word in last)  # K = 2
    assert made.labels.tolist() == [1] * len(made)
    assert (
        not make("tinybert", data(), [*options[:2], "augmentation.p_replace=0"], shallow)
        .augment(data().splits["train"], 3)
        .texts
    )
    with pytest.raises(UserError, match="nowhere"):
        make("tinybert", data(), [options[0], "augmentation.glove=nowhere"], shallow)


def test_tinybert_trains_a_masked_lm_on_the_texts_where_the_teacher_has_none(tmp_path, shallow, monkeypatch):
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vectors.txt").write_text("b 1 0\n", "utf-8")
    options = [
        "augmentation.masked_lm=teacher",
        "augmentation.minutes=0.02",
        f"augmentation.glove={tmp_path / 'vectors.txt'}",
        "copies=2",
    ]
    recipe = make("tinybert", data(), options, shallow)
    train_texts = data(64).splits["train"]
    before = shallow.encoder.embedding.embeddings.numpy()
    with monkeypatch.context() as patch:
        made = recipe.augment(train_texts, 3)
        assert len(made) > 30 and set(made.texts) - set(train_texts.texts)
        patch.setattr(task_masked_lm, "pretrain", None)  # the second time it is there
        assert recipe.augment(train_texts, 3).texts == made.texts
    np.testing.assert_array_equal(before, shallow.encoder.embedding.embeddings.numpy())


def test_tinybert_takes_the_masked_lm_that_the_teacher_has_or_was_made_of(tmp_path, shallow, monkeypatch, capsys):
    """As `finetune` leaves it: the student directory says of which model it was made."""
    monkeypatch.setattr(fill_mask, "masked_lm_of_task", lambda *_, **__: "trained")
    save(teacher(head="masked_lm", layers=2), tmp_path / "pretrained")
    made_of = {"recipe": "finetune", "settings": {"model": f"hf:{tmp_path / 'pretrained'}"}}
    save_directory(shallow, tmp_path / "teacher", recipe=made_of)
    texts = data().splits["train"]
    asked = load(tmp_path / "pretrained", task="classification", num_outputs=2)
    assert fill_mask.masked_lm_for(asked, texts) == tmp_path / "pretrained"
    asked = load(tmp_path / "teacher")
    assert fill_mask.masked_lm_for(asked, texts) == tmp_path / "pretrained"
    assert "of which the teacher was made" in capsys.readouterr().err
    made = make("tinybert", data(), ["augmentation.masked_lm=teacher", "copies=1", "augmentation.p_replace=1"], asked)
    assert made.augment(Split(["b c d e"], None, np.array([1])), 3).texts  # and the recipe asks for it
    assert made.breaks == ()
    (tmp_path / "pretrained").rename(tmp_path / "elsewhere")
    assert fill_mask.masked_lm_for(asked, texts) == "trained"
    assert fill_mask.masked_lm_for(shallow, texts) == "trained"
    (reason,) = make("tinybert", data(), ["augmentation.masked_lm=teacher", "copies=1"], shallow).breaks
    assert "trained by the clock" in reason
    assert (
        make("tinybert", data(), ["augmentation.masked_lm=teacher", "copies=1", "augmentation.steps=9"], shallow).breaks
        == ()
    )


def test_tinybert_trains_its_masked_lm_in_few_steps_to_debug(tmp_path, shallow, monkeypatch):
    asked = []
    monkeypatch.setattr(fill_mask, "masked_lm_of_task", lambda *_, **more: asked.append(more) or tmp_path / "mlm")
    save(teacher(head="masked_lm", layers=1), tmp_path / "mlm")
    module = find("tinybert")
    chosen = parse_settings(module.Settings, ["augmentation.masked_lm=teacher", "student=layers", "max_length=12"])
    (tmp_path / "vectors.txt").write_text("b 1 0\n", "utf-8")
    for settings in (chosen, chosen.for_debug()):
        settings = settings.model_copy(update={"glove": str(tmp_path / "vectors.txt")})
        module.recipe(shallow, data(), settings).augment(data().splits["train"], 3)
    assert [(each["minutes"], each["steps"]) for each in asked] == [(3.0, None), (3.0, task_masked_lm.DEBUG_STEPS)]
    assert module.Settings().for_debug() == module.Settings()


# --- MobileBERT -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ib_bert() -> TextModel:
    """A teacher of two layers, which no test changes."""
    return bottleneck_teacher()


@pytest.fixture(scope="module")
def thin(ib_bert, tmp_path_factory) -> Path:
    """A directory with its student."""
    place = tmp_path_factory.mktemp("thin") / "student"
    save(make("mobilebert", data(), [], ib_bert).student, place)
    return place


@pytest.mark.parametrize(
    ("settings", "stages", "share"),
    [
        (["schedule=joint"], ["task: transfer", "task"], 0.5),
        (["transfer=none"], ["task"], 0.5),
        (["student=hf:DIR"], ["task"], 0.0),  # as in the paper
        (["student=hf:DIR", "soft_weight=0.25"], ["task"], 0.25),
        (["student=hf:DIR", "transfer.epochs=2"], ["task: transfer, layer 1", "task: transfer, layer 2", "task"], 0.5),
    ],
)
def test_mobilebert_transfers_layers_on_the_task_where_no_general_stage_did(settings, stages, share, ib_bert, thin):
    settings = [setting.replace("DIR", str(thin)) for setting in settings]
    recipe = make("mobilebert", data(), settings, ib_bert)
    assert [stage.name for stage in recipe.stages] == stages
    weights = {term.name: term.weight for term in recipe.stages[-1].terms}
    assert weights == {name: weight for name, weight in (("soft_kl", share), ("hard_labels", 1 - share)) if weight}
    assert recipe.stages[0].epochs == {"task: transfer": 2, "task": 3, "task: transfer, layer 1": 2}[stages[0]]


@pytest.mark.parametrize(
    ("settings", "after"), [(["general.only=true"], []), pytest.param([], ["task"], marks=pytest.mark.slow)]
)
def test_mobilebert_general_stage_alone_and_before_fine_tuning(settings, after, tmp_path, text_file, ib_bert):
    save(bottleneck_teacher("pretraining"), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "general.length=16"]
    options += ["schedule=joint", "general.transfer_epochs=0.5", "general.whole_words=true"]
    recipe = make("mobilebert", data(), [*options, *settings], ib_bert)
    assert [stage.name for stage in recipe.stages] == ["plain text: transfer", "plain text", *after]
    assert recipe.stages[0].epochs == 1.0  # two layers
    assert recipe.stages[0].source.masker.masking.whole_words


def test_mobilebert_sizes_and_lower_rate(ib_bert):
    recipe = make("mobilebert", data(), ["student=mobilebert_tiny", "bottleneck=6", "lower_rate=0.1"], ib_bert)
    sizes = recipe.student.config
    assert (sizes.hidden_size, sizes.intra_bottleneck_size, sizes.intermediate_size) == (16, 6, 24)
    assert sizes.use_bottleneck_attention and sizes.num_feedforward_networks == 2
    first, second, _ = recipe.stages
    assert not first.freeze.count("layer_1") and "layer_2" in first.freeze and first.rates == {"embeddings": 0.1}
    assert second.rates == {"embeddings": 0.1, "layer_1": 0.1} and second.freeze == ("pooler", "head")


# --- DistilBERT -----------------------------------------------------------------------------------------------------


def test_distilbert_general_stage_alone(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [f"general.text={text_file}", f"general.teacher=hf:{tmp_path / 'general'}", "general.length=12"]
    recipe = make("distilbert", data(), [*options, "general.only=true", "general.whole_words=true"], shallow)
    (stage,) = recipe.stages
    assert stage.name == "general" and stage.source.masker.masking.whole_words
    assert stage.epsilon == 1e-6  # the paper's


# --- groups of settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "option"),
    [
        ("tinybert", ["general.only=true"], r"general\.text"),
        ("distilbert", ["general.text=X"], r"general\.teacher"),
        ("mobilebert", ["general.megabytes=1", "general.teacher=hf:X"], r"general\.text"),
        ("tinybert", ["augmentation.glove=X"], r"augmentation\.masked_lm"),
        ("tinybert", ["augmentation.masked_lm=hf:X", "augmentation.steps=9"], "steps"),
        ("tinybert", ["augmentation.masked_lm=teacher", "augmentation.steps=9", "augmentation.minutes=1"], "minutes"),
        ("soft_targets", ["labelled.epochs=2"], r"labelled\.corpus"),
        ("xtremedistil", ["hard_weight=1"], r"joint\.hard_weight"),
        ("distilbert", ["general.text=X", "general.teacher=hf:X", "general.segmented=true"], "whole_words"),
        ("bilstm", ["augmentation.p_mask=2"], r"augmentation\.p_mask"),
        ("pkd", ["num_layers=2", "student=tinybert_4l_312"], "student=tinybert_4l_312"),
        ("bilstm", ["copies.number=3"], "copies.number"),
        ("bilstm", ["copies"], "copies"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, settings, option):
    with pytest.raises(UserError, match=option):
        parse_settings(find(name).Settings, settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], None),
        (["joint=true"], 1.0),
        (["joint.soft_weight=0.5"], 0.5),
        (["joint.soft_weight=0.5", "joint=true"], 0.5),
        (["joint=true", "joint.soft_weight=0.5"], 0.5),
        (["joint.soft_weight=0.5", "joint=none"], None),
    ],
)
def test_a_group_is_none_its_defaults_or_what_is_set(settings, expected):
    joint = parse_settings(find("xtremedistil").Settings, settings).joint
    assert (joint and joint.soft_weight) == expected


def test_debug_reads_a_megabyte_of_plain_text():
    settings = find("tinybert").Settings
    groups = [{"text": "X"}, {"text": "X", "megabytes": 0.5}, {"text": "X", "megabytes": 20}, {"text": "corpus:X"}]
    small = [settings(general={"teacher": "hf:X", **group}).for_debug().general.megabytes for group in groups]
    assert small == [1.0, 0.5, 1.0, None] and settings().for_debug().general is None
    assert find("soft_targets").Settings(epochs=2).for_debug().epochs == 2


def commands() -> list[tuple[str, list[str]]]:
    """(recipe, settings) of every command in the repository's texts, and of its benchmarks."""
    found = []
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*.py"), *ROOT.glob("benchmarks/*.py")]
    for text in (path.read_text("utf-8").replace("\\\n", " ") for path in texts):
        for command in re.findall(r"tfdistill train ([a-z_]+) ([^\n`]*)", text):
            found.append((command[0], re.findall(r"--set (\S+=[^\s`]+)", command[1])))
    return found


def test_the_commands_in_texts_set_what_is_read():
    found = commands()
    assert len(found) > 15
    for name, settings in found:
        parse_settings(find(name).Settings, settings)


def test_the_benchmarks_set_what_is_read(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    cells, students = (importlib.import_module(name) for name in ("recipes", "ablations"))
    monkeypatch.delitem(sys.modules, "recipes")
    general = ["general.text=X", "general.teacher=hf:X"]
    for name, cell in (cells.CELLS | cells.EXTRA).items():
        parse_settings(find(name).Settings, [*cell.settings, *(general if cell.general else [])])
    for student in students.STUDENTS.values():
        parse_settings(find(student.recipe).Settings, student.settings)


# --- several teachers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "read"),
    [
        ("distilbert", [], False),
        ("distilbert", ["soft_weight=0.5"], True),
        ("layerdrop", ["depth=1"], False),
        ("layerdrop", ["depth=1", "soft_weight=0.5"], True),
        ("head_pruning", [], False),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"], True),
        ("soft_targets", ["num_layers=1", "soft_weight=0"], False),
        ("tinybert", ["num_layers=1", "copies=0"], True),
    ],
)
def test_several_teachers_are_refused_where_their_logits_are_not_read(name, settings, read, shallow, monkeypatch):
    monkeypatch.setitem(SMALL, name, ["student=layers"] if name == "tinybert" else [])
    made = make(name, data(), settings, shallow)
    if read:
        assert len(replace(made, other_teachers=(shallow,)).teachers) == 2
        return
    with pytest.raises(
        UserError, match=f"2 teachers for {name}, which reads no teacher's logits .* expected one teacher"
    ):
        replace(made, other_teachers=(shallow,))


def test_dualtrain_refuses_several_teachers(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [
        f"general.text={text_file}",
        f"general.teacher=hf:{tmp_path / 'general'}",
        "general.width=8",
        "general.vocab_size=24",
    ]
    made = make("dualtrain_sharedproj", data(), [*options, "general.length=16"], shallow)
    with pytest.raises(UserError, match="2 teachers for dualtrain_sharedproj"):
        replace(made, other_teachers=(shallow,))


def test_the_command_takes_several_teachers_for_the_baseline_on_labels(tmp_path, shallow, tfdistill, monkeypatch):
    """They are read for nothing, and so neither used nor refused."""
    save(shallow, tmp_path / "teacher")
    texts = data().splits["train"]
    rows = "".join(f"{text}\t{NAMES[label]}\n" for text, label in zip(texts.texts, texts.labels, strict=True))
    for split_name in ("train", "dev"):
        (tmp_path / f"{split_name}.tsv").write_text("text\tlabel\n" + rows, "utf-8")
    made = []

    def stop(recipe, *_, **__):
        made.append(recipe)
        raise UserError("stopped here")

    monkeypatch.setattr(run_directory, "run", stop)
    both = ["--teacher", tmp_path / "teacher", "--teacher", tmp_path / "teacher"]
    words = ["train", "distilbert", *both, "--data", tmp_path, "--out", tmp_path / "run", "--set", "max_length=12"]
    code, _, error = tfdistill(*words)
    assert code == 2 and "2 teachers for distilbert" in error and not made
    assert "stopped here" in tfdistill(*words, "--on-labels")[2]
    assert made[0].name == "distilbert on labels" and made[0].teachers == ()


# --- any teacher ----------------------------------------------------------------------------------------------------

FAMILIES = {
    "distilbert": DistilBertConfig(37, 16, 2, 2, 32, max_position_embeddings=24),
    "pruned_bert": BertConfig(
        37,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
        heads_per_layer=(2, 1),
        intermediate_sizes=(32, 20),
    ),
    "bilstm": BiLSTMConfig(37, 8, 6, dense_size=7),
}
CUTS = ("layerdrop", "head_pruning", "neuron_pruning")
REFUSED = {
    **{(name, "bilstm"): "bilstm model" for name in names() if name not in ("bilstm", "dualtrain_sharedproj")},
    **{(name, "mobilebert"): "expected a BERT or DistilBERT model, whose layers can be cut" for name in CUTS},
    ("mobilebert", "pruned_bert"): "a MobileBERT learns from an IB-BERT, a BERT or a DistilBERT",
}


@pytest.mark.parametrize("name", [name for name in names() if name != "dualtrain_sharedproj"])
def test_every_recipe_takes_every_family_or_says_why_not(name, ib_bert):
    settings = ["copies=0"] if "copies" in find(name).Settings.model_fields else []
    for family in ("mobilebert", *FAMILIES):
        asked = ib_bert if family == "mobilebert" else TextModel(FAMILIES[family], 2, "classification", NAMES)
        asked.tokenizer = ib_bert.tokenizer
        if (name, family) in REFUSED:
            with pytest.raises(UserError, match=REFUSED[name, family]):
                make(name, data(), settings, asked)
        else:
            assert make(name, data(), settings, asked).student.count_params() > 0


# --- what the papers' settings are ----------------------------------------------------------------------------------


def test_weight_decay_is_berts_unless_it_is_set(shallow):
    """0.01 with AdamW, as in BERT, PKD and TinyBERT; none with Adam or Adadelta, none in DistilBERT's general stage."""
    decays = {
        name: make_optimizer(name, WarmupLinear(1.0, 0, 1)).decay
        for name in ("adamw", "lamb", "adam", "sgd", "adadelta")
    }
    assert decays == {"adamw": 0.01, "lamb": 0.01, "adam": 0.0, "sgd": 0.0, "adadelta": 0.0}
    for settings, decay in (([], None), (["weight_decay=0.1"], 0.1)):
        assert [stage.weight_decay for stage in make("tinybert", data(), settings, shallow).stages] == [decay] * 2


# --- attention heads ------------------------------------------------------------------------------------------------


def test_tinybert_has_the_teachers_heads_or_says_at_once_what_to_do(capsys):
    """12 in the preset, 2 in the teacher."""
    model = teacher()
    student = make("tinybert", data(), ["student=tinybert_4l_312", "copies=0"], model).student
    assert student.config.num_attention_heads == 2 and "the student has 2 attention heads" in capsys.readouterr().err
    student = make(
        "tinybert", data(), ["student=tinybert_4l_312", "copies=0", "transformer.attention_weight=0"], model
    ).student
    assert student.config.num_attention_heads == 12
    many = TextModel(replace(model.config, num_attention_heads=16, hidden_size=32), 2, "classification", NAMES)
    many.tokenizer = model.tokenizer
    with pytest.raises(UserError, match=r"12 attention heads, the teacher 16.* --set attention_weight=0"):
        make("tinybert", data(), ["student=tinybert_4l_312"], many)


# --- maps between widths --------------------------------------------------------------------------------------------


def test_tinyberts_maps_go_on_with_its_student(tmp_path, shallow):
    settings = ["transformer.projection=per_layer", "transformer.epochs=1", "epochs=1", "copies=0"]
    first = run_directory.run(make("tinybert", data(), settings, shallow), tmp_path / "one", debug=True)
    assert first.projections
    again = make("tinybert", data(), [*settings, f"student=hf:{tmp_path / 'one' / 'student'}"], shallow)
    assert again.projections.keys() == first.projections.keys()
    still = tuple(replace(stage, learning_rate=1e-9) for stage in again.stages)
    second = run_directory.run(replace(again, stages=still), tmp_path / "two", debug=True)
    for key, (kernel,) in first.projections.items():
        np.testing.assert_allclose(second.projections[key][0], kernel, atol=1e-5, err_msg=key)
    file = tmp_path / "one" / "student" / "projections.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match=r"cannot read .*projections\.safetensors .*; delete it to start with new maps"):
        make("tinybert", data(), [*settings, f"student=hf:{tmp_path / 'one' / 'student'}"], shallow)


# --- privileged information -----------------------------------------------------------------------------------------


def test_unlabelled_rows_of_privileged_need_the_extra_columns_too(shallow):
    text = with_extra(data(unlabelled=replace(split(16, 7), labels=None, texts_extra=(["yes"] * 16,))), keep=True)
    result = train(make("privileged", text, [], shallow), seed=0, max_steps=2)
    assert result.rows == 48
    without = replace(text, splits={**text.splits, "unlabelled": replace(split(16, 7), labels=None)})
    with pytest.raises(UserError, match="the unlabelled rows of letters have no column text_extra"):
        find("privileged").recipe(shallow, without)


def test_a_privileged_teacher_reads_as_much_as_it_was_finetuned_with(tmp_path, shallow):
    save(shallow, tmp_path / "teacher")
    (tmp_path / "teacher" / "recipe.json").write_text('{"max_length": 20}')
    lengths = []
    for model, settings in (
        (shallow, []),
        (load(tmp_path / "teacher"), []),
        (load(tmp_path / "teacher"), ["teacher_max_length=16"]),
    ):
        recipe = make("privileged", data(), ["max_length=6", *settings], model)
        prepared = prepare(recipe, 0)
        assert prepared.train.encoded.lengths.max() <= 6
        lengths.append(recipe.teacher_max_length)
        assert prepared.read_by(recipe, model).lengths.max() <= recipe.teacher_max_length
    assert lengths == [6, 20, 16]


# --- rows that stand for all ----------------------------------------------------------------------------------------


def test_some_rows_are_drawn_from_all():
    """Files may be sorted by class."""
    rows = some_rows(1000, 100)
    assert len(set(rows)) == 100 and rows[0] < 100 and rows[-1] > 900 and (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(rows, some_rows(1000, 100))
    assert len(some_rows(5, 100)) == len(some_rows(5, None)) == 5
