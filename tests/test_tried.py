"""What was tried: evaluated once, recorded in the bundle with sizes that can be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sdk
from edgewright_export.methods.quantization import slower
from edgewright_export.methods.quantization.begin import Options, begin
from edgewright_export.methods.quantization.calls import calls
from edgewright_export.methods.quantization.size import weight_bytes
from edgewright_export.state import State
from edgewright_export.tried import kept_float, with_qualities
from edgewright_runtime.bundle.manifest import Manifest, Tried
from tests.models import seeded
from tests.test_quantization import CONTEXT, drawn, plan_of, residual, state_of


class Evaluate:
    """Minus the squared error against the module; remembers how often it was asked."""

    def __init__(self, module: nn.Module, given: list[tuple[Tensor, ...]]) -> None:
        self._given, self.found = given, list[float]()
        with torch.no_grad():
            self._wanted = [module(*one) for one in given]

    def __call__(self, predict: Callable[..., Any]) -> float:
        pairs = zip(self._given, self._wanted, strict=True)
        self.found.append(-sum(float((predict(*one) - want).square().sum()) for one, want in pairs))
        return self.found[-1]


def exported(tmp_path: Path, evaluate: Any, limit: float | None = None, **options: Any) -> Any:
    """The residual net with weights of 4 bits."""
    given = drawn(1, 3, 10, 10, count=8)
    return sdk.export(
        residual(),
        "host:native",
        example_inputs=given[0],
        methods=[options.pop("method", sdk.methods.PTQ(weight_bits=4, even_if_slower=True))],
        calibration=given,
        evaluate=evaluate,
        max_quality_drop=limit,
        output=tmp_path / "m.edge",
        **options,
    )


def asked() -> Evaluate:
    return Evaluate(residual(), drawn(1, 3, 10, 10, count=8))


def test_without_a_limit_float_and_quantized_are_tried_and_nothing_is_evaluated_for_it(tmp_path: Path) -> None:
    evaluate = asked()
    manifest = exported(tmp_path, evaluate).manifest
    given, quantized = manifest.tried
    assert len(evaluate.found) == 2
    assert (given.what, given.quality, given.evaluated, given.chosen) == ("float32, as given", 0.0, "module", False)
    assert quantized.what == "4 of 4 layers quantized" and quantized.chosen and quantized.evaluated == "files"
    assert quantized.quality == manifest.quality.after == evaluate.found[1]
    assert quantized.weight_bytes < given.weight_bytes / 3


def test_what_a_limit_made_it_try_is_in_the_bundle_and_was_evaluated_once(tmp_path: Path) -> None:
    all_quantized = -exported(tmp_path, asked()).quality.after
    evaluate = asked()
    manifest = exported(tmp_path, evaluate, all_quantized / 2).manifest
    print(manifest.tried)
