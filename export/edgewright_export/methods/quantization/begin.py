"""From a float graph and options to grids for its weights and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import fx

from ...registry import target_named
from ...state import Context, State
from ..by_name import are_names, is_named
from .budget import within_bytes
from .by_token import Threshold, by_token
from .calls import Call
from .compensate import compensated
from .correct import corrected
from .equalize import equalized
from .fixed import fixed_point
from .graph import float_graph, tensor_at
from .grid import Grid, largest
from .groups import GROUPS, largest_group
from .observe import observe
from .plan import Activations, Plan, scales_of, with_stored
from .ranges import RANGES, grid_of
from .reconstruct import reconstructed
from .room import with_room_for_biases
from .sites import Product, Sites, products, sites
from .smooth import smoothed

KINDS = ("auto", "static", "dynamic", "float")


@dataclass(frozen=True)
class Options:
    """What all methods that quantize have in common; the meanings are in :class:`..ptq.PTQ`."""

    weight_bits: int
    activation_bits: int
    activations: str
    per_channel: bool
    symmetric: bool
    ranges: str
    smooth: bool
    exclude: tuple[str, ...]
    group_size: int | str | None = None
    compensate: bool = False
    equalize: bool = False
    correct_bias: bool = False
    reconstruct: int = 0
    fixed_point: bool = False
    power_of_two: bool = False
    important_tokens: float | None = None
    max_bytes: int | None = None

    @classmethod
    def of(cls, method: Any) -> Options:
        """Those of a method, which may lack some that have a default."""
        return cls(**{field.name: getattr(method, field.name) for field in fields(cls) if hasattr(method, field.name)})

    def wrong(self) -> list[str]:
        """What is out of range."""
        rules = (
            (
                self.weight_bits not in (4, 8),
                f"weight_bits {self.weight_bits!r} is neither 8 nor 4"
                + (": fewer are for single layers, as max_bytes chooses them" if self.weight_bits in (2, 3) else ""),
            ),
            (self.activation_bits not in (4, 8), f"activation_bits {self.activation_bits!r} is neither 8 nor 4"),
            (self.activations not in KINDS, f"activations {self.activations!r} is none of {', '.join(KINDS)}"),
            (
                self.activation_bits == 4 and self.activations != "static",
                'activation_bits=4 needs activations="static": no engine finds 16 steps in each run',
            ),
            (
                self.group_size is not None and self.activations != "float",
                'group_size needs activations="float": integer sums have one scale for each output',
            ),
            (
                self.group_size not in (None, "auto")
                and (type(self.group_size) is not int or self.group_size not in GROUPS),
                f"group_size {self.group_size!r} is none of auto, {', '.join(map(str, GROUPS))}",
            ),
            (
                self.group_size is not None and not self.per_channel,
                "group_size divides the weights of one output, so per_channel must be True",
            ),
            (
                type(self.reconstruct) is not int or self.reconstruct < 0,
                f"reconstruct {self.reconstruct!r} is no number of steps from 0",
            ),
            (
                self.fixed_point and not (self.activations == "static" and self.symmetric),
                'fixed_point needs activations="static" and symmetric=True: a binary point is all that a grid has',
            ),
            (
                self.important_tokens is not None and not 0 < self.important_tokens <= 1,
                f"important_tokens {self.important_tokens!r} is no share between 0 and 1",
            ),
            (
                self.important_tokens is not None
                and (self.activation_bits != 8 or self.activations == "float" or self.fixed_point),
                "important_tokens needs activation_bits=8 on integers without fixed_point: the other tokens have 4 of the 8 bits",
            ),
            (
                self.max_bytes is not None and (type(self.max_bytes) is not int or self.max_bytes < 1),
                f"max_bytes {self.max_bytes!r} is no number of bytes from 1",
            ),
            (
                self.max_bytes is not None and self.weight_bits != 8,
                "max_bytes needs weight_bits=8: layers go down from there",
            ),
            (self.ranges not in RANGES, f"ranges {self.ranges!r} is none of {', '.join(RANGES)}"),
            (
                not are_names(self.exclude),
                f"exclude {self.exclude!r} is no tuple of module names or patterns",
            ),
        )
        return [text for bad, text in rules if bad]


def chosen(module: fx.GraphModule, options: Options) -> tuple[Product, ...]:
    """The products that are quantized."""
    found = (p for p in products(module) if not is_named(p.path, options.exclude))
    return tuple(p for p in found if options.activations != "dynamic" or is_linear(module, p))


def begin(state: State, options: Options, ctx: Context, given: Sequence[Call]) -> Plan:
    """A plan whose grids are calibrated and whose weights are rounded to the nearest.

    Args:
        state: The float module.
        options: What to quantize, and how.
        ctx: Names the target, and the largest weight that the device multiplies exactly.
        given: Calibration inputs; may be empty where nothing is calibrated.
    """
    module = float_graph(state)
    ends = ends_of(module, ctx, options)
    if options.equalize:
        module = equalized(module, chosen(module, options))
    if options.smooth:
        module = smoothed(module, chosen(module, options), given, ends, per_channel=options.per_channel)
    thresholds: tuple[Threshold, ...] = ()
    if options.important_tokens is not None:
        layers = [p.name for p in chosen(module, options)]
        module, thresholds = by_token(module, layers, options.important_tokens, given)
    found = chosen(module, options)
    target = target_named(ctx.target)
    modes = modes_of(module, found, options.activations, own=target.runs_on_own_grids)
    static = sites(module, [p for p in found if modes[p.name] == "static"], whole=target.results_on_grids)
    grids, steps = grids_of(module, static, options, given), scales(module, found, ends, options)
    plan = Plan(module, found, modes, static, grids, ends, steps, target.grids_of_rows, target.bits, thresholds=thresholds)
    plan = with_stored(plan, options, target.stored, lambda path: is_named(path, options.exclude))
    plan = replace(fixed_point(plan) if options.fixed_point else plan, powers=options.power_of_two)
    if options.max_bytes is not None:
        fewer = [(few, scales(module, found, few, options)) for few in fewer_bits(ends, modes, ctx)]
        plan = within_bytes(plan, given, fewer, options.max_bytes)
    if options.compensate:
        plan = compensated(plan, given)
    if options.reconstruct:
        plan = reconstructed(plan, given, options.reconstruct)
    return with_room_for_biases(corrected(plan, given) if options.correct_bias else plan)


def modes_of(
    module: fx.GraphModule, found: Sequence[Product], activations: str, *, own: bool
) -> dict[str, Activations]:
    """Where the input of each product lies.

    ``auto``: where the target lets them have grids of their ``own``, linear layers whose input and result are both
    float are quantized in each run, as calibration would gain them nothing but the search for two extremes; all others
    are calibrated.
    """
    if activations == "auto" and not own:
        activations = "static"
    if activations == "auto":
        static = sites(module, found)
        return {p.name: "dynamic" if _is_between_floats(module, p, static) else "static" for p in found}
    kinds: dict[str, Activations] = {"static": "static", "dynamic": "dynamic", "float": "float"}
    return {p.name: kinds[activations] for p in found}


def is_linear(module: fx.GraphModule, product: Product) -> bool:
    """Whether it is a linear layer, not a convolution."""
    return tensor_at(module, product.weight).dim() == 2


def _is_between_floats(module: fx.GraphModule, product: Product, static: Sites) -> bool:
    linear = is_linear(module, product)
    return linear and product.x not in static.delivered and product.result not in static.delivered


def grids_of(module: fx.GraphModule, static: Sites, options: Options, given: Sequence[Call]) -> dict[str, Grid]:
    """The grid of each value that has its own."""
    if not static.roots:
        return {}
    seen = observe(module, static.roots, given)
    return {
        name: grid_of(
            seen[name].sample,
            seen[name].least,
            seen[name].most,
            options.ranges,
            options.activation_bits,
            symmetric=options.symmetric,
        )
        for name in static.roots
    }


def scales(
    module: fx.GraphModule, found: Sequence[Product], ends: Mapping[str, int], options: Options
) -> dict[str, torch.Tensor]:
    """The scales of all weights."""
    return {
        p.name: scales_of(
            module,
            p,
            ends[p.name],
            group=group_of(module, p, ends[p.name], options),
            search=ends[p.name] <= largest(4),
            per_channel=options.per_channel,
        )
        for p in found
    }


def ends_of(module: fx.GraphModule, ctx: Context, options: Options) -> dict[str, int]:
    """The largest weight of each layer."""
    return {p.name: min(ctx.engine.weight_qmax, largest(options.weight_bits)) for p in products(module)}


def fewer_bits(
    ends: Mapping[str, int], modes: Mapping[str, Activations], ctx: Context
) -> tuple[dict[str, int], ...]:
    """The largest weights of each layer with fewer bits, first with the most; as they are where these are not stored."""
    kept = target_named(ctx.target).bits
    bits = sorted({4, *(few for several in kept.values() for few in several)} & set(ctx.engine.weight_bits), reverse=True)
    return tuple(
        {name: min(end, largest(few)) if few in kept.get(modes.get(name, ""), ()) else end for name, end in ends.items()}
        for few in bits
    )


def group_of(module: fx.GraphModule, product: Product, most: int, options: Options) -> int | None:
    """How many weights share a scale; None: all of an output."""
    if options.activations != "float" or not is_linear(module, product):
        return None
    if isinstance(options.group_size, str):
        weight = tensor_at(module, product.weight).detach()
        return largest_group(weight, most, search=most <= largest(4))
    return options.group_size
