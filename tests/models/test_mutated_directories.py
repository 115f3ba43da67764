"""Test random changes to model directories. `make torture` tries 2,000 of them.

Each changed directory is refused in one line, gives what the unchanged one gives, or prints a line. Changes that
nobody could see, such as another activation, another order of the vocabulary or other numbers, are not tried.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers import inputs
from safetensors.numpy import load_file, save_file
from tiny_families import FAMILIES, NAMES, WORDS

import tfdistill
from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TRIED = int(os.environ.get("MODEL_MUTATIONS", "18"))
SECONDS, MEMORY = 10, 1e9
Random = np.random.Generator

TEXTS = ["The film was good!", "not very bad.", "Goodness? abc", "a b c d e f g"]


# --- the unchanged directories --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("whole")
    for name, config in FAMILIES.items():
        model = TextModel(config(), len(NAMES), label_names=NAMES)
        model.tokenizer = Tokenizer(WORDS)
        tfdistill.save(model, place / name)
    return {name: place / name for name in FAMILIES}


def answers(model: TextModel) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(model(inputs(4, pair=True))), model.tokenizer(TEXTS, length=16)["token_ids"]


# ruff: noqa: E501 (the lists of odd values)

# --- ways to change one ---------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, -1, 0, 0.5, 10**9, 10**18, 10**400, 1e300, "32", "", "x" * 2000, "\ud800", [], [1], ["a"], {}, {"0": 1}, True, False, float("nan"),
    float("inf"), -0.0, 2**31, [[[[]]]], 1e-300,
]  # fmt: skip
KEYS = [
    "is_decoder", "position_embedding_type", "add_cross_attention", "architectures", "tie_word_embeddings", "pruned_heads", "tokenizer_class",
    "model_type", "torch_dtype", "problem_type", "num_labels", "id2label", "label2id", "quantization_config",
]  # fmt: skip
SETTINGS = [
    "do_lower_case", "strip_accents", "tokenize_chinese_chars", "tokenizer_class", "never_split", "do_basic_tokenize", "unk_token", "pad_token",
    "cls_token", "sep_token", "mask_token", "additional_special_tokens", "added_tokens_decoder", "model_max_length", "padding_side",
    "truncation_side", "word_tokenizer_type", "subword_tokenizer_type", "auto_map", "bos_token", "extra_special_tokens",
]  # fmt: skip
# Fields that may have another of the values above, and then describe another model of the same shapes.
UNSEEN = {"layerdrop", "initializer_range", "layer_norm_eps", "problem_type", "attention_head_size"}


def one_of(random: Random, values: list) -> Any:
    return values[int(random.integers(len(values)))]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), "utf-8")


def change_a_field(directory: Path, random: Random) -> None:
    config = read(directory / "config.json")
    config[one_of(random, sorted(config.keys() - UNSEEN))] = one_of(random, ODD)
    write(directory / "config.json", config)


def add_a_field(directory: Path, random: Random) -> None:
    config = read(directory / "config.json")
    config[one_of(random, KEYS)] = one_of(random, [*ODD, "relative_key", "int8", "BertJapaneseTokenizer"])
    write(directory / "config.json", config)


def change_a_size(directory: Path, random: Random) -> None:
    config = read(directory / "config.json")
    sizes = [
        name
        for name, value in config.items()
        if type(value) is int and "attention_head" not in name and name != "pad_token_id"
    ]
    name = one_of(random, sizes)
    config[name] = max(0, config[name] + one_of(random, [-2, -1, 1, 2, 1000, 10**6, 10**9]))
    write(directory / "config.json", config)


def remove_a_field(directory: Path, random: Random) -> None:
    config = read(directory / "config.json")
    del config[one_of(random, sorted(config))]
    write(directory / "config.json", config)


def misspell_a_field(directory: Path, random: Random) -> None:
    config = read(directory / "config.json")
    name = one_of(random, sorted(config))
    config[name + one_of(random, ["s", "_", " "])] = config.pop(name)
    write(directory / "config.json", config)


def change_a_setting(directory: Path, random: Random) -> None:
    values = [
        *ODD,
        "left",
        "mecab",
        "BertTokenizerFast",
        "BertJapaneseTokenizer",
        {"90": {"content": "x"}},
        ["[X]"],
        "<s>",
        {"content": "[UNK]"},
    ]
    settings = read(directory / "tokenizer_config.json")
    settings[one_of(random, SETTINGS)] = one_of(random, values)
    write(directory / "tokenizer_config.json", settings)


def add_a_tokenizer_file(directory: Path, random: Random) -> None:
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    contents = {
        "added_tokens.json": [*ODD, {"[X]": 50}, {"x": 3}, {"[X]": "50"}],
        "special_tokens_map.json": [*ODD, {"unk_token": "<unk>"}, {"additional_special_tokens": ["[X]"]}],
        "tokenizer.json": [
            *ODD,
            {"model": {"type": "BPE", "vocab": vocabulary}},
            {"added_tokens": [{"id": 50, "content": "[X]"}]},
        ],
        "quantization.safetensors": ODD,
        "model.safetensors.index.json": ODD,
    }
    name = one_of(random, sorted(contents))
    write(directory / name, one_of(random, contents[name]))


def change_tensors(directory: Path, random: Random) -> None:
    """Rename, remove, add or reshape one tensor, or give it another type or numbers that are not finite."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    name = one_of(random, sorted(tensors))
    value = tensors.pop(name)
    changed: list[Callable[[], dict[str, np.ndarray]]] = [
        dict,
        lambda: {f"{name}s": value},
        lambda: {f"model.{name}": value},
        lambda: {name.upper(): value},
        lambda: {name: value, "bert.encoder.layer.7.output.dense.bias": np.zeros(3, "float32")},
        lambda: {name: value, "lora_A.weight": np.zeros((3, 2), "float32")},
        lambda: {name: value[..., None]},
        lambda: {name: value.reshape(-1)[:-1]},
        lambda: {name: np.zeros((0, *value.shape[1:]), "float32")},
        lambda: {name: np.concatenate([value, value])},
        lambda: {name: value.astype("float64")},
        lambda: {name: value.astype("int8")},
        lambda: {name: value.astype("int64")},
        lambda: {name: value > 0},
        lambda: {name: np.full_like(value, np.nan)},
        lambda: {name: np.where(np.arange(value.size).reshape(value.shape) == 0, np.inf, value)},
        lambda: {name: np.full(value.shape, 1e300)},
    ]
    tensors.update({each: np.ascontiguousarray(array) for each, array in one_of(random, changed)().items()})
    save_file(tensors, path, metadata={"format": "pt"})


def flip_a_bit_of_the_header(directory: Path, random: Random) -> None:
    path = directory / "model.safetensors"
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[:8], "little")
    content[int(random.integers(8 + size))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)


def change_a_type_in_the_header(directory: Path, random: Random) -> None:
    path = directory / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    entry = header[one_of(random, sorted(header.keys() - {"__metadata__"}))]
    entry[one_of(random, ["dtype", "shape", "data_offsets"])] = one_of(
        random, [*ODD, "F8_E4M3", "F8_E5M2", "I8", "F16", "BF16", "F64", [2**40, 2**40], [0], [-1, 4], [0, 4]]
    )
    header = json.dumps(header).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


def change_the_vocabulary(directory: Path, random: Random) -> None:
    number = int(random.integers(len(WORDS)))
    changed: list[Callable[[], list[str]]] = [
        lambda: WORDS[:number],
        lambda: [*WORDS, "more"],
        lambda: WORDS[:number] + WORDS[number + 1 :],
        lambda: [*WORDS[:-1], WORDS[number]] if number < len(WORDS) - 1 else [],
        lambda: WORDS[1:],
        lambda: [f"{word}\r" for word in WORDS],
        lambda: [word.upper() for word in WORDS],
        lambda: ["\ufeff[PAD]", *WORDS[1:]],
        lambda: [f" {word}" for word in WORDS],
        lambda: WORDS * 1000,
    ]
    lines = one_of(random, changed)()
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in lines), "utf-8", newline="")


def change_the_labels(directory: Path, random: Random) -> None:
    lines = one_of(random, [
        ["no", "yes"], ["no", "yes", "perhaps", "more"], ["no", "no", "yes"], [], ["no\r", "yes\r", "perhaps\r"], ["no", "", "yes", "perhaps"],
        ["no", "yes", "no"], ["no yes perhaps"], ["no\u2028", "yes\x85", "perhaps\x0b", ""], ["x" * 100_000] * 3,
    ])  # fmt: skip
    (directory / "labels.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8", newline="")


def change_the_names_in_the_config(directory: Path, random: Random) -> None:
    (directory / "labels.txt").unlink()
    config = read(directory / "config.json")
    config["id2label"] = one_of(random, [
        *ODD, {"0": "no", "1": "yes", "3": "perhaps"}, {"0": "no", "1": "no", "2": "perhaps"}, {"a": "no"}, ["no", "yes", "perhaps"], {"0": []},
        {"2": "perhaps", "0": "no", "1": "yes"}, {"0": "no", "00": "yes", "2": "perhaps"}, {"0": None, "1": "yes", "2": "b"}, {"0": "n\no", "1": "a", "2": "b"},
    ])  # fmt: skip
    write(directory / "config.json", config)


def some_file(directory: Path, random: Random) -> Path:
    return one_of(random, sorted(directory.iterdir()))


def cut(directory: Path, random: Random) -> None:
    path = one_of(
        random, [path for path in sorted(directory.iterdir()) if path.name not in ("vocab.txt", "labels.txt")]
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(random.integers(len(content)))])


def replace_a_file(directory: Path, random: Random) -> None:
    """Put something else at the place of a file: nothing, a pipe, a directory, a device, a socket, a loop, odd bytes."""
    path = some_file(directory, random)
    path.unlink()

    def listen() -> None:
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(path.parent)  # the name of a socket has to be short
            server.bind(path.name)
            os.chdir("/")

    one_of(random, [
        lambda: None,
        lambda: os.mkfifo(path),
        path.mkdir,
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to(path),
        listen,
        lambda: path.write_bytes(b""),
        lambda: path.write_bytes(bytes(random.integers(0, 256, 1000, "uint8"))),
        lambda: path.write_bytes(b"[" * 100_000),
        lambda: path.write_bytes(b'{"a":' * 5000 + b"1" + b"}" * 5000),
        lambda: path.write_bytes(b'{"hidden_size": 1, "hidden_size": 2}'),
        lambda: path.write_bytes("{}".encode("utf-16")),
        lambda: path.write_bytes((2**62).to_bytes(8, "little") + b"{}"),
    ])()  # fmt: skip


def give_one_the_content_of_another(directory: Path, random: Random) -> None:
    one, other = random.permutation(sorted(directory.iterdir()))[:2]
    one.write_bytes(other.read_bytes())


CHANGES = [
    change_a_field,
    change_a_field,
    change_a_size,
    add_a_field,
    remove_a_field,
    misspell_a_field,
    change_a_setting,
    add_a_tokenizer_file,
    change_tensors,
    change_tensors,
    flip_a_bit_of_the_header,
    change_a_type_in_the_header,
    change_the_vocabulary,
    change_the_labels,
    change_the_names_in_the_config,
    cut,
    replace_a_file,
    give_one_the_content_of_another,
]


# --- the rule -------------------------------------------------------------------------------------------------------


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail after `seconds` of processor time, or after six times as long: a machine may be busy with other things."""

    def stop(*_: object) -> None:
        pytest.fail(f"no answer after {6 * seconds} s")

    before, start = signal.signal(signal.SIGALRM, stop), time.process_time()
    signal.alarm(6 * seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.process_time() - start < seconds


@pytest.mark.parametrize("family", FAMILIES)
def test_a_changed_directory_is_refused_or_the_same_or_printed(whole, family, tmp_path, capsys):
    expected = answers(tfdistill.load(whole[family]))
    assert not capsys.readouterr().err, "the unchanged directory prints a line"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = list(FAMILIES).index(family)
    for number in range(start, TRIED, len(FAMILIES)):
        change = CHANGES[(number // len(FAMILIES) + 3 * start) % len(CHANGES)]
        directory = Path(shutil.copytree(whole[family], tmp_path / "changed"))
        change(directory, np.random.default_rng(number))
        what, refused = f"{change.__name__}, number {number}", None
        try:
            with at_most(SECONDS):
                model = tfdistill.load(directory)
        except UserError as error:
            refused = str(error)
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}"[:1000]) from error
        printed = capsys.readouterr().err
        if refused is not None:
            assert refused and "\n" not in refused and len(refused) < 1000, f"{what}: {refused}"
        elif not printed:
            found = answers(model)
            np.testing.assert_array_equal(found[1], expected[1], what)
            np.testing.assert_allclose(found[0], expected[0], atol=1e-5, err_msg=what)
        assert all(len(line) < 2000 for line in printed.split("\n")), what
        shutil.rmtree(directory)
        if number % 50 == 0:
            keras.backend.clear_session()
            gc.collect()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < MEMORY
