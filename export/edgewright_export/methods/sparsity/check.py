"""What keeps a model from becoming sparse."""

from __future__ import annotations

from device_profiles import Finding

from ...state import Context, State
from ..by_name import is_named, unmatched
from ..quantization.check import is_quantized
from ..quantization.graph import open_graph
from .layers import Choice, Layers, layers


def problems(
    state: State, ctx: Context, choice: Choice, schedule: str, *, learns: bool, alone: bool
) -> list[Finding]:
    """Everything that is wrong with options, data or model.

    Args:
        state: The model.
        ctx: Its data.
        choice: Which weights are to become zero.
        schedule: When.
        learns: Whether it is trained.
        alone: Whether that is without the dense model.
    """
    found = _data(ctx, schedule, learns, alone)
    if is_quantized(state):
        reason = "the model holds integer weights already"
        return [*found, Finding("", "", "", reason, "name weight-sparsity before ptq or qat in methods")]
    graph = open_graph(state)
    parameters = dict(state.module.named_parameters(remove_duplicate=False))
    own = layers(graph, parameters, choice)
    paths = [product.path for product in own.all]
    found += unmatched("only", choice.only, paths) + unmatched("exclude", choice.exclude, paths)
    if own.sparse:
        return found + _named_but_dense(own, choice)
    if not own.all:
        reason = "there is no convolution and no linear layer with constant weights"
        return [*found, Finding("", "", "", reason, "sparsity would change nothing; leave it out")]
    reason = f"none of {len(own.all)} layers can become sparse"
    found.append(Finding("", "", "", reason, "choose another pattern, or exclude fewer layers"))
    return [*found, *(Finding(path, "", "", text, "") for text, path in _first_of_each(own).items())]


def _named_but_dense(found: Layers, choice: Choice) -> list[Finding]:
    """What ``only`` names although it cannot become sparse."""
    named = {pattern: [p for p in found.all if is_named(p.path, (pattern,))] for pattern in choice.only}
    return [
        Finding(own[0].path, "", "", f"only names it, but {found.dense[own[0].name]}", "choose another pattern, or leave it out")
        for own in named.values()
        if own and all(product.name in found.dense for product in own)
    ]


def _first_of_each(found: Layers) -> dict[str, str]:
    """By the reason why layers stay dense, the first of them."""
    return {found.dense[product.name]: product.path for product in reversed(found.all)}


def _data(ctx: Context, schedule: str, learns: bool, alone: bool) -> list[Finding]:
    if (ctx.train is None or not learns) and schedule in ("gradual", "regrow", "learned"):
        reason = f"schedule={schedule!r} chooses zeros while the model trains"
        return [Finding("", "", "", reason, "pass train=(batches, loss) and steps, or schedule='one-shot'")]
    if alone and ctx.train is not None and ctx.train.loss is None:
        reason = "distill=False leaves nothing to learn from: there is no loss"
        return [Finding("", "", "", reason, "pass train=(batches, loss), or distill=True")]
    if ctx.train is None and ctx.calibration is None:
        reason = "which weights the model can do without is seen on inputs"
        return [Finding("", "", "", reason, "pass train=(batches, loss), or calibration= (tuples of inputs)")]
    return []
