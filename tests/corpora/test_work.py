"""Plans: what a directory holds, what may resume there, and what a killed process leaves."""

from __future__ import annotations

import os

import pytest
from made_corpora import made, write_text

from tfdistill.corpora import build
from tfdistill.corpora import work as work_module
from tfdistill.corpora.manifest import check
from tfdistill.corpora.work import Work, begin, spans_of
from tfdistill.corpora.workers import make_corpus
from tfdistill.errors import UserError


def test_an_edited_text_of_the_same_size_is_another_one(tmp_path, vocabulary, monkeypatch):
    text = write_text(tmp_path / "a.txt", 9)

    def begun() -> bool:
        return begin(Work(str(tmp_path / "out"), vocabulary, spans_of(str(text), 1500)))

    assert not begun() and not begun()  # stopped, and taken up again
    content = text.read_bytes()
    text.write_bytes(content.replace(b"w", b"v", 1))
    with pytest.raises(UserError, match="files"):
        begun()
    text.write_bytes(content)
    assert not begun()

    def elsewhere() -> bool:
        return begin(Work(str(tmp_path / "there"), vocabulary, spans_of(f"file://{text}", 1500)))

    assert not elsewhere() and not elsewhere()
    os.utime(text, (1, 1))
    with pytest.raises(UserError, match="files"):
        elsewhere()
    broken = OSError(5, "Input/output error")
    monkeypatch.setattr(work_module, "sha256", lambda _: (_ for _ in ()).throw(broken))
    with pytest.raises(UserError, match=r"a\.txt: Input/output error"):
        begun()


def test_what_killed_processes_were_writing_goes(tmp_path, vocabulary):
    for name in ("work/plan.json.0011aabb.7.part", "corpus/work/plan.json.0011aabb.7.part"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{")
    with pytest.raises(UserError, match="not empty"):
        made(tmp_path, vocabulary, write_text(tmp_path / "a.txt", 9), out=".")
    assert (tmp_path / "work" / "plan.json.0011aabb.7.part").exists()
    text = write_text(tmp_path / "a.txt", 9)
    work = Work(str(tmp_path / "corpus"), vocabulary, spans_of(str(text), 1500))
    assert not begin(work)
    for name in ("shard-00000/train.ids.0011aabb.7.part", "manifest.json.0011aabb.7.part"):
        (tmp_path / "corpus" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "corpus" / name).write_text("")
    make_corpus(work, str(text))
    assert not list((tmp_path / "corpus").rglob("*.part"))
    check(tmp_path / "corpus")


def test_a_corpus_that_is_cut_elsewhere_is_another_one(tmp_path, vocabulary):
    """With as many shards: sentences are numbered by shard, so that what was done for other ones would drop the wrong ones."""
    text = write_text(tmp_path / "a.txt")
    cuts = {size: spans_of(str(text), size) for size in range(1500, 1700, 20)}
    sizes = [size for size, cut in cuts.items() if len(cut) == len(cuts[1500]) and cut != cuts[1500]]
    work = Work(str(tmp_path / "corpus"), vocabulary, cuts[1500], held_out=0.1)
    assert not begin(work)
    build.run_part(work.as_text(), "hashes", 0)
    with pytest.raises(UserError, match="shards"):
        made(tmp_path, vocabulary, text, sizes[0])
    check(made(tmp_path, vocabulary, text))


def test_what_a_process_left_that_was_killed_after_the_manifest_goes(tmp_path, vocabulary):
    text = write_text(tmp_path / "a.txt", 5)
    corpus = made(tmp_path, vocabulary, text)
    (corpus / "work").mkdir()
    (corpus / "work" / "hashes-00000.npy").write_bytes(b"")
    made(tmp_path, vocabulary, text)
    assert not (corpus / "work").exists()
