// Typed arrays against the engine's dtypes and shapes.
import { EdgewrightError } from "./errors.js";

/** By the number that edgewright.h gives a dtype. */
export const DTYPES = new Map([
  [1, { name: "float32", array: Float32Array }],
  [2, { name: "uint8", array: Uint8Array }],
  [3, { name: "int8", array: Int8Array }],
  [4, { name: "uint16", array: Uint16Array }],
  [5, { name: "int16", array: Int16Array }],
  [6, { name: "int32", array: Int32Array }],
  [7, { name: "int64", array: BigInt64Array }],
  [9, { name: "bool", array: Uint8Array }],
  [10, { name: "float16", array: Uint16Array }],
  [11, { name: "float64", array: Float64Array }],
  [12, { name: "uint32", array: Uint32Array }],
  [13, { name: "uint64", array: BigUint64Array }],
]);

const NUMBERS = new Map([...DTYPES].map(([number, { name }]) => [name, number]));
const CLAMPED = globalThis.Uint8ClampedArray;
const HALF = globalThis.Float16Array;

export function dtypeNumber(name) {
  const number = NUMBERS.get(name);
  if (number) return number;
  throw invalid(`dtype '${name}' is not one of ${[...NUMBERS.keys()].join(", ")}`);
}

/** The dtype that a typed array has when nobody says another one. */
export function dtypeOf(data) {
  for (const { name, array } of DTYPES.values()) if (data.constructor === array) return name;
  if (data.constructor === HALF) return "float16";
  if (data.constructor === CLAMPED) return "uint8";
  throw invalid(`${describe(data)} is no typed array of a dtype that the engine has`);
}

/** `given`, a typed array or {data, shape}, as {data, shape} that fits what a session says of an input. */
export function fit(input, given) {
  const { data, shape } = isTyped(given) ? { data: given } : (given ?? {});
  const { array } = DTYPES.get(dtypeNumber(input.dtype));
  const same = isTyped(data) && (data.constructor === array || isSameStorage(input.dtype, data));
  if (!same) throw invalid(`input '${input.name}' is ${input.dtype}: give ${article(array)}, given was ${describe(data ?? given)}${hint(array, data ?? given)}`);
  const dims = shape ? [...shape].map(Number) : shapeFor(input, data.length);
  const count = dims.reduce((product, length) => product * length, 1);
  if (!dims.every((length) => Number.isSafeInteger(length) && length >= 0) || count !== data.length)
    throw invalid(`input '${input.name}': shape [${dims}] does not hold the ${data.length} elements that were given`);
  return { data, shape: dims };
}

/** The shape of so many elements: at most one dimension is open, or all have one length they can have. */
function shapeFor(input, count) {
  const open = input.shape.flatMap((length, axis) => (typeof length === "number" ? [] : [axis]));
  const known = input.shape.reduce((product, length) => (typeof length === "number" ? product * length : product), 1);
  if (open.length === 0 && known === count) return input.shape;
  if (open.length === 1 && known && count % known === 0)
    return input.shape.map((length, axis) => (axis === open[0] ? count / known : length));
  const advice = open.length > 1 ? "; give {data, shape}, because more than one dimension is open" : "";
  throw invalid(`input '${input.name}' has shape [${input.shape.join(", ")}], given were ${count} elements${advice}`);
}

export function isTyped(value) {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

function isSameStorage(dtype, data) {
  return (dtype === "float16" && data.constructor === HALF) || (dtype === "uint8" && data.constructor === CLAMPED);
}

function hint(array, data) {
  if (!array.name.startsWith("Big") || !(isTyped(data) || Array.isArray(data))) return "";
  return `; ${array.name}.from(values, BigInt) makes one`;
}

const article = (array) => (/^[AEIOU]/.test(array.name) ? `an ${array.name}` : `a ${array.name}`);
const describe = (value) => (value === null || value === undefined ? String(value) : (value.constructor?.name ?? typeof value));
const invalid = (message) => new EdgewrightError("INVALID_ARGUMENT", message);
