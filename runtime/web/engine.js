// One WebAssembly instance: its memory, its calls, the structs of edgewright.h (layout.c checks their offsets).
import { CODES, EdgewrightError } from "./errors.js";
import { DTYPES, dtypeNumber } from "./tensors.js";

const ALIGNMENT = 64;
const MOST_RANK = 8;
const TENSOR = { dtype: 0, rank: 4, shape: 8, data: 72, bytes: 76, size: 80 };
const INFO = { name: 0, dtype: 4, rank: 8, min: 16, max: 80, size: 144 };
const FIXED = { name: 0, value: 8, size: 88 };
const BOUND = { dimension: 0, min: 8, max: 16, size: 24 };
const OPTIONS = { fixed: 12, fixedCount: 16, bounds: 20, boundCount: 24, profile: 32, size: 36 };
const PHOTO = { pixel: 4, width: 8, height: 12, data: 16, rowBytes: 20, bytes: 24, orientation: 28, size: 32 };
const IMAGE = { side: 4, size: 80 };
const RANKING = { count: 8, output: 12, size: 16 };
const CLASS = { index: 0, score: 8, label: 16, size: 24 };
const STEP = { node: 0, op: 4, kernel: 8, runs: 16, nanoseconds: 24, size: 32 };

/** An instance; environment: strings "NAME=value" that getenv finds. */
export async function instantiate(module, environment = []) {
  const encoded = environment.map((text) => new TextEncoder().encode(`${text}\0`));
  let memory;
  const word = (at, value) => new DataView(memory.buffer).setUint32(at, value, true);
  const wasi = {
    environ_sizes_get(count, bytes) {
      word(count, encoded.length);
      word(bytes, encoded.reduce((sum, text) => sum + text.length, 0));
      return 0;
    },
    environ_get(pointers, at) {
      for (const text of encoded) {
        word(pointers, at);
        new Uint8Array(memory.buffer).set(text, at);
        pointers += 4;
        at += text.length;
      }
      return 0;
    },
    clock_time_get(_clock, _precision, at) {
      new DataView(memory.buffer).setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true);
      return 0;
    },
    proc_exit(code) {
      throw new WebAssembly.RuntimeError(`exit ${code}`);
    },
  };
  const instance = await WebAssembly.instantiate(module, { wasi_snapshot_preview1: wasi });
  memory = instance.exports.memory;
  instance.exports._initialize();
  return instance;
}

export class Engine {
  #exports;
  #model = 0;
  #session = 0;
  #inputs = []; // {name, dtype, min, max, at, bytes}: the block that a run's values are written into
  #trap = null; // the error after which nothing in the memory can be relied on
  #calls = 0; // edge_tensor of every input, then of every output

  /** @param {WebAssembly.Module} module */
  static async make(module, scalar = false) {
    const engine = new Engine();
    engine.#exports = (await instantiate(module, scalar ? ["EDGEWRIGHT_FORCE_ISA=scalar"] : [])).exports;
    return engine;
  }

  /** A block for the bytes of a bundle; give it to `open`. */
  allocate(bytes) {
    const at = this.#call("aligned_alloc", ALIGNMENT, Math.ceil(Math.max(bytes, 1) / ALIGNMENT) * ALIGNMENT) >>> 0;
    if (at) return at;
    throw new EdgewrightError("NO_MEMORY", `WebAssembly has no block of ${bytes} bytes left`);
  }

  /** Bytes of the memory, valid until the next call of the engine. */
  bytes(at, length) {
    return new Uint8Array(this.#exports.memory.buffer, at, length);
  }

  release(at) {
    this.#call("free", at);
  }

  /** Opens what lies at `at`, and makes the session. */
  open(at, bytes, { bounds = {}, fixedInputs = {}, profile = false } = {}) {
    this.#borrow((take) => {
      const result = take(4);
      this.#check(this.#call("edge_model_open_memory", at, bytes, 0, result));
      this.#model = this.#word(result);
      const options = this.#options(take, bounds, fixedInputs, profile);
      this.#check(this.#call("edge_session_create", this.#model, options, result));
      this.#session = this.#word(result);
    });
    this.#inputs = this.#infos("input").map((info) => ({ ...info, at: 0, bytes: 0 }));
    this.outputs = this.#infos("output");
    this.#calls = this.allocate((this.#inputs.length + this.outputs.length) * TENSOR.size);
  }

  /** Name, dtype, min and max (shapes) of every input. */
  get inputs() {
    return this.#inputs.map(({ name, dtype, min, max }) => ({ name, dtype, min, max }));
  }

  get memoryBytes() {
    return this.#exports.memory.buffer.byteLength;
  }

  /**
   * Runs once.
   * @param {{data: ArrayBufferView, shape: number[]}[]} given In the order of `inputs`.
   * @returns {{data: ArrayBufferView, shape: number[]}[]} In the order of `outputs`; copies.
   */
  run(given) {
    const outputs = this.#calls + given.length * TENSOR.size;
    given.forEach((tensor, i) => {
      const input = this.#inputs[i];
      const at = this.#room(input, tensor.data.byteLength);
      this.bytes(at, tensor.data.byteLength).set(asBytes(tensor.data));
      this.#writeTensor(this.#calls + i * TENSOR.size, input.dtype, tensor, at);
    });
    this.#check(this.#call("edge_session_run", this.#session, this.#calls, given.length, outputs, this.outputs.length));
    return this.outputs.map((_, i) => this.#readTensor(outputs + i * TENSOR.size));
  }

  /**
   * The input that the bundle makes of a photo.
   * @param {{data: ArrayBufferView, width: number, height: number, pixel: number, orientation: number}} photo
   * @returns {{data: ArrayBufferView, shape: number[]}} A copy.
   */
  preprocess(photo, input) {
    return this.#borrow((take) => this.#readTensor(this.#loadPhoto(take, photo, input)));
  }

  /** The best classes of a photo, of which the one input of the model is made; count: how many, null: as the bundle says. */
  classify(photo, count) {
    return this.#borrow((take) => {
      const outputs = this.#loadPhoto(take, photo, 0) + TENSOR.size;
      this.#check(this.#call("edge_session_run", this.#session, this.#calls, 1, outputs, this.outputs.length));
      return this.#rank(take, outputs, count);
    });
  }

  /** What ran, with times where the session was made with `profile`. */
  steps() {
    const at = this.allocate(STEP.size);
    const count = this.#call("edge_session_step_count", this.#session);
    const steps = Array.from({ length: count }, (_, i) => {
      this.#check(this.#call("edge_session_step", this.#session, i, at));
      const view = this.#view();
      const number = (offset) => Number(view.getBigUint64(at + offset, true));
      const text = (offset) => this.#text(this.#word(at + offset));
      return {
        node: text(STEP.node),
        op: text(STEP.op),
        kernel: text(STEP.kernel) || null,
        runs: number(STEP.runs),
        seconds: number(STEP.nanoseconds) / 1e9,
      };
    });
    this.release(at);
    return steps;
  }

  #call(name, ...values) {
    if (this.#trap) throw this.#trap;
    try {
      return this.#exports[name](...values);
    } catch (error) {
      const message = `the engine stopped in ${name} (${error.message}); this session is lost, load the model again`;
      this.#trap = new EdgewrightError("TRAPPED", message, { cause: error });
      throw this.#trap;
    }
  }

  #check(status) {
    if (status !== 0) throw new EdgewrightError(CODES[status] ?? `STATUS_${status}`, this.#text(this.#call("edge_last_error")));
  }

  #view() {
    return new DataView(this.#exports.memory.buffer);
  }

  #word(at) {
    return this.#view().getUint32(at, true);
  }

  #text(at) {
    if (!at) return "";
    const memory = new Uint8Array(this.#exports.memory.buffer);
    return new TextDecoder().decode(memory.subarray(at, memory.indexOf(0, at)));
  }

  #room(input, bytes) {
    if (input.at && input.bytes >= bytes) return input.at;
    this.release(input.at);
    input.at = 0;
    input.at = this.allocate(bytes);
    input.bytes = bytes;
    return input.at;
  }

  #infos(which) {
    const at = this.allocate(INFO.size);
    const count = this.#call(`edge_session_${which}_count`, this.#session);
    const infos = Array.from({ length: count }, (_, i) => {
      this.#check(this.#call(`edge_session_${which}`, this.#session, i, at));
      const view = this.#view();
      const rank = view.getInt32(at + INFO.rank, true);
      const dims = (offset) => Array.from({ length: rank }, (_, axis) => Number(view.getBigInt64(at + offset + 8 * axis, true)));
      const { name: dtype } = DTYPES.get(view.getInt32(at + INFO.dtype, true));
      return { name: this.#text(this.#word(at + INFO.name)), dtype, min: dims(INFO.min), max: dims(INFO.max) };
    });
    this.release(at);
    return infos;
  }

  /** Runs with `take`, which gives zeroed blocks that end with the call. */
  #borrow(use) {
    const blocks = [];
    const take = (size) => {
      const block = this.allocate(size);
      blocks.push(block);
      this.bytes(block, size).fill(0);
      return block;
    };
    try {
      return use(take);
    } finally {
      if (!this.#trap) for (const block of blocks) this.release(block);
    }
  }

  /** Fills the input of this number; gives the address of its edge_tensor. */
  #loadPhoto(take, { data, width, height, pixel, orientation }, number) {
    const [image, photo, workspaceBytes, pixels] = [IMAGE.size, PHOTO.size, 4, data.byteLength].map(take);
    this.#setWords(image, { 0: IMAGE.size });
    this.#check(this.#call("edge_model_image", this.#model, 0, image));
    this.bytes(pixels, data.byteLength).set(asBytes(data));
    this.#setWords(photo, {
      0: PHOTO.size, [PHOTO.pixel]: pixel, [PHOTO.width]: width, [PHOTO.height]: height, [PHOTO.data]: pixels,
      [PHOTO.rowBytes]: width * pixelBytes(pixel), [PHOTO.bytes]: data.byteLength, [PHOTO.orientation]: orientation,
    });
    this.#check(this.#call("edge_image_workspace", image, photo, workspaceBytes));
    const workspace = take(this.#word(workspaceBytes));
    const [tensor, bytes] = [this.#calls + number * TENSOR.size, 12 * this.#word(image + IMAGE.side) ** 2];
    this.#setWords(tensor, { [TENSOR.data]: this.#room(this.#inputs[number], bytes), [TENSOR.bytes]: bytes });
    this.#check(this.#call("edge_image_load", image, photo, workspace, this.#word(workspaceBytes), tensor));
    return tensor;
  }

  #rank(take, outputs, count) {
    const [ranking, found] = [RANKING.size, 4].map(take);
    this.#setWords(ranking, { 0: RANKING.size });
    this.#check(this.#call("edge_model_ranking", this.#model, ranking));
    const name = this.#text(this.#word(ranking + RANKING.output));
    const scores = outputs + this.outputs.findIndex((output) => output.name === name) * TENSOR.size;
    const most = Math.min(count ?? this.#word(ranking + RANKING.count), this.#readTensor(scores).data.length);
    const best = take(Math.max(most, 1) * CLASS.size);
    this.#setWords(ranking, { [RANKING.count]: Math.max(most, 1) });
    this.#check(this.#call("edge_rank", ranking, scores, this.#model, best, found));
    const view = this.#view();
    return Array.from({ length: this.#word(found) }, (_, i) => {
      const [at, index] = [best + i * CLASS.size, this.#word(best + i * CLASS.size + CLASS.index)];
      return { label: this.#text(this.#word(at + CLASS.label)) || String(index), index, score: view.getFloat64(at + CLASS.score, true) };
    });
  }

  #setWords(at, words) {
    const view = this.#view();
    for (const [offset, value] of Object.entries(words)) view.setUint32(at + Number(offset), value, true);
  }

  #options(take, bounds, fixedInputs, profile) {
    const text = (string) => {
      const encoded = new TextEncoder().encode(`${string}\0`);
      const at = take(encoded.length);
      this.bytes(at, encoded.length).set(encoded);
      return at;
    };
    const fixed = Object.entries(fixedInputs).map(([name, { data, shape, dtype }]) => {
      const at = take(data.byteLength);
      this.bytes(at, data.byteLength).set(asBytes(data));
      return { name: text(name), dtype, tensor: { data, shape }, at };
    });
    const limits = Object.entries(bounds).map(([name, [min, max]]) => ({ name: text(name), min, max }));
    const fixedAt = take(fixed.length * FIXED.size);
    const boundsAt = take(limits.length * BOUND.size);
    const options = take(OPTIONS.size);
    const view = this.#view();
    fixed.forEach(({ name, dtype, tensor, at }, i) => {
      view.setUint32(fixedAt + i * FIXED.size + FIXED.name, name, true);
      this.#writeTensor(fixedAt + i * FIXED.size + FIXED.value, dtype, tensor, at);
    });
    limits.forEach(({ name, min, max }, i) => {
      view.setUint32(boundsAt + i * BOUND.size + BOUND.dimension, name, true);
      view.setBigInt64(boundsAt + i * BOUND.size + BOUND.min, BigInt(min), true);
      view.setBigInt64(boundsAt + i * BOUND.size + BOUND.max, BigInt(max), true);
    });
    const words = { 0: OPTIONS.size, [OPTIONS.profile]: profile ? 1 : 0 };
    Object.assign(words, { [OPTIONS.fixed]: fixedAt, [OPTIONS.fixedCount]: fixed.length });
    Object.assign(words, { [OPTIONS.bounds]: boundsAt, [OPTIONS.boundCount]: limits.length });
    this.#setWords(options, words);
    return options;
  }

  #writeTensor(at, dtype, { data, shape }, dataAt) {
    const rank = shape.length;
    if (rank > MOST_RANK) throw new EdgewrightError("INVALID_ARGUMENT", `${rank} axes were given, at most ${MOST_RANK} are possible`);
    const view = this.#view();
    view.setInt32(at + TENSOR.dtype, dtypeNumber(dtype), true);
    view.setInt32(at + TENSOR.rank, rank, true);
    shape.forEach((length, axis) => view.setBigInt64(at + TENSOR.shape + 8 * axis, BigInt(length), true));
    view.setUint32(at + TENSOR.data, dataAt, true);
    view.setUint32(at + TENSOR.bytes, data.byteLength, true);
  }

  #readTensor(at) {
    const view = this.#view();
    const rank = view.getInt32(at + TENSOR.rank, true);
    const { array } = DTYPES.get(view.getInt32(at + TENSOR.dtype, true));
    const from = this.#word(at + TENSOR.data);
    const copy = view.buffer.slice(from, from + this.#word(at + TENSOR.bytes));
    const shape = Array.from({ length: rank }, (_, axis) => Number(view.getBigInt64(at + TENSOR.shape + 8 * axis, true)));
    return { data: new array(copy), shape };
  }
}

const pixelBytes = (pixel) => Math.min(pixel, 4); // EDGE_CMYK is 5
const asBytes = (data) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
