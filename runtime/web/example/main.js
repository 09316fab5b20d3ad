// Opens the bundle that the user chooses, runs it on zeros and says what came and how long it took.
import { load } from "edgewright";

const log = document.querySelector("#log");
const bar = document.querySelector("#bar");
const TYPES = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, bool: Uint8Array };

document.querySelector("#file").addEventListener("change", async ({ target }) => {
  try {
    log.textContent = await tryOut(target.files[0]);
  } catch (error) {
    log.textContent = `${error.code ?? error.name}: ${error.message}`;
  }
});

async function tryOut(file) {
  const session = await load(file, { progress: ({ loaded, total }) => (bar.value = loaded / total) });
  const inputs = Object.fromEntries(session.inputs.map((input) => [input.name, zeros(input)]));
  const start = performance.now();
  const outputs = await session.run(inputs);
  const time = `${session.build}, ${(performance.now() - start).toFixed(1)} ms`;
  session.close();
  return [time, ...Object.entries(outputs).map(([name, { shape }]) => `${name} [${shape.join(", ")}]`)].join("\n");
}

/** Open dimensions at their least length. */
function zeros({ dtype, shape, bounds }) {
  const lengths = shape.map((length) => (typeof length === "number" ? length : Math.max(1, bounds[length].min)));
  return { data: new TYPES[dtype](lengths.reduce((a, b) => a * b, 1)), shape: lengths };
}
