"""Operations that converters do not know, written with others: equal to torch's own on odd values too."""

from __future__ import annotations

import pytest
import torch

import sdk
from edgewright_export.targets.spell_out import _OWN, operation, spell_out

aten = torch.ops.aten
ODD = torch.tensor([-2.5, -1.0, -0.0, 0.0, 0.1, 1.0, 3.75, float("inf"), float("-inf"), float("nan")])
A, B = (grid.flatten() for grid in torch.meshgrid(ODD, ODD, indexing="ij"))
FINITE = torch.tensor([-7.5, -1.0, -0.3, 0.4, 1.0, 9.0])
C, D = (grid.flatten() for grid in torch.meshgrid(FINITE, FINITE, indexing="ij"))
X = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))

CASES = {
    aten.copysign.Scalar: [(A, -1.0), (A, 2)],
    aten.copysign.Tensor: [(A, B)],
    aten.fmax.default: [(A, B)],
    aten.fmin.default: [(A, B)],
    aten.signbit.default: [(A,), (torch.tensor([-1, 0, 1]),)],
    torch.ops.prims.fmax.default: [(A, B)],
    torch.ops.prims.fmin.default: [(A, B)],
    torch.ops.prims.signbit.default: [(A,)],
    aten.addbmm.default: [(X[0, :5, :5], X[:, :, :3], X[:, :3, :5])],
    aten.div.Scalar_mode: [(C, 0.7, "floor"), (C, -2.0, "trunc")],
    aten.div.Tensor_mode: [(C, D, "floor"), (C, D, "trunc"), (C, D, None)],
    aten.exp2.default: [(C,)],
    aten.floor_divide.Scalar: [(C, 0.1)],
    aten.floor_divide.default: [(C, D)],
    aten.kthvalue.default: [(X, 2, 1), (X, 1, -1, True), (torch.tensor(3.0), 1)],
    aten.logical_xor.default: [(torch.tensor([0, 1, 2, 0]), torch.tensor([0, 0, 3, 4]))],
}


def with_rounding(target, args):
    if target in (aten.div.Scalar_mode, aten.div.Tensor_mode):
        return args[:2], {"rounding_mode": args[2]}
    return args, {}


def test_every_row_has_a_case():
    assert set(CASES) == set(_OWN)


@pytest.mark.parametrize(("target", "args"), [(t, a) for t, cases in CASES.items() for a in cases], ids=str)
def test_equal_to_torch(target, args):
    args, kwargs = with_rounding(target, args)
    torch.testing.assert_close(_OWN[target](*args, **kwargs), target(*args, **kwargs), equal_nan=True)


class Call(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_only_what_was_asked_for_is_gone():
    program = torch.export.export(Call(lambda x: torch.fmax(x, x.exp2())), (X,))
    spelled = spell_out(program, ["aten.fmax"])
    left = {operation(node.target) for node in spelled.graph.nodes}
    assert "aten.fmax" not in left
    torch.testing.assert_close(spelled.module()(X), torch.fmax(X, X.exp2()))
    assert spell_out(program, ["aten.no_such_thing"]) is None


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_what_a_converter_lacks_is_exported_all_the_same(format, tmp_path):
    model = Call(lambda x: torch.fmax(x, torch.copysign(x, x.sum()))).eval()
    bundle = sdk.export(model, "raspberry-pi-5", format=format, example_inputs=(X,), output=tmp_path / "m.edge")
    assert bundle.parity.snr_db >= 80


def test_sorting_in_tflite_is_refused_by_name(tmp_path):
    with pytest.raises(sdk.LoweringError, match="aten.sort.default.*STABLEHLO_SORT"):
        sdk.export(
            Call(lambda x: torch.sort(x, 1)[0]).eval(),
            "host:litert",
            example_inputs=(X,),
            output=tmp_path / "m.edge",
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_results_that_numpy_cannot_hold_are_refused(dtype, tmp_path):
    with pytest.raises(sdk.LoweringError, match="which no session takes or returns"):
        sdk.export(
            Call(lambda x: x.to(dtype)).eval(),
            "host:onnxruntime",
            example_inputs=(X,),
            output=tmp_path / "m.edge",
        )
    assert list(tmp_path.iterdir()) == []
