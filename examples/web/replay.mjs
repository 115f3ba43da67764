// What the page measures. Knows neither the page nor what runs the model.

/**
 * Texts on which MediaPipe's tokenizer and BERT's must agree, and two kinds on which they may not. MediaPipe's lower-cases ASCII
 * only and keeps accents, keeps control characters, does not know [CLS] and its like within a text, and takes words that have
 * no pieces, such as those of over 100 characters, for padding.
 */
export const GROUPS = ["plain ASCII", "odd ASCII", "other"];

export function groupOf(text) {
  if (!/^[\x00-\x7f]*$/.test(text)) {
    return 2;
  }
  const odd = /[^\t\n\r\x20-\x7e]|\[(PAD|UNK|CLS|SEP|MASK)\]|[A-Za-z0-9]{101}/;
  return odd.test(text) ? 1 : 0;
}

/** What runs a bundle, the better first. Throws where nothing does. */
export function enginesFor(manifest) {
  const engines = manifest.mediapipe ? ["mediapipe"] : [];
  // LiteRT.js 2.5.3 refuses a file with a fused LSTM: "Variable tensors not yet supported".
  if (!manifest.operators.UNIDIRECTIONAL_SEQUENCE_LSTM) {
    engines.push("litert");
  }
  if (!engines.length) {
    throw new Error("LiteRT.js loads no file with an LSTM; export the bundle with --mediapipe");
  }
  return engines;
}

/** A difference of probabilities that is listed even when the class is the same. */
export const LISTED = 0.01;

/** Position of the largest number. */
export function argmax(values) {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}

/**
 * Runs all golden vectors. `engine.run(vector)` gives what `vector[engine.values]` should be: `probabilities` of shape (C),
 * or `logits` of shape (C), or (tokens, C) with the rows one after another.
 *
 * Gives {groups: [{name, texts, same, largest}], differing: [{text, difference, sameClass, expected, found}]}.
 */
export async function replay(engine, golden) {
  const groups = GROUPS.map((name) => ({name, texts: 0, same: 0, largest: 0}));
  const differing = [];
  for (const vector of golden.vectors) {
    const rows = [vector[engine.values]].flat();
    const classes = Array.isArray(rows[0]) ? rows[0].length : rows.length;
    const expected = rows.flat();
    const found = await engine.run(vector);
    const difference = largestDifference(expected, found);
    const sameClass = Number.isFinite(difference) && sameClasses(expected, found, classes);
    const group = groups[groupOf(`${vector.text} ${vector.text_b ?? ""}`)];
    group.texts += 1;
    group.same += sameClass;
    group.largest = Math.max(group.largest, difference);
    if (!sameClass || difference > LISTED) {
      differing.push({text: vector.text, difference, sameClass, expected, found});
    }
  }
  return {groups, differing};
}

/** Infinite where a number is missing, too many or NaN, which no comparison would find. */
function largestDifference(expected, found) {
  const differences = expected.map((value, index) => Math.abs(value - found[index]));
  const whole = found.length === expected.length && differences.every(Number.isFinite);
  return whole ? Math.max(0, ...differences) : Infinity;
}

function sameClasses(expected, found, classes) {
  for (let start = 0; start < expected.length; start += classes) {
    const row = [start, start + classes];
    if (argmax(expected.slice(...row)) !== argmax(found.slice(...row))) {
      return false;
    }
  }
  return true;
}

/** Milliseconds of `run()`: {median, p90, runs}, after three runs to warm up. At least 10 runs, and 50 or one second. */
export async function latency(run) {
  for (let n = 0; n < 3; n += 1) {
    await run();
  }
  const times = [];
  const begin = performance.now();
  while (times.length < 10 || (times.length < 50 && performance.now() - begin < 1000)) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  const at = (share) => times[Math.floor(share * (times.length - 1))];
  return {median: at(0.5), p90: at(0.9), runs: times.length};
}
