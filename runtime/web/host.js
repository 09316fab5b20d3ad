// One open model, in the thread that calls it.
import { fileIn } from "./archive.js";
import { compileOnce } from "./build.js";
import { forget, read } from "./download.js";
import { Engine } from "./engine.js";
import { EdgewrightError } from "./errors.js";
import { dtypeOf, fit } from "./tensors.js";

const SMALLEST_ROOM = 1 << 16;

export class Host {
  #engine;
  #inputs;
  #outputs;

  /**
   * @param {{build: string, module: WebAssembly.Module, every: string}} chosen
   * @returns {Promise<Host>} With `about`, which a page sees as properties of its session.
   */
  static async open(source, { build, module, every }, options) {
    const host = new Host();
    const make = (given) => Engine.make(given, build === "scalar");
    const first = await make(module);
    const { at, length } = await read(source, options, (expected) => new Block(first, expected));
    try {
      const engine = await opened(first, at, length, withDtypes(options), async () => make(await compileOnce(every)));
      const manifest = manifestIn(first.bytes(at, length));
      host.#adopt(engine, manifest, options.sha256);
      host.about = { build, manifest: manifest?.json ?? null, inputs: host.#inputs, outputs: host.#outputs };
    } catch (error) {
      if (options.cache) await forget(source); // it is not what was asked for, whatever the server says of it
      throw error;
    }
    return host;
  }

  /** {name: typed array or {data, shape}} to the same of outputs. */
  run(given) {
    const problems = this.#inputs.filter(({ name }) => !(name in given)).map(({ name }) => `'${name}' is missing`);
    const known = new Set(this.#inputs.map(({ name }) => name));
    problems.push(...Object.keys(given).filter((name) => !known.has(name)).map((name) => `there is no input '${name}'`));
    if (problems.length) throw new EdgewrightError("INVALID_ARGUMENT", `${problems.join("; ")}; inputs are ${[...known].join(", ") || "none"}`);
    const results = this.#engine.run(this.#inputs.map((input) => fit(input, given[input.name])));
    return Object.fromEntries(results.map((result, i) => [this.#outputs[i].name, result]));
  }

  /** The input that the bundle makes of a photo (photos.js), to give to `run`. */
  preprocess(photo) {
    return this.#engine.preprocess(photo, this.#photoInput());
  }

  /** The best classes of a photo, and how long that took. */
  classify(photo, { topK = null } = {}) {
    const input = this.#photoInput();
    if (this.#inputs.length > 1)
      throw new EdgewrightError("INVALID_ARGUMENT", `classify gives a model one input, this one has ${this.#inputs.length}; use preprocess, run and rank its scores yourself`);
    if (topK !== null && !(Number.isInteger(topK) && topK > 0))
      throw new EdgewrightError("INVALID_ARGUMENT", `topK is ${topK}, expected a positive whole number`);
    const start = performance.now();
    const classes = this.#engine.classify(photo, topK);
    return { classes, milliseconds: performance.now() - start };
  }

  steps() {
    return this.#engine.steps();
  }

  memoryBytes() {
    return this.#engine.memoryBytes;
  }

  /** Number of the one input that a photo becomes. */
  #photoInput() {
    const names = Object.keys(this.about.manifest?.preprocess ?? {});
    if (names.length === 1) return this.#inputs.findIndex(({ name }) => name === names[0]);
    const why = "the model does not say how a photo becomes its input";
    throw new EdgewrightError("INVALID_ARGUMENT", `${why}; export it with preprocess=sdk.Image(...), or use run with arrays`);
  }

  #adopt(engine, manifest, sha256) {
    if (sha256 && manifest?.sha256 !== sha256)
      throw new EdgewrightError("HASH_MISMATCH", `the manifest has hash ${manifest?.sha256 ?? "none"}, asked for was ${sha256}`);
    this.#engine = engine;
    const main = manifest?.json.entries.main;
    this.#inputs = engine.inputs.map((input) => describe(input, main?.inputs));
    this.#outputs = engine.outputs.map((output) => describe(output, main?.outputs));
  }
}

/** The engine that has the model open: the one in whose memory it lies, or a larger one where that lacks an operator. */
async function opened(first, at, length, options, makeLarger) {
  try {
    first.open(at, length, options);
    return first;
  } catch (error) {
    if (error.code !== "UNSUPPORTED") throw error;
    const larger = await makeLarger().catch((cause) => {
      throw new EdgewrightError(error.code, `${error.message}; the build with every operator: ${cause.message}`, { cause });
    });
    const there = larger.allocate(length);
    larger.bytes(there, length).set(first.bytes(at, length));
    larger.open(there, length, options);
    return larger;
  }
}

/** Room in the engine's memory that grows as bytes come. */
class Block {
  constructor(engine, expected) {
    this.engine = engine;
    this.room = expected || SMALLEST_ROOM;
    this.at = engine.allocate(this.room);
    this.length = 0;
  }

  write(chunk) {
    if (this.length + chunk.length > this.room) this.#grow(this.length + chunk.length);
    this.engine.bytes(this.at + this.length, chunk.length).set(chunk);
    this.length += chunk.length;
  }

  end() {
    return { at: this.at, length: this.length };
  }

  #grow(least) {
    const room = Math.max(least, this.room * 2);
    const at = this.engine.allocate(room);
    this.engine.bytes(at, this.length).set(this.engine.bytes(this.at, this.length));
    this.engine.release(this.at);
    Object.assign(this, { at, room });
  }
}

function manifestIn(bytes) {
  const text = (name) => {
    const file = fileIn(bytes, name);
    return file && new TextDecoder().decode(file);
  };
  const json = text("manifest.json");
  return json && { json: JSON.parse(json), sha256: text("manifest.sha256").trim() };
}

/** What the engine knows of a tensor, with the names of the bundle. */
function describe({ name: binding, dtype, min, max }, specs) {
  const spec = specs?.find((candidate) => candidate.binding === binding);
  const names = max.map((length, axis) => (min[axis] === length ? length : openName(spec, axis)));
  const open = names.flatMap((name, axis) => (typeof name === "string" ? [[name, { min: min[axis], max: max[axis] }]] : []));
  return { name: spec?.name ?? binding, dtype: spec?.dtype ?? dtype, shape: names, bounds: Object.fromEntries(open) };
}

const openName = (spec, axis) => (typeof spec?.shape[axis] === "string" ? spec.shape[axis] : `axis ${axis}`);

function withDtypes({ bounds, fixedInputs = {}, profile }) {
  const known = Object.entries(fixedInputs).map(([name, { data, shape, dtype }]) => [name, { data, shape: shape ?? [data.length], dtype: dtype ?? dtypeOf(data) }]);
  return { bounds, fixedInputs: Object.fromEntries(known), profile };
}
