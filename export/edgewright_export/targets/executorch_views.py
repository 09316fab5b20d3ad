"""Changes of shape as the XNNPACK partitioner takes them over; each that it leaves out cuts its part of the graph in two."""

from __future__ import annotations

import torch
from torch.fx.passes.infra.pass_base import PassResult


def as_views(module: torch.fx.GraphModule) -> PassResult:
    """Writes ``squeeze`` and ``unsqueeze`` as ``view`` and leaves out each ``expand`` to the shape that is there.

    Only where every size is fixed: XNNPACK's reshape takes one open size.
    """
    from executorch.exir.dialects._ops import ops

    edge = ops.edge.aten
    views = (edge.squeeze_copy.dim, edge.squeeze_copy.dims, edge.squeeze_copy.default, edge.unsqueeze_copy.default)
    changed = False
    for node in list(module.graph.nodes):
        if node.target in views and _is_fixed(node):
            with module.graph.inserting_before(node):
                view = module.graph.call_function(
                    edge.view_copy.default, (node.all_input_nodes[0], [int(size) for size in node.meta["val"].shape])
                )
            view.meta = dict(node.meta)
            changed |= _replace(node, view)
        elif node.target is edge.expand_copy.default and _is_fixed(node) and _is_same(node):
            changed |= _replace(node, node.all_input_nodes[0])
    module.recompile()
    return PassResult(module, changed)


def _replace(node: torch.fx.Node, other: torch.fx.Node) -> bool:
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)
    return True


def _is_fixed(node: torch.fx.Node) -> bool:
    return all(isinstance(size, int) for size in node.meta["val"].shape)


def _is_same(node: torch.fx.Node) -> bool:
    is_result = any(user.op == "output" for user in node.users)
    return not is_result and bool(node.all_input_nodes[0].meta["val"].shape == node.meta["val"].shape)
