"""Say what goes into a bundle. A request is validated when it is made, before anything is measured, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from tfdistill.errors import UserError
from tfdistill.export.bundle.golden import MOST_OUTPUTS
from tfdistill.export.bundle.manifest import MANIFEST
from tfdistill.export.convert.modes import MODES
from tfdistill.export.convert.request import ConversionRequest, reads_pairs
from tfdistill.export.convert.text_input import check_text_in
from tfdistill.export.tflite.metadata import model_card
from tfdistill.system.files import require_new

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_LEAST_LENGTH = 5  # a pair of texts with [CLS] and [SEP]
# Outputs that are not classes of the data.
_OUTPUTS = {"question_answering": ("start", "end"), "next_sentence": ("next", "other")}


@dataclass(frozen=True)
class ExportRequest:
    """A validated request for a bundle. Make it with `ExportRequest.of`.

    Args:
        model: the model, with its tokenizer in `model.tokenizer`.
        out: the directory to write; a bundle in it is replaced.
        conversion: the request for model.tflite, with one model and one mode.
        label_names: names of the outputs, in order.
        card: all fields of the model card.
        max_drop: percentage points of the task's metric that the file may lose on dev; None allows
            any loss.
        text_in: also write model-text.tflite, which takes text.
    """

    model: TextModel
    out: Path
    conversion: ConversionRequest
    label_names: tuple[str, ...]
    card: Mapping[str, str]
    max_drop: float | None = None
    text_in: bool = False

    @classmethod
    def of(
        cls,
        model: TextModel,
        out: str | os.PathLike,
        *,
        quantize: str = "dynamic_int8",
        length: int | Sequence[int] = 64,
        max_drop: float | None = None,
        mediapipe: bool = False,
        text_in: bool = False,
        card: Mapping[str, str] | None = None,
    ) -> ExportRequest:
        """Validate the arguments of an export; see `tfdistill.export.bundle.bundle.export_bundle`.

        The model may be a `StoredModel`; call `with_model` when it is built.

        Raises:
            UserError: `out` holds something other than a bundle, the conversion is not possible,
                the model has no tokenizer or does not suit MediaPipe or --text-in, or an option is
                out of range.
        """
        conversion = ConversionRequest.of([(model, "model")], length=length, modes=quantize)
        lengths = conversion.lengths
        require_new(Path(out), MANIFEST, "Choose a new name or the directory of a bundle, which is replaced.")
        if model.num_outputs > MOST_OUTPUTS:
            raise UserError(
                f"the model has {model.num_outputs:,} outputs. A bundle takes at most {MOST_OUTPUTS:,}, so that golden.json "
                "has vectors that an app can read"
            )
        if max_drop is not None and not isfinite(max_drop):
            raise UserError(f"max_drop is {max_drop}; expected a number of percentage points, such as 1")
        if getattr(model, "tokenizer", None) is None:
            raise UserError("the model has no tokenizer; set model.tokenizer, since the app needs its vocabulary")
        if lengths[0] < _LEAST_LENGTH:
            raise UserError(f"length is {lengths[0]}; expected at least {_LEAST_LENGTH}")
        if text_in:
            check_text_in(model, quantize)
        if mediapipe:
            _check_mediapipe(model, lengths, quantize)
            conversion = ConversionRequest(conversion.models, lengths, conversion.modes, probabilities=True)
        names = model.label_names or _OUTPUTS.get(model.task)
        if names is None and model.task == "regression":
            names = ("score",) * model.num_outputs
        names = names or tuple(f"LABEL_{n}" for n in range(model.num_outputs))
        about = model_card(card or {}, family=model.family, task=model.task, quantization=quantize, label_names=names)
        return cls(model, Path(out), conversion, tuple(names), about, max_drop, text_in)

    def with_model(self, model: TextModel) -> ExportRequest:
        """Return the request for the built model of a `StoredModel`, for which it was validated."""
        ((_, name),) = self.conversion.models
        return replace(self, model=model, conversion=replace(self.conversion, models=((model, name),)))

    @property
    def quantization(self) -> str:
        """The quantization mode of model.tflite."""
        return self.conversion.modes[0]

    @property
    def mediapipe(self) -> bool:
        """Whether MediaPipe's TextClassifier can run the file, which then gives probabilities instead of logits."""
        return self.conversion.probabilities

    @property
    def report(self) -> Path:
        """The file that explains a refusal, next to `out`."""
        return self.out.with_name(f"{self.out.name}.report.json")


def _check_mediapipe(model: TextModel, lengths: Sequence[int], quantize: str) -> None:
    """Raise UserError for a model that MediaPipe's TextClassifier cannot run, or would run incorrectly."""
    if model.task != "classification":
        refuse_for_mediapipe(model.task)
    if reads_pairs(model):
        refuse_for_mediapipe("pairs")
    if len(lengths) > 1:
        raise UserError(f"MediaPipe takes files of one length, received {len(lengths)}; give one `--length`")
    tokenizer = model.tokenizer
    if not tokenizer.is_wordpiece:
        raise UserError(
            "MediaPipe reads WordPiece vocabularies, and this tokenizer is of another kind; remove `--mediapipe`"
        )
    if tokenizer.added:
        raise UserError(
            f"MediaPipe's tokenizer splits added tokens, such as {tokenizer.added[0].content!r}; remove `--mediapipe`"
        )
    if not tokenizer.lower_case:
        raise UserError("MediaPipe lower-cases every text, but this vocabulary is cased; remove `--mediapipe`")
    if MODES[quantize].calibrated:
        raise UserError(
            f"MediaPipe takes probabilities, which {quantize} rounds to a few steps that do not add up to 1; choose dynamic_int8 "
            "or another quantization without calibration, or remove `--mediapipe`"
        )


def refuse_for_mediapipe(kind: str) -> None:
    """Raise UserError for a model that does not classify single texts."""
    raise UserError(
        f"MediaPipe's TextClassifier classifies single texts, received a model for {kind}; remove `--mediapipe`"
    )
