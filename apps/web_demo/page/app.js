import { load } from "./edgewright/index.js";

const MODEL = "model.edgez";
const element = (id) => document.getElementById(id);
const inputs = [element("choose"), element("take")];
const results = element("results");

let session = null;
let running = Promise.resolve();

function show(state, message) {
  element("status").dataset.state = state;
  element("message").textContent = message;
  element("progress").hidden = state !== "loading";
  element("again").hidden = state !== "error" || session !== null;
  for (const input of inputs) input.disabled = session === null;
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

function progress({ loaded, total }) {
  const bar = element("progress");
  if (total > loaded) Object.assign(bar, { max: total, value: loaded });
  element("message").textContent = total > loaded ? `Loading the model, ${megabytes(loaded)} of ${megabytes(total)} MB` : `Loading the model, ${megabytes(loaded)} MB`;
}

async function start() {
  show("loading", "Loading the model");
  try {
    session = await load(MODEL, { progress });
    const { model } = session.manifest;
    element("about").textContent = `${model.name}, in WebAssembly (${session.build === "relaxed" ? "SIMD with fused multiply-add" : session.build}), on one thread of this device.`;
    show("ready", "Ready. Choose a photo.");
    listGuesses([]);
  } catch (error) {
    show("error", sentence("The model could not be loaded", error));
  }
}

function listGuesses(classes) {
  results.replaceChildren(...(classes.length ? classes.map(guess) : [nothing()]));
}

function guess({ label, score }) {
  const row = document.createElement("li");
  row.style.setProperty("--share", score);
  const [name, share] = ["label", "share"].map((kind) => Object.assign(document.createElement("span"), { className: kind }));
  name.textContent = label;
  share.textContent = percent(score);
  row.append(name, share);
  return row;
}

const percent = (score) => `${(score * 100).toFixed(score < 0.0995 ? 1 : 0)} %`;
const sentence = (what, { message }) => `${what}: ${message.replace(/\.$/, "")}.`;
const nothing = () => Object.assign(document.createElement("li"), { className: "none", textContent: "Nothing yet" });

function classify(photo) {
  if (session === null || !photo) return;
  running = running.then(() => run(photo)); // one after the other
}

async function run(photo) {
  show("running", "Looking at the photo");
  results.classList.add("waiting");
  preview(photo);
  try {
    const { classes, milliseconds } = await session.classify(photo);
    listGuesses(classes);
    element("timing").textContent = `${milliseconds.toFixed(1)} ms from pixels to answer`;
    show("ready", `Best guess: ${classes[0].label}, ${percent(classes[0].score)}.`);
  } catch (error) {
    listGuesses([]);
    forget();
    show("error", sentence("That could not be classified", error));
  }
  results.classList.remove("waiting");
}

function preview(photo) {
  forget();
  element("preview").src = URL.createObjectURL(photo);
  element("preview").hidden = false;
  element("empty").hidden = true;
}

function forget() {
  URL.revokeObjectURL(element("preview").src);
  element("preview").removeAttribute("src");
  element("preview").hidden = true;
  element("empty").hidden = false;
  element("timing").textContent = "";
}

for (const input of inputs)
  input.addEventListener("change", () => {
    classify(input.files[0]);
    input.value = ""; // so that the same photo may be chosen again
  });
element("again").addEventListener("click", start);

const isPhoto = (file) => file.type.startsWith("image/");
document.addEventListener("paste", ({ clipboardData }) => classify([...clipboardData.files].find(isPhoto)));
for (const type of ["dragover", "dragleave", "drop"])
  document.addEventListener(type, (event) => {
    event.preventDefault();
    element("frame").classList.toggle("over", type === "dragover");
    if (type === "drop") classify([...event.dataTransfer.files].find(isPhoto));
  });

navigator.serviceWorker?.register("service_worker.js").catch(() => {}); // without one the page still works online
start();
