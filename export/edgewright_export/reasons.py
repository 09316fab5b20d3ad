"""Plain words for what torch says when a model cannot be captured."""

from __future__ import annotations

import re

_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"GuardOnDataDependentSymNode|Could not guard on data-dependent|Could not extract specialized integer"
        r"|data-dependent|DataDependentOutput",
        "control flow or a size depends on the values of a tensor",
        "compute both sides and pick with torch.where, use torch.cond, or decide outside forward",
    ),
    (
        r"_local_scalar_dense|\.item\(\)|Cannot call numel|tolist",
        "a tensor is turned into a Python number",
        "keep it a tensor, or pass the number as an input",
    ),
    (
        r"\.numpy\(\)|numpy",
        "a tensor leaves torch for numpy",
        "write the step with torch operations",
    ),
    (
        r"nonzero|DynamicOutputShapeException|dynamic output shape|masked_select|unique",
        "the size of a result depends on the values of a tensor",
        "use a mask with torch.where, or a fixed size with topk",
    ),
    (
        r"Unsupported|not supported by fake|UnsupportedOperatorException|UnsupportedFakeTensorException",
        "torch cannot trace this operation",
        "replace it by standard torch operations, or register a fake implementation with torch.library",
    ),
)


def explain(error: BaseException) -> tuple[str, str, str]:
    """Reason, fix and operation of an exception from ``torch.export``."""
    text = f"{type(error).__name__}: {error}"
    op = re.search(r"\b(aten\.[\w.]+|torchvision[:.]+\w+)", text)
    for pattern, reason, fix in _REASONS:
        if re.search(pattern, text, re.IGNORECASE):
            return reason, fix, op[1].rstrip(".") if op else ""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:120]}", "", op[1].rstrip(".") if op else ""
