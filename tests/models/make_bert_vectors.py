"""Made the committed reference numbers with transformers. Run by hand: python tests/models/make_bert_vectors.py"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

HERE = Path(__file__).parent
torch.manual_seed(5)
config = BertConfig(
    vocab_size=37,
    hidden_size=20,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=36,
    max_position_embeddings=24,
    type_vocab_size=2,
    num_labels=3,
    initializer_range=0.25,
    attn_implementation="eager",
)
model = BertForSequenceClassification(config).eval()
model.save_pretrained(HERE / "tiny_bert")
inputs = {
    "token_ids": [[2, 7, 11, 30, 3, 0, 0], [2, 9, 3, 14, 15, 16, 3]],
    "padding_mask": [[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]],
    "segment_ids": [[0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1]],
}
scores = []
hooks = []
for layer in model.bert.encoder.layer:
    attention = layer.attention.self
    caught = {}

    def keep(module, args, output, caught=caught, name=""):
        caught[name] = output

    for name in ("query", "key"):
        hooks.append(
            getattr(attention, name).register_forward_hook(lambda m, a, o, c=caught, n=name: c.__setitem__(n, o))
        )
    scores.append(caught)
with torch.no_grad():
    out = model(
        input_ids=torch.tensor(inputs["token_ids"]),
        attention_mask=torch.tensor(inputs["padding_mask"]),
        token_type_ids=torch.tensor(inputs["segment_ids"]),
        output_hidden_states=True,
    )
attention_scores = []
for caught in scores:
    query, key = (caught[name].reshape(2, 7, 4, 5).transpose(1, 2) for name in ("query", "key"))
    attention_scores.append(((query @ key.transpose(2, 3)) / 5**0.5).tolist())
rounded = json.loads(
    json.dumps(
        {
            "inputs": inputs,
            "logits": out.logits.tolist(),
            "hidden_states": [state.tolist() for state in out.hidden_states],
            "attention_scores": attention_scores,
        }
    ),
    parse_float=lambda text: round(float(text), 6),
)
(HERE / "bert_vectors.json").write_text(json.dumps(rounded) + "\n", "utf-8")
vocabulary = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnop",
    *(f"##{c}" for c in "abcdefghijklmnop"),
]
(HERE / "tiny_bert" / "vocab.txt").write_text("\n".join(vocabulary) + "\n", "utf-8")
