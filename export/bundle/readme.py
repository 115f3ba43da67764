"""The README.md of a bundle: what it is, and the lines that load it."""

from __future__ import annotations

from typing import Any

from tfdistill.data.splits import PER_TOKEN
from tfdistill.export.tflite.metadata import MEANING
from tfdistill.export.tflite.runtime import LOGITS, signature_name

_HEAD = """# {family} for {task}, {quantization}

`model.tflite` reads one text of at most {length} word pieces and gives one number for each of
{labels}. Made by tfdistill {version}; `tfdistill verify .` checks that all files are as they were made.
{judged}

{about}

| file | what it is |
| --- | --- |
| `model.tflite` | the model: built-in operators only; metadata, vocabulary and labels are inside, too |
| `vocab.txt` | word pieces; the line number is the id |
| `tokenizer_config.json` | whether texts are lower-cased |
| `labels.txt` | names of the outputs, in their order |
| `golden.json` | texts with their ids and outputs: run them in your app's unit tests |
| `manifest.json` | checksums, versions, operators, accuracy |

## Inputs and outputs

Signature `serving_default`, three inputs of int32 [1, {length}]:

- `token_ids`: [CLS], the pieces of the text, [SEP]{pair}, then zeros. Cut the text so that [SEP] still fits.
- `padding_mask`: 1 where a piece stands, 0 behind.
- `segment_ids`: 0{second}.

Output `{output}`, float32 {shape}. {meaning}
{shorter}
The tokenizer is BERT's: clean up, split at white space and punctuation{lower}, then WordPiece, longest piece first. Do not write
your own unless `golden.json` passes.

The lines below show the calls; they are not compiled in tfdistill's tests.
{mediapipe}
{text_in}## Accelerators

By the conditions that the delegates of TensorFlow Lite check; not tried on a device. Each operator that is left costs a way to the
processor and back, so measure before you ship one (`tfdistill bench --adb --delegate gpu`); the processor takes all of them.

| delegate | takes | leaves to the processor |
| --- | --- | --- |
{delegates}

## Kotlin (LiteRT)

```kotlin
val options = Interpreter.Options().apply {{ setNumThreads(2) }}
val interpreter = Interpreter(FileUtil.loadMappedFile(context, "model.tflite"), options)
val outputs = mapOf("{output}" to {kotlin})
interpreter.runSignature(
    mapOf("token_ids" to arrayOf(ids), "padding_mask" to arrayOf(mask), "segment_ids" to arrayOf(segments)),
    outputs, "serving_default")
```

## Swift (TensorFlowLiteSwift)

```swift
let interpreter = try Interpreter(modelPath: Bundle.main.path(forResource: "model", ofType: "tflite")!)
let runner = try interpreter.signatureRunner(with: "serving_default")
try runner.allocateTensors()
try runner.copy(idsData, toInputNamed: "token_ids")        // {length} Int32 each
try runner.copy(maskData, toInputNamed: "padding_mask")
try runner.copy(segmentsData, toInputNamed: "segment_ids")
try runner.invoke()
let {output} = try runner.output(named: "{output}").data
```

## JavaScript (LiteRT.js)
{lstm}
```js
import {{loadLiteRt, loadAndCompile, Tensor}} from '@litertjs/core';
await loadLiteRt('/wasm/');
const model = await loadAndCompile('/model.tflite', {{accelerator: 'wasm'}});
const shape = [1, {length}];                               // ids, mask, segments: Int32Array({length})
const outputs = await model.run({{
  token_ids: new Tensor(ids, shape), padding_mask: new Tensor(mask, shape), segment_ids: new Tensor(segments, shape)}});
```

## Python

```python
from ai_edge_litert.interpreter import Interpreter
run = Interpreter("model.tflite").get_signature_runner("serving_default")
{output} = run(token_ids=ids, padding_mask=mask, segment_ids=segments)["{output}"]
```
"""

_MEDIAPIPE = """
## MediaPipe Tasks: texts in, classes out

`model.tflite` holds its vocabulary and labels, and names its tokenizer, so that MediaPipe's TextClassifier needs none of yours.
Its own lower-cases ASCII letters only, keeps accents and control characters, splits [MASK] and its like, and gives a word that it
does not know the id of [PAD], not of [UNK]: such texts may come out differently than in `golden.json`, whose `logits` are the
logarithms of the `probabilities` that this file gives.

```kotlin
val classifier = TextClassifier.createFromFile(context, "model.tflite")
val classes = classifier.classify(text).classificationResult().classifications()[0].categories()
```

```swift
import MediaPipeTasksText
let path = Bundle.main.path(forResource: "model", ofType: "tflite")!
let classes = try TextClassifier(modelPath: path).classify(text: text).classificationResult.classifications[0].categories
```

```js
import {FilesetResolver, TextClassifier} from '@mediapipe/tasks-text';
const files = await FilesetResolver.forTextTasks('/wasm');
const classifier = await TextClassifier.createFromOptions(files, {baseOptions: {modelAssetPath: '/model.tflite'}});
const classes = classifier.classify(text).classifications[0].categories;
```

```python
from mediapipe.tasks.python import text
classes = text.TextClassifier.create_from_model_path("model.tflite").classify("...").classifications[0].categories
```
"""
_SHORTER = """
The file holds signatures for shorter rows too, on the same weights and faster: {names}. Give a row to the shortest one
that all its pieces fit in; `tokenCount` is their number, [CLS] and [SEP] included:

```kotlin
val lengths = intArrayOf({lengths})
val length = lengths.first {{ it >= tokenCount }}  // of ids, mask and segments
val signature = if (length == lengths.last()) "serving_default" else "length_$length"
```

```swift
let lengths = [{lengths}]
let length = lengths.first {{ $0 >= tokenCount }}!
let signature = length == lengths.last! ? "serving_default" : "length_\\(length)"
```

```js
const lengths = [{lengths}];
const length = lengths.find((each) => each >= tokenCount);
const signature = length === lengths.at(-1) ? 'serving_default' : `length_${{length}}`;  // model.run(signature, inputs)
```
"""
# Version 2.5.3: "Variable tensors not yet supported".
_LSTM = """
LiteRT.js 2.5.3 loads no file with an LSTM, such as this one: in a browser, use MediaPipe and export with `--mediapipe`.
"""
_SUMMED = "They add up to 1."


_TEXT_IN = """## Text in, logits out

`model-text.tflite` takes `text`{second}, string [1], and gives `{output}` and the `token_ids` it read. Its tokenizer is made of
TensorFlow Text's operators `FastBertNormalize` and `FastWordpieceTokenizeWithOffsets`, which a runtime has to register: TensorFlow's
own interpreter in Python does with `tensorflow_text`, a C++ or Android build of yours may link them. LiteRT's ready-made packages
(Python, Android, iOS, JavaScript) and MediaPipe do not load it. Of the {rows} texts in `golden.json` {same:.0f} % get the same ids; it
folds letters by Unicode's NFKC and takes [MASK] and its like for plain text, so others differ.

```python
import tensorflow_text
from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
operators = tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS
run = InterpreterWithCustomOps(model_path="model-text.tflite", custom_op_registerers=operators).get_signature_runner()
{output} = run(text=np.array([text.encode()], object){argument})["{output}"]
```

"""


def _text_in(said: dict[str, Any] | None, pair: bool) -> str:
    if said is None:
        return ""
    second, argument = (" and `text_b`", ", text_b=np.array([text_b.encode()], object)") if pair else ("", "")
    return _TEXT_IN.format(
        second=second, argument=argument, output=LOGITS, rows=said["rows"], same=100 * said["same_ids"]
    )


def _judged(found: dict[str, Any] | None) -> str:
    if found is None or "drop" not in found:
        return "It was not judged on labelled data when it was exported: measure it on yours before you ship it."
    metric = found["metric"]
    return (
        f"On {found['rows']:,} labelled dev texts it has {found[metric]:.4f} {metric.replace('_', ' ')}, the Keras model "
        f"{found['keras_' + metric]:.4f}."
    )


_DELEGATES = {"gpu": "GPU", "nnapi": "NNAPI (Android 11 or newer)", "core_ml": "Core ML"}


def _delegate_row(name: str, said: dict[str, dict[str, int]]) -> str:
    taken, left = (sum(said[key].values()) for key in ("takes", "leaves"))
    kinds = ", ".join(f"{count} {kind}" for kind, count in said["leaves"].items())
    return f"| {name} | {taken} of {taken + left} | {kinds or 'nothing'} |"


def _about(card: dict[str, str]) -> str:
    """The model card in a line, its description apart."""
    return f"{card['name']}, version {card['version']}. Author: {card['author']}. License: {card['license']}.  \n{card['description']}"


def readme(manifest: dict[str, Any], *, pair: bool, lower_case: bool) -> str:
    """The text for a bundle with this manifest.

    Args:
        pair: whether the model reads two texts.
        lower_case: whether its tokenizer lower-cases.
    """
    length, count, tokens = manifest["length"], len(manifest["label_names"]), manifest["task"] in PER_TOKEN
    names = ", ".join(f"`{name}`" for name in manifest["label_names"][:8])
    lengths = ", ".join(map(str, manifest["lengths"]))
    shorter = [f"`{signature_name(n, length)}` takes [1, {n}]" for n in manifest["lengths"] if n != length]
    return _HEAD.format(
        family=manifest["family"],
        task=manifest["task"].replace("_", " "),
        quantization=manifest["quantization"],
        length=length,
        labels=names + (f" and {count - 8} more" if count > 8 else ""),
        version=manifest["versions"]["tfdistill"],
        about=_about(manifest["model_card"]),
        judged=_judged(manifest["parity"]),
        pair=", the pieces of the second text, [SEP]" if pair else "",
        second=", and 1 from the second text's first piece to its [SEP]" if pair else "",
        shape=f"[1, {length}, {count}]" if tokens else f"[1, {count}]",
        output=manifest["output"],
        meaning=_SUMMED if manifest["mediapipe"] else MEANING[manifest["task"]],
        mediapipe=_MEDIAPIPE if manifest["mediapipe"] else "",
        lstm=_LSTM if "UNIDIRECTIONAL_SEQUENCE_LSTM" in manifest["operators"] else "",
        shorter=_SHORTER.format(names=", ".join(shorter), lengths=lengths) if shorter else "",
        text_in=_text_in(manifest["text_in"], pair),
        delegates="\n".join(_delegate_row(name, manifest["delegates"][key]) for key, name in _DELEGATES.items()),
        lower=", lower-case, strip accents" if lower_case else "",
        kotlin=f"arrayOf(Array({length}) {{ FloatArray({count}) }})" if tokens else f"arrayOf(FloatArray({count}))",
    )
