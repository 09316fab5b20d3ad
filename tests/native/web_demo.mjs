// The page of apps/web_demo in headless Chromium: node web_demo.mjs CHROMIUM PLAYWRIGHT FOLDER SCREENSHOTS PHOTO...
// One JSON object out: what the page says of each photo, without a network at the end, and of a model that is missing.
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, playwright, folder, screenshots, ...photos] = process.argv.slice(2);
const { chromium: driver } = await import(pathToFileURL(join(playwright, "index.mjs")));
const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".wasm": "application/wasm" };

let broken = false; // the model cannot be fetched
const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, "http://host");
  const path = join(folder, normalize(pathname === "/" ? "index.html" : decodeURIComponent(pathname)));
  if (!existsSync(path) || !statSync(path).isFile() || (broken && path.endsWith(".edgez"))) return response.writeHead(404).end();
  const { size, mtime } = statSync(path);
  const headers = { "content-type": TYPES[extname(path)] ?? "application/octet-stream", "content-length": size, "last-modified": mtime.toUTCString() };
  response.writeHead(200, headers);
  return request.method === "HEAD" ? response.end() : createReadStream(path).pipe(response);
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}/`;
const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const browser = await driver.launch({ executablePath: chromium, args: [...args, ...(process.env.EDGEWRIGHT_CHROMIUM_ARGS?.split(" ") ?? [])] });

const said = { messages: [], photos: [], screenshots: [] };

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1080, height: 820 }, ...options });
  const page = await context.newPage();
  page.on("console", (message) => said.messages.push(message.text()));
  page.on("pageerror", (error) => said.messages.push(String(error)));
  return { context, page };
}

const state = (page, ...wanted) => page.waitForFunction((names) => names.includes(document.getElementById("status").dataset.state), wanted, { timeout: 120_000 });
const read = (page) => page.evaluate(() => ({
  state: document.getElementById("status").dataset.state,
  message: document.getElementById("message").textContent,
  timing: document.getElementById("timing").textContent,
  labels: [...document.querySelectorAll("#results .label")].map((node) => node.textContent),
  shares: [...document.querySelectorAll("#results .share")].map((node) => node.textContent),
}));

async function choose(page, photo) {
  await page.evaluate(() => { document.getElementById("results").replaceChildren(); });
  await page.setInputFiles("#choose", photo);
  await page.waitForFunction(() => document.querySelector("#results li") !== null, null, { timeout: 120_000 });
  await state(page, "ready", "error");
  return read(page);
}

async function shoot(page, name) {
  const path = join(screenshots, `${name}.png`);
  await page.screenshot({ path, fullPage: true });
  said.screenshots.push(path);
}

const { context, page } = await open({ colorScheme: "light" });
await page.goto(origin);
await state(page, "ready", "error");
said.opened = await read(page);
await shoot(page, "ready-light");
for (const photo of photos) said.photos.push(await choose(page, photo));
await shoot(page, "light");
await page.emulateMedia({ colorScheme: "dark" });
await shoot(page, "dark");
said.noPhoto = await choose(page, { name: "text.png", mimeType: "image/png", buffer: Buffer.from("this is no picture") });
await shoot(page, "error-dark");

await page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
await context.setOffline(true);
await page.reload();
await state(page, "ready", "error");
said.offline = await choose(page, photos[0]);
await context.close();

broken = true;
const other = await open({ viewport: { width: 390, height: 844 } });
await other.page.goto(origin);
await state(other.page, "error");
said.broken = await read(other.page);
await shoot(other.page, "broken-narrow");
broken = false;
await other.page.click("#again");
await state(other.page, "ready");
said.again = await read(other.page);
await choose(other.page, photos[0]);
await shoot(other.page, "narrow");

process.stdout.write(JSON.stringify(said));
await browser.close();
server.close();
