"""The package ``runtime/web`` in Node: every ONNX node case, its inputs, its errors, and which build it takes."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import sdk
from edgewright_runtime import native_library
from edgewright_runtime.engines import installed
from sdk import Bundle
from tests.native import (
    case_file,
    test_four_bits,
    test_planes,
    test_prepare_int8,
    test_sparse_files,
    test_sparse_s8,
    test_three_bits,
    web_setup,
)
from tests.native.small_models import batched_linear, batched_linear_result
from tests.native.small_models import model as small_model
from tests.native.test_onnx_nodes import RUN
from tests.tiny_bundle import make_tiny_bundle

pytestmark = pytest.mark.slow
BUILDS = ("relaxed", "simd", "scalar")
RELAXED = ("gemm_f32.c", "gemm_grouped.c", "depthwise_f32.c", "depthwise_plane_f32.c", "spmm_f32.c")
"""Sources of kernels whose instructions may be relaxed."""
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def node():
    web_setup.modules()
    return web_setup.node()


@pytest.fixture
def run_js(node, tmp_path):
    """Runs a script that has ``load`` and ``argument``; gives what it returns, or {code, message} of what it throws."""

    def run(script: str, argument: object = None):
        text = (
            f"import {{ load }} from {json.dumps((web_setup.WEB / 'index.js').as_uri())};\n"
            f"const argument = {json.dumps(argument)};\n"
            f"const body = async () => {{ {script} }};\n"
            "const value = await body().catch(({ code, message }) => ({ code, message }));\n"
            "console.log(JSON.stringify(value ?? null));\n"
        )
        (tmp_path / "script.mjs").write_text(text)
        done = subprocess.run([node, str(tmp_path / "script.mjs")], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    bundle = make_tiny_bundle(folder)
    return bundle, Path(Bundle.open(bundle).pack(folder / "tiny.edgez"))


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    path = tmp_path_factory.mktemp("linear") / "linear.onnx"
    path.write_bytes(batched_linear())
    return path


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    path = tmp_path_factory.mktemp("cases") / "cases"
    assert case_file.write(path, RUN) >= 900
    return path


@pytest.mark.parametrize("build", BUILDS)
def test_every_node_case(build, node, cases):
    command = [node, str(HERE / "web_cases.mjs"), str(cases), build]
    found = subprocess.run(command, capture_output=True, text=True, timeout=900)
    count = sum(len(case.data_sets) for case in RUN)
    assert found.stdout.splitlines()[-1:] == [f"{count} cases, 0 failed"], found.stdout + found.stderr


@pytest.mark.parametrize("build", BUILDS)
def test_prepared_graphs(build, node, tmp_path):
    kinds = (test_prepare_int8, test_sparse_s8, test_four_bits, test_three_bits, test_planes)
    count = case_file.write_entries(tmp_path / "cases", [entry for kind in kinds for entry in kind.entries()])
    command = [node, str(HERE / "web_cases.mjs"), str(tmp_path / "cases"), build]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert found.stdout.splitlines()[-1:] == [f"{count} cases, 0 failed"], found.stdout + found.stderr


@pytest.mark.parametrize(("program", "rows", "least"), [("check_kernels", 19, 1000), ("check_kernels_s8", 6, 5000)])
@pytest.mark.parametrize("isa", ["wasm", "wasm_relaxed"])
def test_every_kernel_beside_the_scalar_one(isa, program, rows, least, node, tmp_path):
    if not installed("ziglang"):
        pytest.skip("the package ziglang is not installed: it compiles the kernels")
    kernels = HERE.parents[1] / "kernels_arm"
    sources = [path for folder in (".", "scalar", "vector", "wasm") for path in sorted(kernels.glob(f"{folder}/*.c"))]
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O3"]
    options = [
        "-msimd128",
        *(["-DEDGE_WASM_RELAXED"] if isa == "wasm_relaxed" else []),
        f"-I{kernels}/include",
        f"-I{kernels}/vector",
        "-DEDGE_LANES=4",
        f"-DEDGE_SUFFIX={isa}",
    ]
    objects = [tmp_path / f"{place}.o" for place in range(len(sources))]
    for path, to in zip(sources, objects, strict=True):  # flags are as kernels_arm/CMakeLists.txt says
        contract = "off" if path.name == "map_s8.c" else "fast"
        relaxed = ["-mrelaxed-simd"] if isa == "wasm_relaxed" and path.parent.name == "vector" and path.name in RELAXED else []
        own = [f"-ffp-contract={contract}", *relaxed]
        subprocess.run([*compiler, *options, *own, "-c", str(path), "-o", str(to)], check=True)
    built, check = str(tmp_path / "check.wasm"), str(HERE / f"{program}.c")
    subprocess.run([*compiler, *options, *map(str, objects), check, "-o", built], check=True)
    command = [node, "--no-warnings", str(HERE / "run_wasi.mjs"), built]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300)
    ran, checks, failed = (int(part.split()[0]) for part in found.stdout.splitlines()[-1].split(", "))
    assert (ran, failed) == (rows, 0) and checks >= least, found.stdout + found.stderr


@pytest.mark.parametrize("build", BUILDS)
def test_a_bundle_computes_what_it_does_in_python(build, run_js, tiny):
    folder, packed = tiny
    with sdk.load(folder) as session:
        sample = session.sample_inputs(seed=3)
        wanted = session.run(sample)
        names = [spec.name for spec in session.inputs]
    found = run_js(
        "const session = await load(new URL(argument.url), { build: argument.build });"
        "const inputs = Object.fromEntries(Object.entries(argument.values).map(([n, v]) => [n, Float32Array.from(v)]));"
        "const outputs = await session.run(inputs);"
        "return { inputs: session.inputs, build: session.build, device: session.manifest.device,"
        "  outputs: Object.fromEntries(Object.entries(outputs).map(([n, t]) => [n, [t.shape, [...t.data]]])) };",
        {"url": packed.as_uri(), "build": build, "values": {name: sample[name].ravel().tolist() for name in names}},
    )
    assert [spec["name"] for spec in found["inputs"]] == names
    assert (found["build"], found["device"]) == (build, "host")
    for name, array in wanted.items():
        assert found["outputs"][name][0] == list(array.shape)
        np.testing.assert_allclose(np.reshape(found["outputs"][name][1], array.shape), array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("build", "isa"), [("relaxed", "wasm_relaxed"), ("simd", "wasm"), ("scalar", "scalar")])
def test_sparse_convolutions_run_on_kernels_of_their_own(build, isa, run_js, tmp_path):
    net = test_planes.Net(32).sparse(64).act("Relu").depthwise(3, pads=[1] * 4).sparse(40, kept=0.1, rows=1)
    (tmp_path / "net.onnx").write_bytes(net.content(9, 9, channels=32))
    script = (
        "const session = await load(new URL(argument.url), { build: argument.build, profile: true });"
        "return (await session.steps()).map(({ kernel }) => kernel);"
    )
    found = run_js(script, {"url": (tmp_path / "net.onnx").as_uri(), "build": build})
    names = ("spmm_f32_4x1", "depthwise_plane_f32", "spmm_f32_1x1")
    assert [kernel for kernel in found if kernel] == [f"edge_{name}_{isa}" for name in names]


def test_sparse_weights_of_linear_layers_are_multiplied_as_dense_ones(run_js, tmp_path):
    content = test_sparse_files.compressed()
    (tmp_path / "sparse.onnx").write_bytes(content)
    x = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    script = (
        "const session = await load(new URL(argument.url));"
        "return [...(await session.run({ x: Float32Array.from(argument.x) })).y.data];"
    )
    found = run_js(script, {"url": (tmp_path / "sparse.onnx").as_uri(), "x": x.ravel().tolist()})
    wanted = native_library.Model(content).session().run([x])[0]
    np.testing.assert_allclose(found, wanted.ravel(), rtol=1e-5, atol=1e-5)


def test_an_open_batch_is_read_from_the_length(run_js, linear):
    draw = np.random.default_rng(0)
    for batch in (1, 4):
        x = draw.standard_normal((batch, 4)).astype(np.float32)
        found = run_js(
            "const session = await load(new URL(argument.url), { bounds: { batch: [1, 5] } });"
            "const { y } = await session.run({ x: Float32Array.from(argument.x) });"
            "return { spec: session.inputs[0], shape: y.shape, data: [...y.data] };",
            {"url": linear.as_uri(), "x": x.ravel().tolist()},
        )
        assert found["spec"] == {
            "name": "x",
            "dtype": "float32",
            "shape": ["axis 0", 4],
            "bounds": {"axis 0": {"min": 1, "max": 5}},
        }
        assert found["shape"] == [batch, 6]
        np.testing.assert_allclose(
            np.reshape(found["data"], (batch, 6)), batched_linear_result(x), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("{}", "INVALID_ARGUMENT", ["'x' is missing"]),
        ("{ x: new Float32Array(4), z: 1 }", "INVALID_ARGUMENT", ["no input 'z'", "inputs are x"]),
        ("{ x: new Float64Array(4) }", "INVALID_ARGUMENT", ["'x' is float32", "Float32Array", "Float64Array"]),
        ("{ x: [1, 2, 3, 4] }", "INVALID_ARGUMENT", ["'x' is float32", "was Array"]),
        ("{ x: null }", "INVALID_ARGUMENT", ["'x' is float32", "was null"]),
        ("{ x: new Float32Array(5) }", "INVALID_ARGUMENT", ["[axis 0, 4]", "5 elements"]),
        ("{ x: { data: new Float32Array(8), shape: [2, 5] } }", "INVALID_ARGUMENT", ["[2,5]", "8 elements"]),
        ("{ x: { data: new Float32Array(8), shape: [-2, -4] } }", "INVALID_ARGUMENT", ["[-2,-4]"]),
        ("{ x: { data: new Float32Array(8), shape: [8] } }", "SHAPE_MISMATCH", ["2 axes", "given were 1"]),
        ("{ x: new Float32Array(24) }", "SHAPE_MISMATCH", ["axis 0 of input 'x'", "1 to 5", "6"]),
        ("{ x: new Float32Array(0) }", "SHAPE_MISMATCH", ["1 to 5", "was 0"]),
        ("{ x: { data: new Float32Array(4), shape: Array(9).fill(1).fill(4, 8) } }", "INVALID_ARGUMENT", ["9 axes"]),
    ],
)
def test_a_wrong_input_is_refused_with_what_was_expected(given, code, words, run_js, linear):
    script = f"return (await load(new URL(argument), {{ bounds: {{ batch: [1, 5] }} }})).run({given});"
    found = run_js(script, linear.as_uri())
    assert found["code"] == code
    for word in words:
        assert word in found["message"]


@pytest.mark.parametrize("keep", ["0", "3", "100", "-1", "-30"])
def test_a_cut_off_bundle_gives_the_sentence_of_the_engine(keep, run_js, tiny, tmp_path):
    _, packed = tiny
    (tmp_path / "cut.edgez").write_bytes(packed.read_bytes()[: int(keep)])
    with pytest.raises(native_library.NativeError) as wanted:
        native_library.Model((tmp_path / "cut.edgez").read_bytes())
    found = run_js("await load(new URL(argument));", (tmp_path / "cut.edgez").as_uri())
    assert found["message"] == str(wanted.value)


def test_a_flipped_bit_gives_the_sentence_of_the_engine(run_js, tiny, tmp_path):
    content = bytearray(tiny[1].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad.edgez").write_bytes(content)
    with pytest.raises(native_library.NativeError) as wanted:
        native_library.Model(bytes(content))
    found = run_js("await load(new URL(argument));", (tmp_path / "bad.edgez").as_uri())
    assert found["message"] == str(wanted.value)
    assert found["code"] in ("HASH_MISMATCH", "INVALID_MODEL")


def test_every_kind_of_source(run_js, tiny):
    found = run_js(
        "const { readFileSync } = await import('node:fs');"
        "const bytes = readFileSync(new URL(argument));"
        "const whole = new Uint8Array(bytes).buffer;"
        "const seen = [];"
        "const progress = (state) => seen.push(state);"
        "for (const source of [argument, new URL(argument), bytes, whole, new Blob([bytes]), new Response(bytes)])"
        "  (await load(source, { progress })).close();"
        "return { last: seen.at(-1), size: bytes.length, ends: seen.filter((s) => s.loaded === bytes.length).length };",
        tiny[1].as_uri(),
    )
    assert found == {"last": {"loaded": found["size"], "total": found["size"]}, "size": found["size"], "ends": 6}


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("await load(42)", "INVALID_ARGUMENT", ["URL, Response, Blob or ArrayBuffer", "Number"]),
        ("await load(null)", "INVALID_ARGUMENT", ["null"]),
        ("await load(new URL(argument), { build: 'avx' })", "INVALID_ARGUMENT", ["'avx'", "relaxed, simd, scalar"]),
        ("await load(new URL(argument), { threads: 2 })", "UNSUPPORTED", ["2 threads", "one"]),
        ("await load(new URL(argument), { threads: 0 })", "INVALID_ARGUMENT", ["positive whole number"]),
        ("await load(new URL(argument), { sha256: 'ab' })", "HASH_MISMATCH", ["asked for was ab"]),
        ("await load(new Response('', { status: 404 }))", "DOWNLOAD", ["404"]),
        ("const s = await load(new URL(argument)); s.close(); await s.run({})", "CLOSED", ["load the model again"]),
    ],
)
def test_a_wrong_call_says_what_to_do(script, code, words, run_js, tiny):
    found = run_js(script, tiny[1].as_uri())
    assert found["code"] == code
    for word in words:
        assert word in found["message"]


def test_sha256_of_the_manifest_is_accepted(run_js, tiny):
    script = "return (await load(new URL(argument.url), { sha256: argument.hash })).inputs.length;"
    assert run_js(script, {"url": tiny[1].as_uri(), "hash": Bundle.open(tiny[0]).sha256}) >= 1


def test_an_aborted_signal_rejects_with_its_reason(run_js, tiny):
    found = run_js(
        "await load(new URL(argument), { signal: AbortSignal.abort(new Error('no more')) });", tiny[1].as_uri()
    )
    assert found["message"] == "no more"


def test_profile_names_steps_and_their_kernels(run_js, tiny):
    found = run_js(
        "const session = await load(new URL(argument), { profile: true, build: 'simd' });"
        "await session.run(Object.fromEntries(session.inputs.map((i) =>"
        "  [i.name, new Float32Array(i.shape.reduce((a, b) => a * b))])));"
        "return { steps: await session.steps(), bytes: await session.memoryBytes() };",
        tiny[1].as_uri(),
    )
    assert all(step["runs"] == 1 and step["seconds"] >= 0 for step in found["steps"])
    assert any((step["kernel"] or "").endswith("_wasm") for step in found["steps"])
    assert found["bytes"] % 65536 == 0


def test_what_does_not_fit_is_refused(run_js, linear):
    found = run_js("await load(new URL(argument), { bounds: { batch: [1, 1e9] } });", linear.as_uri())
    assert found["code"] == "NO_MEMORY" and "larger than memory can be" in found["message"]


def test_after_a_trap_nothing_is_called(run_js):
    """A module whose ``aligned_alloc`` cannot be reached."""
    found = run_js(
        "const { Engine } = await import(argument);"
        "const name = (text) => [text.length, ...Buffer.from(text)];"
        "const exports = [3, ...name('memory'), 2, 0, ...name('_initialize'), 0, 0, ...name('aligned_alloc'), 0, 1];"
        "const module = new WebAssembly.Module(Uint8Array.from([0, 97, 115, 109, 1, 0, 0, 0,"
        "  1, 10, 2, 96, 0, 0, 96, 2, 127, 127, 1, 127, 3, 3, 2, 0, 1, 5, 3, 1, 0, 1, 7, exports.length, ...exports,"
        "  10, 8, 2, 2, 0, 11, 3, 0, 0, 11]));"
        "const engine = await Engine.make(module); const errors = [];"
        "for (const call of [() => engine.allocate(1), () => engine.release(0)])"
        "  try { call(); } catch (error) { errors.push([error.code, error.message]); }"
        "return errors;",
        (web_setup.WEB / "engine.js").as_uri(),
    )
    assert found[0] == found[1]
    assert found[0][0] == "TRAPPED" and "in aligned_alloc" in found[0][1] and "load the model again" in found[0][1]


def test_a_build_that_computes_wrongly_is_not_taken(run_js):
    """A module whose self-test answers row 3, one that no engine compiles, then the real one."""
    found = run_js(
        "const { firstRight } = await import(argument);"
        "const module = (...parts) => 'data:application/wasm;base64,' + Buffer.from(parts.flat()).toString('base64');"
        "const head = [0, 97, 115, 109, 1, 0, 0, 0];"
        "const name = (text) => [text.length, ...Buffer.from(text)];"
        "const exports = [3, ...name('memory'), 2, 0, ...name('_initialize'), 0, 0, ...name('edge_self_test'), 0, 1];"
        "const wrong = module(head, [1, 8, 2, 96, 0, 0, 96, 0, 1, 127], [3, 3, 2, 0, 1], [5, 3, 1, 0, 1],"
        "  [7, exports.length, ...exports], [10, 9, 2, 2, 0, 11, 4, 0, 65, 3, 11]);"
        "const broken = module(head, [10, 1]);"
        "const simd = new URL('dist/edgewright-simd.wasm', argument);"
        "const taken = await firstRight([['wrong', new URL(wrong)], ['broken', new URL(broken)], ['simd', simd]]);"
        "const none = await firstRight([['wrong', new URL(wrong)], ['broken', new URL(broken)]]).catch((e) => e);"
        "return { build: taken.build, code: none.code, message: none.message };",
        (web_setup.WEB / "build.js").as_uri(),
    )
    assert (found["build"], found["code"]) == ("simd", "UNSUPPORTED_BROWSER")
    assert "kernel 3 of wrong computes something else" in found["message"]
    assert "broken needs instructions that are not here" in found["message"]


def test_the_formats_of_every_message_are_those_that_the_module_knows():
    """``runtime/web/format.c`` stands in for the C library's ``vsnprintf``."""
    folder = HERE.parents[1] / "runtime/native/src"
    found = set()
    for path in folder.rglob("*.c"):
        for text in re.findall(r'"((?:[^"\\\n]|\\.)*)"', path.read_text()):
            found |= set(re.findall(r"%[-+ #0]*[\d.*]*(?:hh|h|ll|l|z|t|j)?.", text))
    known = {"%s", "%d", "%u", "%lld", "%llu", "%zu", "%g", "%%", "%.40s", "%.200s"}
    assert {"%s", "%lld", "%zu", "%g"} <= found <= known


@pytest.mark.parametrize("value", [1.5, 1e5, 999999.0, 1e6, 123456.5, 0.25, 1e-4, 0.00123, 1e-5, 1e30, np.inf])
def test_numbers_in_messages(value, run_js, tmp_path):
    """A range that has no end names its three numbers."""
    nodes = [helper.make_node("Range", ["start", "limit", "delta"], ["y"])]
    (tmp_path / "range.onnx").write_bytes(small_model(nodes, {"start": (), "limit": (), "delta": ()}, ["y"]))
    script = (
        "const fixed = (value) => ({ data: Float32Array.of(value), shape: [] });"
        "const fixedInputs = { start: fixed(-argument.value), limit: fixed(Number(argument.value)), delta: fixed(0) };"
        "await load(new URL(argument.url), { fixedInputs });"
    )
    found = run_js(script, {"url": (tmp_path / "range.onnx").as_uri(), "value": str(value).replace("inf", "Infinity")})
    number = float(np.float32(value))
    assert f"from {-number:g} to {number:g} by 0" in found["message"]


@pytest.mark.parametrize("build", BUILDS[:2])
def test_the_modules_do_not_grow_unnoticed(build):
    common, every = (web_setup.modules() / f"edgewright-{name}.wasm" for name in (build, f"{build}-every"))
    assert common.stat().st_size <= 350_000 and len(gzip.compress(common.read_bytes(), 9)) <= 142_000
    assert every.stat().st_size <= 425_000 and len(gzip.compress(every.read_bytes(), 9)) <= 177_000


def test_the_common_operators_alone_are_many():
    rare = web_setup.rare_operators()
    rest = [case for case in RUN if not rare & {node.op_type for node in case.model.graph.node}]
    assert len(rest) >= 900
    assert len({node.op_type for case in rest for node in case.model.graph.node}) >= 90


def test_a_model_with_a_rare_operator_takes_the_module_that_has_every_one(run_js, tmp_path):
    """Where that cannot be fetched the error names the operator, the file and the option."""
    assert "Det" in web_setup.rare_operators()
    path = tmp_path / "det.onnx"
    path.write_bytes(small_model([helper.make_node("Det", ["x"], ["y"])], {"x": (2, 2)}, ["y"]))
    for build in BUILDS[:2]:
        (tmp_path / f"edgewright-{build}.wasm").symlink_to(web_setup.modules() / f"edgewright-{build}.wasm")
    found = run_js(
        "const value = async (options) => {"
        "  const session = await load(new URL(argument.url), options);"
        "  return (await session.run({ x: { data: Float32Array.of(3, 1, 2, 4), shape: [2, 2] } })).y.data[0];"
        "};"
        "return [await value({}), await value({ build: 'scalar' }),"
        "        await value({ wasm: argument.folder }).catch(({ code, message }) => ({ code, message }))];",
        {"url": path.as_uri(), "folder": f"{tmp_path.as_uri()}/"},
    )
    assert found[:2] == [10, 10]
    assert found[2]["code"] == "UNSUPPORTED"
    for part in ("Det", "the build with every operator", "edgewright-relaxed-every.wasm", "option wasm"):
        assert part in found[2]["message"]
