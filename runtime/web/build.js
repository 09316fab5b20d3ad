// Which .wasm file is taken.
import { EdgewrightError } from "./errors.js";
import { instantiate } from "./engine.js";

/** (module (func (drop (v128.const i32x4 0 0 0 0)))) */
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 23, 1, 21, 0, 253, 12, ...Array(16).fill(0), 26, 11];

const FILES = {
  relaxed: new URL("./dist/edgewright-relaxed.wasm", import.meta.url),
  simd: new URL("./dist/edgewright-simd.wasm", import.meta.url),
  "relaxed-every": new URL("./dist/edgewright-relaxed-every.wasm", import.meta.url),
  "simd-every": new URL("./dist/edgewright-simd-every.wasm", import.meta.url),
};
const ORDER = ["relaxed", "simd"];

let chosen = null;
const compiled = new Map();

/**
 * The module for a session.
 * @param {string | undefined} wanted "relaxed", "simd", "scalar"; undefined: the best one that computes rightly here.
 * @param {string | undefined} folder Where the files are; undefined: beside this one.
 * @returns {Promise<{build: string, module: WebAssembly.Module, every: string}>} every: the URL of the same build with every
 * operator; the module has those that most networks need.
 */
export async function chooseBuild(wanted, folder) {
  checkSimd();
  const urls = folder ? inFolder(folder) : FILES;
  if (wanted !== undefined) {
    const name = wanted === "scalar" ? "simd" : wanted;
    if (ORDER.includes(name)) return { build: wanted, module: await compile(urls[name]), every: urls[`${name}-every`].href };
    throw new EdgewrightError("INVALID_ARGUMENT", `build '${wanted}' is not one of relaxed, simd, scalar`);
  }
  const candidates = ORDER.map((build) => [build, urls[build], urls[`${build}-every`]]);
  if (folder) return firstRight(candidates);
  chosen ??= firstRight(candidates);
  try {
    return await chosen;
  } catch (error) {
    chosen = null; // a file that could not be fetched may be there next time
    throw error;
  }
}

/** The first of [name, url, url of every operator] whose kernels compute what plain code does. */
export async function firstRight(candidates) {
  const wrong = [];
  for (const [build, url, every] of candidates) {
    const bytes = await fetchBytes(url);
    if (!WebAssembly.validate(bytes)) wrong.push(`${build} needs instructions that are not here`);
    else {
      const module = await compileBytes(bytes);
      const row = (await instantiate(module)).exports.edge_self_test();
      if (row < 0) return { build, module, every: every?.href };
      wrong.push(`kernel ${row} of ${build} computes something else than plain code`);
    }
  }
  throw new EdgewrightError("UNSUPPORTED_BROWSER", `no build runs here: ${wrong.join("; ")}`);
}

function checkSimd() {
  if (typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(SIMD))) return;
  const since = "Chrome 91, Firefox 89, Safari 16.4 and Node 16.4 have it";
  throw new EdgewrightError("UNSUPPORTED_BROWSER", `this browser has no WebAssembly SIMD; ${since}`);
}

function inFolder(folder) {
  const base = new URL(folder.endsWith("/") ? folder : `${folder}/`, globalThis.location?.href);
  return Object.fromEntries(Object.keys(FILES).map((name) => [name, new URL(`edgewright-${name}.wasm`, base)]));
}

const compile = async (url) => compileBytes(await fetchBytes(url));

/** The module at a URL, fetched once. */
export async function compileOnce(href) {
  if (!compiled.has(href)) compiled.set(href, await compile(new URL(href)));
  return compiled.get(href);
}

async function compileBytes(bytes) {
  try {
    return await WebAssembly.compile(bytes);
  } catch (error) {
    if (!/unsafe-eval|Content.Security.Policy|call to WebAssembly/i.test(error.message)) throw error;
    const message = "the page's Content-Security-Policy forbids WebAssembly: add 'wasm-unsafe-eval' to its script-src";
    throw new EdgewrightError("BLOCKED", message, { cause: error });
  }
}

async function fetchBytes(url) {
  const where = `${url}; the option wasm names the folder of the .wasm files`;
  const failed = (error) => {
    throw new EdgewrightError("DOWNLOAD", `the engine cannot be fetched from ${where}: ${error.message}`, { cause: error });
  };
  if (url.protocol === "file:" && globalThis.process?.versions?.node)
    return globalThis.process.getBuiltinModule("node:fs/promises").readFile(url).catch(failed);
  const response = await fetch(url).catch(failed);
  if (!response.ok) throw new EdgewrightError("DOWNLOAD", `status ${response.status} for the engine at ${where}`);
  return response.arrayBuffer();
}
