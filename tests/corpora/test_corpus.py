from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tfdistill.corpora import documents as documents_module
from tfdistill.corpora.corpus import Corpus
from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.masking import Masking
from tfdistill.corpora.plain_text import text_files
from tfdistill.corpora.writer import Seen
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

WORDS = [f"w{a}{b}" for a in "abcdefghij" for b in "abcdefghij"]
TOKENIZER = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS])
SEP = 3


def write_text(path: Path, count: int = 120, seed: int = 0) -> Path:
    """`count` documents of 1 to 6 sentences of 4 to 12 words."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        lines = []
        for _ in range(rng.integers(1, 7)):
            words = rng.choice(WORDS, rng.integers(4, 13))
            lines.append(" ".join(words).capitalize() + ".")
        made.append("\n".join(lines))
    path.write_text("\n\n".join(made) + "\n", encoding="utf-8")
    return path


def prepared(path: Path, **settings: object) -> Corpus:
    return PlainText(str(path), **settings).prepare(TOKENIZER)  # type: ignore[arg-type]


def test_the_set_of_hashes_is_exact_when_it_moves_to_its_array() -> None:
    numbers = np.random.default_rng(0).integers(0, 500, 3000).tolist()
    seen, plain = Seen(recent=7), set()
    for number in numbers:
        assert seen.add(number) == (number not in plain)
        plain.add(number)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "text.txt"),
        (lambda path: path.mkdir(), "text.txt"),
        (lambda path: path.write_bytes(b"good line\n\nbad \xff\n"), "line 3.* 0xff"),
        (lambda path: path.write_bytes(gzip.compress(b"long text " * 90)[:-9]), "text.txt"),
        (lambda path: path.write_text("\n\n  \n"), "text.txt"),
    ],
)
def test_bad_text_is_one_clear_line(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "text.txt"
    make(path)
    with pytest.raises(UserError, match=message):
        prepared(path)
    assert not list((tmp_path / "cache").glob("corpora/[0-9a-f]*"))


def test_settings_that_cannot_be() -> None:
    for settings in ({"held_out": 1.0}, {"megabytes": 0}):
        with pytest.raises(UserError):
            PlainText("x", **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"'plain_text'.*'plain-text'"):
        text_files("demo:plain_text")


def test_a_sentence_comes_once_and_the_stored_ids_are_the_tokenizer_s(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    long = "waa wab wac wad wae waf wag wah wai waj."
    path.write_text(f"{long} Wba.\n\nWbb wbc. {long.upper()}\n\nWba.\n", encoding="utf-8")
    stored = prepared(path, held_out=0.0)
    ids = {piece: n for n, piece in enumerate(TOKENIZER.vocabulary)}
    expected = [
        *(ids[w] for w in long[:-1].split()),
        5,
        ids["wba"],
        5,
        SEP,
        ids["wbb"],
        ids["wbc"],
        5,
        SEP,
        ids["wba"],
        5,
        SEP,
    ]
    assert stored.part("train").ids.tolist() == expected
    assert stored.about["repeated_sentences"] == 1 and stored.about["documents"] == 3
    assert stored.counts[5] == 4 and stored.counts[SEP] == 0
    assert stored.part("train").sentences.tolist() == [0, 11, 14, 18, 21]


def test_held_out_documents_stay_held_out_when_text_is_added(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", 300)

    def held_out(stored: Corpus) -> set[tuple[int, ...]]:
        part = stored.part("held_out")
        return {tuple(row) for row in np.split(part.ids, np.flatnonzero(part.ids == SEP) + 1)[:-1]}

    first = held_out(prepared(path, held_out=0.2))
    assert 40 < len(first) < 80
    text = path.read_text(encoding="utf-8")
    path.write_text("\n\n".join(reversed(text.strip().split("\n\n"))) + "\n\nNew text wab waa.\n", encoding="utf-8")
    again = held_out(prepared(path, held_out=0.2))
    assert first <= again and len(again) <= len(first) + 1
    assert held_out(prepared(path, held_out=0.2, seed=5)) != again


def test_the_cache_is_used_and_another_text_is_another_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "a.txt", 20)
    told: list[int] = []
    first = PlainText(str(path)).prepare(TOKENIZER, advance=told.append)
    assert sum(told) == pytest.approx(path.stat().st_size, rel=0.05)
    monkeypatch.setattr(documents_module, "store", None)
    assert prepared(path).directory == first.directory
    with pytest.raises(TypeError):
        prepared(path, seed=1)


@pytest.mark.parametrize("harm", ["bit", "missing", "sums", "no sums"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: str) -> None:
    path = write_text(tmp_path / "a.txt")
    directory = prepared(path).directory
    then = {file.name: file.read_bytes() for file in directory.iterdir()}
    prepared(path)
    assert not capsys.readouterr().err
    ids = directory / "train.ids"
    if harm == "bit":
        ids.write_bytes(bytes([then["train.ids"][0] ^ 4]) + then["train.ids"][1:])
    elif harm == "missing":
        ids.unlink()
    elif harm == "sums":
        (directory / "sums.json").write_text("[]")
    else:
        (directory / "sums.json").unlink()
    prepared(path)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the text is tokenized again" in line and ("train.ids is" in line) == (harm in ("bit", "missing"))
    assert {file.name: file.read_bytes() for file in directory.iterdir()} == then


def test_a_part_of_the_text(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", 500)
    part = prepared(path, megabytes=0.02)
    assert 20_000 <= part.about["bytes"] < 20_400 < path.stat().st_size


def test_packed_sequences_hold_all_text_once(tmp_path: Path) -> None:
    stored = prepared(write_text(tmp_path / "a.txt"), held_out=0.0)
    examples = stored.examples(length=32)
    batch = examples.batch(np.arange(len(examples)))["student"]
    ids, mask = batch["token_ids"], batch["padding_mask"]
    assert ids.shape == (len(examples), 32) and (ids[:, 0] == 2).all()
    assert (ids[np.arange(len(ids)), mask.sum(1) - 1] == SEP).all()
    assert not batch["segment_ids"].any() and (ids * (1 - mask)).sum() == 0
    words = np.concatenate([row[real > 0] for row, real in zip(ids, mask, strict=True)])
    original = stored.part("train").ids
    np.testing.assert_array_equal(words[words > 4], original[original > 4])
    assert mask.mean() > 0.8
    # A sentence goes on in the next sequence only if it is longer than a sequence.
    assert all(row[real.sum() - 2] == 5 for row, real in zip(ids, mask, strict=True))


def test_a_sentence_longer_than_a_sequence_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(" ".join(WORDS) + "\n", encoding="utf-8")
    examples = prepared(path, held_out=0.0).examples(length=12)
    ids = examples.batch(np.arange(len(examples)))["student"]["token_ids"]
    assert ids.shape == (10, 12)
    np.testing.assert_array_equal(ids[:, 1:11].ravel(), np.arange(6, 106))


def test_pairs_follow_each_other_or_come_from_elsewhere(tmp_path: Path) -> None:
    stored = prepared(write_text(tmp_path / "a.txt", 400), held_out=0.0)
    part = stored.part("train")
    examples = stored.examples(length=48, next_sentence=True)
    made = examples.batch(np.arange(len(examples)), seed=1)
    ids, segments = made["student"]["token_ids"], made["student"]["segment_ids"]
    label = made["labels"]["next_sentence"]
    assert 0.42 < label.mean() < 0.58
    text = " ".join(map(str, part.ids)) + " "
    document = np.cumsum(part.ids == SEP)
    for row, segment, is_random in zip(ids, segments, label, strict=True):
        size = int((row > 0).sum())
        middle = int(segment.argmax())
        assert row[0] == 2 and row[middle - 1] == SEP and row[size - 1] == SEP
        assert segment.tolist() == [0] * middle + [1] * (size - middle) + [0] * (48 - size)
        a, b = row[1 : middle - 1], row[middle : size - 1]
        assert len(a) and len(b) and SEP not in a and SEP not in b
        joined = " ".join(map(str, [*a, *b])) + " "
        if is_random:
            where = [document[text[: text.index(" ".join(map(str, x)) + " ")].count(" ")] for x in (a, b)]
            assert where[0] != where[1]
        else:
            assert joined in text


def test_pairs_need_two_documents_of_two_sentences(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Waa wab. Wac wad.\n", encoding="utf-8")
    with pytest.raises(UserError, match="two documents"):
        prepared(path, held_out=0.0).examples(next_sentence=True)
    with pytest.raises(UserError, match="held_out"):
        prepared(path, held_out=0.0).examples("held_out")


def test_batches_depend_on_seed_epoch_and_row_alone(tmp_path: Path) -> None:
    stored = prepared(write_text(tmp_path / "a.txt"), held_out=0.0)
    examples = stored.examples(length=32, masking=Masking(), next_sentence=True)
    rows = np.arange(6)
    first = examples.batch(rows, seed=3, epoch=1)
    part = examples.batch(rows[[4, 1]], seed=3, epoch=1)
    for group in first:
        for name, value in first[group].items():
            np.testing.assert_array_equal(part[group][name], value[[4, 1]])
    other = examples.batch(rows, seed=3, epoch=2)
    assert (other["student"]["token_ids"] != first["student"]["token_ids"]).any(axis=1).all()
    assert set(first["student"]) == {"token_ids", "padding_mask", "segment_ids", "masked_positions"}
    assert set(first["labels"]) == {"masked_labels", "masked_weights", "next_sentence"}
    everywhere = stored.examples(length=32, masking=Masking(), every_position=True).batch(rows)
    assert "masked_positions" in everywhere["labels"] and "masked_positions" not in everywhere["student"]


def test_the_stream_of_batches_can_be_taken_up_anywhere(tmp_path: Path) -> None:
    stored = prepared(write_text(tmp_path / "a.txt", 60), held_out=0.0)
    examples = stored.examples(length=32, masking=Masking())
    whole = list(examples.dataset(7, seed=2, epochs=3).as_numpy_iterator())
    later = list(examples.dataset(7, seed=2, epochs=3, first_step=5).as_numpy_iterator())
    assert len(whole) == -(-len(examples) * 3 // 7) and len(later) == len(whole) - 5
    for one, other in zip(whole[5:], later, strict=True):
        np.testing.assert_array_equal(one["student"]["token_ids"], other["student"]["token_ids"])
        np.testing.assert_array_equal(one["labels"]["masked_labels"], other["labels"]["masked_labels"])
    assert whole[0]["student"]["token_ids"].shape == (7, 32)
    assert whole[0]["student"]["masked_positions"].shape == (7, 5)
    # Unmasked again, each epoch has every row once.
    count = len(examples)
    restored = [
        tuple(np.put_along_axis(row := ids.copy(), where[weight > 0], label[weight > 0], 0) or row)  # type: ignore[func-returns-value]
        for batch in whole
        for ids, where, label, weight in zip(
            batch["student"]["token_ids"],
            batch["student"]["masked_positions"],
            batch["labels"]["masked_labels"],
            batch["labels"]["masked_weights"],
            strict=True,
        )
    ]
    plain = {tuple(row) for row in stored.examples(length=32).batch(np.arange(count))["student"]["token_ids"]}
    assert set(restored[:count]) == plain == set(restored[count : 2 * count])
    assert restored[:count] != restored[count : 2 * count]
    in_order = list(examples.dataset(7, shuffle=False).as_numpy_iterator())
    assert sum(len(batch["student"]["token_ids"]) for batch in in_order) == count


def test_a_limit_takes_sequences_from_everywhere(tmp_path: Path) -> None:
    stored = prepared(write_text(tmp_path / "a.txt"), held_out=0.0)
    for pairs in (False, True):
        whole, some = (
            stored.examples(length=32, next_sentence=pairs),
            stored.examples(length=32, next_sentence=pairs, limit=5),
        )
        assert len(some) == 5 < len(whole)
        assert some._first[-1] == whole._first[-1]


CHINESE = [
    "我们喜欢电影。",
    "电影很好看。",
    "他们不喜欢音乐。",
    "音乐很好听。",
]  # the last two words of each: a word of two characters
SEGMENTED = ["我们 喜欢 电影 。", "电影 很 好看 。", "他们 不 喜欢 音乐 。", "音乐 很 好听 。"]


@pytest.mark.parametrize("pairs", [False, True])
def test_segmented_text_has_the_same_pieces_and_masks_its_words_whole(tmp_path: Path, pairs: bool) -> None:
    characters = sorted(set("".join(CHINESE)) - {"。"})
    tokenizer = Tokenizer([*TOKENIZER.vocabulary[:5], "。", *characters])
    for name, lines in (("plain", CHINESE), ("segmented", SEGMENTED)):
        (tmp_path / f"{name}.txt").write_text("\n".join([*lines[:2], "", *lines[2:], ""]) * 30, encoding="utf-8")
    plain = PlainText(str(tmp_path / "plain.txt"), held_out=0).prepare(tokenizer)
    corpus = PlainText(str(tmp_path / "segmented.txt"), held_out=0, segmented=True).prepare(tokenizer)
    np.testing.assert_array_equal(plain.part("train").ids, corpus.part("train").ids)
    with pytest.raises(UserError, match=r"whole_words.*segmented=true"):
        plain.examples(length=24, masking=Masking(whole_words=True), next_sentence=pairs)
    masking = Masking(share=0.3, mask=1.0, random=0.0, whole_words=True)
    examples = corpus.examples(length=24, masking=masking, next_sentence=pairs)
    assert len(examples) > 5
    vocabulary, together = np.array(tokenizer.vocabulary), {"我们", "喜欢", "电影", "好看", "他们", "音乐", "好听"}
    masked = 0
    for epoch in range(3):
        batch = examples.batch(np.arange(len(examples)), epoch=epoch)
        hidden = batch["student"]["token_ids"] == tokenizer.mask_id
        whole = batch["student"]["token_ids"].copy()
        places, labels, weights = (
            {**batch["student"], **batch["labels"]}[key]
            for key in ("masked_positions", "masked_labels", "masked_weights")
        )
        rows, columns = np.nonzero(weights)
        whole[rows, places[rows, columns]] = labels[rows, columns]
        for row, covered in zip(whole, hidden, strict=True):
            text = "".join(each if len(each) == 1 else " " for each in vocabulary[row])
            for start in range(1, 22):  # a pair's first text may begin within a word
                if text[start : start + 2] in together:
                    assert covered[start] == covered[start + 1], (text, start)
                    masked += covered[start]
    assert masked > 20
