"""Test TensorFlow Lite's metadata: the schema's own classes read it, and the file runs as it did without."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as tflite
from ai_edge_litert.interpreter import Interpreter

from tfdistill.errors import UserError
from tfdistill.export.bundle.bundle import export_bundle
from tfdistill.export.convert.convert import convert_models
from tfdistill.export.tflite.metadata import CARD, model_card, with_metadata
from tfdistill.export.tflite.runtime import INPUTS, TFLiteModel
from tfdistill.export.verify import verify_bundle
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "##s", "!", ".", ",", "'", "it", "not"]
BERT = BertConfig(len(PIECES), 16, 1, 2, 32, max_position_embeddings=16, initializer_range=0.5)
LSTM = {"embedding_size": 8, "lstm_size": 6, "dense_size": 7}
# Model, task, outputs.
KINDS = {
    "classes": (BERT, "classification", 3),
    "multi-label": (BERT, "multilabel", 3),
    "score": (BERT, "regression", 1),
    "tokens": (BERT, "token_classification", 3),
    "spans": (BERT, "question_answering", None),
    "next sentence": (BERT, "next_sentence", None),
    "pairs": (BiLSTMConfig(len(PIECES), **LSTM, pair=True), "classification", 3),
}
CARD_GIVEN = {"name": "Film reviews", "version": "2.1", "author": "A. Writer", "license": "Apache-2.0"}
VOCABULARY = "".join(f"{piece}\n" for piece in PIECES).encode()


def model_of(config, task: str, outputs: int | None, spread: float = 0.5) -> TextModel:
    model = TextModel(config, outputs, task, ("no", "yes", "perhaps") if outputs == 3 else None)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "seed" not in weight.path and weight.ndim > 1:
            weight.assign(rng.normal(0, spread, weight.shape))
    model.tokenizer = Tokenizer(PIECES)
    return model


@pytest.fixture(scope="module")
def models():
    return {name.replace(" ", "-"): model_of(*kind) for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """Of each model a file for rows of 6 and of 8 pieces, without metadata."""
    out = tmp_path_factory.mktemp("files")
    made = convert_models(
        [(model, name) for name, model in models.items()], out, length=[6, 8], modes=["fp32"], workers=1
    )
    return {name: each["fp32"].path.read_bytes() for name, each in zip(models, made, strict=True)}


@pytest.fixture(scope="module", params=[name.replace(" ", "-") for name in KINDS])
def made(request, models, files):
    """A model, its file without metadata, and with it."""
    model = models[request.param]
    card = model_card(
        CARD_GIVEN, family=model.family, task=model.task, quantization="fp32", label_names=("no", "yes", "perhaps")
    )
    plain = files[request.param]
    return model, plain, with_metadata(plain, VOCABULARY, b"no\nyes\nperhaps\n", card=card, task=model.task)


def schema():
    """The published schema's own classes, as MediaPipe has them; its package is not imported."""
    package = find_spec("mediapipe")
    if package is None:
        pytest.skip("mediapipe is not installed")
    path = Path(package.submodule_search_locations[0], "tasks", "metadata", "metadata_schema_py_generated.py")
    spec = spec_from_file_location("metadata_schema", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_schema(content: bytes):
    """The metadata read with the schema's own classes."""
    classes, model = schema(), tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    data = model.buffers[entry.buffer].data.tobytes()
    assert classes.ModelMetadata.ModelMetadataBufferHasIdentifier(data, 0)
    return classes, classes.ModelMetadataT.InitFromObj(classes.ModelMetadata.GetRootAs(data, 0))


@pytest.mark.slow
def test_the_schemas_own_classes_read_it(made):
    model, _, content = made
    task = model.task
    classes, read = of_schema(content)
    assert (read.name, read.version, read.author, read.license) == (
        b"Film reviews",
        b"2.1",
        b"A. Writer",
        b"Apache-2.0",
    )
    assert read.description.startswith(f"{model.family} for {task.replace('_', ' ')}: ".encode())
    assert read.minParserVersion == b"1.0.1"
    assert [about.name for about in read.subgraphMetadata] == [b"length_6", b"serving_default"]
    graphs = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0)).subgraphs
    for graph, about in zip(graphs, read.subgraphMetadata, strict=True):
        assert about.description and not about.inputProcessUnits
        # In the order of the graph's inputs, whatever it is.
        for index, tensor in zip(graph.inputs, about.inputTensorMetadata, strict=True):
            assert tensor.name.decode() in graph.tensors[index].name.decode()
            assert len(tensor.dimensionNames) == len(graph.tensors[index].shape) == 2
            assert tensor.stats.max.tolist() == [14.0 if tensor.name == b"token_ids" else 1.0]
            assert isinstance(tensor.content.contentProperties, classes.FeaturePropertiesT)
        assert {tensor.name.decode() for tensor in about.inputTensorMetadata} == set(INPUTS)
        (ids,) = [tensor for tensor in about.inputTensorMetadata if tensor.name == b"token_ids"]
        (vocabulary,) = ids.associatedFiles
        assert (vocabulary.name, vocabulary.type) == (b"vocab.txt", classes.AssociatedFileType.VOCABULARY)
        (output,) = about.outputTensorMetadata
        assert output.name == b"logits" and len(output.dimensionNames) == len(graph.tensors[graph.outputs[0]].shape)
        (labels,) = output.associatedFiles
        names = task not in ("regression", "question_answering")
        kinds = classes.AssociatedFileType
        assert (labels.name, labels.type) == (b"labels.txt", kinds.TENSOR_AXIS_LABELS if names else kinds.DESCRIPTIONS)


@pytest.mark.heavy
def test_it_runs_as_without(made, tmp_path):
    """Mapped into memory, too."""
    model, plain, content = made
    rows = model.tokenizer.encode(["a good film!", "it s not", "films"], max_length=8)
    (ids,) = model.tokenizer(["a good film!"], length=8)["token_ids"]
    inputs = {"token_ids": ids[None], "padding_mask": (ids[None] > 0).astype("int32"), "segment_ids": ids[None] * 0}
    results = {}
    for name, each in (("plain", plain), ("with", content)):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(each)
        mapped = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
        results[name] = TFLiteModel(path).predict(rows), mapped(**inputs)["logits"]
    for one, other in zip(results["plain"], results["with"], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def plain(files):
    return files["classes"]


@pytest.mark.heavy
def test_the_same_arguments_give_the_same_bytes(plain):
    card = dict.fromkeys(CARD, "é")
    first, second = (with_metadata(plain, b"a\n", b"x\n", card=card, task="classification") for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_weights_that_lie_behind_the_flatbuffer_are_kept(tmp_path):
    """AI Edge Quantizer writes them there where they are larger than 256 kB, as those of all real models are."""
    model = model_of(dataclasses.replace(BERT, vocab_size=20000), "classification", 3, spread=0.2)
    model.tokenizer = Tokenizer([*PIECES, *(f"w{n}" for n in range(20000 - len(PIECES)))])
    (files,) = convert_models([(model, "m")], tmp_path, length=8, modes=["weight_int8"], workers=1)
    file = files["weight_int8"].path
    assert any(buffer.offset > 1 for buffer in tflite.ModelT.InitFromPackedBuf(file.read_bytes(), 0).buffers)
    bundle = export_bundle(model, tmp_path / "bundle", length=8, quantize="weight_int8")
    verify_bundle(bundle)
    ids = np.array([2, 5, 700, 19999, 3], np.int32)
    np.testing.assert_array_equal(TFLiteModel(bundle / "model.tflite").row(ids), TFLiteModel(file).row(ids))


@pytest.mark.heavy
def test_metadata_goes_in_once(plain):
    card = dict.fromkeys(CARD, "x")
    content = with_metadata(plain, b"a\n", b"b\n", card=card, task="classification")
    with pytest.raises(UserError, match="metadata"):
        with_metadata(content, b"a\n", b"b\n", card=card, task="classification")
    with pytest.raises(UserError, match="logits"):
        with_metadata(plain, b"a\n", b"b\n", card=card, task="classification", mediapipe=True)


def test_the_card_has_defaults():
    card = model_card(
        {}, family="bert", task="token_classification", quantization="fp16", label_names=list("abcdefghij")
    )
    assert card == {
        "name": "bert fp16",
        "description": "bert for token classification: a, b, c, d, e, f, g, h, …. Made by tfdistill.",
        "version": "1",
        "author": "not stated",
        "license": "not stated",
    }
