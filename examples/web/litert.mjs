// LiteRT's JavaScript: word pieces in, logits out. For any bundle; the ids of golden.json stand in for a tokenizer.

import {loadAndCompile, loadLiteRt, Tensor} from "@litertjs/core";

const WASM = new URL("./node_modules/@litertjs/core/wasm/", import.meta.url).href;
const LEAST = 1e-30; // of a probability, so that its logarithm is finite; as in tfdistill

let runtime;

/** `model` is the file's Uint8Array, `manifest` that of its bundle. */
export async function open(model, labels, manifest) {
  await (runtime ??= loadLiteRt(WASM));
  const compiled = await loadAndCompile(model, {accelerator: "wasm"});
  const inputs = compiled.getInputDetails().map((each) => each.name);
  return {
    name: "LiteRT.js",
    values: "logits",
    /** Logits of a golden vector: C numbers, or tokens × C. */
    async run({token_ids, segment_ids}) {
      // The shortest signature that the row fits in.
      const length = manifest.lengths.find((size) => token_ids.length <= size);
      const signature = length === manifest.length ? "serving_default" : `length_${length}`;
      const row = (values) => new Tensor(Int32Array.from({length}, (_, index) => values[index] ?? 0), [1, length]);
      const given = {token_ids: row(token_ids), padding_mask: row(token_ids.map(() => 1)), segment_ids: row(segment_ids)};
      const used = Object.fromEntries(Object.entries(given).filter(([name]) => inputs.includes(name)));
      const outputs = await compiled.run(signature, used);
      const found = outputs[manifest.output];
      if (!found) {
        throw new Error(`model.tflite gives ${Object.keys(outputs).join(", ")}; manifest.json has ${manifest.output}`);
      }
      const values = Array.from(found.toTypedArray());
      for (const tensor of [...Object.values(given), found]) {
        tensor.delete();
      }
      const perToken = found.type.layout.dimensions.length === 3;
      const real = perToken ? values.slice(0, token_ids.length * labels.length) : values;
      return manifest.output === "logits" ? real : real.map((value) => Math.log(Math.max(value, LEAST)));
    },
    close: () => compiled.delete(),
  };
}
