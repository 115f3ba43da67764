"""Reference numbers, students made from a teacher, directories. The contract of all models stands in test_contract.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert, tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.models.bilstm import reverse_by_length
from tfdistill.models.hf import load_directory
from tfdistill.models.presets import bilstm, reduced_table, student_from_layers

HERE = Path(__file__).parent
# --- reference numbers ----------------------------------------------------------------------------------------------


def test_bert_equals_hugging_face():
    """Numbers from transformers, see make_bert_vectors.py: logits, all hidden states, all scores before softmax."""
    expected = json.loads((HERE / "bert_vectors.json").read_text("utf-8"))
    x = {key: np.array(value, "int32") for key, value in expected["inputs"].items()}
    found = load_directory(HERE / "tiny_bert").features(
        x, ("logits", "embeddings", "hidden_states", "attention_scores")
    )
    np.testing.assert_allclose(found.logits, expected["logits"], atol=1e-5)
    real = x["padding_mask"][..., None]
    states = (found.embeddings, *found.hidden_states)
    for ours, theirs in zip(states, expected["hidden_states"], strict=True):
        np.testing.assert_allclose(ours * real, np.array(theirs) * real, atol=1e-5)
    pairs = x["padding_mask"][:, None, :, None] * x["padding_mask"][:, None, None, :]
    for ours, theirs in zip(found.attention_scores, expected["attention_scores"], strict=True):
        np.testing.assert_allclose(ours * pairs, np.array(theirs) * pairs, atol=1e-5)


def test_bilstm_reads_last_states_of_both_directions():
    model = tiny_bilstm()
    x = inputs(rows=4)
    encoder = model.encoder
    for row in range(4):
        length = x["padding_mask"][row].sum()
        ids = x["token_ids"][row : row + 1, :length]
        ahead = encoder.forward[0](encoder.embedding(ids))[:, -1]
        back = encoder.backward[0](encoder.embedding(ids[:, ::-1]))[:, -1]
        pooled = encoder.dense(np.concatenate([ahead, back], axis=-1))
        np.testing.assert_allclose(model.head(pooled), model({k: v[row : row + 1] for k, v in x.items()}), atol=1e-6)


def test_reverse_by_length():
    found = reverse_by_length(np.array([[1, 2, 3, 0], [4, 5, 6, 7]]), np.array([3, 4]))
    np.testing.assert_array_equal(found, [[3, 2, 1, 0], [7, 6, 5, 4]])


def test_fresh_weights_are_drawn_one_by_one():
    model = tiny_bert()
    kernels = [np.array(v) for v in model.encoder.variables if v.path.endswith(("kernel", "embeddings"))]
    for number, kernel in enumerate(kernels):
        for other in kernels[:number]:
            size = min(kernel.size, other.size)
            assert not np.allclose(kernel.ravel()[:size], other.ravel()[:size])


# --- students -------------------------------------------------------------------------------------------------------


def test_student_from_layers_takes_the_named_layers():
    teacher = tiny_bert(layers=6)
    teacher.tokenizer = None
    student = student_from_layers(teacher, 3)
    assert student.num_layers == 3
    for ours, theirs in zip(student.encoder.blocks, (2, 4, 6), strict=True):
        np.testing.assert_array_equal(ours.query.kernel, teacher.encoder.blocks[theirs - 1].query.kernel)
    np.testing.assert_array_equal(student.head.kernel, teacher.head.kernel)
    whole = student_from_layers(teacher, layers=range(1, 7))
    np.testing.assert_array_equal(whole(inputs()), teacher(inputs()))
    for wrong in ({"num_layers": 7}, {"layers": [0]}, {"layers": []}, {}):
        with pytest.raises(UserError):
            student_from_layers(teacher, **wrong)
    with pytest.raises(UserError, match="bilstm"):
        student_from_layers(tiny_bilstm(), 1)


def test_bilstm_embedding_keeps_the_geometry_of_the_teachers_table():
    table = np.random.default_rng(0).normal(size=(60, 4)) @ np.random.default_rng(1).normal(size=(4, 10))
    reduced = reduced_table(table, 4)  # the table has rank 4, so distances survive up to one factor
    full = np.linalg.norm(table[:, None] - table[None], axis=-1)
    small = np.linalg.norm(reduced[:, None] - reduced[None], axis=-1)
    np.testing.assert_allclose(small / small.max(), full / full.max(), atol=1e-5)
    teacher = tiny_bert(width=8)
    teacher.tokenizer = None
    assert bilstm(teacher, embedding_from=teacher, embedding_size=6).width("pooled") == 200
    with pytest.raises(UserError, match="larger than"):
        bilstm(teacher, embedding_from=teacher, embedding_size=9)


def test_hub_preset_gives_our_encoder_their_weights(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    from tfdistill.models.load import load

    backbone = keras_hub.models.BertBackbone(37, 2, 2, 8, 16, max_sequence_length=16)
    for weight in backbone.weights:
        weight.assign(np.random.default_rng(3).normal(scale=0.3, size=weight.shape))
    backbone.save_to_preset(str(tmp_path / "preset"))
    vocabulary = (HERE / "tiny_bert" / "vocab.txt").read_text("utf-8").split()
    keras_hub.models.BertTokenizer(vocabulary, lowercase=True).save_to_preset(str(tmp_path / "preset"))
    model = load(f"hub:{tmp_path / 'preset'}", num_outputs=3)
    x = {key: value % 37 for key, value in inputs(pair=True).items()}
    theirs = backbone(x)
    found = model.features(x, ("pooled", "hidden_states"))
    # They approximate GELU by tanh; ours is the exact one that BERT was trained with.
    real = x["padding_mask"][..., None]
    np.testing.assert_allclose(found.hidden_states[-1] * real, theirs["sequence_output"] * real, atol=5e-3)
    np.testing.assert_allclose(found.pooled, theirs["pooled_output"], atol=5e-3)
    assert model.tokenizer.vocabulary == tuple(vocabulary)


# --- damaged directories --------------------------------------------------------------------------------------------


def _copy(tmp_path, **changed):
    for file in (HERE / "tiny_bert").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name, content in changed.items():
        path = tmp_path / name.replace("__", ".")
        path.unlink() if content is None else path.write_bytes(content)
    return tmp_path


CONFIG = json.loads((HERE / "tiny_bert" / "config.json").read_text("utf-8"))
WEIGHTS = (HERE / "tiny_bert" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config__json": None}, "config.json is missing"),
        ({"model__safetensors": None}, "model.safetensors is missing"),
        ({"vocab__txt": None}, "vocab.txt"),
        ({"config__json": b"{"}, "no valid JSON"),
        ({"config__json": b"[]"}, "expected a JSON object"),
        ({"config__json": b'{"model_type": "gpt2"}'}, "model_type is 'gpt2'"),
        ({"config__json": json.dumps({**CONFIG, "num_hidden_layers": 4}).encode()}, "no tensor"),
        ({"config__json": json.dumps({**CONFIG, "intermediate_size": 37}).encode()}, "not of one model"),
        ({"config__json": json.dumps({**CONFIG, "num_attention_heads": 3}).encode()}, "no multiple"),
        ({"config__json": json.dumps({**CONFIG, "hidden_act": "swish"}).encode()}, "swish"),
        ({"model__safetensors": WEIGHTS[:-100]}, "damaged"),
        ({"model__safetensors": b""}, "damaged"),
    ],
)
def test_damaged_directories_are_one_line(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        load_directory(_copy(tmp_path, **changed))


def test_missing_directory(tmp_path):
    with pytest.raises(UserError, match="no directory"):
        load_directory(tmp_path / "nothing")


def test_another_number_of_classes_gets_a_new_head():
    model = load_directory(HERE / "tiny_bert", num_outputs=5)
    assert model.num_outputs == 5
    assert load_directory(HERE / "tiny_bert").num_outputs == 3
