"""``edgewright::Subgraph`` in ExecuTorch: through the real target and engine, beside the module."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from device_profiles import choose
from device_profiles.errors import DependencyError, LoweringError, RuntimeFailure
from edgewright_export.capture import capture
from edgewright_export.registry import target_named
from edgewright_export.state import Example, State
from edgewright_export.targets.executorch_subgraph import Typed, write_call
from edgewright_runtime import executorch_shim
from edgewright_runtime.bundle import Entry, Lowered, TensorSpec
from edgewright_runtime.engines import engine_named
from edgewright_runtime.native_library import library_path
from edgewright_runtime.quiet import quiet
from tests.models import MobileNetV1
from tests.sparsity.prune import pruned

BATCH = torch.export.Dim("batch", min=1, max=9)


@pytest.fixture(scope="module", autouse=True)
def compiled_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this test run, with what is compiled even where the process has loaded it before."""
    with quiet():
        from executorch.extension.pybindings import _portable_lib
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        executorch_shim._compiled(Path(library_path()), Path(_portable_lib.__file__))
        yield folder / "edgewright"


class Mixed(nn.Module):
    """Two inputs and outputs of several dtypes and ranks, one of them twice, one as it came in."""

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        total = (x * 2).sum((1, 2))
        found = {"next": ids + 1, "positive": x > 0, "total": total, "again": total, "index": x.flatten(1).argmax(1)}
        return {**found, "half": x.half(), "all": total.mean(), "given": ids, "wide": torch.cat([x, x, x[:1]])}


class Sizes(nn.Module):
    """A result whose size depends on the data."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.nonzero()


def lowered(module: nn.Module, folder: Path, inputs: tuple[torch.Tensor, ...], dynamic: Any = None) -> Lowered:
    example = Example(inputs, {}, "a test", dynamic)
    state = State(module.eval(), example, module, subgraph=True)
    state = dataclasses.replace(state, captured=capture(module, example))
    folder.mkdir()
    row = choose("host:executorch").engine
    assert row is not None
    return target_named("executorch").lower(state, row, folder)


def opened(of: Lowered, threads: int = 1) -> Any:
    return engine_named("executorch").open(of, threads=threads)


def by_name(module: nn.Module, of: Lowered, inputs: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    results = module(*inputs)
    found = results if isinstance(results, dict) else {of.outputs[0].name: results}
    return {name: value.detach().numpy() for name, value in found.items()}


def compare(session: Any, module: nn.Module, of: Lowered, inputs: tuple[torch.Tensor, ...]) -> None:
    results = session.run(*(value.numpy() for value in inputs))
    wanted = by_name(module, of, inputs)
    assert set(results) == set(wanted)
    for name, value in wanted.items():
        assert results[name].dtype == value.dtype and results[name].shape == value.shape
        np.testing.assert_allclose(results[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Lowered]:
    """A sparse convolutional net with a batch."""
    torch.manual_seed(0)
    module = pruned(MobileNetV1(16).eval(), 0.8)
    folder = tmp_path_factory.mktemp("images") / "lowered"
    return module, lowered(module, folder, (torch.randn(2, 3, 32, 32),), ({0: BATCH},))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_net_of_convolutions_at_several_batches(images, threads):
    module, of = images
    session = opened(of, threads)
    for batch in (2, 1, 9, 3, 9):
        compare(session, module, of, (torch.randn(batch, 3, 32, 32),))


def test_sessions_of_other_threads_take_turns(images):
    module, of = images
    sessions = [opened(of, threads) for threads in (1, 2)]
    for batch in (1, 4):
        for session in sessions:
            compare(session, module, of, (torch.randn(batch, 3, 32, 32),))
    sessions[0].close()
    compare(sessions[1], module, of, (torch.randn(5, 3, 32, 32),))


def test_the_file_is_the_engines_and_says_what_it_needs(images):
    _, of = images
    assert of.requires == {"subgraph": 1} and of.files == ("model.pte",) and of.format == "executorch"
    content = of.path().read_bytes()
    assert b"EdgewrightBackend" in content and b"XnnpackBackend" not in content


def test_results_stay_as_they_are_in_the_next_run(images):
    _, of = images
    session = opened(of)
    (first,) = session.run(np.ones((1, 3, 32, 32), np.float32)).values()
    kept = first.copy()
    session.run(np.zeros((1, 3, 32, 32), np.float32))
    np.testing.assert_array_equal(first, kept)


def test_several_dtypes_ranks_and_sizes(tmp_path):
    module = Mixed()
    inputs = (torch.randn(3, 4, 5), torch.arange(3))
    of = lowered(module, tmp_path / "lowered", inputs, ({0: BATCH}, {0: BATCH}))
    session = opened(of)
    for batch in (1, 9, 4):
        compare(session, module, of, (torch.randn(batch, 4, 5), torch.arange(batch)))


def test_an_array_that_lies_at_an_odd_place(images):
    module, of = images
    values = torch.randn(1, 3, 32, 32)
    memory = np.empty(values.numel() * 4 + 1, np.uint8)
    odd = memory[1:].view(np.float32).reshape(values.shape)
    odd[:] = values.numpy()
    (result,) = opened(of).run(odd).values()
    np.testing.assert_allclose(result, module(values).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_size_that_depends_on_the_data(tmp_path):
    module = Sizes()
    of = lowered(module, tmp_path / "lowered", (torch.ones(3, 4),))
    session = opened(of)
    for values in (torch.eye(3, 4), torch.zeros(3, 4), torch.ones(3, 4)):
        compare(session, module, of, (values,))


def damaged(of: Lowered, folder: Path, first: int, end: int | None) -> Lowered:
    """The same with other bytes in a part of the ONNX file."""
    content = bytearray(of.path().read_bytes())
    start = content.index(b"\x12\x07pytorch") - 2  # of the ONNX file
    place = slice(start + first, None if end is None else start + end)
    content[place] = b"\xff" * len(content[place])
    (folder / "model.pte").write_bytes(content)
    return dataclasses.replace(of, folder=folder)


@pytest.mark.parametrize(("first", "end"), [(0, 16), (200, 400), (0, None)])
def test_a_damaged_model_is_refused_with_the_engines_sentence(images, tmp_path, first, end):
    """In the run, since ExecuTorch opens delegates with the first."""
    session = opened(damaged(images[1], tmp_path, first, end))
    for _ in range(2):
        with pytest.raises(RuntimeFailure, match=r"could not run the model: edgewright::Subgraph: \w+ .*\w+"):
            session.run(np.zeros((1, 3, 32, 32), np.float32))


def test_a_failure_is_told_once_and_only_of_its_own(images, tmp_path):
    session = opened(damaged(images[1], tmp_path, 0, 16))
    with pytest.raises(RuntimeFailure, match="Subgraph"):
        session.run(np.zeros((1, 3, 32, 32), np.float32))
    (tmp_path / "model.pte").write_bytes(b"no program")
    with pytest.raises(RuntimeFailure, match="cannot open") as told:
        opened(dataclasses.replace(images[1], folder=tmp_path))
    assert "Subgraph" not in str(told.value)


X: Typed = (np.dtype("float32"), ((1, 4), (3, 3)))
OTHERS: dict[str, tuple[list[Typed], list[Typed]]] = {
    "takes 1 inputs, it was given 2": ([X, X], [X]),
    "not as many inputs and outputs": ([], []),
    "has 2 dimensions, it was given 1": ([(X[0], X[1][:1])], [X]),
    "float32": ([(np.dtype("int32"), X[1])], [X]),
    "no room for the shape of an output": ([X], [(X[0], ((1, 1), (3, 3)))]),
    "no room for the shape of an output ": ([X], [(X[0], X[1][:1])]),
    "another dtype": ([X], [(np.dtype("int64"), X[1])]),
}


@pytest.mark.parametrize("told", OTHERS)
def test_a_program_around_another_model_is_refused_in_the_run(tmp_path, told):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "main", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    inputs, outputs = OTHERS[told]
    with quiet():
        write_call(model.SerializeToString(), inputs, outputs, tmp_path / "model.pte")
    specs = [tuple(spec(of, i) for i, of in enumerate(given)) for given in (inputs, outputs)]
    entry = Entry("model.pte", specs[0], specs[1])
    of = Lowered(tmp_path, "executorch", "executorch", ("model.pte",), {"main": entry}, {}, {"subgraph": 1})
    with pytest.raises(RuntimeFailure, match=told.strip()):
        opened(of).run(*(np.ones([most for _, most in sizes], dtype) for dtype, sizes in inputs))


def spec(of: Typed, number: int) -> TensorSpec:
    return TensorSpec(f"v{number}", of[0].name, tuple(most for _, most in of[1]), {}, str(number))


def test_a_model_that_the_engine_does_not_have_is_no_crash(tmp_path):
    """Bounds that no memory holds."""
    huge = torch.export.Dim("huge", min=1, max=2**31 - 1)
    with pytest.raises(LoweringError, match="one operator of executorch"):
        lowered(MobileNetV1(), tmp_path / "lowered", (torch.randn(2, 3, 32, 32),), ({0: huge},))


# What is compiled


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a new process with an empty cache; the folder of the cache."""
    monkeypatch.setattr(executorch_shim, "_delegate", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "cache" / "edgewright"


def test_without_a_compiler_it_says_what_was_tried(images, not_loaded, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DependencyError, match=r"no C\+\+ compiler: tried c\+\+, g\+\+, clang\+\+; install one .*\$CXX"):
        opened(images[1])
    monkeypatch.setenv("CXX", "no-such-compiler -m64")
    with pytest.raises(DependencyError, match=r"tried no-such-compiler; install one"):
        opened(images[1])


def test_a_compiler_that_fails_leaves_nothing_and_is_quoted(images, not_loaded, monkeypatch):
    monkeypatch.setenv("CXX", f"{sys.executable} -c 'raise SystemExit(chr(110) * 3)'")
    with pytest.raises(DependencyError, match=r"(?s)ended with 1; \$CXX chooses another\nnnn$"):
        opened(images[1])
    assert list(not_loaded.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(images, not_loaded):
    not_loaded.parent.write_text("a file")
    with pytest.raises(DependencyError, match=r"cannot be compiled: .*cache.*\$XDG_CACHE_HOME"):
        opened(images[1])


def test_a_damaged_file_of_the_cache_is_named(images, not_loaded, compiled_here):
    (good,) = compiled_here.iterdir()
    not_loaded.mkdir(parents=True)
    (not_loaded / good.name).write_bytes(good.read_bytes()[:100])
    with pytest.raises(DependencyError, match=f"cannot be loaded: .*remove .*{good.name}"):
        opened(images[1])


def test_it_is_compiled_once_for_all_processes(images, compiled_here):
    """With no compiler in a second process, whose library is not in the global scope either."""
    opened(images[1]).run(np.zeros((1, 3, 32, 32), np.float32))
    assert len(list(compiled_here.iterdir())) == 1
    program = (
        "import ctypes, os, pickle, sys; os.environ['PATH'] = ''\n"
        "from edgewright_runtime.engines import engine_named\n"
        "session = engine_named('executorch').open(pickle.load(sys.stdin.buffer), threads=2)\n"
        "import numpy; print(session.run(numpy.ones((3, 3, 32, 32), numpy.float32))['output'].shape)\n"
        "print(hasattr(ctypes.CDLL(None), 'edge_abi_version'), hasattr(ctypes.CDLL(None), 'xnn_initialize'))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(images[1]), capture_output=True, check=False)
    assert done.stdout.split(b"\n")[:2] == [b"(3, 10)", b"False False"], done.stderr.decode()
