"""Write the README.md of a bundle from the template readme.md.jinja."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import jinja2

from tfdistill.data.splits import PER_TOKEN
from tfdistill.export.tflite.metadata import MEANING
from tfdistill.export.tflite.runtime import signature_name
from tfdistill.system.escapes import markdown, markdown_code


def readme(
    manifest: dict[str, Any], *, pair: bool, lower_case: bool, added: bool = False, wordpiece: bool = True
) -> str:
    """Return the README of a bundle with this manifest.

    Args:
        manifest: the manifest, without its files and seal.
        pair: whether the model always reads two texts.
        lower_case: whether its tokenizer lower-cases.
        added: whether its tokenizer has added tokens.
        wordpiece: whether it is BERT's; else tokenizer.json describes it.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(plain=markdown, code=markdown_code)  # labels and the card are the user's words
    template = environment.from_string(resources.files(__package__).joinpath("readme.md.jinja").read_text("utf-8"))
    length = manifest["length"]
    text = template.render(
        m=manifest,
        card=manifest["model_card"],
        dev=manifest["parity"],
        pair=pair,
        lower_case=lower_case,
        added=added,
        wordpiece=wordpiece,
        count=len(manifest["label_names"]),
        per_token=manifest["task"] in PER_TOKEN,
        meaning="They add up to 1." if manifest["mediapipe"] else MEANING[manifest["task"]],
        lengths=", ".join(map(str, manifest["lengths"])),
        shorter=[(each, signature_name(each, length)) for each in manifest["lengths"] if each != length],
    )
    return re.sub(r"\n{3,}", "\n\n", text)  # parts that a bundle does not have leave empty lines
