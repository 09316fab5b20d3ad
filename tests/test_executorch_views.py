"""Changes of shape in ExecuTorch programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import sdk
from edgewright_export.targets.executorch_views import as_views
from edgewright_runtime.quiet import quiet

from .models import Calls, ViT, seeded


def operators(function: Any, x: Tensor, dynamic: Any = None) -> tuple[list[str], Any]:
    """Names of the operators left, and what the program returns for ``x``."""
    with quiet():
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        program = torch.export.export(Calls(function).eval(), (x,), dynamic_shapes=dynamic)
        edge = to_edge_transform_and_lower(
            program, transform_passes=[as_views], compile_config=EdgeCompileConfig(_check_ir_validity=False)
        ).exported_program()
    names = [node.target._op._schema.name for node in edge.graph.nodes if hasattr(node.target, "_op")]
    return [name.removeprefix("aten::") for name in names], edge.module()(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.unsqueeze(1) + 1,
        lambda x: x.squeeze(0) + 1,
        lambda x: x.squeeze() + 1,
        lambda x: x.unsqueeze(-1).squeeze((0, 3)) + 1,
        lambda x: x.expand(1, 3, 4) + 1,
        lambda x: sum(x.unbind(1)),
    ],
)
def test_fixed_sizes_become_views(function: Any) -> None:
    x = torch.randn(1, 3, 4)
    names, got = operators(function, x)
    assert not [name for name in names if name in ("squeeze_copy", "unsqueeze_copy", "expand_copy")]
    assert torch.equal(got, function(x))


@pytest.mark.parametrize("function", [lambda x: x.expand(2, 3, 4) + 1, lambda x: x.expand(1, 3, 4)])
def test_what_copies_or_is_a_result_stays(function: Any) -> None:
    x = torch.randn(1, 3, 4)
    names, got = operators(function, x)
    assert "expand_copy" in names and torch.equal(got, function(x))


def test_open_sizes_stay() -> None:
    x = torch.randn(2, 3, 4)
    names, got = operators(lambda x: x.unsqueeze(1) + 1, x, ({0: torch.export.Dim("batch", min=1, max=8)},))
    assert "unsqueeze_copy" in names and torch.equal(got, x.unsqueeze(1) + 1)


def test_a_block_is_cut_by_its_layer_norms_alone(tmp_path) -> None:
    """Two layer norms a block and one at the end, each between two parts that XNNPACK runs."""
    model = seeded(ViT)
    x = torch.randn(1, 3, 32, 32)
    sdk.export(model, "host:executorch", example_inputs=(x,), output=tmp_path / "vit.edge")
    program = next((tmp_path / "vit.edge").rglob("*.pte")).read_bytes()
    norms = 2 * len(model.blocks) + 1
    assert delegates(program) <= norms + 1


def delegates(program: bytes) -> int:
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary

    plan = deserialize_pte_binary(program).program.execution_plan[0]
    return len(plan.delegates)
