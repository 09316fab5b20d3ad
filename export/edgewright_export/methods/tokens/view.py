"""What a strategy of token dropping sees, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class View:
    """The tokens behind one block, and the attention in it.  Nothing of one batch item may reach another.

    Args:
        hidden: Output of the block, float [batch, tokens, width].
        query, key: Of the block's attention, float [batch, heads, tokens, head width].
        size: How many tokens of the input each one stands for, float [batch, tokens].
        valid: 1 for a real token, 0 for padding, float [batch, tokens]; None: all are real.
        protected: 1 for a token that stays, float [batch, tokens].
        position: Place of each token in the input, float [batch, tokens]; of a new one that of the token which the
            others went into, or which weighs most.
        whole: How many tokens the input has.
        causal: A token sees those before it alone.
        held: How many tokens are protected.
        leading: The protected ones are the first ``held``, as a class token is.
    """

    hidden: Tensor
    query: Tensor
    key: Tensor
    size: Tensor
    valid: Tensor | None
    protected: Tensor
    position: Tensor
    whole: int
    causal: bool
    held: int
    leading: bool


@dataclass(frozen=True)
class Kept:
    """Some tokens stay as they are, in their order.

    Args:
        index: int64 [batch, kept], ascending.
    """

    index: Tensor


@dataclass(frozen=True)
class Merged:
    """Some tokens go into others, which stay in their order, each the mean of all in it.

    Args:
        stays: int64 [batch, left], ascending.
        gone: int64 [batch, gone].
        into: One that stays for each that goes, int64 [batch, gone].
    """

    stays: Tensor
    gone: Tensor
    into: Tensor


@dataclass(frozen=True)
class Mixed:
    """New tokens, each a mean of old ones.

    Args:
        weight: How much of each old token is in each new one, float [batch, new, old], not negative, not yet
            divided by its sum over the old ones and not multiplied by their sizes.
    """

    weight: Tensor


Reduction = Kept | Merged | Mixed
"""The cost of the three grows in this order: a gather, a small product, a product of all tokens with all."""


class Strategy(Protocol):
    """One way to choose; a frozen dataclass whose fields are its own options."""

    def reduce(self, view: View, count: int) -> Reduction:
        """So many tokens instead of those of ``view``, protected ones among them."""
