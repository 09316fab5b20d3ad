/** What a dimension may be: a length, or the name of one that is open (its bounds are in `bounds`). */
export type Dimension = number | string;

export type DType =
  | "float32" | "float64" | "float16" | "bool"
  | "int8" | "int16" | "int32" | "int64"
  | "uint8" | "uint16" | "uint32" | "uint64";

/** float16 as its bits, bool as 0 and 1 in a Uint8Array. */
export type TypedArray =
  | Float32Array | Float64Array
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint8ClampedArray | Uint16Array | Uint32Array | BigUint64Array;

/** An input or output of a session. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly Dimension[];
  /** Of every open dimension, inclusive. */
  readonly bounds: Readonly<Record<string, { min: number; max: number }>>;
}

/** Row-major values. */
export interface Tensor {
  data: TypedArray;
  shape: readonly number[];
}

/** A decoded photo, row by row without gaps, one byte a channel. */
export interface Pixels {
  data: Uint8Array | Uint8ClampedArray;
  width: number;
  height: number;
  /** Default: by the number of bytes; four of them are RGBA. */
  pixel?: "gray" | "gray-alpha" | "rgb" | "rgba" | "cmyk";
  /** EXIF tag 0x0112, where the decoder did not apply it.  Default: 1, upright. */
  orientation?: number;
}

/** Of files the EXIF orientation is applied.  Node has no decoder: give it `Pixels`. */
export type Photo = Blob | ImageBitmap | ImageData | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas | Pixels;

export interface Class {
  /** The bundle's name of it; its number as text where the bundle has no labels. */
  label: string;
  index: number;
  score: number;
}

/** One step of a run: a node of the model, or several in one. */
export interface Step {
  node: string;
  op: string;
  /** The kernel it was given; null: portable code. */
  kernel: string | null;
  runs: number;
  /** Of all runs together; 0 without `profile`. */
  seconds: number;
}

export interface LoadOptions {
  /** In a Worker of its own (the default where there are Workers), or on the calling thread, which waits in `run`. */
  worker?: boolean;
  /** Ends the download; `load` rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Called as bytes come; `total` is `loaded` where the server does not say. */
  progress?: (state: { loaded: number; total: number }) => void;
  /** Whether a bundle from a URL is kept in the browser's Cache API.  Default: true. */
  cache?: boolean;
  /** Hash of the bundle's manifest: any other bundle is refused, and the one that is kept is used without asking. */
  sha256?: string;
  /** One for now. */
  threads?: number;
  /** Folder of the .wasm files, where a bundler does not place them. */
  wasm?: string;
  /** Default: the best one that passes its self-test.  "scalar" is plain code, for comparison. */
  build?: "relaxed" | "simd" | "scalar";
  /** Of open dimensions of a bare ONNX file, by name or "<input>:<axis>": [min, max], inclusive. */
  bounds?: Record<string, readonly [number, number]>;
  /** Values of inputs that are fixed when the session is made; `run` does not take them. */
  fixedInputs?: Record<string, { data: TypedArray; shape?: readonly number[]; dtype?: DType }>;
  /** Whether every step is timed, for `steps`. */
  profile?: boolean;
}

/** An open model. */
export interface Session {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly build: "relaxed" | "simd" | "scalar";
  /** The bundle's manifest.json; null: a bare ONNX file. */
  readonly manifest: unknown;
  /**
   * Runs once.  Calls are answered in their order.
   *
   * @param inputs By name.  A typed array alone where its length says the shape.
   * @returns Outputs by name, the caller's to keep.
   * @throws EdgewrightError INVALID_ARGUMENT: a name, dtype or shape; SHAPE_MISMATCH: beyond the bounds.
   * @example const { logits } = await session.run({ image: new Float32Array(3 * 224 * 224) });
   */
  run(inputs: Record<string, TypedArray | Tensor>): Promise<Record<string, Tensor>>;
  /**
   * The best classes of a photo, by the bundle's own pre- and post-processing: what `classify` gives in Python.
   *
   * @param options `topK`: how many classes; by default as many as the bundle says.
   * @returns `milliseconds`: for scaling, the run and the ranking, without decoding.
   * @throws EdgewrightError INVALID_ARGUMENT: the bundle was exported without `preprocess`, or this is no photo.
   * @example const { classes: [best] } = await session.classify(input.files[0]);
   */
  classify(photo: Photo, options?: { topK?: number }): Promise<{ classes: Class[]; milliseconds: number }>;
  /** The input that `classify` makes of a photo, the same values as in Python, bit for bit. */
  preprocess(photo: Photo): Promise<Tensor>;
  /** What a run consists of. */
  steps(): Promise<Step[]>;
  /** Bytes of the WebAssembly memory: bundle, packed weights, activations. */
  memoryBytes(): Promise<number>;
  /** Ends the session and what is under way in it, and gives its memory back. */
  close(): void;
}

/**
 * Opens a bundle (.edgez) or an ONNX file.
 *
 * @param source A URL (in Node also of a file), what `fetch` gave, a file that the user chose, or bytes.
 * @throws EdgewrightError With `code`; the README lists them.
 * @example const session = await load("/models/mobilenet.edgez");
 */
export function load(
  source: string | URL | Response | Blob | ArrayBuffer | ArrayBufferView,
  options?: LoadOptions,
): Promise<Session>;

export class EdgewrightError extends Error {
  readonly name: "EdgewrightError";
  readonly code:
    | "INVALID_ARGUMENT" | "INVALID_MODEL" | "UNSUPPORTED" | "SHAPE_MISMATCH" | "NO_MEMORY" | "IO"
    | "HASH_MISMATCH" | "CANCELLED" | "UNSUPPORTED_BROWSER" | "BLOCKED" | "NOT_ISOLATED" | "DOWNLOAD"
    | "CLOSED" | "TRAPPED";
}
