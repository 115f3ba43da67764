"""A TinyBERT run of several stages, killed at random moments and gone on with until it is done; run by test_checkpoint.py.

Usage: killed.py DIRECTORY KILLS SEED STAGES; with 0 stages the run is a pre-training.

The library is imported once and each run is a fork of that, since importing TensorFlow takes longer than the run. A child is killed by
SIGKILL either after a random time or at a random call of `os.replace`, with which everything is written: checkpoints, log, run.json,
caches; and, before these, at the first checkpoint of each stage but the first. Now and then the newest checkpoint is damaged besides,
or a shard of the teacher cache. One more child gets SIGTERM. Prints one line for each, the last one "N kills, M runs, all alike".
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

TINY = Path(__file__).parent / "models" / "tiny_bert"
LIMIT = 300.0  # seconds for one child


def texts(random_: random.Random, rows: int) -> str:
    lines = ["text\tlabel"]
    for _ in range(rows):
        words = [random_.choice("bcdefg") for _ in range(random_.randint(2, 6))]
        lines.append(" ".join([*words, "a"]) + "\tyes" if random_.random() < 0.5 else " ".join(words) + "\tno")
    return "\n".join(lines) + "\n"


def prepare(root: Path) -> None:
    """Data, plain text, and a teacher of one layer with dropout."""
    root.mkdir(parents=True, exist_ok=True)
    make_teacher(root / "teacher")
    random_ = random.Random(0)
    (root / "data").mkdir(parents=True)
    for name, rows in (("train", 40), ("dev", 16), ("test", 8)):
        (root / "data" / f"{name}.tsv").write_text(texts(random_, rows), "utf-8")
    sentences = [" ".join(random_.choice("abcdefgh") for _ in range(8)).capitalize() + "." for _ in range(120)]
    (root / "text.txt").write_text("\n".join("\n".join(sentences[n : n + 4]) + "\n" for n in range(0, 120, 4)), "utf-8")


def make_teacher(directory: Path) -> None:
    """The first layer of the tiny BERT, with two classes."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    directory.mkdir()
    tensors = {name: value for name, value in load_file(TINY / "model.safetensors").items() if "layer." not in name}
    tensors |= {n: v for n, v in load_file(TINY / "model.safetensors").items() if "layer.0." in n}
    tensors |= {n: np.ascontiguousarray(tensors[n][:2]) for n in ("classifier.weight", "classifier.bias")}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((TINY / "config.json").read_text("utf-8"))
    config |= {"num_hidden_layers": 1, "id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    (directory / "config.json").write_text(json.dumps(config), "utf-8")
    shutil.copy(TINY / "vocab.txt", directory)


def words(root: Path, out: Path, stages: int) -> list[str]:
    if not stages:
        return pretraining(root, out)
    settings = ["student=layers", "num_layers=1", "transformer.projection=per_layer", "copies=1", "max_length=12", "batch_size=8",
                "transformer.epochs=2", "epochs=2", "evaluations=3", "transformer.learning_rate=1e-3"]  # fmt: skip
    if stages > 2:
        settings += [f"general.text={root / 'text.txt'}", f"general.teacher=hf:{root / 'teacher'}", "general.length=16"]
        settings += ["general.batch_size=8", "general.epochs=2"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    given = ["--teacher", str(root / "teacher"), "--data", str(root / "data"), "--out", str(out)]
    return ["train", "tinybert", *given, "--checkpoint-seconds", "0", "--teacher-cache", "all", *chosen]


def pretraining(root: Path, out: Path) -> list[str]:
    sizes = ["hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=16"]
    settings = ["length=16", "batch_size=4", "evaluations=4", "held_out=0.2", "learning_rate=1e-2"]
    chosen = [word for size in sizes for word in ("--config", size)]
    chosen += [word for setting in settings for word in ("--set", setting)]
    given = ["--text", str(root / "text.txt"), "--tokenizer", str(TINY), "--out", str(out), "--objective", "mlm+nsp"]
    return ["pretrain", "bert_base", *given, "--checkpoint-seconds", "0", "--epochs", "2", *chosen]


def child(log: Path, argv: list[str], cache: Path, at_call: int = 0, where: str = "", at_stage: int = 0) -> int:
    """Start the command in a fork; returns its number. With `at_call` it kills itself before so many calls of os.replace, of those to
    a path with `where` in it; with `at_stage` before the first checkpoint of that stage."""
    number = os.fork()
    if not number:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.environ["TFDISTILL_CACHE"] = str(cache)
        command(argv, at_call, where, at_stage)
    return number


def stage_of(checkpoint: Path) -> int:
    """The stage, from 0, that a checkpoint is of."""
    return int(json.loads((checkpoint / "state.json").read_text("utf-8").partition("\n")[2])["stage"])


def command(argv: list[str], at_call: int = 0, where: str = "", at_stage: int = 0) -> None:
    left, replace = at_call, os.replace

    def counted(source, target, **kwargs):
        nonlocal left
        left -= where in str(target)
        changes = at_stage and Path(target).parent.name == "resume" and (Path(source) / "state.json").is_file()
        if (left == 0 and at_call) or (changes and stage_of(Path(source)) == at_stage):
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(source, target, **kwargs)

    os.replace = counted
    import tensorflow as tf

    from tfdistill.commands import app as cli

    # Tiny graphs run for milliseconds, and Grappler works on each for a second.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    sys.argv = ["tfdistill", *argv]
    code = 1
    try:
        cli.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fresh(root: Path, argv: list[str]) -> str:
    """The outcome of the same command in a new interpreter, where sets of texts have another order."""
    environment = {**os.environ, "TFDISTILL_CACHE": str(root / "cache-fresh")}
    words = [sys.executable, __file__, "command", *argv]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-3000:]
    return outcome(Path(argv[argv.index("--out") + 1]))


def wait(number: int, seconds: float = LIMIT) -> int | None:
    """Exit status as the shell has it; None if it is still running after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


def damage(file: Path, chance: random.Random) -> None:
    """Flip a bit, so that the checkpoint before has to do, or the teacher be asked again."""
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    print(f"  and damaged {file.name}", flush=True)


def outcome(out: Path) -> str:
    """What has to be the same, bit for bit: the student, the scores, and the curve."""
    done = json.loads((out / "run.json").read_text("utf-8"))
    assert done["state"] == "done", done["state"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text("utf-8").splitlines()]
    curve = [{key: value for key, value in line.items() if key != "time"} for line in lines]
    digest = hashlib.sha256((out / "student" / "model.safetensors").read_bytes())
    digest.update(json.dumps([done["scores"], curve]).encode())
    left = sorted(path.name for path in out.iterdir())
    assert left == ["log.jsonl", "run.json", "student"], left
    return digest.hexdigest()


def main(root: Path, kills: int, seed: int, stages: int) -> None:
    import tensorflow  # noqa: F401  # no operation yet: a fork would inherit its threads' locks, not the threads

    import tfdistill.commands.app
    import tfdistill.commands.augment
    import tfdistill.data.text_sources
    import tfdistill.recipes.pretrain
    import tfdistill.recipes.tinybert
    import tfdistill.training.run_directory  # noqa: F401

    prepare(root)
    out, log, caches = root / "run", root / "log.txt", 0
    started = time.monotonic()
    assert wait(child(log, words(root, root / "whole", stages), root / "cache")) == 0, log.read_text("utf-8")
    takes, whole = time.monotonic() - started, outcome(root / "whole")
    print(f"undisturbed: {takes:.1f} s", flush=True)
    if stages != 2:
        assert fresh(root, words(root, root / "fresh", stages)) == whole, "another process gives another student"
        print("a new interpreter: alike", flush=True)
    argv, cache = words(root, out, stages), root / "cache-changes"
    assert wait(child(log, argv, cache, 1, f"{out.name}/run.json")) == -signal.SIGKILL
    assert not (out / "run.json").exists() and any(path.name.startswith(".run.json") for path in out.iterdir())
    print("killed at the very first write", flush=True)
    for stage in range(1, stages):
        assert wait(child(log, argv, cache, at_stage=stage)) == -signal.SIGKILL, stage
        newest = max((out / "resume").glob("[0-9]*"))
        assert stage_of(newest) == stage - 1, (stage, newest)
        print(
            f"killed at the first checkpoint of stage {stage + 1}; newest: {newest.name}, of stage {stage}", flush=True
        )
    if stages > 1:
        assert wait(child(log, argv, cache)) == 0 and outcome(out) == whole, f"killed at stages' changes; see {log}"
        shutil.rmtree(out)
    chance, done, runs, terms = random.Random(seed), 0, 0, 1
    while True:
        cache = root / f"cache-{caches}"
        by_time = done % 2 == 1
        # Every other time in the middle of writing the teacher cache, which is two files for each of two features.
        where = f"{cache.name}/teacher/" if stages and done % 4 == 2 else ""
        at_call = 0 if done >= kills or by_time else chance.randint(1, 4 if where else 60)
        number = child(log, argv, cache, at_call, where)
        started = time.monotonic()
        if done >= kills and terms:
            code = wait(number, chance.uniform(0.2, 0.6) * takes)
            if code is not None:  # what was left of the run took less than that: once more from the start, and sooner
                assert code == 0 and outcome(out) == whole, log.read_text("utf-8")[-3000:]
                shutil.rmtree(out)
                caches, takes = caches + 1, takes / 2
                continue
            terms, asked = 0, time.monotonic()
            os.kill(number, signal.SIGTERM)
            code = wait(number)
            print(f"SIGTERM: exit code {code} after {time.monotonic() - asked:.1f} s", flush=True)
            assert code == 143 and time.monotonic() - asked < 10, log.read_text("utf-8")[-3000:]
            continue
        code = wait(number, chance.uniform(0, 1.1 * takes) if by_time and done < kills else LIMIT)
        if code is None:
            os.kill(number, signal.SIGKILL)
            code = wait(number)
        if code == -signal.SIGKILL:
            done += 1
            of = " of the teacher cache" if where else ""
            how = f"after {time.monotonic() - started:.1f} s" if by_time else f"at write {at_call}{of}"
            steps = sorted(path.name for path in (out / "resume").glob("[0-9]*")) if out.is_dir() else []
            print(f"kill {done}: {how}; newest checkpoint {steps[-1:] or 'none'}", flush=True)
            if len(steps) > 1 and done % 4 == 1:
                damage(out / "resume" / steps[-1] / "arrays.safetensors", chance)
            shards = sorted((cache / "teacher").glob("*/*.rows"))
            if shards and done % 4 == 3:
                damage(chance.choice(shards), chance)
            continue
        assert code == 0, log.read_text("utf-8")[-3000:]
        assert outcome(out) == whole, f"another student than the undisturbed run's; see {log}"
        runs += 1
        if done >= kills:
            break
        shutil.rmtree(out)
        caches += 1
    print(f"{done} kills, {runs} runs, all alike", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "command":
        command(sys.argv[2:])
    main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:5]))
