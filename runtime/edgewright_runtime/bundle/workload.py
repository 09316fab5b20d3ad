"""What a model computes, free of any framework: what a latency predictor prices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Op:
    """One operation.

    Args:
        kind: ``conv2d``, ``linear``, ``matmul``, ``sdpa`` or the ATen name.
        shapes: Shapes of the tensor operands in order, then of the first result.
        dtypes: Their dtypes.
        macs: Multiply-accumulates; 0 for operations that do none.
        bytes: Bytes read and written if nothing is cached.
        sparsity: Share of zero weights, 0 to 1.
        module_path: Qualified name of the module in the user's model.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    macs: int
    bytes: int
    sparsity: float
    module_path: str


@dataclass(frozen=True)
class Workload:
    """All operations of a model in order, at the largest shapes it accepts.

    Args:
        ops: The operations.
        inputs: Shapes of the inputs.
        outputs: Shapes of the outputs.
        weight_bytes: Bytes of all parameters and buffers.
        activation_bytes: Largest sum of results that are alive at the same time.
    """

    ops: tuple[Op, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    weight_bytes: int
    activation_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole model."""
        return sum(op.macs for op in self.ops)
