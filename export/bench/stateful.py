"""Cut LSTMs, which have a state, out of a .tflite file: LiteRT's profiler refuses files with variables."""

from __future__ import annotations

from typing import Any


def has_state(content: bytes) -> bool:
    """Tell whether any tensor of the file is a variable."""
    return any(tensor.isVariable for graph in _model(content).subgraphs for tensor in graph.tensors)


def without_state(content: bytes) -> bytes:
    """Return the file without the operators that have a state: their outputs become inputs, their inputs outputs."""
    from ai_edge_litert import schema_py_generated as schema

    model = _model(content)
    for number, graph in enumerate(model.subgraphs):
        signature = next((each for each in model.signatureDefs or [] if each.subgraphIndex == number), None)
        cut = [operator for operator in graph.operators if _states(graph, operator)]
        graph.operators = [operator for operator in graph.operators if operator not in cut]
        for operator in cut:
            for side, tensor in (("inputs", int(operator.outputs[0])), ("outputs", int(operator.inputs[0]))):
                tensors = [int(each) for each in getattr(graph, side)]
                if tensor in tensors:
                    continue
                setattr(graph, side, [*tensors, tensor])
                if signature is not None:
                    named = schema.TensorMapT()
                    named.name, named.tensorIndex = f"cut_{tensor}".encode(), tensor
                    getattr(signature, side).append(named)
        for tensor in graph.tensors:
            tensor.isVariable = False
    return _packed(model)


def alone(content: bytes, length: int) -> list[tuple[str, bytes]]:
    """Return (kind, a file with this operator only) for each operator with a state in the signature of `length` tokens."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: key for key, code in vars(schema.BuiltinOperator).items() if not key.startswith("_")}
    files = []
    graphs = _model(content).subgraphs
    number = next(n for n, graph in enumerate(graphs) if int(graph.tensors[graph.inputs[0]].shape[-1]) == length)
    for place, operator in enumerate(graphs[number].operators):
        if not _states(graphs[number], operator):
            continue
        model = _model(content)
        graph = model.subgraphs[number]
        graph.operators = _with_weights(graph, graph.operators[place])
        graph.inputs, graph.outputs = [operator.inputs[0]], [operator.outputs[0]]
        model.subgraphs, model.signatureDefs = [graph], []
        code = model.operatorCodes[operator.opcodeIndex]
        files.append((names[max(code.builtinCode, code.deprecatedBuiltinCode)], _packed(model)))
    return files


def _model(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def _states(graph: Any, operator: Any) -> list[int]:
    """Return the tensors that an operator keeps from one run to the next."""
    return [int(each) for each in operator.inputs if each >= 0 and graph.tensors[each].isVariable]


def _with_weights(graph: Any, operator: Any) -> list[Any]:
    """Return an operator after those that produce its weights: fp16 files turn weights into float32 once."""
    makers = {int(tensor): each for each in graph.operators for tensor in each.outputs}
    operators, wanted = [operator], [int(tensor) for tensor in operator.inputs[1:]]
    while wanted:
        maker = makers.get(wanted.pop())
        if maker is not None and maker not in operators:
            operators.insert(0, maker)
            wanted += [int(tensor) for tensor in maker.inputs]
    return operators


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
