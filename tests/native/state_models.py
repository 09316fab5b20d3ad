"""Bundles of a few nodes with entries and states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, WIDTH, MOST = 3, 24, 12
"""Of :func:`decoder`; its states hold ``MOST`` positions."""
DTYPES = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[Any, ...]],
    outputs: Sequence[str],
    constants: dict[str, np.ndarray],
    opset: int = 18,
) -> onnx.ModelProto:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def decoder(*, heads_first: bool, read_twice: bool = False) -> onnx.ModelProto:
    """One layer of attention: ``x`` [1, new, WIDTH], ``mask`` [new, past + new], past and present keys and values.

    Args:
        heads_first: The past is [1, HEADS, past, 8], as decoders of transformers have it; else [1, past, WIDTH].
        read_twice: Somebody besides attention reads the keys, so that they must be one dense tensor.
    """
    draw = np.random.default_rng(0)
    constants = {n: (draw.standard_normal((WIDTH, WIDTH)) / 5).astype(np.float32) for n in ("wq", "wk", "wv", "wo")}
    constants |= {
        "split": np.array([1, -1, HEADS, WIDTH // HEADS]),
        "join": np.array([1, -1, WIDTH]),
        "scale": np.array(WIDTH // HEADS, np.float32) ** -0.5,
    }
    node, nodes = helper.make_node, []
    for n in "qkv":
        nodes.append(node("MatMul", ["x", f"w{n}"], [f"{n}0"]))
        if n == "q" or heads_first:
            nodes.append(node("Reshape", [f"{n}0", "split"], [f"{n}1"]))
            nodes.append(node("Transpose", [f"{n}1"], [f"{n}2" if n == "q" else f"new_{n}"], perm=[0, 2, 1, 3]))
    for n in "kv":
        added, axis = (f"new_{n}", 2) if heads_first else (f"{n}0", 1)
        nodes.append(node("Concat", [f"past_{n}", added], [f"all_{n}"], axis=axis))
        if not heads_first:
            nodes.append(node("Reshape", [f"all_{n}", "split"], [f"{n}1"]))
            nodes.append(node("Transpose", [f"{n}1"], [f"{n}_heads"], perm=[0, 2, 1, 3]))
    k, v = ("all_k", "all_v") if heads_first else ("k_heads", "v_heads")
    nodes += [
        node("Transpose", [k], ["kt"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q2", "kt"], ["products"]),
        node("Mul", ["products", "scale"], ["scores"]),
        node("Add", ["scores", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["weights"], axis=-1),
        node("MatMul", ["weights", v], ["mixed"]),
        node("Transpose", ["mixed"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "join"], ["flat"]),
        node("MatMul", ["flat", "wo"], ["y"]),
    ]
    if read_twice:
        nodes.append(node("ReduceSum", ["all_k"], ["total"], keepdims=0))
    past = (1, HEADS, "past", WIDTH // HEADS) if heads_first else (1, "past", WIDTH)
    inputs = {"x": (1, "new", WIDTH), "mask": ("new", "total_length"), "past_k": past, "past_v": past}
    return graph(nodes, inputs, ["y", *(["total"] if read_twice else []), "all_k", "all_v"], constants)


def decoder_states(model: onnx.ModelProto) -> list[dict[str, Any]]:
    """What the manifest says of its past."""
    shape = shape_of(next(i for i in model.graph.input if i.name == "past_k"))
    axis = shape.index("past")
    return [state(f"past_{n}", f"all_{n}", shape, axis, MOST) for n in "kv"]


def recurrent() -> onnx.ModelProto:
    """``h = tanh(x w + h u)``, ``y = h + x``: a state that every run replaces."""
    draw = np.random.default_rng(1)
    constants = {n: draw.standard_normal((5, 5)).astype(np.float32) for n in "wu"}
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["h", "u"], ["b"]),
        node("Add", ["a", "b"], ["c"]),
        node("Tanh", ["c"], ["h_next"]),
        node("Add", ["h_next", "x"], ["y"]),
    ]
    return graph(nodes, {"x": (1, 5), "h": (1, 5)}, ["y", "h_next"], constants)


def state(input: str, output: str, shape: Sequence[Any], axis: int, most: int) -> dict[str, Any]:
    return {
        "input": input,
        "output": output,
        "dtype": "float32",
        "shape": list(shape),
        "axis": axis,
        "max_length": most,
    }


def shape_of(value: onnx.ValueInfoProto) -> list[Any]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def write_bundle(
    folder: Path,
    entries: dict[str, onnx.ModelProto],
    states: Sequence[dict[str, Any]] = (),
    bounds: dict[str, tuple[int, int]] | None = None,
    more: dict[str, bytes] | None = None,
) -> Path:
    """As much of a bundle as the engine reads.

    Args:
        folder: Where; it is made.
        entries: By name, ``main`` among them.
        states: As :func:`state` makes them.
        bounds: Of open dimensions.
        more: Other files.
    """
    folder.mkdir(parents=True)
    files = {f"{name}.onnx": model.SerializeToString() for name, model in entries.items()} | (more or {})
    about = {}
    for name, model in entries.items():
        inputs = [
            {
                "name": value.name,
                "dtype": DTYPES[value.type.tensor_type.elem_type],
                "shape": shape_of(value),
                "bounds": {d: {"min": b[0], "max": b[1]} for d, b in (bounds or {}).items() if d in shape_of(value)},
                "binding": value.name,
            }
            for value in model.graph.input
        ]
        outputs = [
            {"name": value.name, "dtype": "float32", "shape": [], "bounds": {}, "binding": value.name}
            for value in model.graph.output
        ]
        about[name] = {"file": f"{name}.onnx", "inputs": inputs, "outputs": outputs}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "chunk_sha256": chunks(content)}
        for name, content in files.items()
    }
    manifest = {"schema": "1.0", "format": "onnx", "labels": None, "entries": about, "states": states, "files": listed}
    text = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    (folder / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "\n")
    return folder


def chunks(content: bytes) -> list[str]:
    return [hashlib.sha256(content[i : i + (1 << 20)]).hexdigest() for i in range(0, len(content), 1 << 20)]
