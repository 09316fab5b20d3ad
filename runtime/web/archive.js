// Files of a bundle whose archive the engine has read, so that its directory is known to be sound.  An archive of 2 GiB
// or more would have fields of zip64, but fits no WebAssembly memory beside its session.

const END = 0x06054b50;
const END_BYTES = 22;
const CENTRAL_BYTES = 46;
const LOCAL_BYTES = 30;

/**
 * @param {Uint8Array} bytes
 * @returns {Uint8Array | null} The file's own bytes; null: a bare model, or there is no such file.
 */
export function fileIn(bytes, wanted) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < END_BYTES || view.getUint32(0, true) !== 0x04034b50) return null;
  let end = bytes.length - END_BYTES;
  while (end >= 0 && view.getUint32(end, true) !== END) end--;
  if (end < 0) return null;
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const [name, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const text = new TextDecoder().decode(bytes.subarray(at + CENTRAL_BYTES, at + CENTRAL_BYTES + name));
    if (text === wanted) {
      const local = view.getUint32(at + 42, true);
      const data = local + LOCAL_BYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return bytes.subarray(data, data + view.getUint32(at + 20, true));
    }
    at += CENTRAL_BYTES + name + extra + comment;
  }
  return null;
}
