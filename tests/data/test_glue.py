from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfdistill.data import glue
from tfdistill.data import tfds as tfds_source
from tfdistill.data.text_sources import load_data
from tfdistill.errors import UserError

MNLI = "index\tpromptID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content, "utf-8")
    return folder


def fails(spec: str, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_cola_has_no_header(tmp_path):
    write(tmp_path, {"train.tsv": "gj04\t1\t\tShe \"left.\ngj04\t0\t*\tThey drank the pub.\n", "test.tsv": "index\tsentence\n0\tBill\n"})  # fmt: skip  # noqa: E501
    data = load_data(f"glue:cola:{tmp_path}")
    assert (data.name, data.label_names, data.metrics) == ("glue:cola", ("unacceptable", "acceptable"), ("matthews",))
    assert (data.splits["train"].texts, data.splits["train"].labels.tolist()) == (
        ['She "left.', "They drank the pub."],
        [1, 0],
    )
    assert (data.splits["test"].texts, data.splits["test"].labels) == (["Bill"], None)


CASES = {
    "sst2": ("SST-2", "sentence\tlabel\na fine film\t1\n", (["a fine film"], None, [1])),
    "mrpc": (
        "MRPC",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\tHe said "no\tNo\r\n',
        (['He said "no'], ["No"], [1]),
    ),
    "stsb": (
        "STS-B",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
        "0\tg\tf\t2012\t1\tn\tn\tA plane\tAn air plane\t5.000\n1\tg\tf\t2012\t1\tn\tn\ta\tb\t2.5\n",
        (["A plane", "a"], ["An air plane", "b"], [5.0, 2.5]),
    ),
    "qqp": (
        "QQP",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\tHow?\tWhy?\t0\n4\t5\t6\tcut short\n7\t8\t9\ta\tb\t1\n",
        (["How?", "a"], ["Why?", "b"], [0, 1]),
    ),
    "qnli": (
        "QNLI",
        "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tnot_entailment\n1\tWho?\tShe.\tentailment\n",
        (["Who?", "Who?"], ["He.", "She."], [1, 0]),
    ),
    "rte": ("RTE", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n", (["a"], ["b"], [0])),
    "wnli": ("WNLI", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n", (["a"], ["b"], [1])),
}


@pytest.mark.parametrize("task", CASES)
def test_tasks(tmp_path, task):
    folder, content, (texts, texts_b, labels) = CASES[task]
    write(tmp_path / folder, {"train.tsv": content})
    data = load_data(f"glue:{task}:{tmp_path}")  # the directory that GLUE's download fills
    assert (data.splits["train"].texts, data.splits["train"].texts_b) == (texts, texts_b)
    assert data.splits["train"].labels.tolist() == labels
    assert load_data(f"glue:{task}:{tmp_path / folder}").fingerprint == data.fingerprint


def test_mnli_has_two_dev_and_two_test_files(tmp_path):
    row = "0\t1\tfiction\tp\th\tneutral\t{}\n"
    write(
        tmp_path,
        {
            "train.tsv": MNLI + row.format("entailment"),
            "dev_matched.tsv": MNLI + row.format("neutral"),
            "dev_mismatched.tsv": MNLI + row.format("contradiction"),
            "test_matched.tsv": "index\tsentence1\tsentence2\n0\tp\th\n",
            "test_mismatched.tsv": "index\tsentence1\tsentence2\n0\tq\th\n",
        },
    )
    data = load_data(f"glue:mnli:{tmp_path}")
    assert list(data.splits) == ["train", "dev", "dev_mismatched", "test", "test_mismatched"]
    assert [data.splits[name].labels.tolist() for name in ("train", "dev", "dev_mismatched")] == [[0], [1], [2]]
    assert data.splits["test_mismatched"].texts == ["q"] and data.splits["test_mismatched"].labels is None


def test_classes_and_scores_are_those_of_tfds():
    assert len(glue.GLUE) == 9 and set(glue.GLUE) < set(tfds_source.GLUE_TEXTS)
    assert glue.metrics("stsb") == ("spearman", "pearson") and glue.metrics("ax") == ()
    tfds = pytest.importorskip("tensorflow_datasets")
    for name, task in glue.GLUE.items():
        label = tfds.builder(f"glue/{name}").info.features["label"]
        if task.labels is None:
            assert np.issubdtype(label.np_dtype, np.floating)
        else:
            assert label.names == list(task.labels.values()), name


def test_label_order_of_a_teacher(tmp_path):
    write(tmp_path, {"train.tsv": CASES["rte"][1]})
    data = load_data(f"glue:rte:{tmp_path}", label_names=["not_entailment", "entailment"])
    assert data.splits["train"].labels.tolist() == [1] and data.metrics == ("accuracy",)


def test_refuses(tmp_path):
    fails("glue:mrcp:x", "glue:mrcp:x", "'mrpc'")
    fails("glue:mrpc", "glue:mrpc:DIR")
    fails(f"glue:mrpc:{tmp_path}", "train.tsv, dev.tsv")
    write(tmp_path, {"train.tsv": CASES["rte"][1]})
    fails(f"glue:mrpc:{tmp_path}", "train.tsv, line 1", "'#1 String'")
    write(tmp_path, {"train.tsv": CASES["rte"][1] + "1\tc\n"})
    fails(f"glue:rte:{tmp_path}", "train.tsv, line 3")
    write(tmp_path, {"train.tsv": CASES["rte"][1] + "1\ta\tb\tmaybe\n"})
    fails(f"glue:rte:{tmp_path}", "line 3", "'maybe'")
    for score in ("6", "high", "nan"):
        write(tmp_path, {"train.tsv": "sentence1\tsentence2\tscore\na\tb\t" + score + "\n"})
        fails(f"glue:stsb:{tmp_path}", "line 2", f"'{score}'")
    write(tmp_path, {"train.tsv": "index\tsentence1\tsentence2\tlabel\n"})
    fails(f"glue:rte:{tmp_path}", "train.tsv")
    (tmp_path / "train.tsv").write_bytes(b"sentence\tlabel\n\xff\t1\n")
    fails(f"glue:sst2:{tmp_path}", "line 2", "byte 15 (0xff)")
