"""Check a model directory before TensorFlow is imported: config, headers of the weights, tokenizer and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.models.google_config import with_architecture
from tfdistill.models.hf_check import check_shapes, check_vocabulary
from tfdistill.models.hf_config import CONFIG, config_of, read_config
from tfdistill.models.hf_labels import label_names_in
from tfdistill.models.hf_weights import head_size
from tfdistill.models.stored_head import StoredHead, require_promised, say_or_refuse, stored_head
from tfdistill.models.tasks import HEADS
from tfdistill.models.weight_files.choose import WEIGHTS, open_weights
from tfdistill.models.weight_files.tensors import Tensors
from tfdistill.text.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model directory that was checked, and of which nothing is built. `tfdistill.models.load.load` builds the model.

    Attributes:
        directory: the directory.
        name: the model, for messages.
        raw: the content of config.json.
        config: the sizes of the encoder.
        tensors: the weights, of which only the header is read.
        tokenizer: the tokenizer.
        head: the head over classes or positions.
    """

    directory: Path
    name: str
    raw: dict[str, Any]
    config: Any
    tensors: Tensors
    tokenizer: Tokenizer
    head: StoredHead

    @property
    def task(self) -> str:
        return self.head.task or "classification"

    @property
    def family(self) -> str:
        return str(self.config.family)

    @property
    def num_outputs(self) -> int | None:
        return self.head.size

    @property
    def label_names(self) -> tuple[str, ...] | None:
        return None if self.task == "regression" else self.head.label_names

    @property
    def num_layers(self) -> int:
        sizes = self.config
        return int(getattr(sizes, "num_hidden_layers", 0) or getattr(sizes, "num_layers", 0))

    @property
    def loaded_from(self) -> str:
        return str(self.directory)

    trained_length = None  # recipe.json has it

    def require_head(self) -> None:
        """Raise MissingHead if the directory has no head over classes or positions, which a model to use needs."""
        if HEADS[self.task].labelled and (problem := self.head.misfit(self.task, None, None)):
            say_or_refuse(self.name, problem, self.task, False, ["head"])


def open_directory(directory: str | Path, *, lower_case: bool | None = None, name: str | None = None) -> StoredModel:
    """Check a Hugging Face directory or a student directory.

    Args:
        directory: holds config.json, weights and a vocabulary.
        lower_case: overrides tokenizer_config.json.
        name: the model, for messages; the directory by default.

    Raises:
        UserError: a file is missing or damaged, the architecture is not supported, shapes do not fit, or a head is
            missing that config.json promises.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory. Use one with {CONFIG}, {WEIGHTS} and vocab.txt.")
    raw = read_config(directory)
    tensors = open_weights(directory)
    raw = with_architecture(raw, tensors)
    config = config_of(raw, directory, tensors)
    check_shapes(config, tensors, directory)
    tokenizer = Tokenizer.from_directory(directory, lower_case=lower_case)
    check_vocabulary(tokenizer, config, directory)
    head = stored_head(raw, head_size(tensors), label_names_in(directory, raw), directory / CONFIG, config.family)
    require_promised(head, tensors, config.family)
    return StoredModel(directory, name or str(directory), raw, config, tensors, tokenizer, head)
