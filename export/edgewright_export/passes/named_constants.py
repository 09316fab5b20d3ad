"""Gives parameters and buffers names that begin with a letter.

In ``torch.nn.Sequential`` they are called ``0.weight``; ExecuTorch 1.4.1's batch norm fusion then looks for a graph
node of that name, which torch.fx has renamed, and fails.
"""

from __future__ import annotations

import dataclasses

import torch
from torch.export.graph_signature import ExportGraphSignature, OutputKind, OutputSpec

_PREFIX = "m_"


def run(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Puts a letter before every name when one of them begins with a digit; the graph stays the same."""
    if not any(name[:1].isdigit() for name in (*program.state_dict, *program.constants)):
        return program
    signature = program.graph_signature
    inputs = [dataclasses.replace(spec, target=_named(spec.target)) for spec in signature.input_specs]
    return torch.export.ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=ExportGraphSignature(inputs, [_output(spec) for spec in signature.output_specs]),
        state_dict={_PREFIX + name: value for name, value in program.state_dict.items()},
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants={_PREFIX + name: value for name, value in program.constants.items()},
        verifiers=program.verifiers,
    )


def _output(spec: OutputSpec) -> OutputSpec:
    kept = spec.kind is not OutputKind.BUFFER_MUTATION
    return spec if kept else dataclasses.replace(spec, target=_named(spec.target))


def _named(target: str | None) -> str | None:
    return None if target is None else _PREFIX + target
