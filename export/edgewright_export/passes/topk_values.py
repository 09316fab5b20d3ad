"""Takes the values of a ``topk`` by its indices.

litert-torch 0.10.0 writes a ``topk`` whose indices nobody reads as a sort, which LiteRT does not have.
"""

from __future__ import annotations

import operator

import torch

aten = torch.ops.aten


def run(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Changes every ``topk`` of which the values alone are read."""
    if not any(_is_values_alone(node) for node in program.graph.nodes):
        return program
    changed: torch.export.ExportedProgram = program.run_decompositions({})
    for node in [node for node in changed.graph.nodes if _is_values_alone(node)]:
        _by_indices(changed, node)
    changed.graph_module.recompile()
    return changed


def _is_values_alone(node: torch.fx.Node) -> bool:
    return node.target is aten.topk.default and {user.args[1] for user in node.users} == {0}


def _by_indices(program: torch.export.ExportedProgram, node: torch.fx.Node) -> None:
    dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", -1)
    for values in list(node.users):
        with program.graph.inserting_before(values):
            indices = program.graph.call_function(operator.getitem, (node, 1))
            taken = program.graph.call_function(aten.gather.default, (node.args[0], dim, indices))
        indices.meta = {**values.meta, "val": node.meta["val"][1]}
        taken.meta = dict(values.meta)
        values.replace_all_uses_with(taken)
        program.graph_signature.replace_all_uses(values.name, taken.name)
        program.graph.erase_node(values)
