"""How many tokens there are behind each block."""

from __future__ import annotations


def schedule(tokens: int, depth: int, keep: float, stages: tuple[int, ...]) -> tuple[int, ...]:
    """Each stage keeps the same share of what it gets (Xing et al. 2024, "PyramidDrop", section 3.2).

    Args:
        tokens: Before the first block.
        depth: Blocks.
        keep: Share of the tokens that is left behind the last stage.
        stages: Blocks behind which tokens go, ascending.

    Returns:
        One number a block.
    """
    return tuple(_after(tokens, keep, sum(stage <= block for stage in stages), len(stages)) for block in range(depth))


def _after(tokens: int, keep: float, passed: int, stages: int) -> int:
    return max(1, round(tokens * keep ** (passed / stages))) if passed else tokens
