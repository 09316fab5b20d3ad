"""Writes quantized operations as XNNPACK takes them over (ExecuTorch 1.4.1).

Weights of 4 bits are known by their range of -8 to 7; ``cat`` is delegated with one grid on all sides; ``mean`` over both
axes of an image only where it keeps them.  None of these changes a result: rounding each part of a ``cat`` to the grid of
the whole is rounding the whole.
"""

from __future__ import annotations

import copy

import torch

from ..quantized_program import CHANNELS, DEQUANTIZE, GROUPS, QUANTIZE, is_quantized, products

aten = torch.ops.aten


def run(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Changes a copy of a quantized program; any other stays."""
    if not is_quantized(program.graph):
        return program
    module = copy.deepcopy(program.graph_module)
    for node, before in zip(module.graph.nodes, program.graph.nodes, strict=True):
        node.name = before.name  # a copy has other names for those that Python knows, as "input"
    for product in list(products(module.graph)):
        if product.bits == 4 and product.activations == "dynamic":
            _widen(product.weight)
    for node in list(module.graph.nodes):
        if node.target is aten.cat.default:
            _on_one_grid(node)
        elif node.target is aten.mean.dim and _is_of_image(node):
            _keep_axes(node)
    module.recompile()
    return torch.export.ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=program.graph_signature,
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _widen(weight: torch.fx.Node) -> None:
    at = {CHANNELS: 4, GROUPS: 3}[weight.target]  # type: ignore[index]
    weight.update_arg(at, -8)


def _quantizes(node: torch.fx.Node) -> torch.fx.Node | None:
    """What quantizes a value; None where it is on no grid, or somebody reads it before."""
    user = next(iter(node.users), None)
    return user if user is not None and user.target is QUANTIZE and len(node.users) == 1 else None


def _on_one_grid(node: torch.fx.Node) -> None:
    whole = _quantizes(node)
    if whole is None:
        return
    for part in list(node.all_input_nodes):
        if part.target is DEQUANTIZE and part.args[1:3] != whole.args[1:3]:
            node.replace_input_with(part, _pair(part, node, whole.args[1:]))


def _pair(value: torch.fx.Node, before: torch.fx.Node, grid: tuple[object, ...]) -> torch.fx.Node:
    with before.graph.inserting_before(before):
        quantized = before.graph.call_function(QUANTIZE, (value, *grid))  # type: ignore[arg-type]
        dequantized = before.graph.call_function(DEQUANTIZE, (quantized, *grid))  # type: ignore[arg-type]
    quantized.meta = {**value.meta, "val": value.meta["val"].to(torch.int8)}
    dequantized.meta = dict(value.meta)
    return dequantized


def _is_of_image(node: torch.fx.Node) -> bool:
    value = node.all_input_nodes[0].meta["val"]
    dims = [dim % 4 for dim in node.args[1]] if value.dim() == 4 and node.args[1] else []  # type: ignore[union-attr, operator]
    keeps = len(node.args) > 2 and node.args[2]
    return sorted(dims) == [2, 3] and not keeps and not node.kwargs


def _keep_axes(node: torch.fx.Node) -> None:
    """The axes go behind the grid of the result, so that the mean itself has one on both sides."""
    value = node.meta["val"]
    node.args = (*node.args[:2], True)
    node.meta = {**node.meta, "val": value[..., None, None]}
    last, quantized = node, _quantizes(node)
    if quantized is not None:
        last = _pair(node, quantized, quantized.args[1:])
    with node.graph.inserting_after(last):
        flat = node.graph.call_function(aten.squeeze.dims, (last, [2, 3]))
    flat.meta = {**node.meta, "val": value}
    node.replace_all_uses_with(flat, lambda user: user not in (flat, last.all_input_nodes[0]))
