// A Host that runs in a Worker, seen from the page.
import { read } from "./download.js";
import { EdgewrightError, unpack } from "./errors.js";
import { isTyped } from "./tensors.js";

export class WorkerHost {
  #worker;
  #waiting = new Map();
  #last = 0;

  /** As Host.open. */
  static async open(source, chosen, { signal, progress, ...options }) {
    const host = new WorkerHost();
    try {
      host.#worker = await startWorker();
      host.#worker.onmessage = ({ data }) => host.#receive(data);
      host.#worker.onerror = (event) => host.#fail(new EdgewrightError("TRAPPED", `the Worker stopped: ${event.message ?? "no reason given"}`));
      const sent = await sendable(source, { signal, progress });
      const told = source instanceof Response ? undefined : progress; // of a response it was told here
      host.about = await host.#call("open", [sent, chosen, options], { signal, progress: told });
    } catch (error) {
      host.close();
      throw error;
    }
    return host;
  }

  run(given) {
    const plain = Object.fromEntries(Object.entries(given).map(([name, value]) => [name, tight(value)]));
    return this.#call("run", [plain]);
  }

  preprocess(photo) {
    return this.#call("preprocess", [tight(photo)]);
  }

  classify(photo, options) {
    return this.#call("classify", [tight(photo), options]);
  }

  steps() {
    return this.#call("steps", []);
  }

  memoryBytes() {
    return this.#call("memoryBytes", []);
  }

  close() {
    this.#worker?.terminate();
    this.#fail(new EdgewrightError("CLOSED", "the session was closed while this was under way"));
  }

  #call(call, values, { signal, progress } = {}) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted(); // what is aborted before is no event any more
      const abort = () => {
        this.#worker.postMessage({ id, call: "abort" });
        settle(reject)(signal.reason);
      };
      const settle = (end) => (value) => {
        signal?.removeEventListener("abort", abort);
        this.#waiting.delete(id);
        end(value);
      };
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject), progress });
      signal?.addEventListener("abort", abort);
      this.#worker.postMessage({ id, call, values });
    });
  }

  #receive({ id, value, error, progress }) {
    const waiting = this.#waiting.get(id);
    if (progress) waiting?.progress?.(progress);
    else if (error) waiting?.reject(unpack(error));
    else waiting?.resolve(value);
  }

  #fail(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
  }
}

/** Resolves when the Worker has loaded its modules; says what a policy forbids where it has not. */
function startWorker() {
  return new Promise((resolve, reject) => {
    const advice = "or run on the page's own thread with {worker: false}";
    const blocked = (cause) => reject(new EdgewrightError("BLOCKED", `the page's Content-Security-Policy forbids the Worker: add 'self' to its worker-src, ${advice}`, { cause }));
    const violation = (event) => /^(worker|child|script)-src/.test(event.effectiveDirective) && blocked();
    globalThis.document?.addEventListener("securitypolicyviolation", violation);
    const end = (settle) => (value) => {
      globalThis.document?.removeEventListener("securitypolicyviolation", violation);
      settle(value);
    };
    let worker;
    try {
      worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    } catch (cause) {
      const where = "worker.js must come from the page's own origin; serve the package from there";
      return end(reject)(new EdgewrightError("BLOCKED", `the Worker cannot be started: ${where}, ${advice}`, { cause }));
    }
    worker.onmessage = () => end(resolve)(worker);
    worker.onerror = (event) => {
      event.preventDefault?.();
      const reason = event.message ? `: ${event.message}` : ", because worker.js or a module of it cannot be fetched";
      // The report of a policy comes after this event.
      setTimeout(() => end(reject)(new EdgewrightError("BLOCKED", `the Worker did not start${reason}: serve every file of the package, ${advice}`)), 50);
    };
  });
}

/** What can be sent of a source: a Response cannot, its bytes can; a URL keeps its base. */
async function sendable(source, options) {
  if (typeof source === "string" || source instanceof URL) return new URL(source, globalThis.location?.href).href;
  if (!(source instanceof Response)) return source;
  const chunks = [];
  return read(source, options, () => ({ write: (chunk) => chunks.push(chunk), end: () => new Blob(chunks) }));
}

/** A copy where a view shows only a part of its buffer, so that no more than that is sent. */
function tight(value) {
  if (isTyped(value)) return value.byteLength === value.buffer.byteLength ? value : value.slice();
  return value && { ...value, data: tight(value.data) };
}
