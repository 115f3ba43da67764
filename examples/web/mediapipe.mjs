// MediaPipe's TextClassifier: texts in, probabilities out. For bundles that were exported with --mediapipe.

import {FilesetResolver, TextClassifier} from "@mediapipe/tasks-text";

const WASM = new URL("./node_modules/@mediapipe/tasks-text/wasm", import.meta.url).href;

/** `model` is the file's Uint8Array, `labels` the lines of labels.txt. */
export async function open(model, labels) {
  const files = await FilesetResolver.forTextTasks(WASM);
  const classifier = await TextClassifier.createFromOptions(files, {baseOptions: {modelAssetBuffer: model}});
  return {
    name: "MediaPipe TextClassifier",
    values: "probabilities",
    /** Probabilities in the order of the labels, of one golden vector or anything else with a `text`. */
    async run({text}) {
      const found = new Array(labels.length).fill(NaN);
      for (const {categoryName, score} of classifier.classify(text).classifications[0].categories) {
        if (!labels.includes(categoryName)) {
          throw new Error(`model.tflite has the class ${categoryName}; labels.txt has ${labels.join(", ")}`);
        }
        found[labels.indexOf(categoryName)] = score;
      }
      return found;
    },
    close: () => classifier.close(),
  };
}
