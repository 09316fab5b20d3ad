// Runs a file of cases (case_file.py) through the package: node web_cases.mjs CASES BUILD.  Names those that fail.
import { readFileSync } from "node:fs";

import { load } from "../../runtime/web/index.js";
import { DTYPES } from "../../runtime/web/tensors.js";

const [path, build] = process.argv.slice(2);
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
    return wanted.map((w) => differs(found[w.name], w, ...tolerances)).find(Boolean);
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
  for (const first of [0, 2]) {
    const problem = await problemOf(model, inputs, wanted, tolerances, first);
    if (!problem) continue;
    console.log(`${name} (from choice ${first}): ${problem}`);
    failed++;
    break;
  }
}
console.log(`${count} cases, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
