// Runs a file of cases (case_file.py) through the package and names those that fail:
//   node web_cases.mjs CASES BUILD            every value is within the tolerances of its case
//   node web_cases.mjs CASES BUILD DECIBELS   every output has at least this ratio of signal to noise, which is printed; one run
import { readFileSync } from "node:fs";

import { load } from "../../runtime/web/index.js";
import { DTYPES } from "../../runtime/web/tensors.js";

const [path, build, decibels] = process.argv.slice(2);
const file = readFileSync(path);
const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
let at = 8;

const number = () => Number(view.getBigUint64((at += 8) - 8, true));
const real = () => view.getFloat64((at += 8) - 8, true);
const bytes = () => {
  const length = number();
  return file.subarray(at, (at += length));
};
const text = () => bytes().toString();
const list = (item) => Array.from({ length: number() }, item);

function tensor() {
  const name = text();
  const { name: dtype, array } = DTYPES.get(number());
  const shape = list(number);
  const data = new array(new Uint8Array(bytes()).buffer);
  return { name, dtype, shape, data };
}

function half(bits) {
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 1023;
  const value = exponent === 31 ? (mantissa ? NaN : Infinity) : exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : mantissa * 2 ** -24;
  return bits & 0x8000 ? -value : value;
}

function differs(found, wanted, relative, absolute) {
  if (!found) return `there is no output '${wanted.name}'`;
  if (found.data.constructor !== wanted.data.constructor) return "dtype";
  if (`${found.shape}` !== `${wanted.shape}`) return `shape [${found.shape}] for [${wanted.shape}]`;
  const value = (data, i) => (wanted.dtype === "float16" ? half(data[i]) : Number(data[i]));
  for (let i = 0; i < wanted.data.length; i++) {
    const [a, b] = [value(found.data, i), value(wanted.data, i)];
    if (a === b || (a !== a && b !== b)) continue;
    if (!(Math.abs(a - b) <= absolute + relative * Math.abs(b))) return `value ${i}: ${a} for ${b}`;
  }
  return null;
}

function ratio(found, wanted) {
  let [signal, noise] = [0, 0];
  for (let i = 0; i < wanted.data.length; i++) {
    const value = Number(wanted.data[i]);
    signal += value * value;
    noise += (Number(found.data[i]) - value) ** 2;
  }
  return 10 * Math.log10(signal / noise);
}

function compare(found, wanted, tolerances) {
  if (!decibels) return differs(found, wanted, ...tolerances);
  const problem = differs(found, wanted, 0, Infinity);
  if (problem) return problem;
  const reached = ratio(found, wanted);
  console.log(`${wanted.name}: ${reached.toFixed(1)} dB`);
  return reached >= Number(decibels) ? null : "too few dB";
}

// Which inputs are fixed, in the order in which it is tried: none, those that are no floats, all but the first, all.
const CHOICES = [() => false, ({ dtype }) => !dtype.startsWith("float"), (_, i) => i > 0, () => true];

async function open(model, inputs, first) {
  const bounds = Object.fromEntries(inputs.flatMap(({ name, shape }) => shape.map((length, axis) => [`${name}:${axis}`, [length, length]])));
  let problem;
  for (const isFixed of CHOICES.slice(first)) {
    const fixedInputs = Object.fromEntries(inputs.filter(isFixed).map((input) => [input.name, input]));
    const given = Object.fromEntries(inputs.filter((input, i) => !isFixed(input, i)).map((input) => [input.name, input]));
    try {
      return { session: await load(model, { worker: false, build, bounds, fixedInputs }), given };
    } catch (error) {
      problem = error;
    }
  }
  throw problem;
}

async function problemOf(model, inputs, wanted, tolerances, first) {
  try {
    const { session, given } = await open(model, inputs, first);
    const found = await session.run(given);
    session.close();
    return wanted.map((w) => compare(found[w.name], w, tolerances)).find(Boolean);
  } catch (error) {
    return error.message;
  }
}

const count = number();
let failed = 0;
for (let i = 0; i < count; i++) {
  const name = text();
  const model = bytes();
  const tolerances = [real(), real()];
  const [inputs, wanted] = [list(tensor), list(tensor)];
  for (const first of decibels ? [0] : [0, 2]) {
    const problem = await problemOf(model, inputs, wanted, tolerances, first);
    if (!problem) continue;
    console.log(`${name} (from choice ${first}): ${problem}`);
    failed++;
    break;
  }
}
console.log(`${count} cases, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
