"""What is decided before the model runs: all of it is plain numbers, so shapes stay fixed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How many tokens there are along the blocks.

    Args:
        tokens: Before the first block.
        after: After each block.
        protected: Places of tokens that stay.
        causal: A token sees those before it alone.
        restore: All places come back after the last block.
    """

    tokens: int
    after: tuple[int, ...]
    protected: tuple[int, ...]
    causal: bool
    restore: bool

    @property
    def leading(self) -> bool:
        """The protected tokens are the first ones, as a class token is; they stay so, because order is kept."""
        return self.protected == tuple(range(len(self.protected)))
