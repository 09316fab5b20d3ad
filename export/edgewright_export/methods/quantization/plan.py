"""A graph with the grids of its values: run as the device will, and written for the targets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import getitem as _item
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor, fx

from . import storing
from .by_token import Threshold, switched_on
from .graph import finished, put, tensor_at, twin
from .grid import Grid, integers, least, stored_bits, sums_of_two_powers, weight_scales
from .simulate import IntegerProduct, OnGrid, OnGridOfRun, StoredWeight
from .sites import Product, Sites
from .stored import Stored, Table, fit_to_store, names_of, tables

if TYPE_CHECKING:
    from .begin import Options

ops = torch.ops.quantized_decomposed
_BYTE = (-128, 127, torch.int8)
_OF_RUN = (
    ops.choose_qparams.tensor,
    ops.quantize_per_tensor.tensor,
    ops.dequantize_per_tensor.tensor,
    (-128, 127, torch.finfo(torch.float32).eps, torch.int8),
)
_OF_ROWS = (
    ops.choose_qparams_per_token_asymmetric.default,
    ops.quantize_per_token.default,
    ops.dequantize_per_token.default,
    (torch.int8,),
)
Activations = Literal["static", "dynamic", "float"]


@dataclass(frozen=True)
class Plan:
    """What is quantized, and how.

    Args:
        module: The float graph.
        products: What is quantized.
        modes: By the name of each product, whether its input lies on a grid that was calibrated, on that of each run,
            or stays float.
        sites: The values that lie on calibrated grids.
        grids: By the names of ``sites.roots``.
        most: The largest weight of each product, by its name.
        scales: Of the weights, [outputs] or [outputs, groups], by the name of the product.
        rows: Whether grids of each run are those of single rows.
        bits: Those of less than a byte in which the target stores weights, by mode.
        rounded: Weights by the name of their product that were not rounded to the nearest, but lie on their grid.
        fixed_point: Whether all scales are powers of two.
        powers: Whether weights are sums of at most two powers of two.
        biases: By the name of their product those that are not the graph's.
        stored: Embeddings and recurrent layers whose weights are integers in the file.
        tables: The grids of these weights, by qualified name.
        thresholds: Which tokens keep all bits behind each attention, where not all do.
    """

    module: fx.GraphModule
    products: tuple[Product, ...]
    modes: Mapping[str, Activations]
    sites: Sites
    grids: Mapping[str, Grid]
    most: Mapping[str, int]
    scales: Mapping[str, Tensor]
    rows: bool = False
    bits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fixed_point: bool = False
    powers: bool = False
    rounded: Mapping[str, Tensor] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)
    stored: tuple[Stored, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    thresholds: tuple[Threshold, ...] = ()

    def bits_of(self, product: Product) -> int:
        """Bits of a stored weight of a product."""
        return stored_bits(self.most[product.name], self.bits.get(self.modes[product.name], ()))


def with_stored(
    plan: Plan, options: Options, kinds: Collection[str], is_excluded: Callable[[str], bool]
) -> Plan:
    """The plan with integer weights of embeddings and recurrent layers.

    Args:
        plan: Of the products.
        options: Bits and groups of weights.
        kinds: Of layers whose weights the target stores as integers.
        is_excluded: By module path, whether a layer stays float32.
    """
    layers = fit_to_store(plan.module, plan.products, kinds, is_excluded)
    group = options.group_size if isinstance(options.group_size, int) else None
    grids = tables(plan.module, layers, bits=options.weight_bits, group=group, per_channel=options.per_channel)
    return replace(plan, stored=layers, tables=grids)


def simulated(plan: Plan) -> fx.GraphModule:
    """The graph that computes what the device will; its weights, scales and grids can be trained."""
    graph = twin(plan.module)
    nodes = {node.name: node for node in graph.nodes}
    grids = {name: OnGrid(grid, plan.fixed_point) for name, grid in plan.grids.items()}
    made = fx.GraphModule(plan.module, graph)
    for product in plan.products:
        node = nodes[product.name]
        made.add_module(f"{product.name}__integer", _integer_product(plan, product, node, grids))
        with graph.inserting_after(node):
            new = graph.call_module(f"{product.name}__integer", (node.args[0],))
        new.meta = dict(node.meta)
        nodes[product.result].replace_all_uses_with(new)
    results = {product.result for product in plan.products}
    for name in plan.sites.roots:
        if name in plan.sites.delivered and name not in results:
            made.add_module(f"{name}__grid", grids[name])
            _behind(graph, nodes[name], f"{name}__grid")
    stored = storing.simulate(made, plan.stored, plan.tables, fixed_point=plan.fixed_point)
    _share(plan, made, stored)
    switched_on(made)
    return finished(made, graph)


def _share(plan: Plan, made: fx.GraphModule, stored: Mapping[str, StoredWeight]) -> None:
    """What is one tensor in the float graph is one parameter, and stays so when it is trained."""
    made.graph.eliminate_dead_code()
    read = {str(node.target) for node in made.graph.find_nodes(op="get_attr")}
    owners: dict[str, list[tuple[torch.nn.Module, str]]] = {}
    for product in plan.products if not (plan.rounded or plan.biases) else ():
        part = made.get_submodule(f"{product.name}__integer")
        owners.setdefault(product.weight, []).append((part, "weight"))
        owners.setdefault(product.bias or "", []).append((part, "bias"))
    for path, weight in stored.items():
        owners.setdefault(path, []).append((weight, "weight"))
    for names in names_of(plan.module):
        places = [place for name in names for place in owners.get(name, ())]
        for name in names if places else ():
            places += [(made, name)] if name in read else []
        for owner, name in places[1:]:
            _put_at(owner, name, tensor_at(*places[0]))


def _integer_product(plan: Plan, product: Product, node: fx.Node, grids: Mapping[str, OnGrid]) -> IntegerProduct:
    target: Any = node.target
    options = node.args[3:]
    return IntegerProduct(
        lambda x, w, b: target(x, w, b, *options),
        _weight(plan, product),
        bias_of(plan, product),
        plan.scales[product.name],
        plan.most[product.name],
        _input_grid(plan, product, grids),
        grids.get(product.result) if product.result in plan.sites.delivered else None,
        (product.low, product.high),
        fixed_point=plan.fixed_point,
        powers=plan.powers,
    )


def _weight(plan: Plan, product: Product) -> Tensor:
    rounded = plan.rounded.get(product.name)
    return tensor_at(plan.module, product.weight) if rounded is None else rounded


def bias_of(plan: Plan, product: Product) -> Tensor | None:
    """[outputs], or None."""
    if product.name in plan.biases or product.bias is None:
        return plan.biases.get(product.name)
    return tensor_at(plan.module, product.bias)


def _input_grid(plan: Plan, product: Product, grids: Mapping[str, OnGrid]) -> OnGrid | OnGridOfRun | None:
    if plan.modes[product.name] == "static":
        return grids[plan.sites.grids[product.x]]
    return OnGridOfRun(plan.rows) if plan.modes[product.name] == "dynamic" else None


def _behind(graph: fx.Graph, node: fx.Node, path: str) -> None:
    """Puts a module behind a node; everybody who read the node reads the module."""
    users = list(node.users)
    with graph.inserting_after(node):
        new = graph.call_module(path, (node,))
    new.meta = dict(node.meta)
    for user in users:
        user.replace_input_with(node, new)


def learned(plan: Plan, module: fx.GraphModule) -> Plan:
    """The plan with the weights, biases, scales and grids of a simulated graph that was trained."""
    parts = {p.name: module.get_submodule(f"{p.name}__integer") for p in plan.products}
    graph = twin(plan.module)
    made = fx.GraphModule(plan.module, graph)
    names = {path: several for several in names_of(plan.module) for path in several}
    scales, biases = {}, {}
    for product in plan.products:
        part = parts[product.name]
        assert isinstance(part, IntegerProduct)
        for path, value in ((product.weight, part.weight), (product.bias, part.bias)):
            if path is not None and value is not None:
                _set(made, names[path], value.detach().clone())
        if product.bias is None and part.bias is not None:
            biases[product.name] = part.bias.detach().clone()
        scales[product.name] = part.scales().detach().clone()
    stored = {}
    for path, table in plan.tables.items():
        weight = module.get_submodule(storing.part(plan.tables, path))
        assert isinstance(weight, StoredWeight)
        _set(made, names[path], weight.weight.detach().clone())
        stored[path] = Table(weight.scales().detach().clone(), table.most)
    grids = grids_in(plan, module)
    return replace(plan, module=made, grids=grids, scales=scales, rounded={}, biases=biases, tables=stored)


def grids_in(plan: Plan, module: fx.GraphModule) -> dict[str, Grid]:
    """The grids of a simulated graph as they are now, by the names of ``sites.roots``."""
    parts = [(product, module.get_submodule(f"{product.name}__integer")) for product in plan.products]
    found = [(name, getattr(module, f"{name}__grid", None)) for name in plan.grids]
    found += [(plan.sites.grids.get(product.x, ""), part.x) for product, part in parts]
    found += [(product.result, part.y) for product, part in parts]
    return {**plan.grids, **{name: grid.grid for name, grid in found if isinstance(grid, OnGrid)}}


def _set(module: torch.nn.Module, paths: Sequence[str], value: Tensor) -> None:
    for path in paths:
        _put_at(module, path, torch.nn.Parameter(value, requires_grad=False))


def _put_at(module: torch.nn.Module, path: str, parameter: Tensor) -> None:
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, parameter)


def written(plan: Plan) -> fx.GraphModule:
    """The graph with ``quantized_decomposed`` operations, as targets take it."""
    graph = twin(plan.module)
    nodes = {node.name: node for node in graph.nodes}
    made = fx.GraphModule(plan.module, graph)
    for product in plan.products:
        _write_product(plan, made, nodes, product)
    storing.write(made, plan.stored, plan.tables)
    for name, root in plan.sites.grids.items():
        grid = plan.grids[root]
        users = _readers(plan.sites, nodes, name)
        new = _through(graph, nodes[name], grid)
        for user in users:
            user.replace_input_with(nodes[name], new)
    _leave_out_activations(plan, nodes)
    switched_on(made)
    return finished(made, graph)


def _readers(sites: Sites, nodes: Mapping[str, fx.Node], name: str) -> list[fx.Node]:
    """Those that read a value from its grid."""
    if name in sites.delivered:
        return list(nodes[name].users)
    own = [nodes[product.name] for product in sites.products if product.x == name]
    return [node.args[0] if node.args[0] is not nodes[name] else node for node in own]  # type: ignore[misc]


def _through(graph: fx.Graph, node: fx.Node, grid: Grid) -> fx.Node:
    """To the grid and back; of fewer than 8 bits the ends are cut off before."""
    meta = dict(node.meta)
    value, after = node, node
    chain: list[tuple[Any, tuple[Any, ...]]] = []
    if (grid.low, grid.high) != _BYTE[:2]:
        chain.append((torch.ops.aten.clamp.default, (grid.least, grid.most)))
    options = (grid.scale, grid.zero_point, *_BYTE)
    chain += [(ops.quantize_per_tensor.default, options), (ops.dequantize_per_tensor.default, options)]
    for target, arguments in chain:
        with graph.inserting_after(after):
            value = graph.call_function(target, (value, *arguments))
        value.meta = dict(meta)
        after = value
    return value


def _write_product(plan: Plan, made: fx.GraphModule, nodes: Mapping[str, fx.Node], product: Product) -> None:
    graph, node = made.graph, nodes[product.name]
    weight, scales, most = _weight(plan, product), plan.scales[product.name], plan.most[product.name]
    ends = least(most), most
    whole = integers(weight, scales, most)
    if plan.powers:
        whole = sums_of_two_powers(whole, most)
    names = (
        put(made, f"{product.name}_weight", whole.to(torch.int8)),
        put(made, f"{product.name}_scale", scales.float()),
        put(made, f"{product.name}_zero", torch.zeros(scales.shape, dtype=torch.int64)),
    )
    with graph.inserting_before(node):
        values: tuple[Any, ...] = tuple(map(graph.get_attr, names))
        if scales.dim() == 2:
            group = weight[0].numel() // scales.shape[1]
            options = (*values, *ends, torch.int8, group, torch.float32)
            constant = graph.call_function(ops.dequantize_per_channel_group.default, options)
        else:
            constant = graph.call_function(ops.dequantize_per_channel.default, (*values, 0, *ends, torch.int8))
        constant.meta = {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
        arguments = [node.args[0], constant, *node.args[2:]]
        bias = _bias(plan, product)
        if bias is not None and (product.result in plan.sites.delivered or product.name in plan.biases):
            arguments[2:3] = [graph.get_attr(put(made, f"{product.name}_bias", bias))]
        if plan.modes[product.name] == "dynamic":
            assert isinstance(node.args[0], fx.Node)
            arguments[0] = _of_each_run(graph, node.args[0], plan.rows)
        node.args = tuple(arguments)


def _bias(plan: Plan, product: Product) -> Tensor | None:
    """The bias; where the result is delivered on a grid, in whole units of the sums."""
    bias = bias_of(plan, product)
    if bias is None or product.result not in plan.sites.delivered:
        return bias
    x = plan.grids[plan.sites.grids[product.x]].scale
    unit = plan.scales[product.name].double() * x
    return ((bias.double() / unit).round() * unit).float()


def _of_each_run(graph: fx.Graph, x: fx.Node, rows: bool) -> fx.Node:
    """To the grid of each run and back; one for all products that read the value."""
    choose, quantize, dequantize, ends = _OF_ROWS if rows else _OF_RUN
    for user in x.users:
        if user.target is quantize:
            return next(iter(user.users))
    chosen = graph.call_function(choose, (x, *ends))
    grid = tuple(graph.call_function(_item, (chosen, i)) for i in (0, 1))
    quantized = graph.call_function(quantize, (x, *grid, *_BYTE))
    made: fx.Node = graph.call_function(dequantize, (quantized, *grid, *_BYTE, *([torch.float32] if rows else [])))
    return made


def _leave_out_activations(plan: Plan, nodes: Mapping[str, fx.Node]) -> None:
    """Those that the end of a grid implies."""
    for product in plan.products:
        grid = plan.grids.get(product.result)
        implied = grid is not None and product.low <= grid.least and grid.most <= product.high
        if product.result != product.name and product.result in plan.sites.delivered and implied:
            nodes[product.result].replace_all_uses_with(nodes[product.name])


def scales_of(
    module: fx.GraphModule, product: Product, most: int, *, group: int | None, search: bool, per_channel: bool
) -> Tensor:
    """Scales of the weights of a product, [outputs] or [outputs, groups]."""
    weight = tensor_at(module, product.weight)
    if not per_channel:
        return weight_scales(weight.reshape(1, -1), most, search=search).expand(len(weight)).contiguous()
    fits = group is not None and weight[0].numel() % group == 0 and weight[0].numel() > group
    return weight_scales(weight, most, group=group if fits else None, search=search)
