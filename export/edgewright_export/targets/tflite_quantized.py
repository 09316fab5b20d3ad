"""Quantized programs in TFLite files.

litert-torch 0.10.0 writes operations in 8 bits where both activations and weights are float tensors that are quantized and
dequantized, and takes no integer weights.  So :func:`unfold` hands it float weights: with quantization behind them where
activations are static; alone elsewhere, and :func:`finish` puts their integers back into the file.  It also rounds a float
constant that is concatenated with what lies on a grid, such as a class token, to that grid, and cuts off what is beyond;
:func:`unfold` concatenates zeros, which are on every grid, and adds the constant behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from device_profiles.errors import LoweringError
from edgewright_runtime.bundle import TensorSpec

from .. import place
from ..quantized_program import CHANNELS, DEQUANTIZE, DYNAMIC, RECURRENT, Product, decomposed, products
from .tflite_file import TFLite

_APART = 1e-5
"""How far, relative, a weight of the file may be from its integer times its scale."""
_HYBRID = 12
"""Version of FULLY_CONNECTED whose scales of weights are of a channel where activations are float32."""
_DEQUANTIZE = {8: 5, 4: 6}
"""Version by bits: 5 has scales of a channel, 6 takes INT4."""


@dataclass(frozen=True)
class Weight:
    """The weight of one linear layer, or a matrix of a recurrent one, whose steps are linear layers in the file.

    Args:
        product: The layer.
        values: s8, [out, in].
        scales: f32, [out] or [out, in / group].
    """

    product: Product
    values: np.ndarray
    scales: np.ndarray


def unfold(module: torch.fx.GraphModule) -> list[Weight]:
    """Makes a program's integer weights float ones, and leaves out dynamic quantization.

    Args:
        module: Of a quantized program; changed in place.

    Returns:
        Weights that are for :func:`finish` to put into the file.
    """
    found: dict[torch.fx.Node, list[Product]] = {}
    for product in (*products(module.graph), *_recurrent(module.graph)):
        found.setdefault(product.weight, []).append(product)
    left = []
    for number, (node, users) in enumerate(found.items()):
        static = users[0].activations == "static"
        if not static:
            left.append(Weight(users[0], _value(module, node.args[0]), _value(module, node.args[1])))
        _unfold(module, node, f"_unfolded_{number}", static)
    for node in [node for node in module.graph.nodes if node.target in DYNAMIC]:
        node.replace_all_uses_with(node.args[0].args[0])
    if config(module) is not None:
        for node in list(module.graph.find_nodes(op="call_function", target=torch.ops.aten.cat.default)):
            _add_constants_behind(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return left


def _add_constants_behind(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    """Takes float constants out of a concatenation with other things."""
    parts: Any = node.args[0]
    constant = [_is_constant(part) for part in parts]
    shapes = [part.meta["val"].shape for part in parts]
    fixed = all(isinstance(size, int) for shape in shapes for size in shape)
    if not fixed or not any(constant) or all(constant) or not node.meta["val"].is_floating_point():
        return
    graph = module.graph
    with graph.inserting_before(node):
        zeros = [graph.get_attr(_zeros(module, f"_zeros_{node.name}_{i}", shape)) for i, shape in enumerate(shapes)]
        both = list(zip(parts, zeros, constant, strict=True))
        moving = _concatenated(node, [zero if known else part for part, zero, known in both])
        still = _concatenated(node, [part if known else zero for part, zero, known in both])
        whole = graph.call_function(torch.ops.aten.add.Tensor, (moving, still))
        whole.meta = dict(node.meta)
    node.replace_all_uses_with(whole)


def _concatenated(node: torch.fx.Node, parts: Sequence[torch.fx.Node]) -> torch.fx.Node:
    """Other parts in place of a concatenation's."""
    made = node.graph.call_function(node.target, (list(parts), *node.args[1:]))  # type: ignore[arg-type]
    made.meta = dict(node.meta)
    return made


def _zeros(module: torch.fx.GraphModule, name: str, shape: Sequence[int]) -> str:
    module.register_buffer(name, torch.zeros(shape))
    return name


def _is_constant(node: torch.fx.Node) -> bool:
    """Whether it does not depend on inputs."""
    return node.op == "get_attr" or (node.op == "call_function" and all(map(_is_constant, node.all_input_nodes)))


def _recurrent(graph: torch.fx.Graph) -> Iterator[Product]:
    for node in graph.nodes:
        if node.target in RECURRENT:
            yield from (Product(node, weight, "float") for weight in node.all_input_nodes if weight.target is CHANNELS)


def _unfold(module: torch.fx.GraphModule, node: Any, name: str, static: bool) -> None:
    constants = [torch.from_numpy(_value(module, argument)) for argument in node.args[:3]]
    module.register_buffer(name, node.target(*constants, *node.args[3:]))
    with module.graph.inserting_before(node):
        weight = module.graph.get_attr(name)
        if static:
            quantized = module.graph.call_function(decomposed.quantize_per_channel.default, (weight, *node.args[1:]))
    if static:
        node.replace_input_with(node.args[0], quantized)
    else:
        node.replace_all_uses_with(weight)


def _value(module: torch.fx.GraphModule, node: Any) -> np.ndarray:
    tensor = attrgetter(node.target)(module)
    array: np.ndarray = tensor.detach().numpy()
    return array


def config(module: torch.fx.GraphModule) -> Any:
    """What ``litert_torch.convert`` takes as ``quant_config``; None where no activation is on a static grid."""
    if not any(node.target is DEQUANTIZE for node in module.graph.nodes):
        return None
    from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
    from litert_torch.quantize.quant_config import QuantConfig

    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(get_symmetric_quantization_config()))


def finish(path: Path, weights: Sequence[Weight], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Puts integer weights into a file and makes its inputs and outputs what they are in the module, in place.

    Raises:
        LoweringError: The converter changed a weight beyond recognition.
    """
    file = TFLite.read(path)
    file.float_borders([spec.dtype for spec in inputs], [spec.dtype for spec in outputs])
    missing = [weight for weight in weights if not _put(file, weight)]
    if missing:
        reason = "litert-torch merged this layer with another operation, so its weight is not in the file as it was"
        found = [place.finding(weight.product.node, reason, "leave this layer in float32") for weight in missing]
        raise LoweringError("weights cannot be stored as integers", found)
    file.forget_unread()
    file.write(path)


def _put(file: TFLite, weight: Weight) -> bool:
    """Gives all linear layers of the file that have this weight its integers; whether there is one."""
    made: dict[int, int] = {}
    for operator in list(file.graph.operators):
        if file.kind(operator) != schema.BuiltinOperator.FULLY_CONNECTED:
            continue
        given = int(operator.inputs[1])
        scales = None if given in made else _scales(file, file.graph.tensors[given], weight)
        if scales is not None:
            made[given] = _stored(file, operator, weight, scales)
        if given in made:
            operator.inputs[1] = made[given]
            if weight.product.activations == "dynamic":
                operator.builtinOptions.asymmetricQuantizeInputs = True
                file.set_version(operator, _HYBRID)
    return bool(made)


def _scales(file: TFLite, tensor: Any, weight: Weight) -> np.ndarray | None:
    """Scales with which the integers are a float tensor of the file; None if there are none.

    They are not the program's where the converter merged a layer with a multiplication behind it.
    """
    data = file.data(tensor)
    shape = weight.values.shape
    if data is None or tensor.type != schema.TensorType.FLOAT32 or tuple(tensor.shape) != shape:
        return None
    rows = weight.values.reshape(weight.scales.size, -1).astype(np.float32)
    found = data.view(np.float32).reshape(rows.shape)
    index = np.abs(rows).argmax(1)[:, None]
    largest = np.take_along_axis(rows, index, 1)[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.take_along_axis(found, index, 1)[:, 0] / largest
    given = weight.scales.ravel()
    scales = np.where((largest == 0) | np.isclose(ratio, given, rtol=_APART, atol=0), given, ratio)
    is_same = np.allclose(found, rows * scales[:, None], rtol=_APART, atol=0) and bool((scales > 0).all())
    return scales.astype(np.float32) if is_same else None


def _stored(file: TFLite, operator: Any, weight: Weight, scales: np.ndarray) -> int:
    """What a layer reads as its weight.

    With float activations that is dequantized once, when the file is opened; groups are rows of their own until then.
    """
    name = f"{place.module_path(weight.product.node)}.weight"
    if weight.product.activations == "dynamic":
        return _integers(file, name, weight, weight.values, scales)
    rows = weight.values.reshape(scales.size, -1)
    stored = _integers(file, name, weight, rows, scales)
    dequantized = file.add_tensor(f"{name}.f32", schema.TensorType.FLOAT32, rows.shape)
    at = file.graph.operators.index(operator)
    file.add_operator(at, schema.BuiltinOperator.DEQUANTIZE, _DEQUANTIZE[weight.product.bits], [stored], [dequantized])
    if rows.shape != weight.values.shape:
        sizes = np.array(weight.values.shape, np.int32)
        shape = file.add_tensor(f"{name}.shape", schema.TensorType.INT32, sizes.shape, sizes)
        whole = file.add_tensor(f"{name}.whole", schema.TensorType.FLOAT32, weight.values.shape)
        file.add_operator(at + 1, schema.BuiltinOperator.RESHAPE, 1, [dequantized, shape], [whole])
        dequantized = whole
    return dequantized


def _integers(file: TFLite, name: str, weight: Weight, values: np.ndarray, scales: np.ndarray) -> int:
    is_narrow = weight.product.bits == 4
    data = _nibbles(values) if is_narrow else np.ascontiguousarray(values)
    kind = schema.TensorType.INT4 if is_narrow else schema.TensorType.INT8
    index = file.add_tensor(name, kind, values.shape, data)
    file.graph.tensors[index].quantization = schema.QuantizationParametersT(
        scale=scales, zeroPoint=np.zeros(scales.size, np.int64)
    )
    return index


def _nibbles(values: np.ndarray) -> np.ndarray:
    """Two weights a byte, the first in the lower half."""
    flat = np.append(values.ravel(), np.zeros(values.size % 2, np.int8)).view(np.uint8)
    packed: np.ndarray = (flat[::2] & 15) | (flat[1::2] << 4)
    return packed
