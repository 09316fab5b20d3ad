"""Where in the user's model something happens: module path, operation, source line."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch

from device_profiles import Finding

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in [^\n]+\n\s*(?P<text>[^\n]*)')


def module_path(node: torch.fx.Node) -> str:
    """Qualified name of the module that a graph node came from, ``""`` for the root."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(value[0]) for value in stack.values()]
    return re.sub(r"@\d+$", "", paths[-1]) if paths else ""


def operation(node: torch.fx.Node) -> str:
    """Name of the operation, for example ``aten.conv2d.default``."""
    return str(node.target)


def source_line(node: torch.fx.Node) -> str:
    """``file:line: text`` of the user's code that made a node, ``""`` where torch does not know."""
    return last_source_line(node.meta.get("stack_trace") or "")


def last_source_line(trace: str) -> str:
    """``file:line: text`` of the innermost frame of the user's code in a printed stack trace."""
    frames = list(_FRAME.finditer(trace))
    own = [m for m in frames if not m["file"].startswith((_TORCH, _OURS))]
    if not own:
        return ""
    return _shown(own[-1]["file"], int(own[-1]["line"]), own[-1]["text"])


def finding(node: torch.fx.Node, reason: str, fix: str) -> Finding:
    """A finding at a graph node."""
    return Finding(module_path(node), operation(node), source_line(node), reason, fix)


def raised_at(error: BaseException, root: torch.nn.Module) -> tuple[str, str]:
    """Module path and source line of the user's code that an exception passed through.

    Args:
        error: What was raised while ``root`` ran.
        root: The user's model.

    Returns:
        (module path, source line), each ``""`` if unknown.
    """
    names = {id(module): name for name, module in root.named_modules()}
    path, line = "", ""
    for frame, number in _frames(error):
        owner = frame.f_locals.get("self")
        if isinstance(owner, torch.nn.Module) and id(owner) in names:
            path = names[id(owner)]
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, _OURS, "<")):
            line = _shown(file, number, linecache.getline(file, number))
    return path, line


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        trace = link.__traceback__
        while trace is not None:
            yield trace.tb_frame, trace.tb_lineno
            trace = trace.tb_next


def _shown(file: str, number: int, text: str) -> str:
    path = Path(file)
    try:
        file = str(path.relative_to(Path.cwd()))
    except ValueError:
        file = str(path) if len(path.parts) <= 4 else str(Path("...", *path.parts[-3:]))
    return f"{file}:{number}: {text.strip()}".rstrip(": ")
