"""A causal language model of bytes: rotary positions, RMS norm, gated feed-forward layers.

Rotary embedding: Su et al. 2021, section 3.4.2 (halves rotated, as in GPT-NeoX); gated feed-forward:
Shazeer 2020, "GLU variants improve transformer", equation 6; RMS norm: Zhang and Sennrich 2019, equation 4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU}


class ByteLM(nn.Module):
    """Args: ``feed_forward`` makes the layer that stands after each attention."""

    def __init__(
        self,
        feed_forward: Callable[[int], nn.Module],
        dim: int = 160,
        depth: int = 6,
        head_dim: int = 32,
        context: int = 256,
    ) -> None:
        super().__init__()
        self.context = context
        self.embed = nn.Embedding(256, dim)
        self.layers = nn.ModuleList(Layer(dim, head_dim, feed_forward(dim)) for _ in range(depth))
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, 256, bias=False)
        cos, sin = rotary_table(context, head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Byte ids int64 [N, length <= context] to logits of the next byte [N, length, 256]."""
        x = self.embed(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.head(self.norm(x))


class Layer(nn.Module):
    """Causal attention and a feed-forward layer, each behind a norm and beside a skip connection."""

    def __init__(self, dim: int, head_dim: int, feed_forward: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)
        self.attention = Attention(dim, head_dim)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin)
        return x + self.feed_forward(self.norm2(x))


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, dim = x.shape
        q, k, v = (
            part(x).reshape(batch, length, -1, self.head_dim).transpose(1, 2) for part in (self.q, self.k, self.v)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(attended.transpose(1, 2).reshape(batch, length, dim))


class GatedFeedForward(nn.Module):
    """``down(activation(gate(x)) * up(x))``."""

    def __init__(self, dim: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


def byte_lm(activation: str, hidden: int = 432) -> ByteLM:
    """The model with one gated feed-forward layer a block; ``activation`` is a key of :data:`ACTIVATIONS`."""
    return ByteLM(lambda dim: GatedFeedForward(dim, hidden, activation))


def rotary_table(length: int, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, head_dim], each half of the last axis alike."""
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), frequency).repeat(1, 2)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs (i, i + half) of the last axis of [N, heads, length, head_dim]."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin
