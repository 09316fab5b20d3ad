"""The float graph that is quantized: captured, with an open batch where that goes, batch norms folded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from edgewright_runtime.quiet import quiet

from ...capture import attempt, exported
from ...state import State

aten = torch.ops.aten
CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv1d.padding, aten.conv2d.padding)
_NOTHING = (aten.dropout.default, aten.dropout_.default, aten.alias.default, aten.detach.default)


def float_graph(state: State) -> fx.GraphModule:
    """The graph of a state's module with its batch norms folded."""
    graph = open_graph(state)
    _fold_batch_norms(graph)
    return finished(graph, graph.graph)


def open_graph(state: State) -> fx.GraphModule:
    """The graph of a state's module: it takes and returns what the module does, for any batch where that can be."""
    program = _with_open_batch(state) or exported(state.module, state.example)
    with quiet():
        graph = copy.deepcopy(program.module(check_guards=False))
    for node in list(graph.graph.nodes):
        if node.target in _NOTHING and isinstance(node.args[0], fx.Node):
            node.replace_all_uses_with(node.args[0])
    return finished(graph, graph.graph)


def finished(root: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """A module of an edited graph, with what it reads of ``root``."""
    graph.eliminate_dead_code()
    graph.lint()
    made = fx.GraphModule(root, graph)
    made.recompile()
    return made


def twin(module: fx.GraphModule) -> fx.Graph:
    """A copy of the graph, to be edited; its nodes have the same names."""
    with quiet():
        graph = copy.deepcopy(module.graph)
    for made, original in zip(graph.nodes, module.graph.nodes, strict=True):
        made.name = original.name
    return graph


def tensor_at(root: nn.Module, path: str) -> Tensor:
    """A parameter or buffer by its qualified name."""
    owner, _, name = path.rpartition(".")
    tensor: Tensor = getattr(root.get_submodule(owner), name)
    return tensor


def put(root: nn.Module, name: str, value: Tensor) -> str:
    """Adds a buffer at the top of a module; its name."""
    name = f"{name}__edge"
    root.register_buffer(name, value.detach())
    return name


def tapped(module: fx.GraphModule, names: Iterable[str], seen: Callable[[str, Any], None]) -> fx.GraphModule:
    """The same module; ``seen(name, value)`` is called with the value of each of these nodes."""
    graph, wanted = twin(module), set(names)
    made = fx.GraphModule(module, graph)
    for node in [node for node in graph.nodes if node.name in wanted]:
        path = f"tap_{node.name}"
        made.add_module(path, _Tap(node.name, seen))
        with graph.inserting_after(node):
            graph.call_module(path, (node,)).meta = {}
    made.recompile()
    return made


class _Tap(nn.Module):
    def __init__(self, name: str, seen: Callable[[str, Any], None]) -> None:
        super().__init__()
        self._name, self._seen = name, seen

    def forward(self, value: Any) -> Any:
        self._seen(self._name, value)
        return value


def _with_open_batch(state: State) -> torch.export.ExportedProgram | None:
    """Captured with two samples and an open first axis; None where the model has none or insists on its size."""
    example = state.example
    tensors = [t for t in pytree.tree_leaves((example.args, example.kwargs)) if isinstance(t, Tensor)]
    sizes = {t.shape[0] for t in tensors if t.dim()}
    if example.dynamic_shapes is not None or len(sizes) != 1 or any(not t.dim() for t in tensors):
        return None
    given: tuple[Any, dict[str, Any]] = (example.args, example.kwargs)
    doubled = pytree.tree_map_only(Tensor, lambda t: torch.cat([t, t]), given)
    shapes = pytree.tree_map(lambda t: {0: torch.export.Dim.AUTO} if isinstance(t, Tensor) else None, doubled)
    args, kwargs = shapes
    program, _ = attempt(state.module, doubled[0], doubled[1], (*args, *kwargs.values()))
    if program is None:
        return None
    inputs = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in program.graph_signature.user_inputs]
    values = [n.meta.get("val") for n in inputs]
    fixed = any(isinstance(value, Tensor) and isinstance(value.shape[0], int) for value in values)
    return None if fixed else program


def _fold_batch_norms(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.target is aten.batch_norm.default and _folds(node):
            _fold(module, node)


def _folds(node: fx.Node) -> bool:
    product = node.args[0]
    return (
        isinstance(product, fx.Node)
        and product.target in CONVOLUTIONS
        and list(product.users) == [node]
        and isinstance(product.args[1], fx.Node)
        and product.args[1].op == "get_attr"
        and not node.args[5]
    )


def _fold(module: fx.GraphModule, node: fx.Node) -> None:
    """Into the weights and the bias of the convolution before it."""
    product = node.args[0]
    assert isinstance(product, fx.Node)
    shift, mean = _constant(module, node.args[2]), _constant(module, node.args[3])
    assert mean is not None
    factor = _factor(module, node)
    offset = -mean.double() * factor
    if shift is not None:
        offset = offset + shift.double()
    weight = _constant(module, product.args[1])
    bias = _constant(module, product.args[2]) if len(product.args) > 2 else None
    assert weight is not None
    folded = weight.double() * factor.view(-1, *[1] * (weight.dim() - 1))
    moved = offset if bias is None else offset + bias.double() * factor
    names = (
        _parameter(module, f"{product.name}_weight", folded.float()),
        _parameter(module, f"{product.name}_bias", moved.float()),
    )
    with module.graph.inserting_before(product):
        product.args = (product.args[0], *map(module.graph.get_attr, names), *product.args[3:])
    node.replace_all_uses_with(product)
    module.graph.erase_node(node)


def factor_behind(module: fx.GraphModule, product: fx.Node) -> Tensor | None:
    """What the batch norm that could be folded into a convolution multiplies its outputs with, float64; None: no such one."""
    reader = next(iter(product.users), product)
    return _factor(module, reader) if reader.target is aten.batch_norm.default and _folds(reader) else None


def _factor(module: nn.Module, node: fx.Node) -> Tensor:
    """What a batch norm multiplies each channel with, float64."""
    scale, variance, tiny = _constant(module, node.args[1]), _constant(module, node.args[4]), node.args[7]
    assert variance is not None and isinstance(tiny, float)
    factor = (variance.double() + tiny).rsqrt()
    return factor if scale is None else factor * scale.double()


def _parameter(module: nn.Module, name: str, value: Tensor) -> str:
    name = f"{name}__folded"
    module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return name


def _constant(module: nn.Module, node: Any) -> Tensor | None:
    return tensor_at(module, str(node.target)).detach() if isinstance(node, fx.Node) else None
