// The side of web_benchmark.py in a page or in Node: contenders that are ready to run, their outputs, their times.
const NODE = globalThis.process?.versions?.node !== undefined;
/** Where the package, the models and the peers are: addresses that end in a slash. */
const PLACE = { pkg: "/pkg/", files: "/files/", peers: "/beside0/" };

/** Bytes of a model's file; null: there is none. */
async function bytes(file) {
  if (NODE) {
    const { existsSync, readFileSync } = process.getBuiltinModule("node:fs");
    const url = new URL(PLACE.files + file);
    return existsSync(url) ? new Uint8Array(readFileSync(url)) : null;
  }
  const answer = await fetch(PLACE.files + file);
  return answer.ok ? new Uint8Array(await answer.arrayBuffer()) : null;
}

const path = (url) => process.getBuiltinModule("node:url").fileURLToPath(url);

/** Every engine opens a model and gives {run, read}: run once, and the first output as a Float32Array. */
const ENGINES = {
  "edgewright-relaxed": (name, inputs) => edgewright(name, inputs, "relaxed"),
  "edgewright-simd": (name, inputs) => edgewright(name, inputs, "simd"),
  litertjs,
  "onnxruntime-web": onnxruntimeWeb,
  tfjs,
};

async function edgewright(name, inputs, build) {
  const { load } = await import(`${PLACE.pkg}index.js`);
  const session = await load(await bytes(`${name}.edgez`), { worker: false, cache: false, build });
  const given = Object.fromEntries(session.inputs.map(({ name }, i) => [name, inputs[i]]));
  let last;
  const run = async () => (last = await session.run(given));
  return { run, read: async () => Object.values(last)[0].data };
}

let liteRt;
async function litertjs(name, inputs) {
  if (NODE) throw new Error("it loads its WebAssembly by a script element: in pages only");
  const { loadAndCompile, loadLiteRt, Tensor } = await import("@litertjs/core");
  await (liteRt ??= loadLiteRt(`${PLACE.peers}@litertjs/core/wasm/`, { threads: false }));
  const model = await loadAndCompile(`${PLACE.files}${name}.tflite`, { accelerator: "wasm" });
  const narrow = (data) => (data instanceof BigInt64Array ? Int32Array.from(data, Number) : data); // it takes no others
  const tensors = inputs.map(({ data, shape }) => new Tensor(narrow(data), shape));
  let last;
  const run = async () => {
    last?.forEach((tensor) => tensor.delete());
    last = await model.run(tensors);
  };
  return { run, read: async () => last[0].toTypedArray() };
}

async function onnxruntimeWeb(name, inputs) {
  const dist = `${PLACE.peers}onnxruntime-web/dist/`;
  const ort = await import(`${dist}ort.${NODE ? "node" : "wasm"}.min.mjs`);
  ort.env.wasm.numThreads = 1;
  if (!NODE) ort.env.wasm.wasmPaths = dist;
  const session = await ort.InferenceSession.create(await bytes(`${name}.onnx`), { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const types = new Map([[Float32Array, "float32"], [BigInt64Array, "int64"]]);
  const feeds = Object.fromEntries(session.inputNames.map((input, i) => [input, new ort.Tensor(types.get(inputs[i].data.constructor), inputs[i].data, inputs[i].shape)]));
  let last;
  const run = async () => (last = await session.run(feeds));
  return { run, read: async () => last[session.outputNames[0]].data };
}

const script = (url) => new Promise((resolve, reject) => document.head.append(Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject })));

/** Steps of a convolutional network that web_benchmark.py made of the ONNX file, with weights in this backend's order. */
async function tfjs(name, inputs) {
  const network = await bytes(`${name}.tfjs.json`);
  if (!network) return null;
  const dist = `${PLACE.peers}@tensorflow/tfjs-backend-wasm/dist/`;
  const { tf, wasm } = NODE ? tfjsInNode() : await tfjsInPage(dist);
  wasm.setWasmPaths(NODE ? path(dist) : dist);
  wasm.setThreadsCount(1);
  await tf.setBackend("wasm");
  const steps = JSON.parse(new TextDecoder().decode(network));
  const values = new Float32Array((await bytes(`${name}.tfjs.bin`)).slice().buffer);
  const constant = ({ at, shape }) => tf.tensor(values.subarray(at, at + shape.reduce((a, b) => a * b)), shape);
  for (const step of steps) for (const key of ["weight", "bias"]) if (step[key]) step[key] = constant(step[key]);
  const image = tf.tidy(() => tf.transpose(tf.tensor(inputs[0].data, inputs[0].shape), [0, 2, 3, 1]));
  let last;
  const run = async () => {
    const [output] = [tf.tidy(() => tfjsRun(tf, steps, image))];
    last = await output.data();
    output.dispose();
  };
  return { run, read: async () => last };
}

async function tfjsInPage(dist) {
  await script(`${PLACE.peers}@tensorflow/tfjs-core/dist/tf-core.min.js`);
  await script(`${dist}tf-backend-wasm.min.js`);
  const { tf } = globalThis;
  return { tf, wasm: tf.wasm };
}

function tfjsInNode() {
  const require = process.getBuiltinModule("node:module").createRequire(PLACE.peers);
  return { tf: require("@tensorflow/tfjs-core"), wasm: require("@tensorflow/tfjs-backend-wasm") };
}

function tfjsRun(tf, steps, image) {
  const found = { [steps[0].input]: image };
  for (const { op, input, other, output, weight: filter, bias, strides, pad, activation } of steps) {
    const x = found[input];
    if (op === "conv") found[output] = tf.fused.conv2d({ x, filter, strides, pad, bias, activation });
    if (op === "depthwise") found[output] = tf.fused.depthwiseConv2d({ x, filter, strides, pad, bias, activation });
    if (op === "add") found[output] = tf.add(x, found[other]);
    if (op === "mean") found[output] = tf.mean(x, [1, 2], true);
  }
  return found[steps.at(-1).output];
}

/**
 * Interleaved samples of every contender, an engine and a model, and how far its output is from that of the first contender
 * with the same weights.
 */
export async function measure({ contenders, inputs, samples, seconds, place }) {
  Object.assign(PLACE, place);
  const given = inputs.map(({ dtype, values, shape }) => ({ data: dtype === "int64" ? BigInt64Array.from(values.map(BigInt)) : Float32Array.from(values), shape }));
  const ready = {};
  const notes = {};
  for (const [contender, { engine, model }] of Object.entries(contenders)) {
    try {
      const opened = await ENGINES[engine](model, given);
      if (opened) ready[contender] = opened;
    } catch (error) {
      notes[contender] = String(error.message ?? error);
    }
  }
  const outputs = {};
  for (const [contender, { run, read }] of Object.entries(ready)) {
    for (let i = 0; i < 10; i++) await run();
    outputs[contender] = await read();
  }
  const times = Object.fromEntries(Object.keys(ready).map((contender) => [contender, []]));
  const total = (list) => list.reduce((a, b) => a + b, 0);
  while (Object.values(times).some((list) => list.length < samples || total(list) < seconds)) {
    for (const [contender, { run }] of Object.entries(ready)) {
      const start = performance.now();
      await run();
      times[contender].push((performance.now() - start) / 1e3);
    }
  }
  const wanted = {};
  for (const [contender, found] of Object.entries(outputs)) wanted[contenders[contender].model] ??= found;
  const distance = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
  const apart = Object.fromEntries(Object.entries(outputs).map(([contender, found]) => [contender, distance(wanted[contenders[contender].model], found)]));
  return { times, apart, notes, agent: navigator.userAgent };
}

/** In Node this file is the program: the argument of `measure` comes in, what it gives goes out. */
if (NODE) process.stdout.write(JSON.stringify(await measure(JSON.parse(process.getBuiltinModule("node:fs").readFileSync(0)))));
