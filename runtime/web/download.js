// Bytes of a bundle from wherever the page has them.
import { EdgewrightError } from "./errors.js";

const CACHE = "edgewright-bundles-1";
const HASH = "edgewright-manifest-sha256";
const VALIDATORS = ["etag", "last-modified"];

/**
 * @param {string | URL | Response | Blob | ArrayBuffer | ArrayBufferView} source
 * @param {{signal?: AbortSignal, progress?: Function, cache?: boolean, sha256?: string}} options
 * @param {(bytes: number) => {write(chunk: Uint8Array): void, end(): T}} receiver Takes the bytes as they come; bytes:
 *     how many are expected, 0: not known.
 * @returns {Promise<T>}
 * @template T
 */
export async function read(source, options, receiver) {
  options.signal?.throwIfAborted();
  if (typeof source === "string" || source instanceof URL) return readUrl(new URL(source, globalThis.location?.href), options, receiver);
  if (source instanceof Response) return readResponse(source, options, receiver);
  if (source instanceof Blob) return readStream(source.stream(), source.size, options, receiver);
  if (source instanceof ArrayBuffer) return readBytes(new Uint8Array(source), options, receiver);
  if (ArrayBuffer.isView(source)) return readBytes(new Uint8Array(source.buffer, source.byteOffset, source.byteLength), options, receiver);
  const given = source === null ? "null" : (source?.constructor?.name ?? typeof source);
  throw new EdgewrightError("INVALID_ARGUMENT", `load takes a URL, Response, Blob or ArrayBuffer, given was ${given}`);
}

async function readUrl(url, options, receiver) {
  if (url.protocol === "file:" && globalThis.process?.versions?.node)
    return readBytes(await globalThis.process.getBuiltinModule("node:fs/promises").readFile(url), options, receiver);
  const cache = options.cache ? await openCache() : null;
  const kept = await cache?.match(url);
  if (kept && (await isCurrent(kept, url, options))) return readResponse(kept, options, receiver);
  const response = await get(url, { signal: options.signal });
  if (!cache || !isKeepable(response, options)) return readResponse(response, options, receiver);
  const [ours, theirs] = response.body.tee();
  const storing = cache.put(url, new Response(theirs, { headers: keptHeaders(response, options) })).catch(() => {}); // a full disk is no failure
  const result = await readResponse(new Response(ours, response), options, receiver);
  await storing;
  return result;
}

/** Forgets what was kept of a URL, after it turned out not to be what was asked for. */
export async function forget(source) {
  if (typeof source !== "string" && !(source instanceof URL)) return;
  await (await openCache())?.delete(new URL(source, globalThis.location?.href));
}

/** null where there is none: in Node, and on pages that are not secure. */
async function openCache() {
  return (await globalThis.caches?.open(CACHE).catch(() => null)) ?? null;
}

function keptHeaders(response, { sha256 }) {
  const names = [...VALIDATORS, "content-length"].filter((name) => response.headers.get(name));
  const headers = new Headers(names.map((name) => [name, response.headers.get(name)]));
  if (sha256) headers.set(HASH, sha256);
  return headers;
}

const isKeepable = (response, { sha256 }) => sha256 || VALIDATORS.some((name) => response.headers.get(name));

/** Whether what was kept is what a download would bring. */
async function isCurrent(kept, url, { sha256, signal }) {
  if (sha256) return kept.headers.get(HASH) === sha256;
  try {
    const now = await fetch(url, { method: "HEAD", cache: "no-cache", signal });
    return now.ok && VALIDATORS.some((name) => kept.headers.get(name)) && VALIDATORS.every((name) => now.headers.get(name) === kept.headers.get(name));
  } catch {
    signal?.throwIfAborted();
    return true; // no network: what is there serves
  }
}

async function get(url, init) {
  let response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    init.signal?.throwIfAborted();
    throw new EdgewrightError("DOWNLOAD", `${url} cannot be fetched: ${error.message}`, { cause: error });
  }
  return response;
}

async function readResponse(response, options, receiver) {
  if (!response.ok) throw new EdgewrightError("DOWNLOAD", `${response.url || "the response"} has status ${response.status}`);
  if (response.bodyUsed || !response.body) throw new EdgewrightError("DOWNLOAD", "the response has no body, or it was read before");
  // The length of a compressed response is that of what was sent, not of what arrives here.
  const length = response.headers.get("content-encoding") ? 0 : Number(response.headers.get("content-length") ?? 0);
  return readStream(response.body, length, options, receiver);
}

async function readStream(stream, total, { signal, progress }, receiver) {
  const reader = stream.getReader();
  const into = receiver(total);
  let loaded = 0;
  const cancel = () => reader.cancel(signal.reason).catch(() => {});
  signal?.addEventListener("abort", cancel);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal?.throwIfAborted();
      if (done) break;
      into.write(value);
      loaded += value.length;
      progress?.({ loaded, total: Math.max(total, loaded) });
    }
  } catch (error) {
    if (signal?.aborted || error instanceof EdgewrightError) throw error;
    throw new EdgewrightError("DOWNLOAD", `the download broke off after ${loaded} bytes: ${error.message}`, { cause: error });
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
  return into.end();
}

function readBytes(bytes, { progress }, receiver) {
  const into = receiver(bytes.length);
  into.write(bytes);
  progress?.({ loaded: bytes.length, total: bytes.length });
  return into.end();
}
