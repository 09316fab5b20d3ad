/** Statuses of edgewright.h, by number. */
export const CODES = [
  "OK",
  "INVALID_ARGUMENT",
  "INVALID_MODEL",
  "UNSUPPORTED",
  "SHAPE_MISMATCH",
  "NO_MEMORY",
  "IO",
  "HASH_MISMATCH",
  "CANCELLED",
];

export class EdgewrightError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = "EdgewrightError";
    this.code = code;
  }
}

/** As plain data, because a Worker's messages keep no class. */
export function pack(error) {
  return { name: error?.name, code: error?.code, message: String(error?.message ?? error) };
}

export function unpack({ name, code, message }) {
  if (name === "EdgewrightError") return new EdgewrightError(code, message);
  if (name === "AbortError") return new DOMException(message, name);
  return Object.assign(new Error(message), { name });
}
