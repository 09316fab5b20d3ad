"""The graph as the device will compute it: modules that round, through which gradients go as if they did not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .grid import Grid, least, nearest_power, spread, sums_of_two_powers

_EXACT = float(1 << 24)
"""Below it float32 holds every whole number."""


class _Steps(torch.autograd.Function):
    """Whole steps between two ends.

    Rounding counts as if it were not there (Bengio et al. 2013, straight-through estimator); the gradient of the scale
    is that of Esser et al. 2020, "Learned step size quantization", section 2.1.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
        steps = x / scale
        ctx.save_for_backward(steps, scale, low, high)
        return steps.clamp(low, high).round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        steps, scale, low, high = ctx.saved_tensors
        inside = gradient * ((steps >= low) & (steps <= high))
        of_scale = (-inside * steps / scale).sum_to_size(scale.shape)
        return inside / scale, of_scale, None, None


def whole_steps(x: Tensor, scale: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """``x / scale`` rounded to whole numbers from ``low`` to ``high``, ties to even; both can be learned."""
    ends = [end if isinstance(end, Tensor) else torch.tensor(end) for end in (low, high)]
    steps: Tensor = _Steps.apply(x, scale, *ends)  # type: ignore[no-untyped-call]
    return steps


class _BinaryPoint(torch.autograd.Function):
    """The nearest power of two, by its exponent; in the way back as if it were what was given."""

    @staticmethod
    def forward(ctx: Any, scale: Tensor) -> Tensor:
        return nearest_power(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Scale(nn.Module):
    """Scales that stay above 0 while they are learned: a fixed one times the exponential of what is learned.

    Args:
        value: Where they begin.
        fixed_point: Whether they are powers of two, which only say where the binary point is.
    """

    def __init__(self, value: Tensor, fixed_point: bool = False) -> None:
        super().__init__()
        self._fixed_point = fixed_point
        self.register_buffer("begin", value.detach().clone())
        self.change = nn.Parameter(torch.zeros_like(value), requires_grad=False)

    def forward(self) -> Tensor:
        """As they are now, the shape of ``value``."""
        scale = self.get_buffer("begin") * self.change.exp()
        if not self._fixed_point:
            return scale
        nearest: Tensor = _BinaryPoint.apply(scale)  # type: ignore[no-untyped-call]
        return nearest


class OnGrid(nn.Module):
    """An activation on its grid, whose scale can be learned.

    Args:
        grid: Where it begins.
        fixed_point: Whether its scale is a power of two.
    """

    def __init__(self, grid: Grid, fixed_point: bool = False) -> None:
        super().__init__()
        self.zero_point, self.low, self.high = grid.zero_point, grid.low, grid.high
        self.scale = Scale(torch.tensor(grid.scale), fixed_point)

    @property
    def grid(self) -> Grid:
        """As it is now."""
        return Grid(float(self.scale().detach()), self.zero_point, self.low, self.high)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape, rounded to the grid."""
        value: Tensor = self.steps(x) * self.scale()
        return value

    def steps(self, x: Tensor) -> Tensor:
        """``q - zero_point``, as float32."""
        return whole_steps(x, self.scale(), self.low - self.zero_point, self.high - self.zero_point)


class OnGridOfRun(nn.Module):
    """An activation on a grid over the values of one run, as ONNX's DynamicQuantizeLinear defines it.

    Args:
        rows: Whether each row has its own, as in XNNPACK, instead of all values one.
        bits: 8, or fewer.
        wider: How much more than the values the grid spans.
    """

    def __init__(self, rows: bool, bits: int = 8, wider: float = 1.0) -> None:
        super().__init__()
        self._rows, self._last = rows, (1 << bits) - 1
        self._steps = self._last / wider

    def forward(self, x: Tensor) -> Tensor:
        """``x`` [..., channels], rounded to 256 steps between its extremes, or to fewer."""
        steps, scale = self.split(x)
        return steps * scale

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``q - zero_point`` and the scale, which multiply to the rounded ``x``."""
        axes = (-1,) if self._rows else tuple(range(x.dim()))
        ends = x.detach()
        least, most = ends.amin(axes, self._rows).clamp(max=0), ends.amax(axes, self._rows).clamp(min=0)
        scale = (most - least) / self._steps
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = (-least / scale).round().clamp(0, self._last)
        return whole_steps(x, scale, -zero, self._last - zero), scale


class IntegerProduct(nn.Module):
    """A convolution or linear layer on integers, with its activation and the grid of its result.

    In evaluation the sums are exact and are rescaled once, ``round(sum * float32(s_x * s_w / s_y))``, as the native
    engine does; with gradients, float32 products of what is on the grids, which is one step away now and then.

    Args:
        product: From x, weights and bias to the result, without activation.
        weight: [outputs, ...], float32; those that are 0 stay so, unless all are.
        bias: [outputs] or None.
        scales: Of the weights, [outputs], or [outputs, groups] of neighbours.
        most: The largest weight.
        x: The grid of the input, or the grid of each run; None: it stays float.
        y: The grid of the result; None: it stays float.
        limits: Lowest and highest result.
        fixed_point: Whether the scales of weights are powers of two.
        powers: Whether weights are sums of at most two powers of two.
    """

    kept: Tensor | None

    def __init__(
        self,
        product: Callable[..., Tensor],
        weight: Tensor,
        bias: Tensor | None,
        scales: Tensor,
        most: int,
        x: OnGrid | OnGridOfRun | None,
        y: OnGrid | None,
        limits: tuple[float, float],
        *,
        fixed_point: bool = False,
        powers: bool = False,
    ) -> None:
        super().__init__()
        self._powers = powers
        self._product, self._most, self._limits = product, most, limits
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        zeros = weight.detach() == 0
        self.register_buffer("kept", ~zeros if zeros.any() and not zeros.all() else None, persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.scales = Scale(scales, fixed_point)
        self.x, self.y = x, y

    def forward(self, x: Tensor) -> Tensor:
        """The result for ``x``, [batch, ...]."""
        return self._learned(x) if self.x is None or torch.is_grad_enabled() else self._exact(x)

    def integers(self) -> Tensor:
        """The weights on their grid, as float32."""
        weight = self.weight if self.kept is None else self.weight * self.kept
        whole = whole_steps(weight, spread(self.scales(), self.weight), least(self._most), self._most)
        if not self._powers:
            return whole
        return whole + (sums_of_two_powers(whole.detach(), self._most) - whole).detach()

    def _learned(self, x: Tensor) -> Tensor:
        weight = self.integers() * spread(self.scales(), self.weight)
        value = self._product(x if self.x is None else self.x(x), weight, self.bias).clamp(*self._limits)
        result: Tensor = value if self.y is None else self.y(value)
        return result

    def _exact(self, x: Tensor) -> Tensor:
        assert self.x is not None
        weight = self.integers()
        steps, x_scale = self.x.split(x) if isinstance(self.x, OnGridOfRun) else (self.x.steps(x), self.x.scale())
        wide = float(weight.abs().flatten(1).sum(1).max()) * 255 >= _EXACT
        sums = self._product(steps.double(), weight.double(), None) if wide else self._product(steps, weight, None)
        sums = sums.double()
        scale = self.scales().double() * x_scale.double()
        if self.y is None:
            return self._floating(sums, scale, x_scale)
        if self.bias is not None:
            sums = sums + self._along(self.integer_bias(scale), sums)
        factor = (scale / self.y.scale().double()).float()
        steps = sums.float() * self._along(factor, sums)
        result: Tensor = steps.clamp(*self._ends(self.y)).round() * self.y.scale()
        return result

    def _floating(self, sums: Tensor, scale: Tensor, x_scale: Tensor) -> Tensor:
        """As the engine does: with a grid of the run the two scales are multiplied in float32."""
        factor = self.scales() * x_scale if isinstance(self.x, OnGridOfRun) else scale.float()
        value = sums.float() * (self._along(factor, sums) if x_scale.dim() == 0 else factor)
        if self.bias is not None:
            value = value + self._along(self.bias, sums)
        return value.clamp(*self._limits)

    def integer_bias(self, scale: Tensor) -> Tensor:
        """The bias in units of ``scale``, whole."""
        assert self.bias is not None
        return (self.bias.double() / scale).round()

    def _ends(self, y: OnGrid) -> tuple[float, float]:
        """Where the grid or the activation ends, in steps from the zero point."""
        low, high = (float(x - y.zero_point) for x in (y.low, y.high))
        scale = float(y.scale())
        ends = [
            bound if math.isinf(limit) else float(round(limit / scale))
            for limit, bound in zip(self._limits, (low, high), strict=True)
        ]
        return max(low, ends[0]), min(high, ends[1])

    def _along(self, values: Tensor, sums: Tensor) -> Tensor:
        """One value an output, in a shape that fits the sums."""
        spatial = 0 if self.weight.dim() == 2 else self.weight.dim() - 2
        return values.view(-1, *[1] * spatial)


class StoredWeight(nn.Module):
    """A matrix that is stored as integers and read as float32.

    Args:
        weight: [rows, columns], float32.
        scales: [rows], or [rows, groups] of neighbours.
        most: The largest integer.
        fixed_point: Whether scales are powers of two.
    """

    def __init__(self, weight: Tensor, scales: Tensor, most: int, fixed_point: bool = False) -> None:
        super().__init__()
        self._most = most
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.scales = Scale(scales, fixed_point)

    def forward(self, indices: Tensor | None = None, padding: int = -1, by_frequency: bool = False) -> Tensor:
        """The matrix as it is read, or some of its rows.

        Args:
            indices: Of the rows, [...]; None: the whole matrix.
            padding: The row that learns nothing, -1: all learn.
            by_frequency: Whether what a row learns is divided by how often it is looked up.

        Returns:
            [rows, columns] or [..., columns].
        """
        rows, scales = self.weight, self.scales().view(len(self.weight), -1)
        if indices is not None:
            rows = torch.ops.aten.embedding.default(rows, indices, padding, by_frequency)
            scales = scales[indices]
        steps = scales.repeat_interleave(rows.shape[-1] // scales.shape[-1], -1)
        read: Tensor = whole_steps(rows, steps, -self._most, self._most) * steps
        return read
