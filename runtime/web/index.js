// The public interface; index.d.ts documents it.
import { chooseBuild } from "./build.js";
import { EdgewrightError } from "./errors.js";
import { Host } from "./host.js";
import { pixelsOf } from "./photos.js";
import { WorkerHost } from "./worker_host.js";

export { EdgewrightError };

export async function load(source, options = {}) {
  const { worker = typeof Worker !== "undefined", threads = 1, cache = true, build, wasm, ...rest } = options;
  checkThreads(threads);
  rest.signal?.throwIfAborted();
  const chosen = await chooseBuild(build, wasm);
  const open = worker ? WorkerHost.open : Host.open;
  return new Session(await open(source, chosen, { ...rest, cache }));
}

class Session {
  #host;

  constructor(host) {
    this.#host = host;
    Object.assign(this, host.about);
    Object.freeze(this);
  }

  async run(inputs) {
    return this.#open().run(inputs);
  }

  async preprocess(photo) {
    const host = this.#open();
    return host.preprocess(await pixelsOf(photo));
  }

  async classify(photo, options = {}) {
    const host = this.#open();
    return host.classify(await pixelsOf(photo), options);
  }

  async steps() {
    return this.#open().steps();
  }

  async memoryBytes() {
    return this.#open().memoryBytes();
  }

  close() {
    this.#host?.close?.();
    this.#host = null;
  }

  #open() {
    if (this.#host) return this.#host;
    throw new EdgewrightError("CLOSED", "the session is closed; load the model again");
  }
}

function checkThreads(threads) {
  if (threads === 1) return;
  if (!Number.isInteger(threads) || threads < 1) throw new EdgewrightError("INVALID_ARGUMENT", `threads is ${threads}, expected a positive whole number`);
  if (globalThis.crossOriginIsolated === false) {
    const headers = "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp";
    throw new EdgewrightError("NOT_ISOLATED", `threads need shared memory, which a page gets with the headers ${headers}`);
  }
  throw new EdgewrightError("UNSUPPORTED", `${threads} threads were asked for; this version runs on one`);
}
