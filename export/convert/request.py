"""Say which models to convert, and how. A request is validated when it is made, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tfdistill.errors import MissingExtra, UserError
from tfdistill.export.convert.modes import AEQ, EXPORTED_HEADS, MODES, TF, check_mode, tool_for
from tfdistill.models.limits import most_tokens

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

NamedModel = tuple["TextModel", str]


@dataclass(frozen=True)
class ConversionRequest:
    """A validated request for .tflite files. Make it with `ConversionRequest.of`.

    Args:
        models: each with the name that its files begin with.
        lengths: tokens in a row, ascending. Each length becomes a signature.
        modes: quantization modes, some of `MODES`.
        probabilities: return `probabilities`, the softmax of the logits, instead of `logits`.
    """

    models: tuple[NamedModel, ...]
    lengths: tuple[int, ...]
    modes: tuple[str, ...]
    probabilities: bool = False

    @classmethod
    def of(
        cls,
        models: Sequence[NamedModel],
        *,
        length: int | Sequence[int] = 64,
        modes: str | Sequence[str] = ("fp32", "fp16", "dynamic_int8"),
        probabilities: bool = False,
    ) -> ConversionRequest:
        """Validate and normalize the arguments of a conversion.

        Raises:
            UserError: an unknown mode, a mode that no tool supports for a family, a length that a
                model cannot take, a task that is not exported, or a name that is not the beginning
                of a file name or occurs twice.
            MissingExtra: a mode needs AI Edge Quantizer, which is not installed.
        """
        lengths = tuple(sorted({length} if isinstance(length, int) else {*length}))
        modes = (modes,) if isinstance(modes, str) else tuple(dict.fromkeys(modes))
        if not lengths or not modes:
            raise UserError(f"received lengths {lengths} and modes {modes}; expected at least one of each")
        for mode in modes:
            check_mode(mode)
        names = [name for _, name in models]
        for model, name in models:
            if not name or Path(name).name != name or names.count(name) > 1:
                raise UserError(
                    f"a model is named '{name}'; expected a different file name for each, without directories"
                )
            _check_model(model, name, lengths, modes)
            if probabilities and model.task != "classification":
                raise UserError(f"'{name}' is a model for {model.task}; only classification gives probabilities")
        return cls(tuple(models), lengths, modes, probabilities)

    @property
    def longest(self) -> int:
        """The length of the main signature."""
        return self.lengths[-1]

    @property
    def calibrated(self) -> list[str]:
        """The modes that need calibration data."""
        return [mode for mode in self.modes if MODES[mode].calibrated]


def _check_model(model: TextModel, name: str, lengths: tuple[int, ...], modes: tuple[str, ...]) -> None:
    if model.family == "keras_hub":
        model.require_layers()
    if model.task not in EXPORTED_HEADS:
        raise UserError(f"'{name}' is a model for {model.task}; expected one for {', '.join(EXPORTED_HEADS)}")
    most = longest_input(model)
    for each in (lengths[0], lengths[-1]):
        if not 1 <= each <= most:
            raise UserError(f"length is {each}; expected 1 to {most} for '{name}'")
    tools = {mode: tool_for(model.family, mode) for mode in modes}
    for mode, tool in tools.items():
        if len(lengths) > 1 and MODES[mode].calibrated and tool == TF:
            raise UserError(
                f"{mode} of a {model.family} model takes one length, since TensorFlow calibrates a single signature; received "
                f"{', '.join(map(str, lengths))}; give one length, or choose another quantization such as dynamic_int8"
            )
    if AEQ in tools.values() and find_spec("ai_edge_quantizer") is None:
        raise MissingExtra("ai-edge-quantizer", "quantizer")


def longest_input(model: TextModel) -> int:
    """Return the number of tokens that a model can read; a BiLSTM and a static model have no limit but a sensible one."""
    return most_tokens(model.config, 4096)


def reads_pairs(model: TextModel) -> bool:
    """Return whether a model always reads two texts; transformers read one or two."""
    return getattr(model.config, "pair", False)
