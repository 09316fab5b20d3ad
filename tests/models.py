"""Small models of our own, one for each thing that an export must carry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class MobileNetV1(nn.Module):
    """Depthwise-separable convolutions (Howard et al. 2017, table 1), narrow."""

    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        steps = [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2)]
        layers: list[nn.Module] = [_conv(3, width, 3, 2)]
        channels = width
        for factor, stride in steps:
            layers += [_conv(channels, channels, 3, stride, groups=channels), _conv(channels, width * factor, 1, 1)]
            channels = width * factor
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class Block(nn.Module):
    """A pre-norm transformer block around scaled_dot_product_attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.mlp(self.norm2(x))


class Calls(nn.Module):
    """A module that calls one function."""

    def __init__(self, call: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Any) -> Any:
        return self.call(x)


class ViT(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021), two blocks."""

    def __init__(self, dim: int = 32, size: int = 32, patch: int = 8) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, dim))
        self.blocks = nn.ModuleList([Block(dim, 4), Block(dim, 4)])
        self.head = nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


class GruTagger(nn.Module):
    """A label for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.gru = nn.GRU(16, 24, batch_first=True)
        self.tag = nn.Linear(24, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.tag(self.gru(self.embed(ids))[0])


class TwoInputs(nn.Module):
    """Two inputs, a dict of results, one of them an integer."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 8, 3)
        self.extra = nn.Linear(4, 8)

    def forward(self, image: torch.Tensor, extra: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.image(image).mean((2, 3)) + self.extra(extra)
        return {"scores": scores, "best": scores.argmax(1)}


class Fork(nn.Module):
    """Takes a branch by the values of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x + 1
        return x - 1


class DataDependent(nn.Module):
    """Two places that cannot be captured."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4), Fork())
        self.last = Fork()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


class Spectrum(nn.Module):
    """An operation that not every target has."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)
        self.stage = Eigen()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage(self.mix(x))


class Eigen(nn.Module):
    """Eigenvalues of x'x."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(x.transpose(-1, -2) @ x)


def seeded(model: type[nn.Module], seed: int = 0) -> nn.Module:
    """A model with repeatable weights, in evaluation mode."""
    torch.manual_seed(seed)
    return model().eval()


SMALL = {
    "mobilenet-v1": (MobileNetV1, lambda: (torch.randn(1, 3, 64, 64),)),
    "vit": (ViT, lambda: (torch.randn(1, 3, 32, 32),)),
    "gru-tagger": (GruTagger, lambda: (torch.randint(0, 100, (1, 12)),)),
    "two-inputs": (TwoInputs, lambda: (torch.randn(1, 3, 16, 16), torch.randn(1, 4))),
}
