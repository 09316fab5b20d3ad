"""How large the weights of a plan are."""

from __future__ import annotations

from .coverage import by_name
from .graph import tensor_at
from .plan import Plan
from .stored import names_of


def weight_bytes(plan: Plan) -> int:
    """Bytes of all constants of a graph, each once.

    Weights on grids count as integers with their scales, as in the rows of :func:`~.coverage.coverage`; biases, what
    normalizations multiply by, and every other constant as they are.  A weight that a float operation reads too counts
    in both forms, as the file holds both.

    Args:
        plan: What is quantized; nothing, for the float graph.
    """
    weights = {p.name: (p.weight,) for p in plan.products} | {one.name: one.weights for one in plan.stored}
    rows, tensors = by_name(plan, {}), names_of(plan.module)
    first = {path: names[0] for names in tensors for path in names}
    integers = {
        (tuple(first[path] for path in paths), rows[name].weights): rows[name].bytes_after
        for name, paths in weights.items()
    }
    read = {
        str(node.target)
        for node in plan.module.graph.find_nodes(op="get_attr")
        if any(node.target not in weights.get(user.name, ()) for user in node.users)
    }
    floats = [tensor_at(plan.module, names[0]).nbytes for names in tensors if read.intersection(names)]
    added = [plan.biases[p.name].nbytes for p in plan.products if p.bias is None and p.name in plan.biases]
    return sum(integers.values()) + sum(floats) + sum(added)
