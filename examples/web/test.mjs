// The page in a headless Chromium, as `make web` runs it:
//
//     node test.mjs BUNDLE OTHER
//
// BUNDLE must come out right, and must not with OTHER's model.tflite in place of its own.

import assert from "node:assert/strict";
import {existsSync, readFileSync} from "node:fs";
import {createServer} from "node:http";
import {join} from "node:path";
import {chromium} from "playwright-core";
import {enginesFor, GROUPS} from "./replay.mjs";
import {serve} from "./serve.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const QUIET = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", "--disable-default-apps",
];
// By how much probabilities may differ: float32 in the order of adding up alone; int8 rounds the sums of that.
const closeFor = (quantization) => (quantization === "fp32" ? 1e-3 : 0.05);
const PATIENCE = 120_000;

/** Whatever Chromium asks of another machine comes here, is counted by host and refused: nothing leaves this one. */
async function wall() {
  const asked = {};
  const refuse = (request, where) => {
    const host = new URL(request.method === "CONNECT" ? `http://${request.url}` : request.url).hostname;
    asked[host] = (asked[host] ?? 0) + 1;
    where.end("HTTP/1.1 403 Forbidden\r\n\r\n");
  };
  const server = createServer((request, response) => refuse(request, response.socket));
  server.on("connect", (request, socket) => refuse(request, socket.on("error", () => {})));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {asked, server: `http://127.0.0.1:${server.address().port}`, close: () => server.close()};
}

/**
 * What the page shows for a bundle: {replays: {engine: …}, typed, requests by host, attempts that were stopped}. `typed`, of a text,
 * and the replay in MediaPipe are there when the bundle was exported for it.
 */
async function visit(bundle, files = {}) {
  const engines = enginesFor(JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8")));
  const site = await serve(bundle, 0, files);
  const outside = await wall();
  const requests = {}, stopped = [], errors = [];
  // With a new and empty profile.
  const chrome = await chromium.launch({
    executablePath: CHROMIUM, args: QUIET, proxy: {server: outside.server, bypass: "127.0.0.1"}, chromiumSandbox: false,
  });
  try {
    const browser = await chrome.newContext();
    browser.on("request", (request) => {
      const host = new URL(request.url()).hostname;
      requests[host] = (requests[host] ?? 0) + 1;
    });
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("pageerror", (error) => errors.push(error.message));
    await page.exposeFunction("tellTest", (uri) => stopped.push(uri));
    await page.addInitScript(() =>
      document.addEventListener("securitypolicyviolation", (event) => window.tellTest(event.blockedURI)));
    await page.goto(site.url);
    const ready = async () => {
      await page.waitForFunction(() => ["ready", "failed"].includes(document.body.dataset.state));
      const said = await page.textContent("#model");
      assert.equal(await page.getAttribute("body", "data-state"), "ready", said);
    };
    const replayed = async () => {
      await page.click("#replay");
      await page.waitForFunction(() => document.body.dataset.replay || document.body.dataset.state === "failed");
      assert.equal(await page.getAttribute("body", "data-state"), "ready", await page.textContent("#model"));
      return {
        ...JSON.parse(await page.getAttribute("body", "data-replay")),
        latency: await page.textContent("#latency"),
      };
    };
    await ready();
    const replays = {};
    let typed = null;
    for (const engine of engines) {
      await page.selectOption("#engine", engine);
      await page.evaluate(() => { document.body.dataset.replay = ""; });
      await ready();
      replays[engine] = await replayed();
      if (engine === "mediapipe") {
        await page.fill("#text", "A quiet, moving film.");
        await page.evaluate(() => { document.querySelector("#latency").textContent = ""; });
        await page.click("#classify button");
        await page.waitForFunction(() => document.querySelector("#latency").textContent || document.body.dataset.state === "failed");
        const cells = (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent));
        typed = {classes: await page.$$eval("#classes tr", cells), latency: await page.textContent("#latency")};
      }
    }
    await page.waitForTimeout(500);
    return {replays, typed, requests, stopped, errors, refused: outside.asked};
  } finally {
    await chrome.close();
    site.close();
    outside.close();
  }
}

/** Fails unless the bundle's own texts come out as they did where it was made. (JSON has null for what is infinite.) */
function checkReplays({mediapipe, litert}, golden, quantization) {
  const check = (engine, {name, texts, same, largest}, allowed) => {
    assert.equal(same, texts, `${engine}: class of ${name} texts`);
    assert.ok(largest !== null && largest <= allowed, `${engine}: ${name} texts off by ${largest}, allowed ${allowed}`);
  };
  if (mediapipe) {
    const [plain] = mediapipe.groups;
    assert.ok(plain.texts >= 20, `${plain.texts} plain texts in golden.json`);
    check("MediaPipe", plain, closeFor(quantization));
  }
  for (const group of litert?.groups ?? []) {
    check("LiteRT.js", group, golden.tolerance);
  }
}

function checkTyped({classes, latency}, labels) {
  assert.deepEqual(classes.map(([label]) => label).sort(), [...labels].sort(), "classes of a typed text");
  const sum = classes.reduce((total, [, , score]) => total + Number(score), 0);
  assert.ok(Math.abs(sum - 1) < 1e-3 * labels.length, `scores of a typed text add up to ${sum}`);
  assert.match(latency, /^\d+\.\d\d ms, median of \d+ runs/, "latency of a typed text");
  console.log(`  typed text: ${classes.slice(0, 3).map(([label, , score]) => `${label} ${score}`).join(", ")}; ${latency}`);
}

async function main(bundle, other) {
  const read = (name) => readFileSync(join(bundle, name), "utf8");
  const golden = JSON.parse(read("golden.json")), labels = read("labels.txt").split("\n").slice(0, -1);
  const {quantization, family} = JSON.parse(read("manifest.json"));

  const seen = await visit(bundle);
  for (const [name, {groups, differing, latency}] of Object.entries(seen.replays)) {
    console.log(`${family}, ${quantization}, ${name}: ${latency}`);
    for (const [index, {texts, same, largest}] of groups.entries()) {
      console.log(`  ${GROUPS[index]}: ${same} of ${texts} texts in the same class, largest difference ${largest?.toPrecision(2)}`);
    }
    for (const {text, difference, sameClass} of differing) {
      console.log(`    ${sameClass ? "same class" : "OTHER CLASS"}, ${difference.toFixed(3)}: ${JSON.stringify(text).slice(0, 90)}`);
    }
  }
  checkReplays(seen.replays, golden, quantization);
  if (seen.typed) {
    checkTyped(seen.typed, labels);
  }
  assert.deepEqual(seen.errors, [], "errors on the page");
  assert.deepEqual(Object.keys(seen.requests), ["127.0.0.1"], "hosts that the page asked");
  assert.deepEqual(seen.stopped, [], "requests that the page's policy stopped");
  console.log(`  requests of the page by host: ${JSON.stringify(seen.requests)}; of Chromium's own services, all refused: ` +
    JSON.stringify(seen.refused));

  const exchanged = visit(bundle, {"model.tflite": join(other, "model.tflite")});
  const failure = await exchanged.then(({replays}) => checkReplays(replays, golden, quantization)).catch((error) => error);
  assert.ok(failure instanceof assert.AssertionError, `another model.tflite was not noticed: ${failure}`);
  console.log(`  another model.tflite is found out: ${failure.message.split("\n")[0]}`);
  console.log("2 passed, 0 failed");
}

const [bundle, other] = process.argv.slice(2);
if (!existsSync(CHROMIUM)) {
  console.error(`found no Chromium at ${CHROMIUM}; install one, such as Debian's package chromium, or set CHROMIUM=/path/to/it`);
  process.exit(2);
}
await main(bundle, other).catch((error) => {
  console.error(`failed: ${error.message}`);
  process.exit(1);
});
