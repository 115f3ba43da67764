"""A .tflite file that MediaPipe's TextClassifier takes as it is: it holds vocabulary and labels, and says what its tensors are.

The format is that of TensorFlow Lite's metadata: a buffer called TFLITE_METADATA (metadata_schema.fbs, version 1.1.0, the first
with BERT's tokenizer) within the model's flatbuffer, and the files it names as a zip archive behind it. MediaPipe's own writer
of these does not import in mediapipe 1.2.2, so that only its schema is used here. Imports no TensorFlow.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from tfdistill.errors import MissingExtra, UserError
from tfdistill.export.runtime import INPUTS, PROBABILITIES

VOCABULARY, LABELS = "vocab.txt", "labels.txt"
_BUFFER, _PARSER = "TFLITE_METADATA", "1.1.0"
# What TextClassifier looks for, and what our inputs are called.
_ROLES = {
    "token_ids": ("ids", "Word pieces of the text, [CLS] and [SEP] included, then zeros."),
    "padding_mask": ("mask", "1 where a word piece stands, 0 behind."),
    "segment_ids": ("segment_ids", "0: there is one text."),
}


def check_fits(task: str, pair: bool, lengths: int, lower_case: bool) -> None:
    """Raises UserError for a model that TextClassifier cannot run, or would run wrongly, and where its schema is missing.

    Args:
        task: of the model.
        pair: whether it is known to read two texts.
        lengths: how many the file is to have.
        lower_case: whether its tokenizer lower-cases.
    """
    if task != "classification" or pair:
        raise UserError(
            f"MediaPipe's TextClassifier sorts single texts into classes; received a model for "
            f"{'pairs' if pair else task}; leave --mediapipe out"
        )
    if lengths > 1:
        raise UserError(f"MediaPipe takes files of one length; received {lengths}; give one --length")
    if not lower_case:
        raise UserError(
            "MediaPipe's tokenizer lower-cases every text and this vocabulary is cased; leave --mediapipe out"
        )
    _schema()


def with_metadata(content: bytes, vocabulary: bytes, labels: bytes, *, name: str, description: str) -> bytes:
    """The file with metadata, vocabulary and labels inside.

    Args:
        content: a .tflite file with the output `probabilities`.
        vocabulary, labels: one word piece, or class, a line.
        name, description: of the model.

    Raises:
        UserError: another file.
        MissingExtra: MediaPipe is not installed.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as tflite

    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    if len(model.subgraphs) != 1 or any(each.name.decode() == _BUFFER for each in model.metadata or []):
        raise UserError("MediaPipe takes a file with one graph, without metadata as yet; received another")
    (graph,) = model.subgraphs
    names = [tensor.name.decode() for tensor in (graph.tensors[index] for index in graph.inputs)]
    inputs = [next((role for role in INPUTS if role in name), name) for name in names]
    if sorted(inputs) != sorted(INPUTS) or len(graph.outputs) != 1 or graph.tensors[graph.outputs[0]].shape[0] != 1:
        raise UserError(f"MediaPipe takes a file with {', '.join(INPUTS)} and one output; received {', '.join(names)}")
    metadata = _metadata(inputs, name, description)
    held = tflite.BufferT()
    held.data = list(metadata)
    entry = tflite.MetadataT()
    entry.name, entry.buffer = _BUFFER, len(model.buffers)
    model.buffers.append(held)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + len(metadata) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    archive = io.BytesIO(bytes(builder.Output()))
    # Stored, not deflated: MediaPipe maps the files as they lie. A fixed date, so that the same model gives the same bytes.
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as files:
        for file, text in ((LABELS, labels), (VOCABULARY, vocabulary)):
            files.writestr(zipfile.ZipInfo(file), text)
    return archive.getvalue()


def files_within(path: Path) -> dict[str, bytes]:
    """The files that `with_metadata` put into a .tflite file, by name. Raises UserError when there are none, or others."""
    try:
        with zipfile.ZipFile(path) as files:
            sizes = {info.filename: info.file_size for info in files.infolist()}
            if set(sizes) == {VOCABULARY, LABELS} and sum(sizes.values()) <= path.stat().st_size:
                return {name: files.read(name) for name in sizes}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} holds no vocabulary and labels for MediaPipe ({error}); export it again") from error
    raise UserError(f"{path} holds other files than {VOCABULARY} and {LABELS} for MediaPipe; export it again")


def _metadata(inputs: list[str], name: str, description: str) -> bytes:
    """The metadata flatbuffer for inputs in this order."""
    import flatbuffers

    schema = _schema()

    def make(kind: str, **fields: Any) -> Any:
        made = getattr(schema, f"{kind}T")()
        for field, value in fields.items():
            setattr(made, field, value)
        return made

    def file(name: str, description: str, kind: int) -> Any:
        return make("AssociatedFile", name=name, description=description, type=kind)

    def tensor(name: str, description: str, **fields: Any) -> Any:
        content = make(
            "Content",
            contentPropertiesType=schema.ContentProperties.FeatureProperties,
            contentProperties=schema.FeaturePropertiesT(),
        )
        return make("TensorMetadata", name=name, description=description, content=content, **fields)

    pieces = file(VOCABULARY, "Word pieces; the line number is the id.", schema.AssociatedFileType.VOCABULARY)
    tokenizer = make(
        "ProcessUnit",
        optionsType=schema.ProcessUnitOptions.BertTokenizerOptions,
        options=make("BertTokenizerOptions", vocabFile=[pieces]),
    )
    classes = file(LABELS, "Names of the classes, in their order.", schema.AssociatedFileType.TENSOR_AXIS_LABELS)
    graph = make(
        "SubGraphMetadata",
        inputTensorMetadata=[tensor(*_ROLES[role]) for role in inputs],
        outputTensorMetadata=[tensor(PROBABILITIES, "Probability of each class.", associatedFiles=[classes])],
        inputProcessUnits=[tokenizer],
    )
    model = make(
        "ModelMetadata", name=name, description=description, subgraphMetadata=[graph], minParserVersion=_PARSER
    )
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"M001")
    return bytes(builder.Output())


def _schema() -> ModuleType:
    """MediaPipe's schema by itself: to import the whole of it takes seconds, and TensorFlow."""
    package = find_spec("mediapipe")
    path = None
    if package is not None and package.submodule_search_locations:
        path = Path(package.submodule_search_locations[0], "tasks", "metadata", "metadata_schema_py_generated.py")
    if path is None or not path.is_file():
        raise MissingExtra("mediapipe", "mediapipe")
    found = spec_from_file_location("tfdistill_metadata_schema", path)
    assert found is not None and found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module
