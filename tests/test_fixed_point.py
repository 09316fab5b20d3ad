"""Scales that are powers of two, weights that are sums of at most two of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

import sdk
from device_profiles.errors import OptionError
from edgewright_export.methods.quantization.grid import nearest_power, sums_of_two_powers
from edgewright_export.methods.quantization.simulate import Scale

from .test_quantization import drawn, residual

pytestmark = pytest.mark.usefixtures("no_speed_asked")


@pytest.mark.parametrize("most", [1, 7, 63, 127])
def test_every_whole_number_goes_to_the_nearest_sum(most):
    signed = [0, *(s * (1 << i) for i in range(most.bit_length() + 1) for s in (1, -1))]
    allowed = sorted({a + b for a in signed for b in signed if abs(a + b) <= most})
    whole = torch.arange(-most, most + 1).float()
    wanted = [min(allowed, key=lambda a, q=q: (abs(a - q), abs(a))) for q in whole.tolist()]
    assert sums_of_two_powers(whole, most).tolist() == wanted
    assert most > 7 or wanted == whole.tolist()


def test_a_scale_is_the_nearest_power_and_still_learns():
    scale = Scale(torch.tensor([0.3, 1.0, 1e-30, 3e8]), fixed_point=True)
    assert scale().tolist() == [0.25, 1.0, 2.0 ** round(math.log2(1e-30)), 2.0**28]
    scale.change.requires_grad_()
    scale().sum().backward()
    torch.testing.assert_close(scale.change.grad, torch.tensor([0.3, 1.0, 1e-30, 3e8]))


def numbers(bundle: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """All integer weights and all scales of the file in the bundle."""
    model = onnx.load(str(next(bundle.glob("*.onnx"))))
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    weights = [held[node.input[0]] for node in made if node.input[0] in held]
    weights = [weight for weight in weights if weight.dtype.name in ("int4", "int8")]
    whole, scales = (
        [a.astype(np.float32).ravel() for a in arrays] for arrays in (weights, [held[node.input[1]] for node in made])
    )
    assert whole and scales
    return torch.from_numpy(np.concatenate(whole)), torch.from_numpy(np.concatenate(scales))


@pytest.mark.parametrize(("bits", "engine"), [(4, "native"), (8, "onnxruntime")])
def test_the_file_holds_binary_points_and_sums_of_two_powers(tmp_path, bits, engine):
    given = drawn(1, 3, 10, 10, count=16)
    labels = torch.randint(5, (16,))
    bundle = sdk.export(
        residual(),
        f"host:{engine}",
        example_inputs=given[0],
        methods=[sdk.methods.QAT(weight_bits=bits, fixed_point=True, power_of_two=True, steps=4)],
        calibration=given,
        train=([(torch.cat([image for (image,) in given]), labels)], functional.cross_entropy),
        output=tmp_path / "m.edge",
    )
    said = bundle.manifest.quantization
    assert said is not None
    assert (said["scales"], said["weights"]) == ("powers of two", "sums of at most two powers of two")
    whole, scales = numbers(bundle.path)
    assert torch.equal(whole, sums_of_two_powers(whole, 127))
    assert torch.equal(scales, nearest_power(scales))
    assert bundle.parity.snr_db > 100


@pytest.mark.parametrize("options", [{"activations": "dynamic"}, {"activations": "static"}, {"activations": "float"}])
def test_a_binary_point_is_no_other_grid(options: dict[str, Any]):
    with pytest.raises(OptionError, match="fixed_point needs activations=.static. and symmetric=True"):
        sdk.methods.QAT(fixed_point=True, **options)


def test_the_whole_is_asked_for_by_one_word():
    assert sdk.methods.QAT(fixed_point=True) == sdk.methods.QAT(fixed_point=True, activations="static", symmetric=True)
