"""How steps are computed, as the command line says it."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from tfdistill.data.tokenize import Tokenizer
from tfdistill.errors import UserError
from tfdistill.execution import Execution, make_execution
from tfdistill.load import save
from tfdistill.models.bert import BertConfig
from tfdistill.models.text import TextModel

TINY = Path(__file__).parent / "models" / "tiny_bert"


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ((), Execution()),
        (("float32", True), Execution(jit=True, buckets="auto")),
        (("float32", True, "none"), Execution(jit=True)),
        (("bf16", False, "16,32"), Execution("bf16", buckets=(16, 32))),
        (("bf16", False, "auto"), Execution("bf16", buckets="auto")),
    ],
)
def test_what_the_words_mean(words, made):
    assert make_execution(*words) == made
    assert (made.as_data() == {}) == (made == Execution())


@pytest.mark.parametrize(("words", "told"), [(("fp8",), "--precision fp8"), (("bf16", False, "a,b"), "--buckets a,b")])
def test_other_words_are_refused(words, told):
    with pytest.raises(UserError, match=told):
        make_execution(*words)


def test_a_run_in_bf16_with_buckets(tmp_path, tfdistill):
    keras.utils.set_random_seed(3)
    teacher = TextModel(BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24), 2, label_names=("no", "yes"))
    teacher.tokenizer = Tokenizer.from_directory(TINY)
    save(teacher, tmp_path / "teacher")
    texts = [
        " ".join(row[: 1 + n % 6]) for n, row in enumerate(np.random.default_rng(0).choice(list("abcdefgh"), (40, 6)))
    ]
    (tmp_path / "data").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{text}\t{('no', 'yes')['a' in text]}" for text in texts]
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", "utf-8")

    def call(*words: object) -> tuple[int, str]:
        given = ["train", "soft_targets", "--teacher", tmp_path / "teacher", "--data", tmp_path / "data", *words]
        settings = ["num_layers=1", "max_length=12", "batch_size=8", "epochs=1"]
        code, _, err = tfdistill(*given, *(word for setting in settings for word in ("--set", setting)))
        keras.config.set_dtype_policy("float32")
        return code, err

    out = tmp_path / "run"
    code, told = call("--out", out, "--precision", "bf16", "--buckets", "8,12")
    assert code == 0, told
    run = json.loads((out / "run.json").read_text())
    assert run["execution"] == {"precision": "bf16", "buckets": [8, 12]} and run["state"] == "done"
    assert {value.dtype for value in load_file(out / "student" / "model.safetensors").values()} == {np.dtype("float32")}
    code, told = call("--out", out)
    assert code == 2 and "execution" in told
    code, told = call("--out", tmp_path / "fp16", "--precision", "fp16")
    last = json.loads((tmp_path / "fp16" / "log.jsonl").read_text().splitlines()[-1])
    assert code == 0, told
    assert last["loss_scale"] == 32768 and last["skipped_steps"] == 0 and 0 < last["fp16_largest"] < 65504
    code, told = call("--out", tmp_path / "other", "--buckets", "4")
    assert code == 2 and "the longest text has 8 word pieces" in told
