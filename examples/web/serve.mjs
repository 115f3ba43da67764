// Serves the page, its packages and one bundle to this machine only:
//
//     node serve.mjs BUNDLE [PORT]

import {createReadStream, existsSync} from "node:fs";
import {stat} from "node:fs/promises";
import {createServer} from "node:http";
import {dirname, extname, resolve, sep} from "node:path";
import {fileURLToPath} from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const TYPES = {
  ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json",
  ".mjs": "text/javascript", ".txt": "text/plain", ".wasm": "application/wasm",
};

/** Starts on 127.0.0.1; port 0 is any free one. `files` gives names within the bundle another file, for tests. */
export async function serve(bundle, port = 0, files = {}) {
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const file = path.startsWith("/bundle/")
      ? files[path.slice(8)] ?? within(bundle, path.slice(8))
      : within(HERE, path === "/" ? "index.html" : path.slice(1));
    const found = file && (await stat(file).catch(() => null));
    if (request.method !== "GET" || !found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
      "Content-Length": found.size,
      "Cache-Control": "no-store",
      // Isolated from other pages, so that the browser's clock ticks every 5 microseconds, not every 100.
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    createReadStream(file).pipe(response);
  });
  await new Promise((done, failed) => server.once("error", failed).listen(port, "127.0.0.1", done));
  return {url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close()};
}

/** The file of that name in a directory or below, or null for one outside. */
function within(directory, name) {
  const file = resolve(directory, name);
  return file.startsWith(resolve(directory) + sep) ? file : null;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [bundle, port = "8080"] = process.argv.slice(2);
  if (!bundle || !existsSync(resolve(bundle, "manifest.json"))) {
    console.error(`received ${bundle ?? "nothing"}; expected a bundle, made by: tfdistill export MODEL --mediapipe --out BUNDLE`);
    process.exit(2);
  }
  console.log(`serving ${bundle} at ${(await serve(bundle, Number(port))).url}`);
}
