"""Weights stored without their zeros, which XNNPACK in LiteRT then leaves out: its "sparse inference", on ARM.

It is an offer that XNNPACK takes silently or not at all.  What it asks of a network (README of LiteRT's XNNPACK delegate, "Sparse
Inference", read for LiteRT 2.3.0): it begins with a convolution of 3 channels, 3 x 3 taps and a stride of 2; it ends with means over
space; between them are convolutions of 1 x 1, depthwise ones of 3 x 3 and 5 x 5 padded by half of that, and what is done to each
value alone; and two thirds of the weights of its 1 x 1 convolutions are zero.  On x86 with AVX it never does it.  Files of networks
that do not fit stay as they are.

A tensor without zeros is rows of channels, dense, of which each has the places of its weights (``SPARSE_CSR``); ``DENSIFY`` stands
between it and the convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .tflite_file import TFLite

_K = schema.BuiltinOperator
_ENOUGH = 2 / 3
"""Share of zeros that XNNPACK asks for."""
_SMALLER = 1 / 3
"""Share of zeros from which a tensor is smaller without them."""
_ALONE = frozenset(
    (_K.ABS, _K.CEIL, _K.ELU, _K.FLOOR, _K.HARD_SWISH, _K.LEAKY_RELU, _K.LOGISTIC, _K.NEG, _K.RELU, _K.RELU6, _K.RELU_N1_TO_1,
     _K.ROUND, _K.SQUARE)
)  # fmt: skip
_SPACE = (1, 2)
"""Axes of an image in these files."""
_CHANNELS_FIRST = (0, 3, 1, 2)


def leave_out(path: Path) -> bool:
    """Stores the weights of a file without zeros where XNNPACK then leaves them out; says whether it does.

    Args:
        path: Replaced if so.
    """
    file = TFLite.read(path)
    if any(operator.inputs is None for operator in file.graph.operators):
        return False
    _mean_over_space(file)
    products = _Network(file).products()
    weights = [_weights(file, product) for product in products]
    if not weights or sum(int((w == 0).sum()) for w in weights) < _ENOUGH * sum(w.size for w in weights):
        return False
    for product, values in zip(products, weights, strict=True):
        if (values == 0).mean() > _SMALLER:
            _store(file, product, values)
    file.forget_unread()
    file.write(path)
    return True


class _Unfit(Exception):
    """The network is none that XNNPACK takes."""


@dataclass
class _Network:
    """What follows the first convolution, as far as means over space."""

    file: TFLite
    inside: set[int] = field(default_factory=set)
    """Tensors, of which XNNPACK would have channels first."""
    padded: dict[int, int] = field(default_factory=dict)
    """Of those that are another with zeros around it, by how many on each side."""

    def products(self) -> list[Any]:
        """The convolutions of 1 x 1; none where anything does not fit."""
        try:
            found = [operator for operator in self.file.graph.operators if self._takes(operator)]
        except _Unfit:
            return []
        ends = {int(index) for index in self.file.graph.outputs}
        return [] if ends & (self.inside | set(self.padded)) else found

    def _takes(self, operator: Any) -> bool:
        """Follows an operator; says whether it is a product."""
        kind, read = self.file.kind(operator), [int(index) for index in operator.inputs]
        if kind == _K.PAD:
            self._pad(operator)
        elif kind == _K.CONV_2D and not self.inside and self._begins(operator):
            self._goes_on(operator)
        elif not (self.inside | set(self.padded)) & set(read):
            return False
        elif kind == _K.CONV_2D and read[0] in self.inside and self._is_product(operator):
            self._goes_on(operator)
            return True
        elif (
            (kind == _K.DEPTHWISE_CONV_2D and self._is_depthwise(operator))
            or (kind in _ALONE and read[0] in self.inside)
            or (kind in (_K.ADD, _K.MUL) and all(map(self._is_factor, read)))
        ):
            self._goes_on(operator)
        elif not (kind == _K.MEAN and read[0] in self.inside and _axes(self.file, operator) == _SPACE and self._ends(operator)):
            raise _Unfit
        return False

    def _goes_on(self, operator: Any) -> None:
        self.inside |= {int(index) for index in operator.outputs}

    def _begins(self, operator: Any) -> bool:
        shape, options = self._shape(operator.inputs[1]), operator.builtinOptions
        around = self._around(operator, 3)
        return shape[1:] == (3, 3, 3) and (options.strideH, options.strideW) == (2, 2) and around == 1 and _is_whole(options)

    def _is_product(self, operator: Any) -> bool:
        weights, options = self.file.graph.tensors[operator.inputs[1]], operator.builtinOptions
        is_f32 = weights.type == schema.TensorType.FLOAT32 and self.file.data(weights) is not None
        return is_f32 and tuple(weights.shape[1:3]) == (1, 1) and (options.strideH, options.strideW) == (1, 1)

    def _is_depthwise(self, operator: Any) -> bool:
        options, taps = operator.builtinOptions, self._shape(operator.inputs[1])[1]
        square = taps in (3, 5) and self._shape(operator.inputs[1])[1:3] == (taps, taps) and options.strideH == options.strideW in (1, 2)
        return bool(square and _is_whole(options) and options.depthMultiplier == 1 and self._around(operator, taps) == taps // 2)

    def _is_factor(self, index: int) -> bool:
        """Whether an operand of a sum or product has channels first too, or is one number for each of them."""
        return index in self.inside or (self._constant(index) is not None and sum(size != 1 for size in self._shape(index)[:-1]) == 0)

    def _ends(self, operator: Any) -> bool:
        """Whether nothing that reads means is a convolution, which LiteRT refuses behind them."""
        means = {int(index) for index in operator.outputs}
        readers = [one for one in self.file.graph.operators if means & {int(index) for index in one.inputs}]
        return not any(self.file.kind(one) == _K.CONV_2D for one in readers)

    def _pad(self, operator: Any) -> None:
        index, sizes = int(operator.inputs[0]), self._constant(operator.inputs[1])
        if sizes is not None and sizes[:2] == sizes[6:] == (0, 0) and len(set(sizes[2:6])) == 1:
            self.padded[int(operator.outputs[0])] = sizes[2]
        elif index in self.inside:
            raise _Unfit

    def _around(self, operator: Any, taps: int) -> int | None:
        """Zeros on each side of what a convolution reads, None where sides differ."""
        index, options = int(operator.inputs[0]), operator.builtinOptions
        if options.padding == schema.Padding.VALID:
            return self.padded.get(index, 0)
        sizes, results = self._shape(index)[1:3], self._shape(operator.outputs[0])[1:3]
        totals = {(result - 1) * options.strideH + taps - size for size, result in zip(sizes, results, strict=True)}
        return totals.pop() // 2 if totals == {taps - 1} and index not in self.padded else None

    def _shape(self, index: Any) -> tuple[int, ...]:
        return tuple(map(int, self.file.graph.tensors[int(index)].shape))

    def _constant(self, index: Any) -> tuple[int, ...] | None:
        """Whole numbers, or floats as such bits."""
        data = self.file.data(self.file.graph.tensors[int(index)])
        return None if data is None else tuple(data.view(np.int32).tolist())


def _is_whole(options: Any) -> bool:
    """Whether a convolution skips no pixels between its taps."""
    return (options.dilationHFactor, options.dilationWFactor) == (1, 1)


def _weights(file: TFLite, product: Any) -> np.ndarray:
    tensor = file.graph.tensors[product.inputs[1]]
    data = file.data(tensor)
    assert data is not None
    return data.view(np.float32).reshape(tensor.shape)


def _mean_over_space(file: TFLite) -> None:
    """Means of channels that were brought to the front for them take them as they lie."""
    for transpose, mean in list(_brought_to_front(file)):
        axes = file.add_tensor("space", schema.TensorType.INT32, [2], np.array(_SPACE, np.int32))
        mean.inputs = np.array([transpose.inputs[0], axes], np.int32)
    read = {int(index) for operator in file.graph.operators for index in operator.inputs} | {int(i) for i in file.graph.outputs}
    file.graph.operators = [one for one in file.graph.operators if file.kind(one) != _K.TRANSPOSE or int(one.outputs[0]) in read]


def _brought_to_front(file: TFLite) -> Iterator[tuple[Any, Any]]:
    transposes = {int(one.outputs[0]): one for one in file.graph.operators if file.kind(one) == _K.TRANSPOSE}
    for mean in file.graph.operators:
        transpose = transposes.get(int(mean.inputs[0])) if file.kind(mean) == _K.MEAN else None
        if transpose is None or mean.builtinOptions.keepDims:
            continue
        order = file.data(file.graph.tensors[int(transpose.inputs[1])])
        if order is not None and tuple(order.view(np.int32)) == _CHANNELS_FIRST and _axes(file, mean) == (2, 3):
            yield transpose, mean


def _axes(file: TFLite, mean: Any) -> tuple[int, ...] | None:
    """Of an image, in their order."""
    axes = file.data(file.graph.tensors[int(mean.inputs[1])])
    return None if axes is None else tuple(sorted(int(axis) % 4 for axis in axes.view(np.int32)))


def _store(file: TFLite, product: Any, values: np.ndarray) -> None:
    """Puts a tensor without zeros and what spreads it in the place of weights."""
    tensor = file.graph.tensors[product.inputs[1]]
    outputs, inputs = values.shape[0], values.shape[3]
    rows, places = np.nonzero(values.reshape(outputs, inputs))
    begins = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=outputs))))
    kept = values.reshape(outputs, inputs)[rows, places]
    stored = file.add_tensor(tensor.name + b"_stored", tensor.type, values.shape, kept)
    dense = schema.DimensionType.DENSE
    sizes = [schema.DimensionMetadataT(format=dense, denseSize=size) for size in values.shape[:3]]
    file.graph.tensors[stored].sparsity = schema.SparsityParametersT(
        traversalOrder=np.arange(4, dtype=np.int32),
        dimMetadata=[*sizes, schema.DimensionMetadataT(schema.DimensionType.SPARSE_CSR, 0, *_packed(begins), *_packed(places))],
    )
    spread = file.add_tensor(tensor.name + b"_dense", tensor.type, values.shape)
    at = next(i for i, one in enumerate(file.graph.operators) if one is product)
    operator = file.add_operator(at, _K.DENSIFY, 1, [stored], [spread])
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    product.inputs[1] = spread


def _packed(numbers: Sequence[int] | np.ndarray) -> tuple[int, Any]:
    """Whole numbers in the smallest of the schema's vectors, behind its kind."""
    kinds, most = schema.SparseIndexVector, int(np.max(numbers, initial=0))
    if most < 1 << 8:
        return kinds.Uint8Vector, schema.Uint8VectorT(np.asarray(numbers, np.uint8))
    if most < 1 << 16:
        return kinds.Uint16Vector, schema.Uint16VectorT(np.asarray(numbers, np.uint16))
    return kinds.Int32Vector, schema.Int32VectorT(np.asarray(numbers, np.int32))
