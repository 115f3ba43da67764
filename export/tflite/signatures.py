"""Check the signatures of a .tflite file before LiteRT reads them, which crashes on some damage. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfdistill.errors import UserError


def check_signatures(content: bytes, name: str) -> None:
    """Check that each signature names a graph of the file and tensors of that graph.

    Args:
        content: a .tflite file.
        name: what a message calls the file.

    Raises:
        UserError: a signature is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        problem = next(_problems(model), None)
    except Exception as error:  # a damaged flatbuffer fails in many ways
        problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        raise UserError(f"{name} has a damaged signature ({problem}); export it again")


def _problems(model: Any) -> Iterator[str]:
    for number in range(model.SignatureDefsLength()):
        signature = model.SignatureDefs(number)
        key, place = signature.SignatureKey().decode("utf-8"), signature.SubgraphIndex()
        if place >= model.SubgraphsLength():
            yield f"'{key}' is of graph {place} of {model.SubgraphsLength()}"
            continue
        graph = model.Subgraphs(place)
        for length, item, own in (
            (signature.InputsLength(), signature.Inputs, {graph.Inputs(n) for n in range(graph.InputsLength())}),
            (signature.OutputsLength(), signature.Outputs, {graph.Outputs(n) for n in range(graph.OutputsLength())}),
        ):
            for each in map(item, range(length)):
                tensor = each.Name().decode("utf-8")
                if each.TensorIndex() not in own or each.TensorIndex() >= graph.TensorsLength():
                    yield f"'{tensor}' of '{key}' is tensor {each.TensorIndex()}, which is not an input or output of its graph"
