"""The one ctypes binding of ``runtime/native/include/edgewright.h`` (ABI 1).

Needs numpy and nothing newer than Python 3.6, so that it also runs on the stock images of boards.
"""

import ctypes
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

ABI_VERSION = 1
MAX_RANK = 8

#: Numbers of ``edge_dtype`` and the numpy types they mean.
DTYPES = {
    1: np.dtype("float32"),
    2: np.dtype("uint8"),
    3: np.dtype("int8"),
    4: np.dtype("uint16"),
    5: np.dtype("int16"),
    6: np.dtype("int32"),
    7: np.dtype("int64"),
    9: np.dtype("bool"),
    10: np.dtype("float16"),
    11: np.dtype("float64"),
    12: np.dtype("uint32"),
    13: np.dtype("uint64"),
}  # type: Dict[int, Any]
_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


class NativeError(RuntimeError):
    """A status other than EDGE_OK; ``status`` is its number, the text is the library's sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Tensor(ctypes.Structure):
    """``edge_tensor``"""

    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * MAX_RANK),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    ]


class TensorInfo(ctypes.Structure):
    """``edge_tensor_info``"""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int32),
        ("min_shape", ctypes.c_int64 * MAX_RANK),
        ("max_shape", ctypes.c_int64 * MAX_RANK),
    ]


class ModelOptions(ctypes.Structure):
    """``edge_model_options``"""

    _fields_ = [("struct_size", ctypes.c_uint32), ("allocator", ctypes.c_void_p), ("skip_hashes", ctypes.c_uint32)]


class FixedInput(ctypes.Structure):
    """``edge_fixed_input``"""

    _fields_ = [("name", ctypes.c_char_p), ("value", Tensor)]


class Bound(ctypes.Structure):
    """``edge_bound``"""

    _fields_ = [("dimension", ctypes.c_char_p), ("min", ctypes.c_int64), ("max", ctypes.c_int64)]


class SessionOptions(ctypes.Structure):
    """``edge_session_options``"""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("parallel_for", ctypes.c_void_p),
        ("fixed_inputs", ctypes.POINTER(FixedInput)),
        ("fixed_input_count", ctypes.c_size_t),
        ("bounds", ctypes.POINTER(Bound)),
        ("bound_count", ctypes.c_size_t),
        ("memory_budget_bytes", ctypes.c_size_t),
        ("profile", ctypes.c_uint32),
        ("entry", ctypes.c_char_p),
    ]


_Write = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class PackOptions(ctypes.Structure):
    """``edge_pack_options``"""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("isa", ctypes.c_char_p),
        ("session", ctypes.POINTER(SessionOptions)),
        ("write", _Write),
        ("user", ctypes.c_void_p),
    ]


class StepInfo(ctypes.Structure):
    """``edge_step_info``"""

    _fields_ = [
        ("node", ctypes.c_char_p),
        ("op", ctypes.c_char_p),
        ("kernel", ctypes.c_char_p),
        ("runs", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
    ]


class Photo(ctypes.Structure):
    """``edge_photo``"""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("pixel", ctypes.c_int),
        ("width", ctypes.c_int32),
        ("height", ctypes.c_int32),
        ("data", ctypes.c_void_p),
        ("row_bytes", ctypes.c_size_t),
        ("bytes", ctypes.c_size_t),
        ("orientation", ctypes.c_uint32),
    ]


class Image(ctypes.Structure):
    """``edge_image``; how a photo becomes an input."""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("size", ctypes.c_int32),
        ("resize", ctypes.c_int),
        ("layout", ctypes.c_int),
        ("crop", ctypes.c_double),
        ("scale", ctypes.c_double),
        ("mean", ctypes.c_double * 3),
        ("std", ctypes.c_double * 3),
    ]

    def load(self, pixels: Any, mode: str = "", orientation: int = 1) -> Any:
        """A photo as float32 array of the shape that the input has.

        Args:
            pixels: uint8 array (height, width) or (height, width, channels), as decoded.
            mode: Key of :data:`PIXELS`; "": by the number of channels L, LA, RGB or RGBA.
            orientation: EXIF tag 0x0112.

        Raises:
            NativeError: The library's status and sentence.
        """
        kept = np.asarray(pixels, order="C")
        if kept.dtype != np.uint8 or kept.ndim not in (2, 3):
            raise NativeError(1, "a photo is uint8 of 2 or 3 axes, given were {} {}".format(kept.dtype, kept.shape))
        channels = kept.shape[2] if kept.ndim == 3 else 1
        pixel, wanted = PIXELS.get(mode or {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}.get(channels, ""), (0, channels))
        if wanted != channels:
            raise NativeError(1, "a photo of mode {} has {} channels, given were {}".format(mode, wanted, channels))
        sizes = (kept.shape[1], kept.shape[0], kept.ctypes.data, kept.shape[1] * channels, kept.nbytes, orientation)
        photo = Photo(ctypes.sizeof(Photo), pixel, *sizes)
        needed = ctypes.c_size_t()
        _check(library().edge_image_workspace(ctypes.byref(self), ctypes.byref(photo), ctypes.byref(needed)))
        workspace = np.empty(needed.value, np.uint8)
        values = np.empty(3 * self.size * self.size, np.float32)
        tensor = Tensor(data=values.ctypes.data, bytes=values.nbytes)
        place = (workspace.ctypes.data, workspace.nbytes, ctypes.byref(tensor))
        _check(library().edge_image_load(ctypes.byref(self), ctypes.byref(photo), *place))
        return values.reshape(tuple(tensor.shape[: tensor.rank]))


#: Numbers of ``edge_pixel`` and their channels by Pillow's name of the mode.
PIXELS = {"L": (1, 1), "LA": (2, 2), "RGB": (3, 3), "RGBA": (4, 4), "CMYK": (5, 4)}


class Ranking(ctypes.Structure):
    """``edge_ranking``; how scores become classes."""

    _fields_ = [
        ("struct_size", ctypes.c_uint32),
        ("softmax", ctypes.c_uint32),
        ("top_k", ctypes.c_uint32),
        ("output", ctypes.c_char_p),
    ]

    def rank(self, scores: Any, model: "Optional[Model]" = None) -> List[Tuple[int, Optional[str], float]]:
        """The best classes as (index, label, score), best first; the label is None where the model has none.

        Raises:
            NativeError: The library's status and sentence.
        """
        kept = np.asarray(scores, order="C")
        best, count = (Class * max(1, min(self.top_k, kept.size)))(), ctypes.c_size_t()
        given = (ctypes.byref(_tensor(kept)), model._handle if model else None)
        _check(library().edge_rank(ctypes.byref(self), *given, best, ctypes.byref(count)))
        rows = best[: count.value]
        return [(row.index, row.label.decode() if row.label is not None else None, row.score) for row in rows]


class Class(ctypes.Structure):
    """``edge_class``"""

    _fields_ = [("index", ctypes.c_size_t), ("score", ctypes.c_double), ("label", ctypes.c_char_p)]


class Step(NamedTuple):
    """One step of a session's run: a node of the model, or several in one.

    ``node`` and ``op`` are the name and ONNX type of the first, ``kernel`` ends with its instruction set (None:
    portable code), ``microseconds`` is the mean of ``runs`` runs (both 0 without ``profile``).  ``sparse_cost`` is what a
    sparse kernel costs by the engine's estimate, over what the dense one does (None: nothing was estimated).
    """

    node: str
    op: str
    kernel: Optional[str]
    runs: int
    microseconds: float
    sparse_cost: Optional[float]


def library_path() -> str:
    """Where the library lies: ``$EDGEWRIGHT_LIBRARY``, else beside this file."""
    name = {"darwin": "libedgewright.dylib", "win32": "edgewright.dll"}.get(sys.platform, "libedgewright.so")
    return os.environ.get("EDGEWRIGHT_LIBRARY") or os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


_SIGNATURES = {
    "edge_abi_version": (ctypes.c_uint32, []),
    "edge_last_error": (ctypes.c_char_p, []),
    "edge_operator": (ctypes.c_char_p, [ctypes.c_size_t]),
    "edge_model_open_memory": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ModelOptions), ctypes.POINTER(ctypes.c_void_p)],
    ),
    "edge_model_open_path": (
        ctypes.c_int,
        [ctypes.c_char_p, ctypes.POINTER(ModelOptions), ctypes.POINTER(ctypes.c_void_p)],
    ),
    "edge_model_free": (None, [ctypes.c_void_p]),
    "edge_model_entry": (ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]),
    "edge_state_create": (ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]),
    "edge_state_free": (None, [ctypes.c_void_p]),
    "edge_state_fork": (ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]),
    "edge_state_reset": (ctypes.c_int, [ctypes.c_void_p]),
    "edge_state_length": (ctypes.c_int64, [ctypes.c_void_p]),
    "edge_state_truncate": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int64]),
    "edge_state_bytes": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_session_set_state": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p]),
    "edge_model_memory_bytes": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_model_pack": (ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(PackOptions)]),
    "edge_session_create": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.POINTER(SessionOptions), ctypes.POINTER(ctypes.c_void_p)],
    ),
    "edge_session_free": (None, [ctypes.c_void_p]),
    "edge_session_input_count": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_session_output_count": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_session_input": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(TensorInfo)]),
    "edge_session_output": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(TensorInfo)]),
    "edge_session_step_count": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_session_step": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(StepInfo)]),
    "edge_session_step_sparse_cost": (ctypes.c_double, [ctypes.c_void_p, ctypes.c_size_t]),
    "edge_session_memory_bytes": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_session_run": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.POINTER(Tensor), ctypes.c_size_t, ctypes.POINTER(Tensor), ctypes.c_size_t],
    ),
    "edge_session_cancel": (None, [ctypes.c_void_p]),
    "edge_model_image": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Image)]),
    "edge_image_workspace": (
        ctypes.c_int,
        [ctypes.POINTER(Image), ctypes.POINTER(Photo), ctypes.POINTER(ctypes.c_size_t)],
    ),
    "edge_image_load": (
        ctypes.c_int,
        [
            ctypes.POINTER(Image),
            ctypes.POINTER(Photo),
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.POINTER(Tensor),
        ],
    ),
    "edge_model_label_count": (ctypes.c_size_t, [ctypes.c_void_p]),
    "edge_model_label": (ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]),
    "edge_model_ranking": (ctypes.c_int, [ctypes.c_void_p, ctypes.POINTER(Ranking)]),
    "edge_rank": (
        ctypes.c_int,
        [
            ctypes.POINTER(Ranking),
            ctypes.POINTER(Tensor),
            ctypes.c_void_p,
            ctypes.POINTER(Class),
            ctypes.POINTER(ctypes.c_size_t),
        ],
    ),
}
_opened = {}  # type: Dict[str, Any]


def library() -> Any:
    """The opened library with its signatures; opened once.

    Raises:
        OSError: There is no library, or it is of another ABI.
    """
    path = library_path()
    if path not in _opened:
        opened = ctypes.CDLL(path)
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(opened, name)
            function.restype, function.argtypes = result, arguments
        if opened.edge_abi_version() != ABI_VERSION:
            raise OSError("{} has ABI {}, this binding needs {}".format(path, opened.edge_abi_version(), ABI_VERSION))
        _opened[path] = opened
    return _opened[path]


def operators() -> List[Tuple[str, str, int, int, Tuple[Any, ...]]]:
    """Rows ``(domain, name, first version, last version, numpy types of the first input)``."""
    rows = []  # type: List[Tuple[str, str, int, int, Tuple[Any, ...]]]
    while True:
        text = library().edge_operator(len(rows))
        if text is None:
            return rows
        domain, name, versions, dtypes = text.decode().split(":")
        first, last = versions.split("-")
        rows.append((domain, name, int(first), int(last), tuple(np.dtype(d) for d in dtypes.split(",") if d)))


def _check(status: int) -> None:
    if status:
        raise NativeError(status, library().edge_last_error().decode("utf-8", "replace"))


def _tensor(array: Any) -> Tensor:
    if array.dtype not in _NUMBERS:
        raise NativeError(3, "the engine has no dtype {}".format(array.dtype))
    if array.ndim > MAX_RANK:
        raise NativeError(3, "an array has {} axes, the engine takes {}".format(array.ndim, MAX_RANK))
    return Tensor(
        _NUMBERS[array.dtype], array.ndim, (ctypes.c_int64 * MAX_RANK)(*array.shape), array.ctypes.data, array.nbytes
    )


def _session_options(
    bounds: Dict[str, Tuple[int, int]],
    fixed: Dict[str, Any],
    memory_budget_bytes: int = 0,
    threads: int = 1,
    profile: bool = False,
    entry: Optional[str] = None,
) -> Tuple[SessionOptions, Any]:
    """The options, and the arrays that must live as long as they are used."""
    arrays = {name: np.asarray(value, order="C") for name, value in fixed.items()}
    values = (FixedInput * len(arrays))(*(FixedInput(n.encode(), _tensor(a)) for n, a in arrays.items()))
    limits = (Bound * len(bounds))(*(Bound(n.encode(), low, high) for n, (low, high) in bounds.items()))
    sizes = (len(arrays), limits, len(bounds), memory_budget_bytes, int(profile), entry.encode() if entry else None)
    return SessionOptions(ctypes.sizeof(SessionOptions), threads, None, values, *sizes), arrays


class Model:
    """An opened model.

    Args:
        source: Path of a bundle or an ONNX file, or the bytes of an archive or an ONNX file.
        check: Whether the files of a bundle are compared with their hashes.

    Raises:
        NativeError: The library's status and sentence.
    """

    def __init__(self, source: Union[str, bytes, "os.PathLike[str]"], check: bool = True) -> None:
        self._handle = ctypes.c_void_p()
        options = ctypes.byref(ModelOptions(ctypes.sizeof(ModelOptions), None, 0 if check else 1))
        self._bytes = None  # type: Optional[bytes]
        if isinstance(source, bytes):
            self._bytes = source  # the library reads them in place
            _check(library().edge_model_open_memory(source, len(source), options, ctypes.byref(self._handle)))
        else:
            path = os.fsencode(os.fspath(source))
            _check(library().edge_model_open_path(path, options, ctypes.byref(self._handle)))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library().edge_model_free(self._handle)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the model has taken, with the weights that its sessions share."""
        return int(library().edge_model_memory_bytes(self._handle))

    def pack(self, isa: Optional[str] = None, bounds: Optional[Dict[str, Tuple[int, int]]] = None) -> bytes:
        """The file ``packed/<isa>-v1.bin`` of a bundle: weights as the kernels of an instruction set read them.

        Args:
            isa: ``"neon"``, ``"avx2"``, ...; this machine need not have it.  None: the one in use.
            bounds: As for :meth:`session`.

        Raises:
            NativeError: The library's status and sentence.
        """
        content = bytearray()

        def write(_user: Any, data: int, size: int) -> int:
            content.extend(ctypes.string_at(data, size))
            return 0

        session, kept = _session_options(bounds or {}, {})
        name = None if isa is None else isa.encode()
        options = PackOptions(ctypes.sizeof(PackOptions), name, ctypes.pointer(session), _Write(write), None)
        _check(library().edge_model_pack(self._handle, ctypes.byref(options)))
        del kept
        return bytes(content)

    @property
    def labels(self) -> Tuple[str, ...]:
        """One a class; () where the bundle has none."""
        count = library().edge_model_label_count(self._handle)
        return tuple(library().edge_model_label(self._handle, index).decode() for index in range(count))

    def image(self, input: Optional[str] = None) -> Image:
        """How a photo becomes an input; None: the one that takes a photo.

        Raises:
            NativeError: The bundle does not say.
        """
        image, name = Image(ctypes.sizeof(Image)), None if input is None else input.encode()
        _check(library().edge_model_image(self._handle, name, ctypes.byref(image)))
        return image

    def ranking(self) -> Ranking:
        """How the scores become classes.

        Raises:
            NativeError: The bundle does not say.
        """
        ranking = Ranking(ctypes.sizeof(Ranking))
        _check(library().edge_model_ranking(self._handle, ctypes.byref(ranking)))
        return ranking

    @property
    def entries(self) -> Tuple[str, ...]:
        """What sessions can run, ``main`` first."""
        names = []  # type: List[str]
        while True:
            name = library().edge_model_entry(self._handle, len(names))
            if name is None:
                return tuple(names)
            names.append(name.decode())

    def state(self) -> "NativeState":
        """Memory for one sequence, empty.

        Raises:
            NativeError: The bundle declares no states.
        """
        handle = ctypes.c_void_p()
        _check(library().edge_state_create(self._handle, ctypes.byref(handle)))
        return NativeState(self, handle)

    def session(
        self,
        bounds: Optional[Dict[str, Tuple[int, int]]] = None,
        fixed: Optional[Dict[str, Any]] = None,
        memory_budget_bytes: int = 0,
        threads: int = 1,
        profile: bool = False,
        entry: str = "main",
    ) -> "NativeSession":
        """A session of this model.

        Args:
            bounds: ``{dimension: (min, max)}`` for dimensions that the model leaves open, each by its name or as
                ``"<input>:<axis>"``.
            fixed: ``{input: array}`` for inputs whose values are known now.
            memory_budget_bytes: 0 for no limit.
            threads: The calling one included.
            profile: Whether the time of every step is taken (:meth:`NativeSession.steps`).
            entry: One of :attr:`entries`.

        Raises:
            NativeError: The library's status and sentence.
        """
        return NativeSession(self, bounds or {}, fixed or {}, memory_budget_bytes, threads, profile, entry)


class NativeState:
    """What one sequence hands from run to run: keys and values of a decoder, for example.  Made by :meth:`Model.state`."""

    def __init__(self, model: Model, handle: Any) -> None:
        self._model = model
        self._handle = handle

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library().edge_state_free(self._handle)

    @property
    def length(self) -> int:
        """Positions so far."""
        return int(library().edge_state_length(self._handle))

    @property
    def memory_bytes(self) -> int:
        """Bytes that the state holds."""
        return int(library().edge_state_bytes(self._handle))

    def fork(self) -> "NativeState":
        """A second sequence that goes on from here."""
        handle = ctypes.c_void_p()
        _check(library().edge_state_fork(self._handle, ctypes.byref(handle)))
        return NativeState(self._model, handle)

    def reset(self) -> None:
        """Makes the state empty again."""
        _check(library().edge_state_reset(self._handle))

    def truncate(self, length: int) -> None:
        """Forgets what lies behind the first ``length`` positions.

        Raises:
            NativeError: There are not so many, or runs replace a state that they read.
        """
        _check(library().edge_state_truncate(self._handle, length))


class NativeSession:
    """Runs a model; one thread at a time."""

    def __init__(
        self,
        model: Model,
        bounds: Dict[str, Tuple[int, int]],
        fixed: Dict[str, Any],
        memory_budget_bytes: int,
        threads: int,
        profile: bool,
        entry: str,
    ) -> None:
        self._model = model
        self._state = None  # type: Optional[NativeState]
        self._handle = ctypes.c_void_p()
        options, kept = _session_options(bounds, fixed, memory_budget_bytes, threads, profile, entry)
        _check(library().edge_session_create(model._handle, ctypes.byref(options), ctypes.byref(self._handle)))
        del kept
        self.inputs = self._infos(library().edge_session_input_count, library().edge_session_input)
        self.outputs = self._infos(library().edge_session_output_count, library().edge_session_output)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library().edge_session_free(self._handle)

    @property
    def memory_bytes(self) -> int:
        """Bytes that the session holds."""
        return int(library().edge_session_memory_bytes(self._handle))

    def run(self, arrays: Sequence[Any]) -> List[Any]:
        """Outputs as new arrays, for inputs in the order of :attr:`inputs`.

        Raises:
            NativeError: The library's status and sentence.
        """
        kept = [np.asarray(array, order="C") for array in arrays]
        inputs = (Tensor * len(kept))(*(_tensor(array) for array in kept))
        outputs = (Tensor * len(self.outputs))()
        _check(library().edge_session_run(self._handle, inputs, len(kept), outputs, len(self.outputs)))
        return [_copy(tensor) for tensor in outputs]

    def set_state(self, state: Optional[NativeState]) -> None:
        """The sequence that runs read and change from now on; None: none.

        Raises:
            NativeError: It is of another model.
        """
        _check(library().edge_session_set_state(self._handle, state._handle if state else None))
        self._state = state  # lives as long as the session works on it

    def steps(self) -> List[Step]:
        """The steps of a run in their order."""
        found = []
        for index in range(library().edge_session_step_count(self._handle)):
            info = StepInfo()
            _check(library().edge_session_step(self._handle, index, ctypes.byref(info)))
            kernel = info.kernel.decode() if info.kernel else None
            mean = info.nanoseconds / 1e3 / info.runs if info.runs else 0.0
            cost = library().edge_session_step_sparse_cost(self._handle, index) or None
            found.append(Step(info.node.decode(), info.op.decode(), kernel, info.runs, mean, cost))
        return found

    def cancel(self) -> None:
        """Stops a run that is under way on another thread."""
        library().edge_session_cancel(self._handle)

    def _infos(self, count: Any, one: Any) -> List[Tuple[str, Any, Tuple[Tuple[int, int], ...]]]:
        infos = []
        for index in range(count(self._handle)):
            info = TensorInfo()
            _check(one(self._handle, index, ctypes.byref(info)))
            bounds = list(zip(info.min_shape, info.max_shape))[: info.rank]
            infos.append((info.name.decode(), DTYPES[info.dtype], tuple(bounds)))
        return infos


def _copy(tensor: Tensor) -> Any:
    result = np.empty(tuple(tensor.shape[: tensor.rank]), DTYPES[tensor.dtype])
    if tensor.bytes:
        ctypes.memmove(result.ctypes.data, tensor.data, tensor.bytes)
    return result
