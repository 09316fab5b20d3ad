export default {
  optimizeDeps: { exclude: ["edgewright"] }, // else its Worker and its .wasm files are not found by `vite dev`
  base: "./",
  worker: { format: "es" },
};
