// Runs snippets in pages of a headless Chromium: node web_browser.mjs CHROMIUM PLAYWRIGHT PACKAGE FILES [BESIDE...].
// One JSON object a line in, {headers, script, argument}, one out, {value | error, requests, console}.
import { createHash } from "node:crypto";
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [chromium, playwright, webPackage, files, ...beside] = process.argv.slice(2);
const { chromium: driver } = await import(pathToFileURL(join(playwright, "index.mjs")));
const ROOTS = { pkg: webPackage, files, ...Object.fromEntries(beside.map((folder, i) => [`beside${i}`, folder])) };
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };

let job = { headers: {} };
let requests = [];

function serve(request, response) {
  const url = new URL(request.url, "http://host");
  requests.push(`${request.method} ${url.pathname}`);
  if (url.pathname === "/") return response.writeHead(200, { "content-type": "text/html", ...job.headers }).end(`<!doctype html><title>t</title>${job.head ?? ""}`);
  const [root, ...rest] = decodeURIComponent(url.pathname).slice(1).split("/");
  const path = ROOTS[root] && join(ROOTS[root], normalize(rest.join("/")));
  if (!path || !existsSync(path) || !statSync(path).isFile()) return response.writeHead(404).end();
  sendFile(path, url.searchParams, request, response);
}

/** cut=N: the connection breaks after N bytes.  slow: some bytes, then nothing.  untagged: without a validator. */
function sendFile(path, wishes, request, response) {
  const bytes = statSync(path).size;
  const headers = { "content-type": TYPES[extname(path)] ?? "application/octet-stream", "content-length": bytes, ...job.fileHeaders };
  if (extname(path) === ".edgez" && !wishes.has("untagged")) headers.etag = `"${createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 16)}"`;
  response.writeHead(200, headers);
  if (request.method === "HEAD") return response.end();
  if (wishes.has("cut")) return response.write(readFileSync(path).subarray(0, Number(wishes.get("cut"))), () => response.destroy());
  if (wishes.has("slow")) return response.write(readFileSync(path).subarray(0, 1000));
  createReadStream(path).pipe(response);
}

const server = createServer(serve);
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;
const args = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await driver.launch({ executablePath: chromium, args: ["--no-sandbox", ...args, ...(process.env.EDGEWRIGHT_CHROMIUM_ARGS?.split(" ") ?? [])] });
let context = await browser.newContext();

async function run() {
  if (!job.sameBrowser) {
    await context.close();
    context = await browser.newContext();
  }
  requests = [];
  const console = [];
  const page = await context.newPage();
  page.on("console", (message) => console.push(message.text()));
  page.on("pageerror", (error) => console.push(String(error)));
  try {
    await page.goto(origin + (job.page ?? "/"));
    if (job.offline) await context.setOffline(true);
    const body = `(async (argument) => { ${job.script} })(${JSON.stringify(job.argument ?? null)}).then((value) => ({ value }), (error) => ({ error: { name: error.name, code: error.code, message: error.message } }))`;
    const found = await page.evaluate(body);
    return { ...found, requests, console };
  } finally {
    await context.setOffline(false);
    await page.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  job = { headers: {}, ...JSON.parse(line) };
  const answer = await run().catch((error) => ({ error: { name: "Driver", message: String(error) }, requests, console: [] }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
server.close();
