"""Presets as transformers' configs say them, and their parameters as transformers counts them (two classes, ties once).

`make fidelity` checks the counts against transformers, the ordinary tests check our presets against both.
In comments what the papers say. MobileBERT's differs from what its published code builds; nobody says why.
"""

from __future__ import annotations

from typing import Any

SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert_base": ("bert", {}),  # 110M
    "bert_large": (  # 340M
        "bert",
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "minilm_l6_384": ("bert", {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}),  # 22M
    "distilbert": ("distilbert", {}),  # 66M
    "tinybert_4l_312": ("bert", {"hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1200}),  # 14.5M
    "tinybert_6l_768": ("bert", {"num_hidden_layers": 6}),  # 67M
    "mobilebert": ("mobilebert", {"classifier_activation": False}),  # 25.3M
    "mobilebert_tiny": (  # 15.1M
        "mobilebert",
        {
            "classifier_activation": False,
            "use_bottleneck_attention": True,
            "key_query_shared_bottleneck": False,
            "num_feedforward_networks": 2,
        },
    ),
    "ib_bert": (  # 293M
        "ib_bert",
        {
            "classifier_activation": False,
            "intra_bottleneck_size": 1024,
            "key_query_shared_bottleneck": False,
            "num_feedforward_networks": 1,
            "intermediate_size": 4096,
            "normalization_type": "layer_norm",
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
        },
    ),
}

COUNTS: dict[tuple[str, str], int] = {
    ("bert_base", "classification"): 109_483_778,
    ("bert_base", "masked_lm"): 109_514_298,
    ("bert_base", "pretraining"): 110_106_428,
    ("bert_large", "classification"): 335_143_938,
    ("bert_large", "pretraining"): 336_226_108,
    ("minilm_l6_384", "classification"): 22_713_986,
    ("minilm_l6_384", "masked_lm"): 22_744_506,
    ("distilbert", "classification"): 66_955_010,
    ("distilbert", "masked_lm"): 66_985_530,
    ("tinybert_4l_312", "classification"): 14_350_874,
    ("tinybert_4l_312", "pretraining"): 14_479_676,
    ("tinybert_6l_768", "classification"): 66_956_546,
    ("mobilebert", "classification"): 24_582_914,
    ("mobilebert", "masked_lm"): 36_596_538,
    ("mobilebert", "pretraining"): 36_597_564,
    ("mobilebert_tiny", "classification"): 15_486_722,
    ("mobilebert_tiny", "pretraining"): 27_501_372,
    ("ib_bert", "classification"): 294_206_210,
    ("ib_bert", "pretraining"): 306_220_860,
}
