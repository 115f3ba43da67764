"""How steps are computed: number format, compiler, widths and parts of batches. It changes the last digits, not what is learned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
import tensorflow as tf

from tfdistill.data.batching import Buckets
from tfdistill.errors import UserError

POLICIES = {"float32": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


@dataclass(frozen=True)
class Execution:
    """Settings of a training that have nothing to do with its method.

    Args:
        precision: of matrix products and what they read: "float32", "bf16" or "fp16". Weights, losses, softmax and norms stay
            in float32. It is a policy of Keras, which models take when they are made: see `set_precision`. fp16 is for GPUs
            without bf16; it has a loss scale, and the log says how near the values come to the end of its range.
        jit: compile the step with XLA. On one device that is all of it, on several forward and backward passes.
        buckets: widths to which batches are padded; "auto" takes a few from the data; () the longest row of each batch.
        micro_batches: parts of a batch that are computed one after the other, to save memory; a stage may have
            more of its own. Each part has dropout of its own; without dropout the result is that of the whole batch.
    """

    precision: str = "float32"
    jit: bool = False
    buckets: Buckets = ()
    micro_batches: int = 1

    @property
    def for_optimizer(self) -> dict[str, bool]:
        """What `make_optimizer` has to know of it."""
        return {"scaled": self.precision == "fp16", "static": self.jit}

    def as_data(self) -> dict[str, Any]:
        """What differs from the default."""
        return {key: value for key, value in asdict(self).items() if value != getattr(Execution(), key)}


def make_execution(
    precision: str = "auto",
    jit: bool = False,
    buckets: str | None = None,
    micro_batches: int = 1,
    strategy: str = "one",
) -> Execution:
    """From the words of the command line; for the precision "auto" see `precision_for`. A compiled step has buckets, "auto" if nothing
    is said: each width is compiled once.

    Raises UserError for an unknown precision, or buckets that are no numbers.
    """
    precision = precision_for(precision, strategy)
    if precision not in POLICIES:
        raise UserError(f"--precision {precision} is unknown; expected auto, {', '.join(POLICIES)}")
    if buckets is None:
        buckets = "auto" if jit else "none"
    if buckets in ("auto", "none"):
        return Execution(precision, jit, "auto" if buckets == "auto" else (), micro_batches)
    try:
        widths = tuple(int(width) for width in buckets.split(","))
    except ValueError as error:
        raise UserError(f"--buckets {buckets}: expected auto, none or word pieces such as 16,32,64") from error
    return Execution(precision, jit, widths, micro_batches)


def precision_for(asked: str, strategy: str = "one") -> str:
    """What "auto" means here: bf16 on a TPU and on GPUs that compute in it (compute capability 8 or more, all of them), else float32.

    On CPUs it depends on the processor whether bf16 is faster, so that it has to be asked for. Other words stay as they are.
    """
    if asked != "auto":
        return asked
    if strategy.startswith("tpu"):
        return "bf16"
    gpus = tf.config.list_physical_devices("GPU")
    able = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))[0] >= 8 for gpu in gpus]
    return "bf16" if gpus and all(able) else "float32"


def set_precision(precision: str) -> None:
    """For all models that are made from now on."""
    keras.config.set_dtype_policy(POLICIES[precision])
