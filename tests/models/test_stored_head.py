"""Heads of model directories: kept, put in another order, new with a line, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert, tiny_bilstm
from safetensors.numpy import load_file, save_file

from tfdistill.errors import UserError
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.load import load, save
from tfdistill.models.stored_head import MissingHead
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.from_directory(Path(__file__).parent / "tiny_bert")
LORA = {"classifier.weight": "classifier.modules_to_save.default.weight", "classifier.bias": None}


def saved(directory: Path, model: TextModel, rename: dict[str, str | None] | None = None, **config) -> Path:
    """Save a model; `rename` maps names of tensors to others, or to None to remove them, `config` changes config.json."""
    model.tokenizer = TOKENIZER
    save(model, directory)
    tensors = load_file(directory / "model.safetensors")
    for name, other in (rename or {}).items():
        value = tensors.pop(name)
        if other is not None:
            tensors[other] = value
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    raw = json.loads((directory / "config.json").read_text("utf-8"))
    raw = {name: value for name, value in {**raw, **config}.items() if value is not None}
    (directory / "config.json").write_text(json.dumps(raw), "utf-8")
    return directory


def without_head(directory: Path, **options) -> Path:
    """Save a BERT as its base checkpoint: neither head nor pooler, and nothing in config.json that promises them."""
    missing = dict.fromkeys(
        ("classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias")
    )
    nothing = dict.fromkeys(("problem_type", "id2label", "label2id"))
    return saved(directory, tiny_bert(), missing, architectures=["BertModel"], **{**nothing, **options})


def test_a_missing_head_is_new_with_a_line_or_refused(tmp_path, capsys):
    base = without_head(tmp_path / "base")
    for new_head in (None, True):
        model = load(base, num_outputs=2, label_names=("a", "b"), new_head=new_head)
        printed = capsys.readouterr().err
        assert model.label_names == ("a", "b") and "base" in printed and "head and pooler" in printed
    with pytest.raises(MissingHead, match=r"base has no head for classification.*tfdistill finetune"):
        load(base, new_head=False)
    with pytest.raises(MissingHead, match=r"no head for masked_lm.*tfdistill pretrain"):
        load(base, task="masked_lm", new_head=False)


@pytest.mark.parametrize("new_head", [None, True, False])
@pytest.mark.parametrize(
    ("rename", "config"),
    [
        (LORA, {}),
        ({"classifier.weight": None, "classifier.bias": None}, {}),
        ({"classifier.weight": "score.weight", "classifier.bias": None}, {"id2label": None, "problem_type": None}),
        ({"classifier.weight": "classifier.out_proj.weight"}, {"architectures": None, "problem_type": None}),
        (LORA, {"architectures": None, "id2label": None}),
    ],
)
def test_a_head_that_config_json_promises_must_be_there(tmp_path, rename, config, new_head):
    directory = saved(tmp_path / "model", tiny_bert(label_names=("a", "b", "c")), rename, **config)
    (directory / "labels.txt").unlink()
    there = next(iter(filter(None, rename.values())), "")
    for options in ({}, {"num_outputs": 2}, {"label_names": ("x", "y", "z")}):
        with pytest.raises(UserError, match=rf"model\.safetensors.*'classifier.weight'.*{there}"):
            load(directory, new_head=new_head, **options)


def test_a_head_needs_its_pooler(tmp_path):
    parts = dict.fromkeys(("bert.pooler.dense.weight", "bert.pooler.dense.bias"))
    directory = saved(tmp_path / "bert", tiny_bert(), parts)
    with pytest.raises(UserError, match=r"bert\.pooler\.dense\.weight.*pooler"):
        load(directory)
    load(directory, num_outputs=2)  # both are new
    sizes = DistilBertConfig(vocab_size=50, dim=8, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=16)
    names = {"pre_classifier.weight": "pooler.dense.weight"}
    directory = saved(tmp_path / "distilbert", TextModel(sizes, 3), names)
    with pytest.raises(UserError, match=r"pre_classifier\.weight"):
        load(directory)


def test_a_head_that_does_not_fit_is_new_only_where_it_may_be(tmp_path, capsys):
    directory = saved(tmp_path / "model", tiny_bert(label_names=("a", "b", "c")))
    x = inputs(rows=3)
    kept = np.array(load(directory)(x))
    for options in (
        {"num_outputs": 2},
        {"task": "token_classification"},
        {"label_names": ("a", "b", "new")},
        {"label_names": ("a", "b")},
        {"task": "multilabel"},
    ):
        capsys.readouterr()
        model = load(directory, new_head=True, **options)
        assert "new head" in capsys.readouterr().err
        assert model.label_names == options.get("label_names")
        with pytest.raises(UserError, match="model"):
            load(directory, new_head=False, **options)
    for new_head in (None, True, False):
        again = load(directory, label_names=("b", "c", "a"), new_head=new_head)
        np.testing.assert_array_equal(again(x), kept[:, [1, 2, 0]])
    with pytest.raises(UserError, match=r"c only in .*new only in"):
        load(directory, label_names=("a", "b", "new"))


@pytest.mark.parametrize("prefix", ["base_model.model.", "module."])
def test_weights_that_another_library_has_wrapped_are_named(tmp_path, prefix):
    directory = saved(tmp_path / "model", tiny_bert())
    tensors = load_file(directory / "model.safetensors")
    wrapped = {f"{prefix}{name}": value for name, value in tensors.items()}
    save_file(wrapped, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"model\.safetensors.*(PEFT|module\.bert)"):
        load(directory)


@pytest.mark.parametrize(
    ("task", "tensor"), [("token_classification", "classifier"), ("question_answering", "qa_outputs")]
)
def test_heads_over_tokens_must_be_there_too(tmp_path, task, tensor):
    names = {f"{tensor}.weight": f"{tensor}.modules_to_save.default.weight"}
    directory = saved(tmp_path / "model", tiny_bert(outputs=2, task=task), names)
    with pytest.raises(UserError, match=rf"'{tensor}.weight'.*{tensor}\.modules_to_save"):
        load(directory)


def test_class_names_that_contradict_each_other_are_not_silent(tmp_path, capsys):
    names = ("a", "b", "c")
    directory = saved(tmp_path / "listed", tiny_bert(label_names=names))
    (directory / "labels.txt").write_text("b\na\nc\n", "utf-8")
    with pytest.raises(UserError, match=r"labels\.txt.*id2label"):
        load(directory)
    directory = saved(tmp_path / "numbered", tiny_bert(label_names=names), label2id={"a": 1, "b": 0, "c": 2})
    assert load(directory).label_names == names and "label2id" in capsys.readouterr().err
    directory = saved(tmp_path / "problem", tiny_bert(label_names=names), problem_type="banana")
    with pytest.raises(UserError, match=r"config\.json.*banana"):
        load(directory)
    directory = saved(tmp_path / "few", tiny_bert(label_names=names), id2label={"0": "a", "1": "b"})
    (directory / "labels.txt").unlink()
    with pytest.raises(UserError, match=r"few"):
        load(directory)


def test_names_of_transformers_count_as_none(tmp_path, capsys):
    directory = saved(tmp_path / "model", tiny_bert())
    model = load(directory)
    assert model.label_names is None and "LABEL_0" not in capsys.readouterr().err
    named = load(directory, label_names=("x", "y", "z"), new_head=False)
    assert named.order_is_assumed and "x, y, z" in capsys.readouterr().err
    np.testing.assert_array_equal(named(inputs()), model(inputs()))


@pytest.mark.parametrize("problem", [None, "single_label_classification"])
def test_one_output_is_a_regression(tmp_path, problem):
    directory = saved(tmp_path / "model", tiny_bert(outputs=1, task="regression"), problem_type=problem)
    if problem is not None:
        with pytest.raises(UserError, match=r"config\.json.*problem_type"):
            load(directory)
        return
    model = load(directory)
    assert (model.task, model.num_outputs) == ("regression", 1)
    again = load(save(model, tmp_path / "again"), task="regression", num_outputs=1, new_head=False)
    np.testing.assert_array_equal(again(inputs()), model(inputs()))
    with pytest.raises(MissingHead, match="regression"):
        load(directory, task="classification", num_outputs=2, new_head=False)


def test_a_classification_of_one_class_is_refused():
    with pytest.raises(UserError, match="regression"):
        tiny_bert(outputs=1)
    assert tiny_bert(outputs=1, task="multilabel").num_outputs == 1


def test_heads_of_pre_training_are_kept_as_far_as_they_are_there(tmp_path, capsys):
    model = tiny_bert(outputs=None, task="masked_lm")
    directory, x = saved(tmp_path / "mlm", model), inputs()
    both = load(directory, task="pretraining", new_head=True)
    assert "next-sentence head and pooler" in capsys.readouterr().err
    np.testing.assert_array_equal(both(x), model(x))
    with pytest.raises(MissingHead, match="next-sentence head"):
        load(directory, task="pretraining", new_head=False)
    names = dict.fromkeys(name for name in load_file(directory / "model.safetensors") if name.startswith("cls."))
    broken = saved(tmp_path / "broken", model, {**names, "cls.predictions.bias": "lm_head.bias"})
    for options in ({}, {"task": "masked_lm", "new_head": True}, {"task": "pretraining", "new_head": True}):
        with pytest.raises(UserError, match=r"cls\.predictions.*lm_head\.bias"):
            load(broken, **options)
    load(broken, task="classification", new_head=True)  # which needs no masked-LM head


def test_a_bilstm_without_head_is_refused(tmp_path):
    names = {"head.kernel": None, "head.bias": None}
    directory = saved(tmp_path / "model", tiny_bilstm(label_names=("a", "b", "c")), names)
    with pytest.raises(UserError, match="head"):
        load(directory)
