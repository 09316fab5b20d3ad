"""Vision transformer (Dosovitskiy et al. 2021, section 3.1) for 28 x 28 grey images: 196 patches and a class token.

Two convolutions stand before the patches, because so small a training set does not teach locality to a plain
transformer (Xiao et al. 2021, "Early convolutions help transformers see better", section 4).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class ViT(nn.Module):
    """Six pre-norm blocks, 128 wide, 4 heads, patches of 2 x 2 pixels."""

    def __init__(self, dim: int = 128, depth: int = 6, heads: int = 4, mlp_ratio: int = 2, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(1, 32), *_conv(32, 32))
        self.patch = nn.Conv2d(32, dim, 2, 2)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, 197, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        """float32 [N, 1, 28, 28] normalized to logits [N, classes]."""
        return self.classify(self.tokens(image))

    def tokens(self, image: Tensor) -> Tensor:
        """Class token and patches with their positions, [N, 197, dim]."""
        patches = self.patch(self.stem(image)).flatten(2).transpose(1, 2)
        return torch.cat([self.cls.expand(image.shape[0], -1, -1), patches], 1) + self.positions

    def classify(self, tokens: Tensor) -> Tensor:
        """Logits from any number of tokens, the class token first."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, 0]))


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a skip connection."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim))


def _conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
