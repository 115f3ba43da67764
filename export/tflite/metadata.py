"""Write TensorFlow Lite's metadata into a .tflite file, with its vocabulary and labels.

The format is a buffer called TFLITE_METADATA in the model's flatbuffer (metadata_schema.fbs) and,
after the flatbuffer, a zip archive of the files that it names. tflite-support, which wrote it, is
no longer published for this Python, and MediaPipe's writer cannot be imported in mediapipe 1.2.2.
So the few tables that are needed are written here, field by field. Imports no TensorFlow.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.tflite.flatbuffer import packed, unpacked
from tfdistill.export.tflite.runtime import INPUTS, LOGITS, PROBABILITIES
from tfdistill.system.escapes import visible

VOCABULARY, LABELS = "vocab.txt", "labels.txt"
CARD = ("name", "description", "version", "author", "license")
NOT_STATED = "not stated"
MEANING = {
    "classification": "Their softmax is the probability of each label.",
    "next_sentence": "Their softmax is the probability of each label.",
    "regression": "It is the score itself.",
    "multilabel": "Their sigmoid is the probability of each label.",
    "token_classification": "Their softmax is the probability of each label, token by token; skip [CLS], [SEP] and padding.",
    "question_answering": "The answer is from the token with the best start to a later one with the best end; skip padding.",
}
_NAMED_LABELS = ("classification", "next_sentence", "multilabel", "token_classification")
_BUFFER, _IDENTIFIER = "TFLITE_METADATA", b"M001"
# The least versions of the schema that can read the file: the first with vocabularies, the first with BERT's tokenizer.
_PARSER, _TOKENIZER_PARSER = "1.0.1", "1.1.0"
_ROLES = {
    "token_ids": "Ids of tokens, which are line numbers of the vocabulary: [CLS], text, [SEP], then zeros.",
    "padding_mask": "1 for a token, 0 for padding.",
    "segment_ids": "0 for the first text with its [CLS] and [SEP], 1 for a second one with its [SEP].",
}
# The names that MediaPipe's TextClassifier looks for.
_MEDIAPIPE_NAMES = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
_INTEGERS = (
    "Inputs are integers that select rows of tables or mark positions: they have no mean or deviation to normalize by."
)

# --- tables of metadata_schema.fbs ----------------------------------------------------------------------------------

_FIELDS = {
    "AssociatedFile": ("name", "description", "type"),
    "BertTokenizerOptions": ("vocab_file",),
    "Content": ("content_properties_type", "content_properties"),
    "FeatureProperties": (),
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license"),
        *("associated_files", "min_parser_version"),
    ),
    "ProcessUnit": ("options_type", "options"),
    "Stats": ("max", "min"),
    "SubGraphMetadata": (
        *("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
        *("associated_files", "input_process_units"),
    ),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units", "stats"),
        "associated_files",
    ),
}
_DESCRIPTIONS, _AXIS_LABELS, _VOCABULARY_FILE = 1, 2, 5  # AssociatedFileType
_FEATURE, _BERT_TOKENIZER = 1, 4  # ContentProperties, ProcessUnitOptions


class _Table(NamedTuple):
    """A table of a kind in `_FIELDS`; its fields are texts, one-byte numbers, tables, or lists of these or of floats."""

    kind: str
    fields: dict[str, Any]


def _write(builder: Any, value: str | list[Any] | _Table) -> int:
    """Write a value into the flatbuffer, and return its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        if isinstance(value[0], float):
            return builder.CreateNumpyVector(np.array(value, "<f4"))
        offsets = [_write(builder, each) for each in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    slots = _FIELDS[value.kind]
    written = {
        name: field if isinstance(field, int) else _write(builder, field) for name, field in value.fields.items()
    }
    builder.StartObject(len(slots))
    for name, field in written.items():
        if isinstance(value.fields[name], int):
            builder.PrependInt8Slot(slots.index(name), field, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slots.index(name), field, 0)
    return builder.EndObject()


# --- the model card -------------------------------------------------------------------------------------------------


def model_card(
    fields: Mapping[str, str], *, family: str, task: str, quantization: str, label_names: Sequence[str]
) -> dict[str, str]:
    """Complete a model card.

    Args:
        fields: some of `CARD`, which replace the defaults.
        family: the model's family, for the defaults.
        task: its task, for the defaults.
        quantization: its quantization, for the defaults.
        label_names: names of its outputs, for the defaults.

    Returns:
        All fields of `CARD`; "not stated" for those that are unknown.

    Raises:
        UserError: an unknown field, or a text that is empty or has more than one line.
    """
    for key, value in fields.items():
        if key not in CARD:
            raise UserError(f"the model card has no field '{key}'; expected some of {', '.join(CARD)}")
        if not value.strip() or not value.isprintable():
            raise UserError(f"{key} of the model card is {value!a}; expected one line of text")
    labels = f"{', '.join(map(visible, label_names[:8]))}{', …' if len(label_names) > 8 else ''}"
    defaults = {
        "name": f"{family} {quantization}",
        "description": f"{family} for {task.replace('_', ' ')}: {labels}. Made by tfdistill.",
        "version": "1",
        "author": NOT_STATED,
        "license": NOT_STATED,
    }
    return {**defaults, **fields}


# --- writing --------------------------------------------------------------------------------------------------------


def with_metadata(
    content: bytes, vocabulary: bytes, labels: bytes, *, card: Mapping[str, str], task: str, mediapipe: bool = False
) -> bytes:
    """Add metadata, vocabulary and labels to a file; clients that do not read them run the file as before.

    Args:
        content: a .tflite file with the signatures of `tfdistill.export.convert.graphs`.
        vocabulary: vocab.txt, one word piece in each line.
        labels: labels.txt, one name of an output in each line.
        card: all fields of `CARD`.
        task: the model's task.
        mediapipe: name the tensors and the tokenizer so that MediaPipe's TextClassifier runs the
            file. Otherwise MediaPipe finds no tokenizer and refuses the file.

    Returns:
        The new file.

    Raises:
        UserError: the file has other signatures, or already has metadata.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(content)
    if any(each.name.decode() == _BUFFER for each in model.metadata or []):
        raise UserError("the file already has metadata; expected a file without")
    signatures = {each.subgraphIndex: each for each in model.signatureDefs or []}
    if sorted(signatures) != list(range(len(model.subgraphs))):
        raise UserError(
            f"the file has {len(model.subgraphs)} graphs and {len(signatures)} signatures; expected one signature for each graph"
        )
    pieces = vocabulary.count(b"\n")
    graphs = [
        _graph(graph, signatures[number], pieces, task, mediapipe) for number, graph in enumerate(model.subgraphs)
    ]
    parser = _TOKENIZER_PARSER if mediapipe else _PARSER
    fields = {**{key: card[key] for key in CARD}, "subgraph_metadata": graphs, "min_parser_version": parser}
    builder = flatbuffers.Builder(4096)
    builder.Finish(_write(builder, _Table("ModelMetadata", fields)), file_identifier=_IDENTIFIER)
    held, entry = schema.BufferT(), schema.MetadataT()
    held.data = np.frombuffer(bytes(builder.Output()), np.uint8)
    entry.name, entry.buffer = _BUFFER, len(model.buffers)
    model.buffers.append(held)
    model.metadata = [*(model.metadata or []), entry]
    archive = io.BytesIO(packed(model))
    # Stored, not deflated, since clients map the files. A fixed date, so that the same model gives the same bytes.
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as files:
        for file, text in ((LABELS, labels), (VOCABULARY, vocabulary)):
            files.writestr(zipfile.ZipInfo(file), text)
    return archive.getvalue()


def _graph(graph: Any, signature: Any, pieces: int, task: str, mediapipe: bool) -> _Table:
    """Describe a graph with this signature."""
    roles = {each.tensorIndex: each.name.decode() for each in signature.inputs}
    outputs = [each.name.decode() for each in signature.outputs]
    inputs = [roles.get(index, "") for index in graph.inputs]
    if sorted(inputs) != sorted(INPUTS) or outputs not in ([LOGITS], [PROBABILITIES]):
        raise UserError(
            f"the file has the signature {', '.join(inputs)} → {', '.join(outputs)}; expected {', '.join(INPUTS)} → {LOGITS} or "
            f"{PROBABILITIES}"
        )
    if mediapipe and outputs != [PROBABILITIES]:
        raise UserError(f"the file returns {outputs[0]}; MediaPipe takes {PROBABILITIES}")
    vocabulary = _file(VOCABULARY, "Word pieces; the line number is the id.", _VOCABULARY_FILE)
    fields: dict[str, Any] = {
        "name": signature.signatureKey.decode(),
        "description": _INTEGERS,
        "input_tensor_metadata": [_input(role, pieces, vocabulary, mediapipe) for role in inputs],
        "output_tensor_metadata": [_output(outputs[0], task, len(graph.tensors[graph.outputs[0]].shape))],
    }
    if mediapipe:
        options = _Table("BertTokenizerOptions", {"vocab_file": [vocabulary]})
        fields["input_process_units"] = [_Table("ProcessUnit", {"options_type": _BERT_TOKENIZER, "options": options})]
    return _Table("SubGraphMetadata", fields)


def _input(role: str, pieces: int, vocabulary: _Table, mediapipe: bool) -> _Table:
    most = pieces - 1 if role == "token_ids" else 1
    fields: dict[str, Any] = {
        "dimension_names": ["batch", "tokens"],
        "stats": _Table("Stats", {"max": [float(most)], "min": [0.0]}),
    }
    if role == "token_ids" and not mediapipe:  # for MediaPipe the tokenizer names the vocabulary
        fields["associated_files"] = [vocabulary]
    return _tensor(_MEDIAPIPE_NAMES[role] if mediapipe else role, _ROLES[role], fields)


def _output(name: str, task: str, dimensions: int) -> _Table:
    names = ["batch", "labels"] if dimensions == 2 else ["batch", "tokens", "labels"]
    kind = _AXIS_LABELS if task in _NAMED_LABELS else _DESCRIPTIONS
    meaning = "Probability of each class." if name == PROBABILITIES else MEANING[task]
    fields = {
        "dimension_names": names,
        "associated_files": [_file(LABELS, "Names of the outputs, in their order.", kind)],
    }
    return _tensor(name, meaning, fields)


def _file(name: str, description: str, kind: int) -> _Table:
    return _Table("AssociatedFile", {"name": name, "description": description, "type": kind})


def _tensor(name: str, description: str, fields: dict[str, Any]) -> _Table:
    feature = {"content_properties_type": _FEATURE, "content_properties": _Table("FeatureProperties", {})}
    content = _Table("Content", feature)
    return _Table("TensorMetadata", {"name": name, "description": description, "content": content, **fields})
