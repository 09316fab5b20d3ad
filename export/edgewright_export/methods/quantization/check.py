"""What keeps a model from being quantized, before any work."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

from torch import fx, nn

from device_profiles import Finding
from edgewright_runtime.bundle import Workload

from ... import calibration
from ...quantized_program import is_quantized as has_grids
from ...registry import target_named
from ...state import Context, State
from ..by_name import is_named, unmatched
from .begin import Options, chosen, ends_of, fewer_bits, modes_of, scales
from .budget import bytes_of
from .by_token import self_attentions
from .graph import float_graph, tensor_at
from .grid import stored_bits
from .sites import products
from .stored import fit_to_store, stored

LEAST_SAMPLES = 2
_LOOK = ("smooth", "compensate", "correct_bias", "reconstruct", "max_bytes")
"""Options that cannot do without calibration."""


def problems(state: State, ctx: Context, options: Options) -> list[Finding]:
    """Everything that is wrong with options, calibration or model."""
    found = [*_bits(ctx, options), *_data(state, ctx)]
    if is_quantized(state):
        reason = "the model holds integer weights already"
        return [*found, Finding("", "", "", reason, "pass the float model that it was made from")]
    module = float_graph(state)
    layers = _places(module, options, target_named(ctx.target).stored)
    return [*found, *layers, *_tokens(module, options), *_calibrated(module, ctx, options), *_bytes(module, ctx, options)]


def foretold(workload: Workload, bits: int, limit: int | None = None) -> Workload:
    """A workload whose convolutions and linear layers multiply integers; their weights keep to a limit of bytes."""
    ops = tuple(
        replace(op, dtypes=_integers(op.dtypes)) if op.kind in ("conv", "linear") else op for op in workload.ops
    )
    size = workload.weight_bytes * bits // 32
    return replace(workload, ops=ops, weight_bytes=size if limit is None else min(size, limit))


def _integers(dtypes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("int8" if dtype == "float32" else dtype for dtype in dtypes)


def is_quantized(state: State) -> bool:
    """Whether a method, torch or torchao quantized the module before."""
    if state.quantized:
        return True
    if isinstance(state.module, fx.GraphModule) and has_grids(state.module.graph):
        return True
    return any(map(_is_quantized_module, state.module.modules()))


def _is_quantized_module(module: nn.Module) -> bool:
    kinds = [type(p).__module__ for p in module.parameters(recurse=False)]
    home = type(module).__module__
    return ".quantized" in home or any(kind.startswith("torchao") for kind in kinds)


def _bits(ctx: Context, options: Options) -> list[Finding]:
    bits = ctx.engine.weight_bits
    if options.weight_bits in bits:
        return []
    kept = ", ".join(map(str, sorted(bits)))
    reason = f"weight_bits={options.weight_bits}: {ctx.target} on {ctx.device.id} stores weights of {kept} bits"
    fix = "choose one of these, or another engine (device='id:engine')"
    return [Finding("", "", "", reason, fix)]


def _data(state: State, ctx: Context) -> list[Finding]:
    if ctx.calibration is None:
        return []
    example = (state.example.args, state.example.kwargs)
    count = calibration.samples(tuple(ctx.calibration), example)
    if count >= LEAST_SAMPLES:
        return []
    reason = f"calibration= holds {count} sample, whose extremes say little about others"
    return [Finding("", "", "", reason, "pass some hundred samples of what the model will see")]


def _places(module: fx.GraphModule, options: Options, kinds: Collection[str]) -> list[Finding]:
    paths = [*(p.path for p in products(module)), *(layer.path for layer in stored(module))]
    found = unmatched("exclude", options.exclude, paths)
    if not paths:
        reason = "there is no convolution and no linear layer, no embedding and no GRU or LSTM with constant weights"
        found.append(Finding("", "", "", reason, "quantization would change nothing; leave it out"))
    elif not (chosen(module, options) or fit_to_store(module, (), kinds, lambda p: is_named(p, options.exclude))):
        reason = (
            f"exclude={options.exclude!r} and activations={options.activations!r} leave none of {len(paths)} layers"
        )
        found.append(Finding("", "", "", reason, "exclude fewer; convolutions need calibrated activations"))
    return found


def _tokens(module: fx.GraphModule, options: Options) -> list[Finding]:
    """Bits by importance of tokens, and no attention that says which are important."""
    if options.important_tokens is None or self_attentions(module):
        return []
    wanted = "scaled_dot_product_attention whose queries and keys are the same tokens"
    reason = f"important_tokens={options.important_tokens}: no {wanted}"
    fix = 'leave it out, or let the model call it (attn_implementation="sdpa" where a library asks)'
    return [Finding("", "", "", reason, fix)]


def _calibrated(module: fx.GraphModule, ctx: Context, options: Options) -> list[Finding]:
    """Calibration inputs are missing although a value needs them."""
    if ctx.calibration is not None:
        return []
    looking = [name for name in _LOOK if getattr(options, name)]
    if looking:
        reason = f"{looking[0]}={getattr(options, looking[0])} needs to see activations"
        return [Finding("", "", "", reason, "pass calibration= (tuples of inputs)")]
    layers = chosen(module, options)
    modes = modes_of(module, layers, options.activations, own=target_named(ctx.target).runs_on_own_grids)
    static = [p.path for p in layers if modes[p.name] == "static"]
    if not static:
        return []
    reason = f"{len(static)} layers need calibrated inputs, the first is {static[0]}"
    fix = "pass calibration= (tuples of inputs), or activations='dynamic' or 'float'"
    return [Finding(static[0], "", "", reason, fix)]


def _bytes(module: fx.GraphModule, ctx: Context, options: Options) -> list[Finding]:
    """Fewer bytes are wanted than all weights take with the fewest bits."""
    if options.max_bytes is None:
        return []
    target, layers, found = target_named(ctx.target), products(module), chosen(module, options)
    modes = modes_of(module, found, options.activations, own=target.runs_on_own_grids)
    ends = ends_of(module, ctx, options)
    sizes = {p.name: math.inf if p in found else 4 * tensor_at(module, p.weight).numel() for p in layers}
    bits: dict[str, int] = {}
    for few in (ends, *fewer_bits(ends, modes, ctx)):
        steps = scales(module, found, few, options)
        for p in found:
            bits[p.name] = stored_bits(few[p.name], target.bits.get(modes[p.name], ()))
            size = bytes_of(tensor_at(module, p.weight), steps[p.name], bits[p.name])
            sizes[p.name] = min(size, sizes[p.name])
        if sum(sizes.values()) <= options.max_bytes:
            return []
    least = min([4, *bits.values()])
    small = sum(few <= least for few in bits.values())
    stored = f"{ctx.target} on {ctx.device.id} stores {least} bits in {small} of {len(layers)} layers"
    reason = f"max_bytes={options.max_bytes}: {stored}, and all weights then take {sum(sizes.values())} bytes"
    fix = "allow as many, exclude fewer layers, or choose another engine (device='id:engine')"
    return [Finding("", "", "", reason, fix)]
