"""A TFLite file as objects that can be changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_ALIGNMENT = 64
"""Of constants in the file, in bytes; what LiteRT asks of memory that it does not copy."""


class TFLite:
    """The main graph of a file.

    Args:
        model: ``ModelT``.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.subgraphs[0]

    @classmethod
    def read(cls, path: Path) -> TFLite:
        """Reads a whole file."""
        return cls(schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(path.read_bytes()), 0)))

    def write(self, path: Path) -> None:
        """Replaces a file."""
        builder = _Aligned(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))

    def kind(self, operator: Any) -> int:
        """``BuiltinOperator`` of an operator."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def data(self, tensor: Any) -> np.ndarray | None:
        """Bytes of a constant, None of any other tensor."""
        data = self.model.buffers[tensor.buffer].data
        return data if isinstance(data, np.ndarray) and data.size else None

    def add_operator(self, at: int, kind: int, version: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        """Adds an operator without options at a place of the order."""
        operator = schema.OperatorT(
            opcodeIndex=self._code(kind, version),
            inputs=np.array(inputs, np.int32),
            outputs=np.array(outputs, np.int32),
        )
        self.graph.operators.insert(at, operator)
        return operator

    def set_version(self, operator: Any, version: int) -> None:
        """Declares what an operator needs, which older runtimes then refuse."""
        operator.opcodeIndex = self._code(self.kind(operator), version)

    def add_tensor(
        self, name: str, dtype: int, shape: Sequence[int], data: np.ndarray | None = None, like: Any = None
    ) -> int:
        """Adds a tensor, constant where there is data, and returns its index.

        Args:
            like: A tensor of the same shape, whose open sizes are taken over.
        """
        self.model.buffers.append(schema.BufferT(data=None if data is None else data.view(np.uint8).ravel()))
        tensor = schema.TensorT(
            shape=np.array(shape, np.int32), type=dtype, buffer=len(self.model.buffers) - 1, name=name, hasRank=True
        )
        tensor.shapeSignature = None if like is None else like.shapeSignature
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def forget_unread(self) -> None:
        """Drops the bytes of constants that nothing reads any more."""
        read = {int(index) for operator in self.graph.operators for index in operator.inputs}
        read |= {int(index) for index in self.graph.outputs}
        for index, tensor in enumerate(self.graph.tensors):
            if index not in read:
                tensor.buffer = 0
        kept = {tensor.buffer for tensor in self.graph.tensors}
        kept |= {entry.buffer for entry in self.model.metadata or ()}
        for index, buffer in enumerate(self.model.buffers):
            if index not in kept:
                buffer.data = None

    def float_borders(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Quantizes inputs and dequantizes outputs that are s8 in the file and float32 in the module.

        Args:
            inputs: The module's dtypes, by position in the signature's names.
            outputs: The same of its results.
        """
        signature = self.model.signatureDefs[0]
        ends = (signature.inputs, self.graph.inputs), (signature.outputs, self.graph.outputs)
        for (maps, indices), dtypes, is_input in zip(ends, (inputs, outputs), (True, False), strict=True):
            for entry in maps:
                inner = entry.tensorIndex
                is_s8 = self.graph.tensors[inner].type == schema.TensorType.INT8
                if is_s8 and dtypes[int(entry.name.rpartition(b"_")[2])] == "float32":
                    entry.tensorIndex = outer = self._outer(inner)
                    indices[indices == inner] = outer
                    self._convert(inner, outer, is_input)

    def _outer(self, inner: int) -> int:
        tensor = self.graph.tensors[inner]
        outer = self.add_tensor(tensor.name, schema.TensorType.FLOAT32, tensor.shape, like=tensor)
        tensor.name += b"_s8"
        return outer

    def _convert(self, inner: int, outer: int, is_input: bool) -> None:
        kinds = schema.BuiltinOperator
        if is_input:
            self.add_operator(0, kinds.QUANTIZE, 1, [outer], [inner])
        else:
            self.add_operator(len(self.graph.operators), kinds.DEQUANTIZE, 2, [inner], [outer])

    def _code(self, kind: int, version: int) -> int:
        for index, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == kind and code.version == version:
                return index
        self.model.operatorCodes.append(schema.OperatorCodeT(min(kind, 127), None, version, kind))
        return len(self.model.operatorCodes) - 1


class _Aligned(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns vectors of bytes, which hold the constants."""

    def StartVector(self, size: int, count: int, alignment: int) -> Any:
        return super().StartVector(size, count, _ALIGNMENT if size == 1 else alignment)
