"""Test that every model gives Keras's logits from a file of built-in operators, in every mode."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import numpy as np
import pytest

from tfdistill.errors import UserError
from tfdistill.export.convert import convert, jobs
from tfdistill.export.convert.convert import convert_model, convert_models
from tfdistill.export.convert.jobs import Job, run_jobs
from tfdistill.export.convert.modes import MODES, TF
from tfdistill.export.tflite.operators import operators, read_file
from tfdistill.export.tflite.parity import of_real_tokens
from tfdistill.export.tflite.runtime import Rows, TFLiteModel
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.hf import write_model
from tfdistill.models.text_model import TextModel

LENGTH = 12
BERT = BertConfig(
    vocab_size=60,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=20,
)
CONFIGS = {
    "bert": BERT,
    "bilstm": BiLSTMConfig(vocab_size=60, embedding_size=16, lstm_size=16, dense_size=16),
    "bilstm pair, 2 layers": BiLSTMConfig(
        vocab_size=60, embedding_size=16, lstm_size=16, dense_size=16, num_layers=2, pair=True
    ),
}
# (BERT, BiLSTM): random weights are larger than trained ones, and so are the differences.
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "dynamic_int8": 5e-2}


def random_model(config, outputs: int = 3, **kwargs) -> TextModel:
    """A model whose weights are all random, biases and norms included, and large enough to tell rows apart."""
    model = TextModel(config, outputs, **kwargs)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "seed_generator" not in weight.path:
            weight.assign(rng.normal(1.0 if "gamma" in weight.path else 0.0, 0.3, weight.shape))
    return model


def corpus(length: int = LENGTH) -> tuple[Rows, dict[str, np.ndarray]]:
    """Rows of 1 to `length` tokens, the full ones included, as a corpus and as a padded batch; every other one is a pair."""
    rng = np.random.default_rng(2)
    sizes = [1, 2, 3, 5, 8, length - 1, length, length]
    ids = [rng.integers(0, 60, size) for size in sizes]
    segments = [(np.arange(size) * 2 >= size) * (n % 2) for n, size in enumerate(sizes)]
    batch = {name: np.zeros((len(sizes), length), "int32") for name in ("token_ids", "padding_mask", "segment_ids")}
    for row, size in enumerate(sizes):
        batch["token_ids"][row, :size], batch["segment_ids"][row, :size] = ids[row], segments[row]
        batch["padding_mask"][row, :size] = 1
    return Rows(ids, segments), batch


@pytest.fixture(scope="module", params=list(CONFIGS))
def converted(request, tmp_path_factory):
    model, modes = random_model(CONFIGS[request.param]), ["fp32", "fp16", "dynamic_int8"]
    out = tmp_path_factory.mktemp("converted")
    files = convert_model(model, out, name="tiny", length=LENGTH)
    assert list(files) == modes
    assert sorted(path.name for path in out.iterdir()) == sorted(f"tiny-{mode}.tflite" for mode in modes)
    return model, files


@pytest.mark.heavy
def test_gives_keras_logits(converted):
    model, files = converted
    rows, batch = corpus()
    expected = model(batch).numpy()
    for mode, file in files.items():
        logits = TFLiteModel(file.path).predict(rows)
        assert logits.shape == (8, 3) and logits.dtype == np.float32
        assert np.abs(logits - expected).max() < TOLERANCE[mode], mode


@pytest.mark.heavy
def test_a_row_does_not_depend_on_the_one_before(converted):
    # The state of a fused LSTM outlives an inference.
    _, files = converted
    rows, _ = corpus()
    for file in files.values():
        model = TFLiteModel(file.path)
        first = model.predict(rows, workers=1)
        again = np.concatenate([model.predict(_row(rows, n), workers=1) for n in reversed(range(8))])[::-1]
        np.testing.assert_array_equal(first, again)


def _row(rows: Rows, number: int) -> Rows:
    span = slice(rows.offsets[number], rows.offsets[number + 1])
    return Rows([rows.token_ids[span]], [rows.segment_ids[span]])


@pytest.mark.heavy
def test_the_description_of_a_file(converted):
    model, files = converted
    for mode, file in files.items():
        assert file.path.name == f"tiny-{mode}.tflite" and file.bytes == file.path.stat().st_size
        assert not any(name.startswith("custom:") for name in file.operators)
        loaded = TFLiteModel(file.path)
        assert loaded.length == LENGTH and loaded.inputs == ("token_ids", "padding_mask", "segment_ids")
        if model.family == "bilstm":
            sentences = 2 if model.config.pair else 1
            assert file.operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2 * model.config.num_layers * sentences
            assert "WHILE" not in file.operators
        else:
            # The first layer has one product for query, key and value.
            assert file.operators["FULLY_CONNECTED"] == 4 + 6 + 2 and file.operators["GELU"] == 2
            # It takes heads apart and together; the last computes one row, which has nothing to transpose. Two more shapes are
            # those of the ids, one slice is the first row.
            counted = {name: file.operators[name] for name in ("TRANSPOSE", "RESHAPE", "SPLIT", "STRIDED_SLICE")}
            assert counted == {"TRANSPOSE": 2, "RESHAPE": 2 + 2 + 2, "SPLIT": 1, "STRIDED_SLICE": 1}


@pytest.mark.slow
def test_one_product_for_query_key_and_value_gives_the_same_numbers(tmp_path):
    """To the bit, with int8 weights too: they have a scale for each output."""
    model, rows = random_model(BERT), corpus()[0]
    logits = {}
    for number, fuses in enumerate((False, True)):
        place = tmp_path / str(number)
        place.mkdir()
        write_model(model, place)
        kinds = [("fp32", "float"), ("dynamic_int8", "int8")]
        made = [Job(number, place, (LENGTH,), table, {mode: TF}, None, 1, fuses=fuses) for mode, table in kinds]
        run_jobs(made, 1, lambda *_: None)
        for mode, _ in kinds:
            counts = operators(read_file(place / f"{mode}.tflite"))
            kept = {name: counts.get(name, 0) for name in ("FULLY_CONNECTED", "TRANSPOSE", "RESHAPE", "SPLIT")}
            apart = {"FULLY_CONNECTED": 14, "TRANSPOSE": 4, "RESHAPE": 8, "SPLIT": 0}
            assert kept == ({"FULLY_CONNECTED": 12, "TRANSPOSE": 2, "RESHAPE": 6, "SPLIT": 1} if fuses else apart)
            logits[mode, fuses] = TFLiteModel(place / f"{mode}.tflite").predict(rows)
    for mode, _ in kinds:
        np.testing.assert_array_equal(logits[mode, True], logits[mode, False])


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    config = BertConfig(2000, 64, 1, 2, 128, max_position_embeddings=16)
    model = random_model(config, 2, label_names=("no", "yes"))
    return model, convert_model(model, tmp_path_factory.mktemp("larger"), name="larger", length=8)


@pytest.mark.slow
@pytest.mark.heavy
def test_int8_takes_a_quarter(larger):
    _, files = larger
    assert files["fp16"].bytes / files["fp32"].bytes == pytest.approx(0.5, abs=0.05)
    assert files["dynamic_int8"].bytes / files["fp32"].bytes == pytest.approx(0.26, abs=0.05)


@pytest.mark.heavy
def test_int8_reads_only_the_rows_of_the_embedding_in_use(larger):
    assert "DEQUANTIZE" not in larger[1]["dynamic_int8"].operators


@pytest.mark.heavy
def test_a_file_without_its_weights_is_refused(larger, tmp_path):
    model, files = larger
    with pytest.raises(UserError, match="weights"):
        convert.audit(files["dynamic_int8"].path, model, [8], "fp32")


@pytest.mark.heavy
def test_a_file_of_another_model_is_refused(larger):
    model, files = larger
    other = random_model(model.config, 2)
    other.head.bias.assign_add([0.0, 0.5])
    with pytest.raises(UserError, match=r"0\.5; expected less than 0\.001"):
        convert.audit(files["fp32"].path, other, [8], "fp32")


@pytest.mark.heavy
def test_a_file_of_another_length_is_refused(larger):
    model, files = larger
    with pytest.raises(UserError, match="8 tokens; expected 9"):
        convert.audit(files["fp32"].path, model, [9], "fp32")


VOCABULARY = 5000


@pytest.fixture(
    scope="module", params=["bert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bilstm", "tokens"))]
)
def several(request, tmp_path_factory):
    """A model, and its files for rows of 4, 7 and 12 tokens."""
    task, config = "classification", CONFIGS.get(request.param, BERT)
    if request.param == "tokens":
        task = "token_classification"
    model = random_model(dataclasses.replace(config, vocab_size=VOCABULARY), 3, task=task)
    modes = ["fp32", "dynamic_int8", *(["int8", "weight_int8"] if request.param == "bert" else [])]
    out = tmp_path_factory.mktemp("several")
    rows, _ = corpus(12)
    files = convert_model(model, out, name="several", length=[12, 4, 7], modes=modes, calibration=rows)
    single = convert_model(model, out, name="single", length=12, modes=modes, calibration=rows)
    return model, files, single


@pytest.mark.slow
def test_each_row_goes_to_the_shortest_signature_it_fits_in(several):
    model, files, single = several
    rows, batch = corpus(12)
    sizes = batch["padding_mask"].sum(axis=1)
    expected = of_real_tokens(model(batch).numpy(), sizes)
    for mode, file in files.items():
        assert file.lengths == (4, 7, 12)
        loaded = TFLiteModel(file.path)
        assert loaded.lengths == (4, 7, 12) and loaded.length == 12
        assert [loaded.fitting(size) for size in (1, 4, 5, 7, 8, 12)] == [4, 4, 7, 7, 12, 12]
        logits = loaded.predict(rows)
        assert logits.shape == TFLiteModel(single[mode].path).predict(rows).shape
        tolerance = TOLERANCE.get(mode, 5e-2) * (3 if model.family == "bert" else 1)
        assert np.abs(of_real_tokens(logits, sizes) - expected).max() < tolerance, mode
    for number in range(8):
        one = _row(rows, number)
        single_row = of_real_tokens(loaded.row(one.token_ids, one.segment_ids)[None], sizes[number : number + 1])
        np.testing.assert_allclose(single_row, of_real_tokens(logits[[number]], sizes[number : number + 1]), atol=1e-6)
    with pytest.raises(UserError, match="13 tokens"):
        loaded.fitting(13)


@pytest.mark.heavy
def test_several_lengths_hold_the_weights_once(several):
    _, files, single = several
    for mode, file in files.items():
        weights = VOCABULARY * 16 * MODES[mode].bytes
        # Two copies more would be twice the weights; what is added are operators.
        assert file.bytes - single[mode].bytes < weights, mode


@pytest.fixture(scope="module")
def cheap():
    return random_model(BERT)


@pytest.mark.slow
def test_several_models_side_by_side(cheap, tmp_path):
    other, reported = random_model(CONFIGS["bilstm"]), []
    made = convert_models(
        [(cheap, "bert"), (other, "bilstm")],
        tmp_path,
        length=8,
        modes=["dynamic_int8", "fp32"],
        progress=lambda name, mode: reported.append((name, mode)),
    )
    assert [list(files) for files in made] == [["dynamic_int8", "fp32"]] * 2
    assert sorted(reported) == [(name, mode) for name in ("bert", "bilstm") for mode in ("dynamic_int8", "fp32")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}-{mode}.tflite" for name, mode in reported
    )
    rows, batch = corpus(8)
    for model, files in zip((cheap, other), made, strict=True):
        for mode, file in files.items():
            assert np.abs(TFLiteModel(file.path).predict(rows) - model(batch).numpy()).max() < TOLERANCE[mode]


@pytest.mark.heavy
def test_one_failure_ends_all(cheap, tmp_path, monkeypatch):
    """The second model's converter fails; the first one's, which would run for a minute, is killed."""
    command = tmp_path / "python"
    command.write_text("#!/bin/sh\nread job\ncase $job in *'/0\"'*) exec sleep 60;; esac\necho why >&2; exit 1\n")
    command.chmod(0o755)
    monkeypatch.setattr(jobs.sys, "executable", str(command))
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"why.*fp32"):
        convert_models([(cheap, "a"), (cheap, "b")], tmp_path / "out", length=8, modes=["fp32"])
    assert time.monotonic() - begun < 30 and not (tmp_path / "out").exists()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            f"import os; os.kill(os.getpid(), {signal.SIGSEGV.value})",
            "SIGSEGV.*fp32",
        ),
        ("import sys; print('one', file=sys.stderr); sys.exit('the reason')", "the reason"),
        ("import sys; sys.exit(3)", "exit code 3"),
    ],
)
def test_a_converter_that_ends_is_named(cheap, tmp_path, monkeypatch, code, message):
    command = tmp_path / "python"
    command.write_text(f'#!/bin/sh\nexec {os.sys.executable} -c "{code}"\n')
    command.chmod(0o755)
    monkeypatch.setattr(jobs.sys, "executable", str(command))
    with pytest.raises(UserError, match=message):
        convert_model(cheap, tmp_path / "out", name="x", length=8)
    assert not (tmp_path / "out").exists()
