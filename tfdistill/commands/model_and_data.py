"""Check a model and data before TensorFlow is imported, and load the model after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfdistill.system.tensorflow_import import import_tensorflow

if TYPE_CHECKING:
    from tfdistill.data.dataset import Data
    from tfdistill.models.stored_model import StoredModel
    from tfdistill.models.text_model import TextModel


class ModelAndData:
    """A model to use, and data to use it on. What needs TensorFlow (hub: and tfds: names) is read by `load`.

    Args:
        model: a model directory, or another name that `tfdistill.load` takes.
        data: data with the model's classes; None if there is none.

    Raises:
        UserError: the model has no head, or is damaged, or the data cannot be read or are for another model.
    """

    def __init__(self, model: str, data: str | None = None):
        from tfdistill.data.load import needs_tensorflow
        from tfdistill.models.load import open_model, read_data_for

        self.name, self.data_name = model, data
        self.stored: StoredModel | None = open_model(model)
        self.data: Data | None = None
        if self.stored is not None:
            self.stored.require_head()
            if data is not None and not needs_tensorflow(data):
                self.data = read_data_for(self.stored, data, model)

    def load(self) -> tuple[TextModel, Data | None]:
        """Import TensorFlow and return the model, and the data with its classes in the order of the model."""
        import_tensorflow()
        from tfdistill.models.load import load, read_data_for
        from tfdistill.models.predict import in_order_of

        model, data = load(self.stored or self.name, new_head=False), self.data
        if self.data_name is None:
            return model, None
        if data is None:
            data = read_data_for(model, self.data_name, self.name)
        return model, in_order_of(model, data, self.name)
