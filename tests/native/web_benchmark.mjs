// The page's side of web_benchmark.py: contenders that are ready to run, their outputs, their times.
import { load } from "/pkg/index.js";

const NODE_MODULES = "/beside0";

/** Every contender opens a model and gives {run, read}: run once, and the first output as a Float32Array. */
const CONTENDERS = {
  "edgewright-relaxed": (name, inputs) => edgewright(name, inputs, "relaxed"),
  "edgewright-simd": (name, inputs) => edgewright(name, inputs, "simd"),
  litertjs,
  "onnxruntime-web": onnxruntimeWeb,
  tfjs,
};

async function edgewright(name, inputs, build) {
  const session = await load(`/files/${name}.edgez`, { worker: false, cache: false, build });
  const given = Object.fromEntries(session.inputs.map(({ name }, i) => [name, inputs[i]]));
  let last;
  const run = async () => (last = await session.run(given));
  return { run, read: async () => Object.values(last)[0].data };
}

let liteRt;
async function litertjs(name, inputs) {
  const { loadAndCompile, loadLiteRt, Tensor } = await import("@litertjs/core");
  await (liteRt ??= loadLiteRt(`${NODE_MODULES}/@litertjs/core/wasm/`, { threads: false }));
  const model = await loadAndCompile(`/files/${name}.tflite`, { accelerator: "wasm" });
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
  const ort = await import(`${NODE_MODULES}/onnxruntime-web/dist/ort.wasm.min.mjs`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = `${NODE_MODULES}/onnxruntime-web/dist/`;
  const session = await ort.InferenceSession.create(`/files/${name}.onnx`, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  const types = new Map([[Float32Array, "float32"], [BigInt64Array, "int64"]]);
  const feeds = Object.fromEntries(session.inputNames.map((input, i) => [input, new ort.Tensor(types.get(inputs[i].data.constructor), inputs[i].data, inputs[i].shape)]));
  let last;
  const run = async () => (last = await session.run(feeds));
  return { run, read: async () => last[session.outputNames[0]].data };
}

const script = (url) => new Promise((resolve, reject) => document.head.append(Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject })));

/** Steps of a convolutional network that web_benchmark.py made of the ONNX file, with weights in this backend's order. */
async function tfjs(name, inputs) {
  const answer = await fetch(`/files/${name}.tfjs.json`);
  if (!answer.ok) return null;
  await script(`${NODE_MODULES}/@tensorflow/tfjs-core/dist/tf-core.min.js`);
  await script(`${NODE_MODULES}/@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.min.js`);
  const { tf } = globalThis;
  tf.wasm.setWasmPaths(`${NODE_MODULES}/@tensorflow/tfjs-backend-wasm/dist/`);
  tf.wasm.setThreadsCount(1);
  await tf.setBackend("wasm");
  const steps = await answer.json();
  const values = new Float32Array(await (await fetch(`/files/${name}.tfjs.bin`)).arrayBuffer());
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

/** Interleaved samples of every contender that has the model, and how far its output is from the first one's. */
export async function measure({ name, inputs, samples, seconds }) {
  const given = inputs.map(({ dtype, values, shape }) => ({ data: dtype === "int64" ? BigInt64Array.from(values.map(BigInt)) : Float32Array.from(values), shape }));
  const ready = {};
  const notes = {};
  for (const [contender, open] of Object.entries(CONTENDERS)) {
    try {
      const opened = await open(name, given);
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
  const [wanted] = Object.values(outputs);
  const distance = (found) => wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - found[i])), 0);
  const apart = Object.fromEntries(Object.entries(outputs).map(([contender, found]) => [contender, distance(found)]));
  return { times, apart, notes, agent: navigator.userAgent };
}
