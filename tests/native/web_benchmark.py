"""The WebAssembly engine against its peers in one page of headless Chromium, or in Node, fp32, one thread.

``python -m tests.native.web_benchmark run [--node] [NAME ...]`` times all of them interleaved and writes one result
file a model into ``results/``; ``table`` prints them.  ``make web`` builds the modules first.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import click
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

import sdk
from apps import assets, models
from edgewright_runtime.bundle.paths import write_file
from edgewright_runtime.measure import Timing, machine, now, ratio
from sdk.benchmark import current_commit
from tests.native import readme, web_setup
from tests.reference_models.mobilenet_v1_fmnist.model import Separable

RESULTS = Path(__file__).parent / "results"
ISOLATED = {"cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp"}
"""Headers with which the page's clock has steps of 5 microseconds."""
IMPORTS = {
    "@litertjs/core": "/beside0/@litertjs/core/dist/index.js",
    "@litertjs/wasm-utils": "/beside0/@litertjs/wasm-utils/dist/index.js",
}
PEERS = ("@litertjs/core", "onnxruntime-web", "@tensorflow/tfjs-core", "@tensorflow/tfjs-backend-wasm")
OURS, OTHERS = ("edgewright-relaxed", "edgewright-simd"), ("litertjs", "onnxruntime-web", "tfjs")
Made = tuple[nn.Module, tuple[torch.Tensor, ...] | None]


class Contender(TypedDict):
    """One of :data:`OURS` or :data:`OTHERS`, and the name of the file that it opens."""

    engine: str
    model: str


def mobilenet_v1() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """0.5, 160 x 160 (Howard et al. 2017, table 1) with random weights: 77 million multiply-adds."""
    torch.manual_seed(0)
    rows = [(32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (256, 2), *[(256, 1)] * 5, (512, 2), (512, 1)]
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()]
    for inputs, (outputs, stride) in zip([16] + [outputs for outputs, _ in rows], rows, strict=False):
        layers.append(Separable(inputs, outputs, stride))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return nn.Sequential(*layers).eval(), (torch.randn(1, 3, 160, 160),)


class Int32Inputs(nn.Module):
    """MiniLM for a runtime that takes no 64-bit integers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids.long(), attention_mask=attention_mask.long()).last_hidden_state


def minilm_for_litert() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """64 tokens, as an export of MiniLM without example inputs has them."""
    ones = torch.ones((1, 64), dtype=torch.int32)
    return Int32Inputs(models.minilm()).eval(), (ones, ones)


MODELS: dict[str, Callable[[str], Made]] = {
    "mobilenet_v1_05_160": lambda engine: mobilenet_v1(),
    "efficientnet_lite0": lambda engine: (models.efficientnet_lite0(), (torch.randn(1, 3, 224, 224),)),
    "minilm": lambda engine: minilm_for_litert() if engine == "litert" else (models.minilm(), None),
}


def export(name: str, make: Callable[[str], Made], folder: Path) -> Path:
    """Files of every contender, of the model for its engine, made when they are not in the folder yet; the bundle of ours."""
    bundle = folder / f"{name}-native.edge"
    if (folder / f"{name}.ready").exists():
        return bundle
    for engine, suffix in (("native", "edgez"), ("onnxruntime", "onnx"), ("litert", "tflite")):
        path = folder / f"{name}-{engine}.edge"
        module, inputs = make(engine)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = sdk.export(module, f"host:{engine}", example_inputs=inputs, output=path)
        if suffix == "edgez":
            made.pack(folder / f"{name}.edgez")
        else:
            shutil.copyfile(path / made.manifest.entries["main"].file, folder / f"{name}.{suffix}")
    write_tfjs(onnx.load(str(bundle / "model.onnx")), folder / name)
    (folder / f"{name}.ready").touch()
    return bundle


def write_tfjs(model: onnx.ModelProto, stem: Path) -> None:
    """``.tfjs.json`` and ``.tfjs.bin`` of a plain convolutional network; nothing for any other model."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    steps: list[dict[str, Any]] = []
    weights: list[np.ndarray] = []
    skipped: set[str] = set()
    alias: dict[str, str] = {}

    def keep(array: np.ndarray) -> dict[str, Any]:
        at = sum(w.size for w in weights)
        weights.append(np.ascontiguousarray(array, np.float32))
        return {"at": at, "shape": list(array.shape)}

    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        source, output = alias.get(node.input[0], node.input[0]), node.output[0]
        if output in skipped:
            continue
        if node.op_type == "Conv":
            weight, activation = constants[node.input[1]], None
            following = users.get(output, [])
            if len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
                activation = "relu" if following[0].op_type == "Relu" else "relu6"
                output = following[0].output[0]
                skipped.add(output)
            depthwise = weight.shape[1] == 1
            order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
            top, left, bottom, right = attributes["pads"]
            bias = constants[node.input[2]] if len(node.input) > 2 else np.zeros(weight.shape[0])
            steps.append(
                {
                    "op": "depthwise" if depthwise else "conv",
                    "weight": keep(weight.transpose(order)),
                    "bias": keep(bias),
                    "strides": list(attributes["strides"]),
                    "pad": [[0, 0], [top, bottom], [left, right], [0, 0]] if any(attributes["pads"]) else "valid",
                    "activation": activation,
                }
            )
        elif node.op_type == "Add":
            steps.append({"op": "add", "other": alias.get(node.input[1], node.input[1])})
        elif node.op_type == "ReduceMean":
            steps.append({"op": "mean"})
        elif node.op_type == "Reshape":
            alias[output] = source
            continue
        elif node.op_type == "Gemm":  # as a convolution: this backend's product with a transposed matrix is wrong
            matrix = constants[node.input[1]].T if attributes["transB"] else constants[node.input[1]]
            bias = keep(constants[node.input[2]])
            steps.append({"op": "conv", "weight": keep(matrix[None, None]), "bias": bias, "strides": 1, "pad": "valid"})
        else:
            return
        steps[-1] |= {"input": source, "output": output}
    stem.with_name(f"{stem.name}.tfjs.json").write_text(json.dumps(steps))
    stem.with_name(f"{stem.name}.tfjs.bin").write_bytes(b"".join(w.tobytes() for w in weights))


def measure(
    bundle: Path, contenders: dict[str, Contender], samples: int, seconds: float, node: bool = False
) -> dict[str, Any]:
    """Times of every contender, from one page or one process of Node; files are beside the bundle, which tells the inputs."""
    with sdk.load(bundle) as session:
        inputs = [
            {"dtype": array.dtype.name, "values": array.ravel().tolist(), "shape": list(array.shape)}
            for array in session.sample_inputs(seed=1).values()
        ]
    asked = {"contenders": contenders, "inputs": inputs, "samples": samples, "seconds": seconds}
    return in_node(bundle.parent, asked) if node else in_page(bundle.parent, asked)


def in_node(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """LiteRT.js does not load there."""
    web_setup.modules()
    folders = {"pkg": web_setup.WEB, "files": folder, "peers": web_setup.npm(*PEERS)}
    place = {name: f"{path.absolute().as_uri()}/" for name, path in folders.items()}
    command = [web_setup.node(), str(Path(__file__).with_name("web_benchmark.mjs"))]
    job = json.dumps({**asked, "place": place})
    done = subprocess.run(command, input=job, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_page(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    node_modules = web_setup.npm(*PEERS)
    command = [
        web_setup.node(),
        str(Path(__file__).with_name("web_browser.mjs")),
        web_setup.chromium(),
        str(web_setup.npm("playwright-core") / "playwright-core"),
        str(web_setup.WEB),
        str(folder),
        str(node_modules),
        str(Path(__file__).parent),
    ]
    job = {
        "headers": ISOLATED,
        "head": f'<script type="importmap">{json.dumps({"imports": IMPORTS})}</script>',
        "script": "return (await import('/beside1/web_benchmark.mjs')).measure(argument);",
        "argument": asked,
    }
    done = subprocess.run(command, input=json.dumps(job) + "\n", capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise click.ClickException(json.dumps(answer, indent=1)[:3000])
    value: dict[str, Any] = answer["value"]
    return value


def result(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a result file holds; ratios are to ours, the build that a page would take."""
    timings = {contender: Timing(tuple(samples)) for contender, samples in found["times"].items()}
    base = timings["edgewright-relaxed"]
    rows = {
        contender: {
            "kind": "measured",
            "min_s": timing.min_s,
            "median_s": timing.median_s,
            "p90_s": timing.quantile_s(0.9),
            "ratio": ratio(timing, base),
            "largest_difference": found["apart"][contender],
            "samples_s": timing.samples_s,
        }
        for contender, timing in timings.items()
    }
    about = {"model": name, "threads": 1, "browser": found["agent"], "not_run": found["notes"], "versions": versions()}
    return {**about, "rows": rows, "machine": machine(), "commit": current_commit(), "date": now()}


def versions() -> dict[str, str]:
    """Of the peers."""
    return {package: web_setup.PACKAGES[package] for package in PEERS}


@click.group()
def main() -> None:
    """Times the WebAssembly engine against its peers."""


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MODELS)))
@click.option("--samples", default=50, show_default=True, help="Of each contender, at least.")
@click.option("--seconds", default=3.0, show_default=True, help="Of each contender, at least.")
@click.option("--node", is_flag=True, help="In Node instead of a page.")
@click.option("--folder", type=click.Path(path_type=Path), default=assets.cache() / "web-benchmark")
@click.option("--output", type=click.Path(path_type=Path), default=RESULTS, help="Folder of the result files.")
def run(names: tuple[str, ...], samples: int, seconds: float, node: bool, folder: Path, output: Path) -> None:
    """Times the named models, or all, and writes the result files."""
    folder.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    for name in names or MODELS:
        contenders: dict[str, Contender] = {engine: {"engine": engine, "model": name} for engine in (*OURS, *OTHERS)}
        bundle = export(name, MODELS[name], folder)
        found = result(name, measure(bundle, contenders, samples, seconds, node))
        content = json.dumps(found, indent=1, sort_keys=True).encode() + b"\n"
        write_file(output / f"{'node' if node else 'web'}-fp32-1-{name}.json", content)
    if output == RESULTS:
        readme.write_table(readme.WEB, "speed", text())
    else:
        print(text(output))


@main.command("table")
def table() -> None:
    """Writes the result files into the README of the package."""
    readme.write_table(readme.WEB, "speed", text())


def text(folder: Path = RESULTS) -> str:
    """One line a model: our median milliseconds, and how much longer each contender takes."""
    lines, contenders = [], [*OURS[1:], *OTHERS]
    for path in sorted([*folder.glob("web-fp32-*.json"), *folder.glob("node-fp32-*.json")], key=lambda path: path.stem, reverse=True):
        place, _, _, name = path.stem.split("-", 3)
        rows = json.loads(path.read_text())["rows"]
        ratios = (f"{rows[c]['ratio'][0]:.2f}" if c in rows else "" for c in contenders)
        where = {"web": "Chromium", "node": "Node"}[place]
        lines.append(f"| {where} | {name} | {rows['edgewright-relaxed']['median_s'] * 1e3:.1f} | {' | '.join(ratios)} |")
    head = f"| | | relaxed, ms | {' | '.join(contenders)} |"
    return "\n".join([head, "|---" * (len(contenders) + 3) + "|", *lines])


if __name__ == "__main__":
    main()
