"""How steps are computed: precision, compiler, padding and parts of batches. It changes the last digits, not the method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tfdistill.data.batching import Buckets
from tfdistill.errors import UserError
from tfdistill.system.lazy import keras, tf

POLICIES = {"float32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


@dataclass(frozen=True)
class Execution:
    """Settings of a training that are independent of its method.

    Args:
        precision: precision of matrix products and their inputs: "float32", "bf16" or "fp16". Weights, losses, softmax and
            norms stay in float32. It is a Keras policy, which models take when they are made: see `set_precision`. fp16 is for
            GPUs without bf16; it has a loss scale, and the log shows the largest values.
        jit: compile the step with XLA: all of it on one device, forward and backward passes on several.
        buckets: lengths to which batches are padded; "auto" chooses a few from the data; () is the longest example of each batch.
        micro_batches: parts of a batch that are computed one after the other, to save memory; a stage may have
            more. Without dropout the result is that of the whole batch.
    """

    precision: str = "float32"
    jit: bool = False
    buckets: Buckets = ()
    micro_batches: int = 1

    @property
    def for_optimizer(self) -> dict[str, bool]:
        """Return the arguments for `make_optimizer`."""
        return {"scaled": self.precision == "fp16", "static": self.jit}

    def as_data(self) -> dict[str, Any]:
        """Return what differs from the default."""
        return {key: value for key, value in asdict(self).items() if value != getattr(Execution(), key)}


def make_execution(
    precision: str = "auto",
    jit: bool = False,
    buckets: str | None = None,
    micro_batches: int = 1,
    strategy: str = "one",
) -> Execution:
    """Make an `Execution` from the options of the command line. A compiled step has buckets by default: each length compiles once.

    Raises UserError for an unknown precision, or buckets that are not numbers.
    """
    if precision not in ("auto", *POLICIES):
        raise UserError(f"`--precision {precision}` is unknown. Use auto, {', '.join(POLICIES)}.")
    widths = _buckets(buckets or ("auto" if jit else "none"))
    return Execution(precision_for(precision, strategy), jit, widths, micro_batches)


def _buckets(text: str) -> Buckets:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else ()
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError as error:
        raise UserError(
            f"`--buckets {text}` is not valid. Use auto, none, or numbers of tokens such as 16,32,64."
        ) from error


def precision_for(requested: str, strategy: str = "one") -> str:
    """Return what "auto" means: bf16 on TPUs and if all GPUs support it (compute capability 8 or more), else float32.

    On CPUs it depends on the processor whether bf16 is faster, so that it must be requested. Other values are returned as they are.
    """
    if requested != "auto":
        return requested
    if strategy.startswith("tpu"):
        return "bf16"
    gpus = tf.config.list_physical_devices("GPU")
    able = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))[0] >= 8 for gpu in gpus]
    return "bf16" if gpus and all(able) else "float32"


def set_precision(precision: str) -> None:
    """Set the precision of all models that are made from now on."""
    keras.config.set_dtype_policy(POLICIES[precision])
