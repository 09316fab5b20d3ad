"""The changes of ONNX operators between opset 13 and 23, each with the way back.

A row is ``(operator, version): rewrite``: the version of the operator that the rewrite undoes.
A rewrite edits ``site.node`` and returns ``KEPT``, or emits other nodes and returns
``REPLACED``; it raises :class:`Refused` where the older operator cannot do the same.  What it
emits is valid in every opset from 13 to 18.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from .onnx_scope import Refused, Site

KEPT = True
REPLACED = False
Rewrite = Callable[[Site], bool]

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_INTEGERS = (TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
_FLOAT8 = (
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
)
_log = logging.getLogger(__name__)


def average_pool_19(site: Site) -> bool:
    return _without_dilations(site, "AveragePool")


def cast_19(site: Site) -> bool:
    if site.attribute("to") not in _FLOAT8:
        site.drop("saturate")
    return KEPT


def cast_like_15(site: Site) -> bool:
    site.emit("Cast", site.input(0), into=site.output(), to=site.dtype(site.input(1)))
    return REPLACED


def dft_20(site: Site) -> bool:
    axis = [-2] if not site.input(2) else site.integers(site.input(2))
    if axis is None:
        raise Refused("DFT computes its axis", "give the axis as a constant")
    rank = len(site.shape(site.input(0)))
    site.trim_inputs(2)
    site.set_attribute("axis", axis[0] % rank)
    return KEPT


def gelu_20(site: Site) -> bool:
    x = site.input(0)
    dtype = site.dtype(x)
    one, half = site.constant(1.0, dtype), site.constant(0.5, dtype)
    if site.attribute("approximate", "none") == "tanh":
        cube = site.emit("Mul", site.emit("Pow", x, site.constant(3.0, dtype)), site.constant(0.044715, dtype))
        inner = site.emit("Mul", site.emit("Add", x, cube), site.constant(math.sqrt(2.0 / math.pi), dtype))
        curve = site.emit("Tanh", inner)
    else:
        curve = site.emit("Erf", site.emit("Div", x, site.constant(math.sqrt(2.0), dtype)))
    site.emit("Mul", site.emit("Mul", x, site.emit("Add", curve, one)), half, into=site.output())
    return REPLACED


def grid_sample_20(site: Site) -> bool:
    if len(site.shape(site.input(0))) != 4:
        raise Refused("GridSample before opset 20 takes 4 dimensions only", "sample each plane on its own")
    names = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
    site.set_attribute("mode", names[site.attribute("mode", "linear")])
    return KEPT


def group_normalization_18(site: Site) -> bool:
    """Wu and He 2018, section 3.1; scale and bias hold one value a group."""
    groups = site.constant([0, site.attribute("num_groups"), -1])
    view = _normalized_groups(site, groups)
    scale, bias = (site.emit("Unsqueeze", site.input(i), site.constant([-1])) for i in (1, 2))
    scaled = site.emit("Add", site.emit("Mul", view, scale), bias)
    site.emit("Reshape", scaled, site.emit("Shape", site.input(0)), into=site.output())
    return REPLACED


def group_normalization_21(site: Site) -> bool:
    """As above; scale and bias hold one value a channel."""
    rank = len(site.shape(site.input(0)))
    groups = site.constant([0, site.attribute("num_groups"), -1])
    view = site.emit("Reshape", _normalized_groups(site, groups), site.emit("Shape", site.input(0)))
    channels = site.constant([-1, *[1] * (rank - 2)])
    scale, bias = (site.emit("Reshape", site.input(i), channels) for i in (1, 2))
    site.emit("Add", site.emit("Mul", view, scale), bias, into=site.output())
    return REPLACED


def hard_swish_14(site: Site) -> bool:
    gate = site.emit("HardSigmoid", site.input(0), alpha=1.0 / 6.0, beta=0.5)
    site.emit("Mul", site.input(0), gate, into=site.output())
    return REPLACED


def layer_normalization_17(site: Site) -> bool:
    """Ba, Kiros and Hinton 2016, equation 3."""
    wide = _wide(site, site.input(0))
    dtype = _wide_dtype(site, site.input(0))
    axes = _last_axes(site)
    mean = site.reduce_mean(wide, axes)
    centred = site.emit("Sub", wide, mean)
    deviation = _root_mean_square(site, centred, axes, dtype)
    _scaled(site, site.emit("Div", centred, deviation), site.input(1), site.input(2))
    if site.output(1):
        _statistic(site, mean, dtype, site.output(1))
    if site.output(2):
        _statistic(site, site.emit("Reciprocal", deviation), dtype, site.output(2))
    return REPLACED


def lp_pool_18(site: Site) -> bool:
    return _without_dilations(site, "LpPool")


def mish_18(site: Site) -> bool:
    gate = site.emit("Tanh", site.emit("Softplus", site.input(0)))
    site.emit("Mul", site.input(0), gate, into=site.output())
    return REPLACED


def pad_18(site: Site) -> bool:
    if not site.input(3):
        site.trim_inputs(3)
        return KEPT
    axes = site.integers(site.input(3))
    if axes is None:
        raise Refused("Pad computes its axes", "pad with constant axes")
    rank = len(site.shape(site.input(0)))
    index = [axis % rank + side * rank for side in (0, 1) for axis in axes]
    pads = site.integers(site.input(1))
    full = None
    if pads is not None:
        full = [0] * (2 * rank)
        for position, pad in zip(index, pads, strict=True):
            full[position] = pad
    start = "" if full is not None else site.constant([0] * (2 * rank))
    site.set_input(1, site.shaped(site.input(1), full, start, index))
    site.trim_inputs(3)
    return KEPT


def pad_19(site: Site) -> bool:
    """The mode ``wrap`` as one Gather an axis."""
    if site.attribute("mode", "constant") != "wrap":
        return KEPT
    shape, pads = site.shape(site.input(0)), site.integers(site.input(1))
    axes = site.integers(site.input(3)) if site.input(3) else list(range(len(shape)))
    if pads is None or axes is None:
        raise Refused("circular padding computes its sizes", "pad circularly with constant sizes")
    value = site.input(0)
    for position, axis in enumerate(axes):
        size, low, high = shape[axis], pads[position], pads[position + len(axes)]
        if not (low or high):
            continue
        if not size:
            raise Refused("circular padding needs a fixed, non-empty axis", f"export axis {axis} with a fixed size")
        value = site.emit("Gather", value, site.constant(np.arange(-low, size + high) % size), axis=axis)
    site.emit("Identity", value, into=site.output())
    return REPLACED


def quantize_linear_19(site: Site) -> bool:
    zero_point = site.input(2)
    if not zero_point or site.dtype(zero_point) not in _FLOAT8:
        site.drop("saturate")
    return KEPT


def quantize_linear_21(site: Site) -> bool:
    wanted = site.attribute("output_dtype", 0)
    site.drop("output_dtype")
    if site.input(2) or wanted in (0, TensorProto.UINT8):
        return KEPT
    shape = site.shape(site.input(1))
    if None in shape:
        raise Refused("QuantizeLinear has scales of open length", "quantize with constant scales")
    site.set_input(2, site.constant(np.zeros([d or 0 for d in shape]), wanted))
    return KEPT


def reduce_18(site: Site) -> bool:
    """Axes as an attribute again; without axes and with ``noop_with_empty_axes`` only the elementwise part."""
    axes = site.integers(site.input(1)) if site.input(1) else []
    if axes is None:
        raise Refused(f"{site.node.op_type} computes its axes", "reduce over constant axes")
    if not axes and site.attribute("noop_with_empty_axes", 0):
        op, inputs = _ELEMENTWISE.get(site.node.op_type, ("Identity", 1))
        site.emit(op, *[site.input(0)] * inputs, into=site.output())
        return REPLACED
    site.trim_inputs(1)
    site.drop("noop_with_empty_axes")
    if axes:
        site.set_attribute("axes", axes)
    return KEPT


def reduce_bool_20(site: Site) -> bool:
    if site.dtype(site.input(0)) != TensorProto.BOOL:
        return KEPT
    site.set_input(0, site.emit("Cast", site.input(0), to=TensorProto.UINT8))
    output = site.output()
    site.node.output[0] = site.names.new(f"{output}_{site.node.op_type}")
    site.emit("Cast", site.node.output[0], into=output, after=True, to=TensorProto.BOOL)
    return KEPT


def relu_14(site: Site) -> bool:
    dtype = site.dtype_if_known(site.input(0))
    if dtype not in _INTEGERS:
        return KEPT
    if dtype in (TensorProto.INT32, TensorProto.INT64):
        site.emit("Max", site.input(0), site.constant(0, dtype), into=site.output())
        return REPLACED
    wide = site.emit("Cast", site.input(0), to=TensorProto.INT32)
    positive = site.emit("Max", wide, site.constant(0, TensorProto.INT32))
    site.emit("Cast", positive, into=site.output(), to=dtype)
    return REPLACED


def reshape_14(site: Site) -> bool:
    reshape_without_zero(site)
    if site.attribute("allowzero", 0):
        raise Refused("Reshape to an empty tensor", "remove the empty tensor from the model")
    return KEPT


def resize_18(site: Site) -> bool:
    if site.attribute("antialias", 0):
        raise Refused("Resize has no antialias", "interpolate(..., antialias=False), or resize before the model")
    if site.input(3) and site.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("Resize cannot keep the aspect ratio", "give both sizes")
    axes = site.attribute("axes")
    site.drop("antialias", "keep_aspect_ratio_policy", "axes")
    if axes is not None:
        _resize_all_axes(site, list(axes))
    return KEPT


def resize_19(site: Site) -> bool:
    if site.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric":
        raise Refused("Resize has no half_pixel_symmetric", "use half_pixel or align_corners")
    return KEPT


def rms_normalization_23(site: Site) -> bool:
    """Zhang and Sennrich 2019, equation 4."""
    wide, dtype = _wide(site, site.input(0)), _wide_dtype(site, site.input(0))
    deviation = _root_mean_square(site, wide, _last_axes(site), dtype)
    _scaled(site, site.emit("Div", wide, deviation), site.input(1), "")
    return REPLACED


def roi_align_16(site: Site) -> bool:
    if site.attribute("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise Refused("RoiAlign has no half_pixel coordinates", "use roi_align(..., aligned=False)")
    site.drop("coordinate_transformation_mode")
    return KEPT


def scatter_16(site: Site) -> bool:
    return _without_reductions(site, ("add", "mul"))


def scatter_18(site: Site) -> bool:
    return _without_reductions(site, ("max", "min"))


def shape_15(site: Site) -> bool:
    start, end = site.attribute("start", 0), site.attribute("end")
    site.drop("start", "end")
    if start == 0 and end is None:
        return KEPT
    whole = site.emit("Shape", site.input(0))
    stop = np.iinfo(np.int64).max if end is None else end
    site.emit("Slice", whole, site.constant([start]), site.constant([stop]), into=site.output())
    return REPLACED


def split_18(site: Site) -> bool:
    parts = site.attribute("num_outputs")
    site.drop("num_outputs")
    if site.input(1) or parts is None:
        return KEPT
    size = site.shape(site.input(0))[site.attribute("axis", 0)]
    if size is None:
        raise Refused("Split of an open axis into equal parts", "export the split axis with a fixed size")
    chunk = -(-size // parts)
    site.set_input(1, site.constant([chunk] * (parts - 1) + [size - chunk * (parts - 1)]))
    return KEPT


def trilu_14(site: Site) -> bool:
    x = site.input(0)
    dtype = site.dtype(x)
    mask = _triangle(site)
    if dtype == TensorProto.BOOL:
        site.emit("And", x, mask, into=site.output())
    else:
        site.emit("Where", mask, x, site.constant(0, dtype), into=site.output())
    return REPLACED


def clip_int32(site: Site) -> bool:
    if site.dtype_if_known(site.input(0)) != TensorProto.INT32:
        return KEPT
    value = site.input(0)
    for op, bound in (("Max", site.input(1)), ("Min", site.input(2))):
        value = site.emit(op, value, bound) if bound else value
    site.emit("Identity", value, into=site.output())
    return REPLACED


def reshape_without_zero(site: Site) -> bool:
    """The exporter always writes ``allowzero``; with a -1 in the shape ONNX Runtime 1.10 fails on it."""
    if not site.attribute("allowzero", 0):
        return KEPT
    shape = site.integers(site.input(1))
    if shape is None:
        _log.info("%s: allowzero dropped, a computed shape differs only for empty tensors", site.node.name)
    if shape is None or 0 not in shape:
        site.drop("allowzero")
    return KEPT


def trilu_bool(site: Site) -> bool:
    return trilu_14(site) if site.dtype_if_known(site.input(0)) == TensorProto.BOOL else KEPT


def where_bool(site: Site) -> bool:
    condition, chosen, other = (site.input(i) for i in range(3))
    if TensorProto.BOOL not in (site.dtype_if_known(chosen), site.dtype_if_known(other)):
        return KEPT
    left = site.emit("And", condition, chosen)
    right = site.emit("And", site.emit("Not", condition), other)
    site.emit("Or", left, right, into=site.output())
    return REPLACED


def _wide_dtype(site: Site, name: str) -> int:
    dtype = site.dtype(name)
    return TensorProto.FLOAT if dtype in _HALF and site.attribute("stash_type", 1) == 1 else dtype


def _wide(site: Site, name: str) -> str:
    """The tensor in the type that statistics are computed in."""
    dtype = _wide_dtype(site, name)
    return name if dtype == site.dtype(name) else site.emit("Cast", name, to=dtype)


def _narrow(site: Site, name: str) -> str:
    dtype = site.dtype(site.input(0))
    return name if dtype == _wide_dtype(site, site.input(0)) else site.emit("Cast", name, to=dtype)


def _statistic(site: Site, name: str, dtype: int, output: str) -> None:
    if dtype == TensorProto.DOUBLE:
        site.emit("Cast", name, into=output, to=TensorProto.FLOAT)
    else:
        site.emit("Identity", name, into=output)


def _last_axes(site: Site) -> list[int]:
    """The normalized axes, counted from the end."""
    axis = site.attribute("axis", -1)
    return list(range(axis if axis < 0 else axis - len(site.shape(site.input(0))), 0))


def _root_mean_square(site: Site, name: str, axes: list[int], dtype: int) -> str:
    # Mul and not Pow: ONNX Runtime 1.10 fuses the form with Pow into a kernel that subtracts
    # squares, which is NaN where the mean is much larger than the deviation.
    square = site.reduce_mean(site.emit("Mul", name, name), axes)
    return site.emit("Sqrt", site.emit("Add", square, site.constant(site.attribute("epsilon", 1e-5), dtype)))


def _scaled(site: Site, normal: str, scale: str, bias: str) -> None:
    narrow = _narrow(site, normal)
    scaled = site.emit("Mul", narrow, scale, into="" if bias else site.output())
    if bias:
        site.emit("Add", scaled, bias, into=site.output())


def _normalized_groups(site: Site, groups: str) -> str:
    """Zero mean and unit variance a group, shaped batch x groups x rest."""
    dtype = _wide_dtype(site, site.input(0))
    view = site.emit("Reshape", _wide(site, site.input(0)), groups)
    count = site.attribute("num_groups")
    one, zero = site.constant([1.0] * count, dtype), site.constant([0.0] * count, dtype)
    epsilon = site.attribute("epsilon", 1e-5)
    return _narrow(site, site.emit("InstanceNormalization", view, one, zero, epsilon=epsilon))


def _without_dilations(site: Site, op: str) -> bool:
    if any(step != 1 for step in site.attribute("dilations", ())):
        raise Refused(f"{op} has no dilations", "pool without dilation")
    site.drop("dilations")
    return KEPT


def _without_reductions(site: Site, refused: tuple[str, ...]) -> bool:
    reduction = site.attribute("reduction", "none")
    if reduction in refused:
        raise Refused(
            f"{site.node.op_type} cannot {reduction} to what is there",
            "replace the accumulating scatter by a matrix product with a one-hot matrix",
        )
    return KEPT


def _resize_all_axes(site: Site, axes: list[int]) -> None:
    if site.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise Refused("Resize crops some axes only", "crop before the resize")
    shape = site.shape(site.input(0))
    axes = [axis % len(shape) for axis in axes]
    site.set_input(1, "")
    if site.input(2):
        ones = site.constant([1.0] * len(shape), TensorProto.FLOAT)
        site.set_input(2, site.shaped(site.input(2), None, ones, axes))
        return
    sizes = site.integers(site.input(3))
    full: list[int | None] | None = None
    if sizes is not None:
        full = list(shape)
        for axis, size in zip(axes, sizes, strict=True):
            full[axis] = size
    known = None if full is None or None in full else [size or 0 for size in full]
    start = "" if known is not None else site.emit("Shape", site.input(0))
    site.set_input(3, site.shaped(site.input(3), known, start, axes))


def _triangle(site: Site) -> str:
    """A mask of the kept triangle, a constant where the sizes are known."""
    upper = site.attribute("upper", 1)
    shape = site.shape(site.input(0))[-2:]
    offset = site.integers(site.input(1)) if site.input(1) else [0]
    if offset is not None and None not in shape:
        ones = np.ones([size or 0 for size in shape], dtype=bool)
        return site.constant((np.triu if upper else np.tril)(ones, offset[0]), TensorProto.BOOL)
    sizes = site.emit("Shape", site.input(0))
    zero, one = site.constant(0), site.constant(1)
    row, column = (
        site.emit("Range", zero, site.emit("Gather", sizes, site.constant(axis), axis=0), one) for axis in (-2, -1)
    )
    distance = site.emit("Sub", column, site.emit("Unsqueeze", row, site.constant([1])))
    compare = "GreaterOrEqual" if upper else "LessOrEqual"
    return site.emit(compare, distance, site.input(1) or zero)


# What is left of a reduction over no axes: the operator and how often it takes the input.
_ELEMENTWISE = {
    "ReduceL1": ("Abs", 1),
    "ReduceL2": ("Abs", 1),
    "ReduceLogSum": ("Log", 1),
    "ReduceSumSquare": ("Mul", 2),
}

REWRITES: dict[tuple[str, int], Rewrite] = {
    ("AveragePool", 19): average_pool_19,
    ("Cast", 19): cast_19,
    ("CastLike", 15): cast_like_15,
    ("CastLike", 19): cast_19,
    ("DFT", 20): dft_20,
    ("Gelu", 20): gelu_20,
    ("GridSample", 20): grid_sample_20,
    ("GroupNormalization", 18): group_normalization_18,
    ("GroupNormalization", 21): group_normalization_21,
    ("HardSwish", 14): hard_swish_14,
    ("LayerNormalization", 17): layer_normalization_17,
    ("LpPool", 18): lp_pool_18,
    ("Mish", 18): mish_18,
    ("Pad", 18): pad_18,
    ("Pad", 19): pad_19,
    ("QuantizeLinear", 19): quantize_linear_19,
    ("QuantizeLinear", 21): quantize_linear_21,
    ("RMSNormalization", 23): rms_normalization_23,
    ("ReduceL1", 18): reduce_18,
    ("ReduceL2", 18): reduce_18,
    ("ReduceLogSum", 18): reduce_18,
    ("ReduceLogSumExp", 18): reduce_18,
    ("ReduceMax", 18): reduce_18,
    ("ReduceMax", 20): reduce_bool_20,
    ("ReduceMean", 18): reduce_18,
    ("ReduceMin", 18): reduce_18,
    ("ReduceMin", 20): reduce_bool_20,
    ("ReduceProd", 18): reduce_18,
    ("ReduceSumSquare", 18): reduce_18,
    ("Relu", 14): relu_14,
    ("Reshape", 14): reshape_14,
    ("Resize", 18): resize_18,
    ("Resize", 19): resize_19,
    ("RoiAlign", 16): roi_align_16,
    ("ScatterElements", 16): scatter_16,
    ("ScatterElements", 18): scatter_18,
    ("ScatterND", 16): scatter_16,
    ("ScatterND", 18): scatter_18,
    ("Shape", 15): shape_15,
    ("Split", 18): split_18,
    ("Trilu", 14): trilu_14,
}

# Rewrites of forms that every opset has and that ONNX Runtime 1.10 has no kernel for.
PORTABLE: dict[str, Rewrite] = {
    "Clip": clip_int32,
    "Relu": relu_14,
    "Reshape": reshape_without_zero,
    "Trilu": trilu_bool,
    "Where": where_bool,
}

# Versions that only widened the types, or added an attribute whose default is the older
# behaviour: the check against the older schema decides.
WIDENED: dict[int, str] = {
    14: "Add BatchNormalization CumSum Div GRU Identity LSTM Mul RNN Sub",
    15: "BatchNormalization Pow",
    16: "GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan Where",
    18: "OptionalGetElement OptionalHasElement",
    19: "Constant DequantizeLinear Equal Identity If Loop Reshape Scan Shape Size",
    20: "ConstantOfShape IsInf IsNaN",
    21: "Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QLinearMatMul"
    " Reshape Scan Shape Size Squeeze Transpose Unsqueeze",
    22: "Acos Acosh Asin Asinh Atan Atanh AveragePool Bernoulli Conv ConvTranspose Cos Cosh DeformConv Det Dropout"
    " Elu EyeLike GRU GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample HardSigmoid HardSwish"
    " InstanceNormalization LSTM LpNormalization LpPool MaxPool MaxRoiPool MaxUnpool Mish Multinomial"
    " NegativeLogLikelihoodLoss RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike RoiAlign Round"
    " Selu Sin Sinh Softplus Softsign Tan ThresholdedRelu",
    23: "Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear"
    " Reshape Scan Shape Size Squeeze Transpose Unsqueeze",
}

# What to do about operators that an older opset lacks and that have no rewrite.
FIXES: dict[str, str] = {
    "AffineGrid": "compute the grid outside the model",
    "Attention": "export at opset 18, where the exporter writes attention as matrix products",
    "Bernoulli": "draw random numbers outside the model",
    **dict.fromkeys(
        ("BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
        "use logical operators on booleans, or arithmetic (remainder and floor division) on integers",
    ),
    "Col2Im": "replace fold by conv_transpose or by reshape and permute",
    "DFT": "compute the transform before the model",
    "GridSample": "replace grid_sample by interpolate or by gather with constant indices",
    "RotaryEmbedding": "export at opset 18, where the exporter writes it as products",
    "STFT": "compute the spectrogram before the model",
}
