// A Host behind postMessage: {id, call, values} in; {id, value}, {id, error} or {id, progress} out.
import { pack } from "./errors.js";
import { Host } from "./host.js";

let host = null;
const aborts = new Map();

const CALLS = {
  async open(id, source, chosen, options) {
    const abort = new AbortController();
    aborts.set(id, abort);
    const progress = (state) => postMessage({ id, progress: state });
    host = await Host.open(source, chosen, { ...options, signal: abort.signal, progress });
    aborts.delete(id);
    return host.about;
  },
  run: (_id, given) => host.run(given),
  preprocess: (_id, photo) => host.preprocess(photo),
  classify: (_id, photo, options) => host.classify(photo, options),
  steps: () => host.steps(),
  memoryBytes: () => host.memoryBytes(),
};

onmessage = async ({ data: { id, call, values } }) => {
  if (call === "abort") return aborts.get(id)?.abort();
  try {
    const value = await CALLS[call](id, ...values);
    const owned = call === "run" ? Object.values(value).map(({ data }) => data.buffer) : [];
    postMessage({ id, value }, owned);
  } catch (error) {
    postMessage({ id, error: pack(error) });
  }
};

postMessage({ ready: true });
