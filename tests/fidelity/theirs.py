"""transformers' side of `make fidelity`, run in its own environment (PyTorch and TensorFlow do not live in one process).

python theirs.py write DIR     random checkpoints of odd sizes, what transformers answers, the presets' parameters
python theirs.py check DIR     opens what tfdistill saved there and compares the answers
python theirs.py vectors       renews the small vectors that the ordinary tests use
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from compare import assert_close, flat
from published import COUNTS, SIZES
from safetensors.numpy import load_file, save_file
from torch import nn
from weights import batch, tensors, vocabulary

CLASSES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "mobilebert": "MobileBert",
    "ib_bert": "MobileBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "electra": "Electra",
    "albert": "Albert",
}
ROBERTAS = ("roberta", "xlm-roberta", "camembert")
WITHOUT_NEXT_SENTENCE = ("distilbert", *ROBERTAS, "electra", "albert")
SUFFIXES = {
    "classification": "ForSequenceClassification",
    "multilabel": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
    "masked_lm": "ForMaskedLM",
    "pretraining": "ForPreTraining",
    "next_sentence": "ForNextSentencePrediction",
}
ROUNDS = 3
VECTOR_SEED = 2912  # gives three heads, two layers and few pieces
transformers.logging.disable_progress_bar()
VECTORS = Path(__file__).parent / "vectors"
PROBLEMS = {"multilabel": "multi_label_classification", "regression": "regression"}
CASES = [
    (family, task)
    for family in CLASSES
    for task in SUFFIXES
    if family not in WITHOUT_NEXT_SENTENCE or task not in ("pretraining", "next_sentence")
]


def random_config(family: str, task: str, rng: np.random.RandomState) -> Any:
    """A transformers config of small, odd sizes."""
    heads, labels = int(rng.choice([1, 2, 3, 5])), int(rng.randint(2, 6))
    width = heads * int(rng.choice([3, 5, 7]))
    layers, act = int(rng.randint(1, 4)), str(rng.choice(["gelu", "relu", "gelu_new"]))
    common: dict[str, Any] = {
        "vocab_size": int(rng.randint(23, 48)),
        "max_position_embeddings": int(rng.randint(11, 20)),
    }
    common["num_labels"] = {"regression": 1, "question_answering": 2}.get(task, labels)
    if task in PROBLEMS:
        common["problem_type"] = PROBLEMS[task]
    inner = int(rng.randint(7, 41))
    if family == "distilbert":
        return transformers.DistilBertConfig(
            dim=width, n_heads=heads, n_layers=layers, hidden_dim=inner, activation=act, **common
        )
    common |= {
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "hidden_act": act,
        "type_vocab_size": int(rng.randint(2, 4)),
    }
    if family == "bert":
        return transformers.BertConfig(hidden_size=width, layer_norm_eps=float(rng.choice([1e-12, 1e-5])), **common)
    if family in ROBERTAS:
        common |= {
            "hidden_size": width,
            "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
            "pad_token_id": int(rng.choice([0, 1, 1, 2])),
            "max_position_embeddings": int(rng.randint(12, 20)),
            "type_vocab_size": int(rng.choice([1, 1, 2])),
        }
        return getattr(transformers, f"{CLASSES[family]}Config")(**common)
    if family == "electra":
        size = width if rng.randint(2) else int(rng.randint(3, 12))
        return transformers.ElectraConfig(hidden_size=width, embedding_size=size, **common)
    if family == "albert":
        common |= {
            "hidden_size": width,
            "embedding_size": int(rng.choice([4, 7, width])),
            "num_hidden_layers": layers + 1,
            "num_hidden_groups": int(rng.randint(1, layers + 2)),
            "inner_group_num": int(rng.choice([1, 1, 2])),
            "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
        }
        return transformers.AlbertConfig(**common)
    # transformers wants the body to be a multiple of the heads too when there is no bottleneck.
    body = heads * int(rng.randint(4, 9))
    if body == width:  # then it would be no IB-BERT
        body += heads
    common |= {
        "hidden_size": body,
        "intra_bottleneck_size": width,
        "embedding_size": int(rng.randint(3, body)),  # equal widths would give an output table without rows
        "trigram_input": bool(rng.randint(2)),
        "normalization_type": str(rng.choice(["no_norm", "layer_norm"])),
        "num_feedforward_networks": int(rng.randint(1, 4)),
        "classifier_activation": bool(rng.randint(2)),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
    }
    if family == "ib_bert":
        common |= {"use_bottleneck_attention": False, "key_query_shared_bottleneck": False}
    else:
        everything = bool(rng.randint(2))
        common |= {
            "use_bottleneck": bool(rng.randint(4)),
            "use_bottleneck_attention": everything,
            "key_query_shared_bottleneck": not everything,
        }
    return transformers.MobileBertConfig(**common)


def model_class(family: str, task: str) -> Any:
    return getattr(transformers, CLASSES[family] + SUFFIXES[task])


def build(family: str, task: str, config: Any) -> Any:
    """The transformers model of a config. IB-BERT's queries and keys are mended to read the body."""
    config._attn_implementation = "eager"
    model = model_class(family, task)(config).eval()
    if family == "ib_bert":
        for layer in model.mobilebert.encoder.layer:
            attention = layer.attention.self
            attention.query, attention.key = (
                nn.Linear(config.hidden_size, config.intra_bottleneck_size) for _ in range(2)
            )
    return model


def write_checkpoint(family: str, task: str, config: Any, directory: Path) -> dict[str, list[int]]:
    """A directory as transformers writes it, with weights from `weights`. Returns the tensors' shapes."""
    build(family, task, config).save_pretrained(directory)
    shapes = {name: list(value.shape) for name, value in load_file(directory / "model.safetensors").items()}
    save_file(tensors(shapes), directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "vocab.txt").write_text(vocabulary(config.vocab_size), "utf-8")
    if family == "ib_bert":
        raw = json.loads((directory / "config.json").read_text("utf-8"))
        raw["model_type"] = "tfdistill_ib_bert"
        (directory / "config.json").write_text(json.dumps(raw, indent=2), "utf-8")
    return shapes


def open_checkpoint(family: str, task: str, directory: Path, config: Any) -> Any:
    """The transformers model of a directory; every tensor of the file must find its place and none may be missing."""
    if family != "ib_bert":
        model, said = model_class(family, task).from_pretrained(
            directory, attn_implementation="eager", output_loading_info=True
        )
        wrong = {name: value for name, value in said.items() if value}
        assert not wrong, f"{directory}: {wrong}"
        return model.eval()
    model = build(family, task, config)
    said = model.load_state_dict(
        {k: torch.from_numpy(v) for k, v in load_file(directory / "model.safetensors").items()}, strict=False
    )
    # The output table and its bias are tied: PyTorch knows them by two names.
    assert not said.unexpected_keys and all(".decoder." in name for name in said.missing_keys), said
    model.tie_weights()
    return model


def answers(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model says about each row alone, without padding: our models must say so in a padded batch too.

    Returns vectors that run over rows, then over layers: "logits", perhaps "nsp_logits", "hidden_states" (embeddings
    first), "attentions" and "attention_scores".
    """
    # In the order of the calls: ALBERT calls a module for several layers.
    caught: list[tuple[str, torch.Tensor]] = []
    hooks = []
    for name, module in model.named_modules():
        if name.endswith((".query", ".key", ".q_lin", ".k_lin")):
            hooks.append(module.register_forward_hook(lambda m, args, out, name=name: caught.append((name, out))))
    said: dict[str, Any] = {
        "logits": [],
        "nsp_logits": [],
        "hidden_states": [],
        "attentions": [],
        "attention_scores": [],
    }
    for row, length in enumerate(batch["padding_mask"].sum(axis=1)):
        ids, segments = (
            torch.tensor(batch[name][row : row + 1, :length]).long() for name in ("token_ids", "segment_ids")
        )
        types = {} if model.config.model_type == "distilbert" else {"token_type_ids": segments}
        caught.clear()
        with torch.no_grad():
            out = model(ids, **types, output_hidden_states=True, output_attentions=True)
        if "start_logits" in out:
            logits = torch.stack([out.start_logits, out.end_logits], dim=-1)
        else:
            logits = out.prediction_logits if "prediction_logits" in out else out.logits
        said["logits"].append(logits[0].numpy())
        if "seq_relationship_logits" in out:
            said["nsp_logits"].append(out.seq_relationship_logits[0].numpy())
        said["hidden_states"].append([state[0].numpy() for state in out.hidden_states])
        said["attentions"].append([weights[0].numpy() for weights in out.attentions])
        queries = [value for name, value in caught if name.endswith((".query", ".q_lin"))]
        keys = [value for name, value in caught if name.endswith((".key", ".k_lin"))]
        heads = model.config.num_attention_heads
        split = [[x.reshape(length, heads, -1).transpose(0, 1) for x in each] for each in (queries, keys)]
        said["attention_scores"].append(
            [(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).numpy() for q, k in zip(*split, strict=True)]
        )
    for hook in hooks:
        hook.remove()
    return flat(said)


def parameters(family: str, task: str, **sizes: Any) -> int:
    """How many parameters transformers counts, without making them. `sizes` are fields of its config."""
    config = {"bert": transformers.BertConfig, "distilbert": transformers.DistilBertConfig}.get(
        family, transformers.MobileBertConfig
    )(**sizes)
    with torch.device("meta"):
        return build(family, task, config).num_parameters()


# --- commands -------------------------------------------------------------------------------------------------------


def cases() -> list[tuple[str, str, int]]:
    return [(family, task, seed) for family, task in CASES for seed in range(ROUNDS)]


def config_of(family: str, task: str, seed: int) -> Any:
    return random_config(family, task, np.random.RandomState(1000 * seed + CASES.index((family, task))))


def segments(config: Any) -> int:
    return getattr(config, "type_vocab_size", 2)


def write_forms(model: Any, place: Path) -> None:
    """The same model in the other forms that PyTorch writes: DIR/…/form-NAME."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    names = list(state)

    def directory(name: str) -> Path:
        made = place / f"form-{name}"
        made.mkdir()
        for file in ("config.json", "vocab.txt"):
            shutil.copy(place / "theirs" / file, made / file)
        return made

    torch.save(state, directory("bin") / "pytorch_model.bin")
    torch.save(state, directory("legacy") / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    model.save_pretrained(directory("shards"), max_shard_size="5KB")
    shards, halves = directory("bin-shards"), (names[::2], names[1::2])
    index: dict[str, Any] = {"metadata": {"total_size": 0}, "weight_map": {}}
    for number, half in enumerate(halves, 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: state[name] for name in half}, shards / file)
        index["weight_map"] |= dict.fromkeys(half, file)
    (shards / "pytorch_model.bin.index.json").write_text(json.dumps(index), "utf-8")


def write(directory: Path) -> None:
    """DIR/FAMILY-TASK-SEED/: `theirs` (a checkpoint), answers.npz, facts.json."""
    for family, task, seed in cases():
        place = directory / f"{family}-{task}-{seed}"
        place.mkdir(parents=True)
        config = config_of(family, task, seed)
        write_checkpoint(family, task, config, place / "theirs")
        model = open_checkpoint(family, task, place / "theirs", config)
        if task == "classification" and not seed and family != "ib_bert":
            write_forms(model, place)
        np.savez(place / "answers.npz", **answers(model, batch(config.vocab_size, seed, segments(config))))
        facts = {"task": task, "seed": seed, "vocab_size": config.vocab_size, "parameters": model.num_parameters()}
        facts["segments"] = segments(config)
        (place / "facts.json").write_text(json.dumps(facts), "utf-8")
    for (name, task), expected in COUNTS.items():
        found = parameters(SIZES[name][0], task, **SIZES[name][1], num_labels=2)
        assert found == expected, f"{name}, {task}: transformers counts {found}, published.py says {expected}"
    print(
        f"transformers {transformers.__version__}: {len(cases())} checkpoints and answers, {len(COUNTS)} counts agree"
    )


def check(directory: Path) -> None:
    """DIR/…/ours, written by tfdistill from the same weights, gives the same answers; nothing missing, nothing left over."""
    for family, task, seed in cases():
        place = directory / f"{family}-{task}-{seed}"
        config = config_of(family, task, seed)
        model = open_checkpoint(family, task, place / "ours", config)
        with np.load(place / "answers.npz") as expected:
            assert_close(answers(model, batch(config.vocab_size, seed, segments(config))), dict(expected))
        if task not in ("masked_lm", "pretraining", "next_sentence"):  # these have no labels of their own
            assert model.config.num_labels == config.num_labels, place
        assert model.config.problem_type == config.problem_type or task == "classification", place
    print(f"transformers {transformers.__version__}: {len(cases())} directories of tfdistill open and answer the same")


def vectors() -> None:
    """Of one config for each family: config and tensor shapes, what other tasks change in them, and answers of every task.

    The weights follow from `weights`.
    """
    VECTORS.mkdir(exist_ok=True)
    facts: dict[str, Any] = {}
    found: dict[str, np.ndarray] = {}
    for family, task in CASES:
        if family in ("xlm-roberta", "camembert"):  # the same as RoBERTa
            continue
        config = random_config(family, task, np.random.RandomState(VECTOR_SEED))
        if family != "mobilebert":
            setattr(config, "activation" if family == "distilbert" else "hidden_act", "gelu")
        if family == "ib_bert":
            config.normalization_type = "layer_norm"
        if family == "roberta":
            config.pad_token_id = 1
        if family == "albert":
            config.embedding_size, config.num_hidden_groups, config.hidden_act = 7, 2, "gelu_new"
        place = VECTORS / "temporary"
        shapes = write_checkpoint(family, task, config, place)
        outputs = answers(open_checkpoint(family, task, place, config), batch(config.vocab_size, 0, segments(config)))
        raw = json.loads((place / "config.json").read_text("utf-8"))
        if task == "classification":
            facts[family] = {"config": raw, "shapes": shapes, "tasks": {}}
        base, before = facts[family]["config"], facts[family]["shapes"]
        facts[family]["tasks"][task] = {
            "config": {key: raw.get(key) for key in {**base, **raw} if raw.get(key) != base.get(key)},
            "gone": sorted(set(before) - set(shapes)),
            "shapes": {name: shape for name, shape in shapes.items() if before.get(name) != shape},
        }
        # All features once for each family, the head's answers for each task.
        keep = ("logits", "hidden_states", "attention_scores") if task == "classification" else ("logits", "nsp_logits")
        found |= {f"{family}/{task}/{name}": outputs[name] for name in keep if name in outputs}
        for file in place.iterdir():
            file.unlink()
        place.rmdir()
    (VECTORS / "cases.json").write_text(json.dumps(facts, separators=(",", ":")) + "\n", "utf-8")
    np.savez_compressed(VECTORS / "answers.npz", **found)


if __name__ == "__main__":
    if sys.argv[1] == "vectors":
        vectors()
    else:
        {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
