"""Folders are layers and imports point down; every row of a table has its file; user files shadow nothing."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "device_profiles": ROOT / "device_profiles",
    "edgewright_runtime": ROOT / "runtime" / "edgewright_runtime",
    "edgewright_export": ROOT / "export" / "edgewright_export",
    "sdk": ROOT / "sdk",
}
"""From the bottom up: a layer may import itself and those before it."""
ORDER = list(LAYERS)
TORCH = {"torch", "torchao", "torchvision"}
LOADS_TORCH = "edgewright_runtime/engines/executorch.py"
"""The one file below ``edgewright_export`` that imports torch, inside a function: the bindings take its tensors."""
LOADS_ONNX = "edgewright_runtime/onnx_backend.py"
"""The one file below ``edgewright_export`` that imports onnx: ONNX's own tests call it."""
AHEAD_OF_TIME = {"onnx", "onnxscript", "litert_torch", "ai_edge_quantizer", "executorch.exir", "executorch.backends"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "shared", "stuff", "tools", "lib", "base"}
ON_BOARD = "sdk/deploy/board/edge_run.py"
"""Runs alone on the board, with the standard library of Python 3.6."""


def sources() -> list[tuple[str, Path]]:
    return [(layer, path) for layer, folder in LAYERS.items() for path in sorted(folder.rglob("*.py"))]


def label(layer: str, path: Path) -> str:
    return f"{layer}/{path.relative_to(LAYERS[layer]).as_posix()}"


SOURCES = sources()
IDS = [label(layer, path) for layer, path in SOURCES]
each_source = pytest.mark.parametrize(("layer", "path"), SOURCES, ids=IDS)


def module_name(layer: str, path: Path) -> str:
    parts = (layer, *path.relative_to(LAYERS[layer]).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def is_for_types(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


class Imports(ast.NodeVisitor):
    """Every absolute module name that a file imports, with where it does so."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.depth = 0
        self.for_types = False
        self.found: list[tuple[str, bool, bool]] = []

    def visit_If(self, node: ast.If) -> None:
        before, self.for_types = self.for_types, self.for_types or is_for_types(node)
        for child in node.body:
            self.visit(child)
        self.for_types = before
        for child in node.orelse:
            self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            above = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
        for alias in node.names:
            self._add(f"{base}.{alias.name}")

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            self._add(str(node.args[0].value))
        self.generic_visit(node)

    def _add(self, name: str) -> None:
        self.found.append((name, self.depth > 0, self.for_types))


def imports(layer: str, path: Path) -> Iterator[tuple[str, bool, bool]]:
    """(module, inside a function, only for types)"""
    name = module_name(layer, path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    visitor = Imports(package)
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    yield from visitor.found


def under(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_layers_are_there() -> None:
    assert all((folder / "__init__.py").is_file() for folder in LAYERS.values())
    assert len(SOURCES) > 40


@each_source
def test_imports_point_down(layer: str, path: Path) -> None:
    above = set(ORDER[ORDER.index(layer) + 1 :])
    upward = [name for name, _, _ in imports(layer, path) if under(name, above)]
    assert upward == []


@each_source
def test_torch_is_imported_in_the_ahead_of_time_half_only(layer: str, path: Path) -> None:
    if layer == "edgewright_export":
        return
    runs = [(name, inside) for name, inside, for_types in imports(layer, path) if not for_types]
    found = [(name, inside) for name, inside in runs if under(name, TORCH)]
    if label(layer, path) == LOADS_TORCH:
        assert found == [("torch", True)]
    else:
        assert found == []


@each_source
def test_converters_are_imported_in_the_ahead_of_time_half_only(layer: str, path: Path) -> None:
    found = {name.split(".")[0] for name, _, _ in imports(layer, path) if under(name, AHEAD_OF_TIME)}
    if layer != "edgewright_export":
        assert found == ({"onnx"} if label(layer, path) == LOADS_ONNX else set())


@each_source
def test_tests_and_apps_are_never_imported(layer: str, path: Path) -> None:
    assert [name for name, _, _ in imports(layer, path) if under(name, {"tests", "apps"})] == []


@each_source
def test_files_are_named_after_a_thing(layer: str, path: Path) -> None:
    assert path.stem not in VAGUE
    assert not VAGUE & set(path.relative_to(LAYERS[layer]).parts)


def test_tests_are_named_after_a_thing_too() -> None:
    assert [path.name for path in (ROOT / "tests").rglob("*.py") if path.stem in VAGUE] == []


def test_the_board_runner_needs_nothing_of_ours() -> None:
    path = ROOT / ON_BOARD
    assert [name for name, _, _ in imports("sdk", path) if under(name, set(ORDER))] == []


@pytest.mark.parametrize("name", ["utils.py", "helpers/x.py"])
def test_the_name_rule_would_notice(name: str, tmp_path: Path) -> None:
    assert VAGUE & {Path(name).stem, *Path(name).parts}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import sdk", "sdk"),
        ("from sdk.bundle import Bundle", "sdk.bundle.Bundle"),
        ("def f():\n    import torch.nn as nn", "torch.nn"),
        ("async def f():\n    from torch import nn", "torch.nn"),
        ("from importlib import import_module\nimport_module('torch')", "torch"),
        ("from . import place", "a.b.place"),
        ("from .. import place", "a.place"),
        ("from ..c.d import e", "a.c.d.e"),
        ("try:\n    import torch\nexcept ImportError:\n    pass", "torch"),
    ],
)
def test_the_import_rule_would_notice(code: str, name: str) -> None:
    visitor = Imports("a.b")
    visitor.visit(ast.parse(code))
    assert name in [found for found, _, _ in visitor.found]


# __init__ files.


def public_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return {name for name in names if not name.startswith("_")} - {"annotations"}


@pytest.mark.parametrize(
    ("layer", "path"), [(layer, path) for layer, path in SOURCES if path.name == "__init__.py"],
    ids=[name for name in IDS if name.endswith("__init__.py")],
)  # fmt: skip
def test_init_files_export_what_they_list(layer: str, path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "every package says what it is"
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" and layer != "sdk"
    ]
    for names in listed:
        assert len(set(names)) == len(names)
        assert set(names) == public_names(tree)


@pytest.mark.parametrize("name", ["device_profiles", "edgewright_runtime", "edgewright_runtime.bundle", "sdk"])
def test_everything_that_is_listed_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert all(getattr(module, listed) is not None for listed in getattr(module, "__all__", ()))


# Tables.


def table(path: Path, name: str) -> dict[str, str]:
    """A literal table, read without importing what it names: the first text of each row by its key."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if [ast.unparse(target) for target in targets] == [name]:
            rows = node.value
            assert isinstance(rows, ast.Dict), f"{name} is a literal dict"
            keys = [ast.literal_eval(key) for key in rows.keys if key is not None]
            assert len(set(keys)) == len(rows.keys), f"{name} has a name twice"
            return dict(zip(keys, map(first_text, rows.values), strict=True))
    raise AssertionError(f"{path} has no literal table {name}")


def first_text(row: ast.expr) -> str:
    return str(ast.literal_eval(row.args[0] if isinstance(row, ast.Call) else row))


def defined(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


EXPORT = LAYERS["edgewright_export"]
ENGINES = LAYERS["edgewright_runtime"] / "engines"
PASSES = EXPORT / "passes"
VERBS = LAYERS["sdk"] / "cli"


@pytest.mark.parametrize(("name", "folder"), [("TARGETS", "targets"), ("METHODS", "methods")])
def test_each_row_of_the_registry_has_its_file_and_class(name: str, folder: str) -> None:
    for row, where in table(EXPORT / "registry.py", name).items():
        module, _, attribute = where.partition(":")
        path = EXPORT / folder / f"{module}.py"
        assert path.is_file(), f"{name}[{row!r}] names {path.name}"
        assert attribute in defined(path)


def test_each_engine_has_its_file_and_class() -> None:
    for row, where in table(ENGINES / "__init__.py", "ENGINES").items():
        module, _, attribute = where.partition(":")
        assert module == row
        assert attribute in defined(ENGINES / f"{module}.py")


def test_each_pass_has_its_file_and_function() -> None:
    for row, module in table(PASSES / "__init__.py", "PASSES").items():
        assert module == row
        assert "run" in defined(PASSES / f"{module}.py")


def test_each_verb_has_its_file_and_command() -> None:
    rows = table(VERBS / "__init__.py", "VERBS")
    missing = [verb for verb in rows if not (VERBS / f"{verb.replace('-', '_')}.py").is_file()]
    assert missing == []
    assert all("command" in defined(VERBS / f"{verb.replace('-', '_')}.py") for verb in rows)


@pytest.mark.parametrize(
    ("folder", "rows"),
    [
        (ENGINES, table(ENGINES / "__init__.py", "ENGINES").values()),
        (PASSES, table(PASSES / "__init__.py", "PASSES").values()),
    ],
    ids=["engines", "passes"],
)
def test_each_file_has_its_row(folder: Path, rows: object) -> None:
    listed = {str(row).partition(":")[0] for row in rows}
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == listed


# Beside a user's own files.


@pytest.fixture
def users_folder(tmp_path: Path) -> Path:
    """A project with names that ours must not collide with: each complains when it is imported."""
    trap = 'raise SystemExit(f"{__file__} was imported")\n'
    for name in ("runtime", "export", "edgewright", "engines", "targets", "bundle", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(trap)
    for name in ("registry", "state", "capture", "session", "measure", "preprocess", "errors", "seal", "pack"):
        (tmp_path / f"{name}.py").write_text(trap)
    return tmp_path


def test_a_users_script_named_export_beside_a_folder_named_runtime(users_folder: Path, tmp_path: Path) -> None:
    (users_folder / "export").rename(users_folder / "exports")
    script = users_folder / "export.py"
    script.write_text(
        textwrap.dedent(
            """
            import sdk
            assert "raspberry-pi-5" in [profile.id for profile in sdk.devices()]
            sdk.load, sdk.Image, sdk.Session, sdk.Bundle
            try:
                sdk.load("missing.edge")
            except sdk.BundleError as error:
                print(error)
            """
        )
    )
    for place in (users_folder, users_folder / "exports", Path("/")):
        done = subprocess.run([sys.executable, str(script)], cwd=place, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "no bundle at missing.edge\n", "")


@pytest.mark.parametrize("where", ["working directory", "-m from the working directory"])
def test_the_worker_takes_no_module_from_the_working_directory(users_folder: Path, where: str) -> None:
    """Standard names as well: the worker's own modules and what it preloads come from the installation."""
    for name in ("json", "signal", "subprocess", "dataclasses", "edgewright_export", "sdk", "device_profiles", "trap"):
        (users_folder / f"{name}.py").write_text(f"open({str(users_folder / 'imported')!r}, 'a').write({name!r})\n")
    command = [sys.executable, "-P", "-m", "edgewright_export.worker", "trap", "json", "bundle"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=users_folder, env=environment, input="", capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (users_folder / "imported").exists()


def test_the_worker_is_started_that_way() -> None:
    text = (EXPORT / "worker.py").read_text(encoding="utf-8")
    assert '[sys.executable, "-P", "-m", f"{__package__}.worker"' in text
