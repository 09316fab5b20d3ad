// The page and the engine without a network: what was fetched last is kept.  The engine keeps the model itself.
const CACHE = "edgewright-demo-1";
const ENGINE = ["index", "archive", "build", "download", "engine", "errors", "host", "photos", "tensors", "worker", "worker_host"];
const FILES = [
  "./", "style.css", "app.js", "icon.svg",
  ...ENGINE.map((name) => `edgewright/${name}.js`),
  ...["relaxed", "simd"].map((build) => `edgewright/dist/edgewright-${build}.wasm`),
];
/** The engine with every operator, kept where a model needs it. */
const EVERY = /^edgewright\/dist\/edgewright-\w+-every\.wasm$/;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const path = url.slice(self.registration.scope.length) || "./";
  if (method === "GET" && url.startsWith(self.registration.scope) && (FILES.includes(path) || EVERY.test(path))) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}
