"""TensorFlow Lite's metadata: what a .tflite file says of itself, with its vocabulary and labels inside.

The format is a buffer called TFLITE_METADATA within the model's flatbuffer (metadata_schema.fbs) and, behind it, the files that it
names as a zip archive. tflite-support, which wrote it, is no longer published for this Python, and MediaPipe's own writer does
not import in mediapipe 1.2.2; so the few tables that are needed are written here, field by field. Imports no TensorFlow.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfdistill.errors import UserError
from tfdistill.export.tflite.flatbuffer import packed, unpacked
from tfdistill.export.tflite.runtime import INPUTS, LOGITS, PROBABILITIES

VOCABULARY, LABELS = "vocab.txt", "labels.txt"
CARD = ("name", "description", "version", "author", "license")
NOT_STATED = "not stated"
MEANING = {
    "classification": "Their softmax is the probability of each label.",
    "next_sentence": "Their softmax is the probability of each label.",
    "regression": "It is the score itself.",
    "multilabel": "Their sigmoid is the probability of each label.",
    "token_classification": "Their softmax is the probability of each label, piece by piece; skip [CLS], [SEP] and padding.",
    "question_answering": "The answer goes from the piece with the best start to a later one with the best end; skip padding.",
}
_NAMED_LABELS = ("classification", "next_sentence", "multilabel", "token_classification")
_BUFFER, _IDENTIFIER = "TFLITE_METADATA", b"M001"
# Versions of the schema that are enough to read the file: the first with vocabularies, and the first with BERT's tokenizer.
_PARSER, _TOKENIZER_PARSER = "1.0.1", "1.1.0"
_ROLES = {
    "token_ids": "Ids of word pieces, which are line numbers of the vocabulary: [CLS], text, [SEP], then zeros.",
    "padding_mask": "1 where a word piece stands, 0 behind.",
    "segment_ids": "0 for the first text with its [CLS] and [SEP], 1 for a second one with its [SEP].",
}
# What MediaPipe's TextClassifier looks for.
_MEDIAPIPE_NAMES = {"token_ids": "ids", "padding_mask": "mask", "segment_ids": "segment_ids"}
_INTEGERS = (
    "Inputs are integers that pick rows of tables or mark places: there is no mean and no deviation to normalise by."
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
    """Of one kind in `_FIELDS`; its fields are texts, numbers of one byte, tables, or lists of these or of floats."""

    kind: str
    fields: dict[str, Any]


def _write(builder: Any, value: str | list[Any] | _Table) -> int:
    """Put a value into the flatbuffer; returns its offset."""
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


def _text(table: Any, kind: str, name: str) -> str:
    offset = table.Offset(4 + 2 * _FIELDS[kind].index(name))
    return table.String(table.Pos + offset).decode("utf-8") if offset else ""


def _tables(table: Any, kind: str, name: str) -> list[Any]:
    from flatbuffers.table import Table

    offset = table.Offset(4 + 2 * _FIELDS[kind].index(name))
    start = table.Vector(offset) if offset else 0
    return [Table(table.Bytes, table.Indirect(start + 4 * n)) for n in range(table.VectorLen(offset) if offset else 0)]


# --- the model card -------------------------------------------------------------------------------------------------


def model_card(
    said: Mapping[str, str], *, family: str, task: str, quantization: str, label_names: Sequence[str]
) -> dict[str, str]:
    """The fields of `CARD`: what was said, else what is known of the model, else "not stated".

    Raises UserError for other fields, and for texts that are empty or not of one line.
    """
    for key, value in said.items():
        if key not in CARD:
            raise UserError(f"the model card has no field '{key}'; expected some of {', '.join(CARD)}")
        if not value.strip() or not value.isprintable():
            raise UserError(f"{key} of the model card is {value!a}; expected one line of text")
    labels = f"{', '.join(label_names[:8])}{', …' if len(label_names) > 8 else ''}"
    defaults = {
        "name": f"{family} {quantization}",
        "description": f"{family} for {task.replace('_', ' ')}: {labels}. Made by tfdistill.",
        "version": "1",
        "author": NOT_STATED,
        "license": NOT_STATED,
    }
    return {**defaults, **said}


# --- writing --------------------------------------------------------------------------------------------------------


def with_metadata(
    content: bytes, vocabulary: bytes, labels: bytes, *, card: Mapping[str, str], task: str, mediapipe: bool = False
) -> bytes:
    """The file with metadata, vocabulary and labels inside; a client that does not read them runs it as before.

    Args:
        content: a .tflite file with the signatures that `tfdistill.export.convert.graphs` makes.
        vocabulary, labels: one word piece, or name of an output, a line.
        card: all fields of `CARD`.
        task: of the model.
        mediapipe: name the tensors and the tokenizer so that MediaPipe's TextClassifier runs the file. Without it MediaPipe
            finds no tokenizer and refuses it.

    Raises:
        UserError: another file, or one that has metadata already.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(content)
    if any(each.name.decode() == _BUFFER for each in model.metadata or []):
        raise UserError("metadata goes into a file without any as yet; received one that has it")
    signatures = {each.subgraphIndex: each for each in model.signatureDefs or []}
    if sorted(signatures) != list(range(len(model.subgraphs))):
        raise UserError(
            f"metadata goes into a file with a signature for each graph; received {len(model.subgraphs)} graphs and "
            f"{len(signatures)} signatures"
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
    # Stored, not deflated: clients map the files as they lie. A fixed date, so that the same model gives the same bytes.
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as files:
        for file, text in ((LABELS, labels), (VOCABULARY, vocabulary)):
            files.writestr(zipfile.ZipInfo(file), text)
    return archive.getvalue()


def _graph(graph: Any, signature: Any, pieces: int, task: str, mediapipe: bool) -> _Table:
    """SubGraphMetadata of a graph with this signature."""
    roles = {each.tensorIndex: each.name.decode() for each in signature.inputs}
    outputs = [each.name.decode() for each in signature.outputs]
    inputs = [roles.get(index, "") for index in graph.inputs]
    if sorted(inputs) != sorted(INPUTS) or outputs not in ([LOGITS], [PROBABILITIES]):
        raise UserError(
            f"metadata goes into a file with {', '.join(INPUTS)} → {LOGITS} or {PROBABILITIES}; received "
            f"{', '.join(inputs)} → {', '.join(outputs)}"
        )
    if mediapipe and outputs != [PROBABILITIES]:
        raise UserError(f"MediaPipe takes a file that gives {PROBABILITIES}; received {outputs[0]}")
    vocabulary = _file(VOCABULARY, "Word pieces; the line number is the id.", _VOCABULARY_FILE)
    said: dict[str, Any] = {
        "name": signature.signatureKey.decode(),
        "description": _INTEGERS,
        "input_tensor_metadata": [_input(role, pieces, vocabulary, mediapipe) for role in inputs],
        "output_tensor_metadata": [_output(outputs[0], task, len(graph.tensors[graph.outputs[0]].shape))],
    }
    if mediapipe:
        options = _Table("BertTokenizerOptions", {"vocab_file": [vocabulary]})
        said["input_process_units"] = [_Table("ProcessUnit", {"options_type": _BERT_TOKENIZER, "options": options})]
    return _Table("SubGraphMetadata", said)


def _input(role: str, pieces: int, vocabulary: _Table, mediapipe: bool) -> _Table:
    most = pieces - 1 if role == "token_ids" else 1
    fields: dict[str, Any] = {
        "dimension_names": ["batch", "tokens"],
        "stats": _Table("Stats", {"max": [float(most)], "min": [0.0]}),
    }
    if role == "token_ids" and not mediapipe:  # MediaPipe finds it at the tokenizer
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
    said = {"name": name, "description": description, "content": _Table("Content", feature)}
    return _Table("TensorMetadata", {**said, **fields})


# --- reading --------------------------------------------------------------------------------------------------------


def metadata_within(content: bytes, name: str = "the file") -> dict[str, Any]:
    """What `with_metadata` wrote: the fields of `CARD`, `graphs` (name, inputs and outputs of each) and whether `mediapipe`.

    Raises UserError when there is no metadata, or it is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers.table import Table

    try:
        model = schema.Model.GetRootAs(content, 0)
        entries = [model.Metadata(n) for n in range(model.MetadataLength())]
        (entry,) = [each for each in entries if each.Name().decode() == _BUFFER]
        data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
        root = Table(data, int.from_bytes(data[:4], "little"))
        said: dict[str, Any] = {key: _text(root, "ModelMetadata", key) for key in CARD}
        graphs = _tables(root, "ModelMetadata", "subgraph_metadata")
        said["graphs"] = [
            {
                "name": _text(graph, "SubGraphMetadata", "name"),
                **{
                    f"{side}s": [
                        _text(tensor, "TensorMetadata", "name")
                        for tensor in _tables(graph, "SubGraphMetadata", f"{side}_tensor_metadata")
                    ]
                    for side in ("input", "output")
                },
            }
            for graph in graphs
        ]
        said["mediapipe"] = any(_tables(graph, "SubGraphMetadata", "input_process_units") for graph in graphs)
    except Exception as error:  # a damaged flatbuffer fails in many ways, all of them meaning the same
        raise UserError(f"{name} has no metadata, or damaged one ({type(error).__name__}); export it again") from error
    return said


def files_within(path: Path) -> dict[str, bytes]:
    """The files that `with_metadata` put into a .tflite file, by name. Raises UserError when there are none, or others."""
    try:
        with zipfile.ZipFile(path) as files:
            sizes = {info.filename: info.file_size for info in files.infolist()}
            if set(sizes) == {VOCABULARY, LABELS} and sum(sizes.values()) <= path.stat().st_size:
                return {name: files.read(name) for name in sizes}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} holds no vocabulary and labels ({error}); export it again") from error
    raise UserError(f"{path} holds other files than {VOCABULARY} and {LABELS}; export it again")
