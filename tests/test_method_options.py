"""Options of methods that are of another type than theirs."""

from __future__ import annotations

import dataclasses
import math

import pytest

import sdk
from device_profiles.errors import OptionError

METHODS = [sdk.methods.PTQ, sdk.methods.QAT, sdk.methods.TokenDropping, sdk.methods.WeightSparsity]


@pytest.mark.parametrize("method", METHODS)
def test_options_of_other_types_are_refused_by_name(method):
    for field in dataclasses.fields(method):
        kinds = set(str(field.type).split(" | "))
        if not kinds <= {"bool", "int", "float", "None"}:
            continue
        for wrong in ("no", [1], *(() if "bool" in kinds else (True,)), *(() if "None" in kinds else (None,))):
            with pytest.raises(OptionError, match=field.name):
                method(**{field.name: wrong})


def test_what_is_said():
    with pytest.raises(OptionError, match="sdk.methods.QAT: learning_rate 'high' is not a number; distill 'no' is not True or False"):
        sdk.methods.QAT(learning_rate="high", distill="no")
    with pytest.raises(OptionError, match="sparsity 'half' is neither a number, nor None"):
        sdk.methods.WeightSparsity("half")
    with pytest.raises(OptionError, match="sparsity nan is not between"):
        sdk.methods.WeightSparsity(math.nan)


def test_variants_go_with_the_other_options():
    kinds = [variant.activations for variant in sdk.methods.QAT(important_tokens=0.5).variants(None, None)]
    assert kinds == ["static", "dynamic"]
    assert [variant.activations for variant in sdk.methods.PTQ(group_size=32, activations="float").variants(None, None)] == ["float"]
