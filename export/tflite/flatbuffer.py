"""Read a .tflite file as an object, and write it back. Imports no TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np


def unpacked(content: bytes) -> Any:
    """Return a `ModelT` that holds the data of all buffers.

    AI Edge Quantizer writes weights above 256 kB after the flatbuffer, where the generated classes
    do not look.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def packed(model: Any) -> bytes:
    """Return the file of a `ModelT`."""
    import flatbuffers

    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + 65536)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
