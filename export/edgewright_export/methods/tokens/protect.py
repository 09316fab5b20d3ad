"""Tokens that always stay: those that the user names, or those that the output reads."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from device_profiles.errors import OptionError
from edgewright_runtime.quiet import quiet

from ...state import Example
from .find import Transformer, first_of

Protect = int | tuple[int, ...] | slice | str


def checked(protect: Protect) -> int | tuple[int, ...] | str:
    """The option as plain data, a slice as its text ``start:stop``.

    Raises:
        OptionError: It is none of the forms.
    """
    if isinstance(protect, slice) and protect.step is None:
        ends = ("" if end is None else str(end) for end in (protect.start, protect.stop))
        return checked(":".join(ends))
    if isinstance(protect, str) and (protect == "auto" or _ends(protect) is not None):
        return protect
    if type(protect) is int and protect >= 0:
        return protect
    if isinstance(protect, (tuple, list)) and all(type(place) is int for place in protect):
        return tuple(protect)
    raise OptionError(
        f"protect is {protect!r}; expected 'auto', how many first tokens, a tuple of places, or a slice such as '-20:'"
    )


def places(protect: int | tuple[int, ...] | str, tokens: int) -> tuple[int, ...] | None:
    """Places that a checked option names, ascending; None if one is outside of the tokens."""
    if isinstance(protect, str):
        return tuple(range(*slice(*(_ends(protect) or ())).indices(tokens)))
    named = range(protect) if isinstance(protect, int) else protect
    if any(not -tokens <= place < tokens for place in named):
        return None
    return tuple(sorted({place % tokens for place in named}))


def _ends(text: str) -> tuple[int | None, int | None] | None:
    try:
        start, stop = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError:
        return None
    return start, stop


def read_by_output(module: nn.Module, example: Example, transformer: Transformer) -> tuple[int, ...] | None:
    """The tokens behind the last block that the output depends on, such as a class token; () if it is more than half of them.

    None if no gradient tells: the output has no floating-point numbers, or ``forward`` turns gradients off.

    Args:
        module: In evaluation mode.
        example: Inputs that it accepts.
        transformer: Its blocks.
    """
    read = _gradient(module, example, transformer)
    if read is None:
        return None
    found = tuple(read.abs().sum((0, 2)).nonzero().flatten().tolist())
    return found if 2 * len(found) <= transformer.tokens else ()


def _gradient(module: nn.Module, example: Example, transformer: Transformer) -> Tensor | None:
    """What a sum of the outputs, each with a random factor, changes by with the last hidden state."""
    last: list[Tensor] = []
    calls = 0

    def hook(_: nn.Module, args: Any, output: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % len(transformer.paths):
            return None
        last.append(first_of(output).detach().requires_grad_())
        return last[-1] if isinstance(output, Tensor) else type(output)((last[-1], *output[1:]))

    with ExitStack() as hooks, torch.enable_grad(), quiet():
        for path in dict.fromkeys(transformer.paths):
            hooks.enter_context(module.get_submodule(path).register_forward_hook(hook))
        args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (example.args, example.kwargs))
        results = pytree.tree_leaves(module(*args, **kwargs))
        floats = [r for r in results if isinstance(r, Tensor) and r.requires_grad]
        if not floats:
            return None
        draw = torch.Generator().manual_seed(0)
        total = sum(((r * torch.randn(r.shape, generator=draw)).sum() for r in floats), torch.zeros(()))
        return torch.autograd.grad(total, last[-1], allow_unused=True)[0]
