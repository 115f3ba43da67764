// The page: loads the bundle at bundle/, classifies what is typed, replays golden.json.

import {enginesFor, latency, LISTED, replay} from "./replay.mjs";

const $ = (selector) => document.querySelector(selector);
const ENGINES = {mediapipe: "./mediapipe.mjs", litert: "./litert.mjs"};
// A page from elsewhere that shows this page's results reads them here.
const page = document.body.dataset;

let bundle, engine;

async function main() {
  bundle = await fetchBundle(new URL("bundle/", document.baseURI));
  const {manifest} = bundle;
  $("#model").textContent =
    `${manifest.family} for ${manifest.task}, ${manifest.quantization}, ${manifest.length} word pieces, ` +
    `${(bundle.model.length / 1e6).toFixed(1)} MB`;
  for (const option of $("#engine").options) {
    option.disabled = !enginesFor(manifest).includes(option.value);
  }
  [$("#engine").value] = enginesFor(manifest);
  $("#engine").onchange = () => start($("#engine").value).catch(fail);
  $("#classify").onsubmit = (event) => {
    event.preventDefault();
    classify($("#text").value).catch(fail);
  };
  $("#replay").onclick = () => replayGolden().catch(fail);
  await start($("#engine").value);
}

async function fetchBundle(base) {
  const get = async (name) => {
    const response = await fetch(new URL(name, base));
    if (!response.ok) {
      throw new Error(`the bundle has no ${name} (status ${response.status}); start with: node serve.mjs BUNDLE`);
    }
    return response;
  };
  const [manifest, golden, labels, model] = await Promise.all([
    get("manifest.json").then((file) => file.json()),
    get("golden.json").then((file) => file.json()),
    get("labels.txt").then((file) => file.text()),
    get("model.tflite").then((file) => file.arrayBuffer()),
  ]);
  return {manifest, golden, labels: labels.split("\n").slice(0, -1), model: new Uint8Array(model)};
}

async function start(name) {
  page.state = "loading";
  $("#classify button").disabled = $("#replay").disabled = true;
  engine?.close();
  engine = undefined;
  engine = await (await import(ENGINES[name])).open(bundle.model, bundle.labels, bundle.manifest);
  // Without a tokenizer there is nothing to be done with a text.
  $("#classify").hidden = engine.values !== "probabilities";
  $("#classify button").disabled = $("#replay").disabled = false;
  page.state = "ready";
}

async function classify(text) {
  const scores = await engine.run({text});
  const order = scores.map((score, index) => ({score, label: bundle.labels[index]})).sort((a, b) => b.score - a.score);
  $("#classes tbody").replaceChildren(...order.map(({score, label}) => {
    const bar = Object.assign(document.createElement("meter"), {value: score});
    return row([label, bar, score.toFixed(4)]);
  }));
  showLatency(await latency(() => engine.run({text})));
}

async function replayGolden() {
  page.replay = "";
  $("#note").textContent = "…";
  const found = await replay(engine, bundle.golden);
  $("#groups tbody").replaceChildren(...found.groups.map((group) => row([
    group.name, String(group.texts), `${group.same} of ${group.texts}`, `${group.largest.toPrecision(2)}`])));
  $("#differing tbody").replaceChildren(...found.differing.map((each) => row([
    JSON.stringify(each.text).slice(0, 120), numbers(each.expected), numbers(each.found), each.difference.toFixed(3)])));
  $("#note").textContent =
    `${engine.name}, ${engine.values}. ${found.differing.length} texts differ in class or by more than ${LISTED}.`;
  showLatency(await latency(() => engine.run(bundle.golden.vectors[0])));
  page.replay = JSON.stringify({engine: engine.name, ...found});
}

function showLatency({median, p90, runs}) {
  $("#latency").textContent =
    `${median.toFixed(2)} ms, median of ${runs} runs when warm (90th percentile ${p90.toFixed(2)} ms)`;
}

const numbers = (values) => values.slice(0, 4).map((value) => value.toFixed(3)).join(" ") + (values.length > 4 ? " …" : "");

function row(cells) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    made.insertCell().append(cell);
    made.lastChild.className = typeof cell === "string" && /^-?[\d.]+$/.test(cell) ? "number" : "";
  }
  return made;
}

function fail(error) {
  $("#model").textContent = String(error.message ?? error);
  $("#model").className = "error";
  page.state = "failed";
}

main().catch(fail);
