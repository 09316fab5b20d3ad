"""Sessions: inputs by position, name or dict; every mistake told at once; silent, quick to import, no torch."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pil

import sdk
from device_profiles.errors import DependencyError, InputError, OptionError, RuntimeFailure
from edgewright_runtime.bundle import Bounds, Entry, Lowered, TensorSpec
from edgewright_runtime.session import Session
from tests.tiny_bundle import LABELS, make_tiny_bundle

IMPORT_LIMIT_S, ROUNDS = 0.3, 5
HEAVY = {"torch", "onnx", "onnxscript", "onnxruntime", "executorch", "ai_edge_litert", "litert_torch", "tensorflow"}
STATIC = TensorSpec("image", "float32", (1, 3, 4, 4), {}, "image")
IDS = TensorSpec("ids", "int64", (1, "n"), {"n": Bounds(1, 8)}, "ids")
MASK = TensorSpec("mask", "bool", (1, "n"), {"n": Bounds(1, 8)}, "mask")


class Echo(Session):
    """An engine that hands its inputs back."""

    def _run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        assert all(array.flags.c_contiguous for array in arrays)
        return arrays


def echo(*specs: TensorSpec) -> Echo:
    entries = {"main": Entry("model.bin", specs, specs)}
    lowered = Lowered(Path("."), "onnx", "echo", ("model.bin",), entries, {}, {})
    return Echo(lowered, engine="echo", engine_version="1", threads=1)


def ids(n: int = 3) -> np.ndarray:
    return np.arange(n, dtype=np.int64)[None]


def mask(n: int = 3) -> np.ndarray:
    return np.ones((1, n), bool)


def mistakes(session: Session, *args: Any, **named: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        session.run(*args, **named)
    problems, _, expected = str(caught.value).partition("\nexpected ")
    assert expected == "; ".join(map(str, session.inputs))
    return problems.split("; ")


# Binding.


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.run(ids(), mask()),
        lambda s: s.run(ids(), mask=mask()),
        lambda s: s.run(ids=ids(), mask=mask()),
        lambda s: s.run(mask=mask(), ids=ids()),
        lambda s: s.run({"ids": ids(), "mask": mask()}),
        lambda s: s.run({"ids": ids()}, mask=mask()),
    ],
    ids=["positional", "mixed", "named", "named in another order", "dict", "dict and named"],
)
def test_ways_to_pass_inputs(call: Callable[[Session], dict[str, np.ndarray]]) -> None:
    results = call(echo(IDS, MASK))
    assert list(results) == ["ids", "mask"]
    assert np.array_equal(results["ids"], ids())
    assert np.array_equal(results["mask"], mask())


def test_lists_count_as_arrays_where_numpy_reads_the_right_dtype() -> None:
    assert echo(IDS).run([[1, 2, 3]])["ids"].dtype == np.int64


def test_views_are_made_contiguous_and_stay_unchanged() -> None:
    view = np.arange(96, dtype=np.float32).reshape(4, 4, 6, 1).T[:, :3, :, :]
    assert not view.flags.c_contiguous
    before = view.copy()
    assert np.array_equal(echo(STATIC).run(view)["image"], before)
    assert np.array_equal(view, before)


def test_scalars_stay_scalars() -> None:
    assert echo(TensorSpec("x", "float32", (), {}, "x")).run(np.float32(3))["x"].shape == ()


def test_read_only_arrays_are_taken() -> None:
    array = ids()
    array.flags.writeable = False
    assert echo(IDS).run(array)["ids"].tolist() == [[0, 1, 2]]


def test_a_model_without_inputs_runs() -> None:
    assert echo().run() == {}
    assert echo().run({}) == {}
    with pytest.raises(InputError, match="expected no inputs"):
        echo().run(1)


@pytest.mark.parametrize("n", [1, 8])
def test_dynamic_sizes_up_to_their_bounds(n: int) -> None:
    assert echo(IDS, MASK).run(ids(n), mask(n))["ids"].shape == (1, n)


# Mistakes, all at once.


def test_wrong_dtype() -> None:
    assert mistakes(echo(IDS), ids().astype(np.int32)) == ["'ids' has dtype int32, expected int64"]


@pytest.mark.parametrize("dtype", [">i8", "float64", "object", "uint64", "<U3", "M8[s]"])
def test_no_dtype_is_converted_silently(dtype: str) -> None:
    (problem,) = mistakes(echo(IDS), np.zeros((1, 3), dtype))
    assert problem.startswith("'ids' has dtype")


@pytest.mark.parametrize("shape", [(), (3,), (3, 4, 4), (1, 3, 4, 5), (2, 3, 4, 4), (1, 3, 4, 4, 1), (1, 3, 0, 4)])
def test_wrong_shape(shape: tuple[int, ...]) -> None:
    (problem,) = mistakes(echo(STATIC), np.zeros(shape, np.float32))
    assert problem == f"'image' has shape {shape}, expected image: float32[1, 3, 4, 4]"


@pytest.mark.parametrize("n", [0, 9])
def test_sizes_beyond_their_bounds(n: int) -> None:
    (problem,) = mistakes(echo(IDS), ids(n))
    assert problem == f"'ids' has shape (1, {n}), expected ids: int64[1, n=1..8]"


def test_one_dimension_has_one_size() -> None:
    assert mistakes(echo(IDS, MASK), ids(3), mask(4)) == ["dimension 'n' is 3 and 4 at once"]


def test_missing_unknown_twice_and_too_many() -> None:
    session = echo(IDS, MASK)
    assert mistakes(session) == ["'ids' is missing", "'mask' is missing"]
    assert mistakes(session, ids()) == ["'mask' is missing"]
    assert mistakes(session, ids(), maks=mask()) == ["no input 'maks'", "'mask' is missing"]
    assert mistakes(session, ids(), mask(), mask()) == ["3 positional inputs, the model takes 2"]
    assert mistakes(session, ids(), mask(), ids=ids()) == ["'ids' is given twice"]
    assert mistakes(session, {"ids": ids(), "mask": mask()}, ids=ids()) == ["'ids' is given twice"]
    assert mistakes(session, {"ids": ids(), 3: mask()}) == ["no input 3", "'mask' is missing"]


def test_names_dtypes_and_shapes_are_told_together() -> None:
    found = mistakes(echo(IDS, MASK, STATIC), ids(9), ids=1.5, maks=3, image=np.zeros(2))
    assert found[:3] == ["'ids' is given twice", "no input 'maks'", "'mask' is missing"]
    assert "'image' has dtype float64, expected float32" in found
    assert any(problem.startswith("'image' has shape (2,)") for problem in found)
    assert any(problem.startswith("'ids' has dtype") for problem in found)


class Stubborn:
    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise RuntimeError("it requires grad")


@pytest.mark.parametrize(("value", "why"), [([[1, 2], [3]], "inhomogeneous"), (Stubborn(), "it requires grad")])
def test_what_is_no_array(value: Any, why: str) -> None:
    found = mistakes(echo(IDS, MASK), value)
    assert found[0] == "'mask' is missing"
    assert found[1].startswith("'ids' cannot be read as an array")
    assert why in found[1]


@pytest.mark.parametrize("value", [None, "a photo.jpg", object(), {}])
def test_other_things_are_input_errors(value: Any) -> None:
    assert mistakes(echo(STATIC), image=value)


# A real engine.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="the tiny bundle is made with onnx")
    pytest.importorskip("onnxruntime", reason="the tiny bundle runs in onnxruntime")
    return make_tiny_bundle(tmp_path_factory.mktemp("sealed"))


@pytest.fixture
def session(bundle: Path) -> Iterator[Session]:
    with sdk.load(bundle) as opened:
        yield opened


PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_a_session_says_what_it_is(session: Session, bundle: Path) -> None:
    assert [str(spec) for spec in session.inputs] == ["image: float32[1, 3, 8, 8]"]
    assert [str(spec) for spec in session.outputs] == ["logits: float32[1, 4]"]
    assert (session.engine, session.threads) == ("onnxruntime", 1)
    assert repr(session).startswith("<Session onnxruntime ")
    assert session.manifest is not None


def test_a_path_may_be_text(bundle: Path) -> None:
    with sdk.load(str(bundle)) as one, sdk.load(bundle) as other:
        image = np.ones((1, 3, 8, 8), np.float32)
        assert np.array_equal(one.run(image)["logits"], other.run(image=image)["logits"])


@pytest.mark.parametrize("threads", [1, 2, np.iinfo(np.int8).max])
def test_threads_of_the_callers_choice(bundle: Path, threads: int) -> None:
    with sdk.load(bundle, threads=threads) as opened:
        assert opened.threads == threads


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True, np.int64(2), [1]])
def test_threads_that_are_no_positive_integer(bundle: Path, threads: Any) -> None:
    with pytest.raises(InputError, match="threads must be a positive integer"):
        sdk.load(bundle, threads=threads)


def test_the_recipe_asks_for_no_more_threads_than_there_are(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgewright_runtime.session.cpu_count", lambda: None)
    with sdk.load(bundle) as opened:
        assert opened.threads == 1


def test_a_session_that_was_closed_does_not_run(bundle: Path) -> None:
    with sdk.load(bundle) as opened:
        pass
    with pytest.raises(RuntimeFailure):
        opened.run(np.zeros((1, 3, 8, 8), np.float32))


def test_values_that_are_no_numbers_go_through(session: Session) -> None:
    assert np.isnan(session.run(np.full((1, 3, 8, 8), np.nan, np.float32))["logits"]).any()


# Photos.


def test_classify_ranks_all_labels(session: Session) -> None:
    found = session.classify(PHOTO)
    assert {row.label for row in found} == set(LABELS)
    assert [row.score for row in found] == sorted((row.score for row in found), reverse=True)
    assert sum(row.score for row in found) == pytest.approx(1)
    assert found == session.classify(pil.fromarray(PHOTO))


def test_classify_takes_a_path(session: Session, tmp_path: Path) -> None:
    pil.fromarray(PHOTO).save(tmp_path / "photo.png")
    assert session.classify(tmp_path / "photo.png") == session.classify(str(tmp_path / "photo.png"))
    assert session.classify(tmp_path / "photo.png") == session.classify(PHOTO)


@pytest.mark.parametrize("top_k", [1, 2, 4, 100])
def test_classify_gives_so_many(session: Session, top_k: int) -> None:
    assert session.classify(PHOTO, top_k=top_k) == session.classify(PHOTO)[:top_k]


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "1"])
def test_classify_refuses_another_number(session: Session, top_k: Any) -> None:
    with pytest.raises(OptionError, match="top_k"):
        session.classify(PHOTO, top_k=top_k)


@pytest.mark.parametrize("photo", ["missing.jpg", None, 3, PHOTO[..., 0], PHOTO / 255, np.zeros((0, 3, 3), np.uint8)])
def test_classify_refuses_what_is_no_photo(session: Session, photo: Any) -> None:
    with pytest.raises(InputError, match="photo"):
        session.classify(photo)


def test_a_bundle_without_preprocess_says_how_to_go_on(bundle: Path, tmp_path: Path) -> None:
    with (
        sdk.load(make_tiny_bundle(tmp_path, preprocess=False)) as opened,
        pytest.raises(InputError, match=r"preprocess=sdk\.Image.*use run\(\)"),
    ):
        opened.classify(PHOTO)


def test_a_bundle_without_labels_gives_numbers(bundle: Path, tmp_path: Path) -> None:
    with sdk.load(make_tiny_bundle(tmp_path, labels=())) as opened, sdk.load(bundle) as labelled:
        found, named = opened.classify(PHOTO), labelled.classify(PHOTO)
        assert [row.label for row in found] == [str(row.index) for row in found]
        assert [row.index for row in found] == [row.index for row in named]


@pytest.mark.parametrize(
    "odd", ["vertical\vtab", "form\ffeed", "next\x85line", "line\u2028separator", "return\rx", "", " x ", "x\x1cy"]
)
def test_labels_may_hold_anything_but_a_line_feed(bundle: Path, tmp_path: Path, odd: str) -> None:
    labels = (odd, "b", "c", odd)
    with sdk.load(make_tiny_bundle(tmp_path, labels=labels)) as opened:
        assert all(row.label == labels[row.index] for row in opened.classify(PHOTO))


def test_a_session_of_unsealed_files_cannot_classify() -> None:
    with pytest.raises(InputError, match="preprocess"):
        echo(STATIC).classify(PHOTO)


def test_an_engine_that_refuses_the_file_is_a_runtime_failure(bundle: Path, tmp_path: Path) -> None:
    from edgewright_runtime.bundle.seal import open_bundle
    from edgewright_runtime.engines import engine_named

    lowered = open_bundle(bundle).lowered
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    broken = Lowered(tmp_path, "onnx", "onnxruntime", ("model.onnx",), lowered.entries, {}, {})
    with pytest.raises(RuntimeFailure, match="onnxruntime .* cannot open the model"):
        engine_named("onnxruntime").open(broken, threads=1)


def test_every_engine_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright_runtime import engines

    monkeypatch.setattr(engines, "installed", lambda package: None)
    monkeypatch.setattr("importlib.metadata.version", lambda package: None)
    for name in set(engines.ENGINES) - {"native"}:
        with pytest.raises(DependencyError, match=r"is not installed; pip install \"edgewright\[\w+\]\""):
            engines.engine_named(name)


def test_the_native_engine_without_its_library_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from edgewright_runtime import engines

    monkeypatch.setenv("EDGEWRIGHT_LIBRARY", str(tmp_path / "libedgewright.so"))
    with pytest.raises(DependencyError, match=r"libedgewright\.so is not beside the package; .*pip install"):
        engines.engine_named("native")


# In a process of its own.


def python(code: str, *options: str) -> str:
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_importing_the_sdk_prints_nothing_and_pulls_nothing_heavy() -> None:
    code = "import sdk, sys, json; json.dump(sorted(m.partition('.')[0] for m in sys.modules), sys.stdout)"
    found = set(json.loads(python(code, "-W", "error")))
    assert "sdk" in found
    assert not found & (HEAVY | {"numpy", "PIL", "cattrs"})


def test_using_the_names_of_the_sdk_pulls_no_framework() -> None:
    code = (
        "import sdk, sys, json; [getattr(sdk, name) for name in sdk.__all__]; "
        "json.dump(sorted({m.partition('.')[0] for m in sys.modules}), sys.stdout)"
    )
    assert not set(json.loads(python(code, "-W", "error"))) & HEAVY


def test_loading_and_running_an_onnx_bundle_pulls_no_torch_and_prints_nothing(bundle: Path, tmp_path: Path) -> None:
    pil.fromarray(PHOTO).save(tmp_path / "photo.png")
    code = f"""
import json, sys
import numpy as np
import sdk
session = sdk.load({str(bundle)!r})
assert session.run(np.zeros((1, 3, 8, 8), np.float32))["logits"].shape == (1, 4)
assert len(session.classify({str(tmp_path / "photo.png")!r})) == 4
session.close()
with open({str(tmp_path / "modules.json")!r}, "w") as file:
    json.dump(sorted({{m.partition(".")[0] for m in sys.modules}}), file)
"""
    assert python(code, "-W", "error") == ""
    found = set(json.loads((tmp_path / "modules.json").read_text()))
    assert found & HEAVY == {"onnxruntime"}


def test_a_failing_run_prints_nothing(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with sdk.load(bundle) as opened, pytest.raises(InputError):
        opened.run(np.zeros((1, 3, 8, 9), np.float32))
    assert capfd.readouterr() == ("", "")


def test_opening_and_running_print_nothing(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with sdk.load(bundle, threads=64) as opened:
        opened.run(np.zeros((1, 3, 8, 8), np.float32))
        opened.classify(PHOTO)
    assert capfd.readouterr() == ("", "")


def self_seconds(module: str) -> float:
    """Seconds that importing a module adds, by Python's own account."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"], capture_output=True, text=True, check=True
    )
    rows = [line.split("|") for line in done.stderr.splitlines()]
    cumulative = {row[2].strip(): row[1] for row in rows if len(row) == 3}
    return int(cumulative[module]) / 1e6


def test_importing_the_sdk_is_quick() -> None:
    assert statistics.median(self_seconds("sdk") for _ in range(ROUNDS)) < IMPORT_LIMIT_S


def test_the_sdk_can_be_imported_with_closed_streams() -> None:
    code = "import os; os.close(1); os.close(2); import sdk; sdk.devices()"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0


def test_an_engine_that_is_too_old_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright_runtime import engines

    monkeypatch.setattr(engines, "installed", lambda package: "1.9.4")
    with pytest.raises(sdk.DependencyError, match=r"1\.10\.0 or newer, 1\.9\.4 is installed; pip install -U"):
        sdk.load(bundle)
