// Decoded pixels of whatever a page calls a photo; what is made of them is the engine's work.
import { EdgewrightError } from "./errors.js";
import { isTyped } from "./tensors.js";

/** By the number that edgewright.h gives an edge_pixel, and bytes of one pixel. */
const PIXELS = { gray: 1, "gray-alpha": 2, rgb: 3, rgba: 4, cmyk: 5 };
const BY_BYTES = [null, "gray", "gray-alpha", "rgb", "rgba"];

/**
 * @param photo A Blob or File, an ImageBitmap, an <img>, <video> or canvas, an ImageData, or
 *   {data, width, height, pixel, orientation}: bytes as a decoder gives them.
 * @returns {Promise<{data: Uint8Array, width: number, height: number, pixel: number, orientation: number}>}
 */
export async function pixelsOf(photo) {
  if (isTyped(photo?.data)) return raw(photo);
  const bitmap = await decode(photo);
  try {
    return raw(draw(bitmap));
  } catch (cause) {
    const reason = cause.name === "SecurityError" ? "it is of another origin, whose server must allow this one (CORS)" : cause.message;
    throw invalid(`the photo cannot be read: ${reason}`, cause);
  } finally {
    bitmap.close();
  }
}

function raw({ data, width, height, pixel, orientation = 1 }) {
  const bytes = data.byteLength / (width * height);
  const name = pixel ?? BY_BYTES[bytes];
  const fits = data.BYTES_PER_ELEMENT === 1 && Number.isInteger(width) && Number.isInteger(height) && width > 0 && height > 0;
  if (!fits || !PIXELS[name] || bytes !== Math.min(PIXELS[name], 4))
    throw invalid(`a photo of ${width} x ${height} pixels${pixel ? ` of ${pixel}` : ""} does not have ${data.byteLength} bytes; pixels are ${Object.keys(PIXELS).join(", ")}, one byte a channel`);
  return { data, width, height, pixel: PIXELS[name], orientation };
}

/** Turned upright by the browser, its values as they are in the file. */
async function decode(photo) {
  if (typeof createImageBitmap === "undefined")
    throw invalid("only a browser decodes photos; give {data, width, height} with the pixels");
  try {
    return await createImageBitmap(photo, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch (cause) {
    const given = photo?.constructor?.name ?? String(photo);
    throw invalid(`the ${given} is no photo that this browser can decode (${cause.message})`, cause);
  }
}

function draw(bitmap) {
  const { width, height } = bitmap;
  const canvas = typeof OffscreenCanvas === "undefined" ? Object.assign(document.createElement("canvas"), { width, height }) : new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, width, height);
}

const invalid = (message, cause) => new EdgewrightError("INVALID_ARGUMENT", message, { cause });
