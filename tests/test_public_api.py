"""The public surface: exactly what is listed, documented in full, and unable to grow by accident."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

import pytest

import sdk
from device_profiles.errors import EdgewrightError

ERRORS = [
    "BudgetError",
    "BundleError",
    "CaptureError",
    "DependencyError",
    "DeviceError",
    "EdgewrightError",
    "InputError",
    "LoweringError",
    "MethodError",
    "OptionError",
    "OutputError",
    "ParityError",
    "RuntimeFailure",
]
RECORDS = ["Bundle", "Classify", "Finding", "Image"]
FUNCTIONS = ["check", "device", "devices", "export", "load"]
EXPECTED = sorted([*ERRORS, *RECORDS, *FUNCTIONS, "Session", "methods"])
METHODS = ["PTQ", "QAT", "TokenDropping", "WeightSparsity"]
EXPORT_PARAMETERS = [
    "model",
    "device",
    "example_inputs",
    "dynamic_shapes",
    "format",
    "methods",
    "calibration",
    "train",
    "evaluate",
    "preprocess",
    "labels",
    "postprocess",
    "max_latency_s",
    "max_memory_bytes",
    "max_quality_drop",
    "output",
]
SESSION = ["classify", "close", "inputs", "outputs", "run", "sample_inputs"]
BUNDLE = [
    "device",
    "engine",
    "file_bytes",
    "format",
    "latency",
    "manifest",
    "memory_bytes",
    "methods",
    "open",
    "pack",
    "pack_weights",
    "parity",
    "path",
    "quality",
    "report",
    "sha256",
]
UNITS = ("_s", "_bytes", "_hz", "_mhz", "_db", "_drop")


def members(cls: type) -> dict[str, Any]:
    """Public methods and properties that a class defines itself."""
    return {name: value for name, value in vars(cls).items() if not name.startswith("_")}


def callables() -> dict[str, Callable[..., Any]]:
    """Every function and method that a user can call, by its name under ``sdk``."""
    found: dict[str, Callable[..., Any]] = {name: getattr(sdk, name) for name in FUNCTIONS}
    for name in (*RECORDS, "Session"):
        for member, value in members(getattr(sdk, name)).items():
            plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if inspect.isfunction(plain):
                found[f"{name}.{member}"] = plain
    return found


CALLABLES = callables()
each_callable = pytest.mark.parametrize("name", sorted(CALLABLES))


def section(text: str, title: str) -> str | None:
    """The indented block under ``Title:``, None without one."""
    match = re.search(rf"^( *){title}:\n((?:\1 +.*\n|\s*\n)+)", f"{inspect.cleandoc(text)}\n", re.MULTILINE)
    return match[2] if match else None


def documented(text: str, title: str) -> set[str]:
    """Names that a section explains: ``a: ...`` or ``a, b: ...`` at its first level."""
    block = section(text, title) or ""
    levels = [len(line) - len(line.lstrip()) for line in block.splitlines() if line.strip()]
    entries = [line for line in block.splitlines() if line.strip() and len(line) - len(line.lstrip()) == min(levels)]
    joined = " ".join(line.strip() for line in entries)
    heads = re.findall(r"((?:\w+, )*\w+):(?: |$)", joined)
    return {name for head in heads for name in head.split(", ")}


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(function).parameters)
    return {name: value for name, value in found.items() if name not in ("self", "cls")}


# What there is.


def test_the_list_of_names() -> None:
    assert sdk.__all__ == EXPECTED


def test_every_name_is_there_and_is_kept() -> None:
    for name in sdk.__all__:
        value = getattr(sdk, name)
        assert value.__name__.removeprefix("sdk.") == name
        assert getattr(sdk, name) is value


def test_dir_lists_the_public_names() -> None:
    assert dir(sdk) == EXPECTED


def test_a_star_import_brings_the_public_names() -> None:
    found: dict[str, Any] = {}
    exec("from sdk import *", found)
    assert set(found) - {"__builtins__"} == set(EXPECTED)


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert sdk.__version__ == version("edgewright")


@pytest.mark.parametrize("name", ["exprot", "Sesion", "", "_WHERES", "utils", "torch"])
def test_an_unknown_name_says_what_there_is(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(sdk, name)
    assert str(caught.value) == f"module 'sdk' has no attribute {name!r}; it has {', '.join(EXPECTED)}"
    assert not hasattr(sdk, name)


def test_methods_are_those_of_the_registry() -> None:
    assert sdk.methods.__all__ == dir(sdk.methods) == METHODS
    for name in METHODS:
        cls = getattr(sdk.methods, name)
        fields = {field.name for field in dataclasses.fields(cls)}
        assert cls.__dataclass_params__.frozen and fields <= documented(cls.__doc__ or "", "Args")
        assert cls() == cls() and hash(cls()) == hash(cls())
    with pytest.raises(AttributeError, match="'sdk.methods' has no attribute 'Quantise'; it has PTQ, QAT, TokenDropping"):
        sdk.methods.Quantise  # noqa: B018


def test_an_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="cannot import name 'exprot'"):
        from sdk import exprot  # noqa: F401


@pytest.mark.parametrize(("name", "expected"), [("Session", SESSION), ("Bundle", BUNDLE)])
def test_the_members_of_classes(name: str, expected: list[str]) -> None:
    cls = getattr(sdk, name)
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    assert sorted({*members(cls), *fields}) == expected


def test_errors_are_one_tree() -> None:
    found = {name: getattr(sdk, name) for name in sdk.__all__ if isinstance(getattr(sdk, name), type)}
    errors = {name: cls for name, cls in found.items() if issubclass(cls, BaseException)}
    assert sorted(errors) == ERRORS
    assert all(issubclass(cls, EdgewrightError) for cls in errors.values())
    assert sdk.EdgewrightError.__mro__[1] is Exception


def test_every_error_of_the_tree_is_public() -> None:
    known, left = set(), [EdgewrightError]
    while left:
        cls = left.pop()
        known.add(cls.__name__)
        left += [sub for sub in cls.__subclasses__() if sub.__module__.startswith(("device_profiles", "sdk"))]
    assert known == set(ERRORS)


# How it is called.


def test_the_parameters_of_export() -> None:
    found = parameters(sdk.export)
    assert list(found) == EXPORT_PARAMETERS
    kinds = [value.kind for value in found.values()]
    assert kinds[:2] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    assert set(kinds[2:]) == {inspect.Parameter.KEYWORD_ONLY}
    assert [value.default for value in found.values()][2:] == [None] * (len(found) - 2)


@each_callable
def test_options_are_keyword_only(name: str) -> None:
    found = parameters(CALLABLES[name]).values()
    positional = [value for value in found if value.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2
    assert all(value.default is inspect.Parameter.empty for value in positional)


@each_callable
def test_only_run_takes_any_keyword(name: str) -> None:
    kinds = {value.kind for value in parameters(CALLABLES[name]).values()}
    open_ended = {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL} & kinds
    assert bool(open_ended) == (name == "Session.run")


@each_callable
def test_everything_is_annotated(name: str) -> None:
    signature = inspect.signature(CALLABLES[name])
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(value.annotation is not inspect.Parameter.empty for value in parameters(CALLABLES[name]).values())


@pytest.mark.parametrize("name", RECORDS)
def test_options_and_results_are_frozen(name: str) -> None:
    cls = getattr(sdk, name)
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen


@pytest.mark.parametrize("name", ["Image", "Classify"])
def test_options_can_be_compared_and_hashed(name: str) -> None:
    cls = getattr(sdk, name)
    made = [cls(8) if name == "Image" else cls() for _ in range(2)]
    assert made[0] == made[1]
    assert hash(made[0]) == hash(made[1])


# What is written about it.


@pytest.mark.parametrize("name", EXPECTED)
def test_every_name_has_a_sentence(name: str) -> None:
    text = inspect.getdoc(getattr(sdk, name)) or ""
    first = text.partition("\n")[0]
    assert first.endswith((".", ":")), f"{name}: {first!r}"
    assert not first.startswith(f"{name}("), "a docstring, not the one that dataclass makes"
    assert len(first) <= 120


@each_callable
def test_every_function_has_a_sentence_and_explains_its_arguments(name: str) -> None:
    function = CALLABLES[name]
    text = function.__doc__ or ""
    assert text.strip(), name
    missing = set(parameters(function)) - documented(text, "Args")
    assert not missing or (name in SELF_EXPLAINING and missing == {"path"}), f"{name}: {missing}"


SELF_EXPLAINING = {"Bundle.open", "Bundle.report", "Bundle.pack"}
"""One path, which the first sentence is about."""


@each_callable
def test_every_function_that_raises_says_what(name: str) -> None:
    function = CALLABLES[name]
    if name in QUIET:
        return
    block = section(function.__doc__ or "", "Raises")
    assert block, name
    named = set(re.findall(r"\b[A-Z]\w*(?:Error|Failure)\b", block))
    assert named
    assert named <= set(ERRORS)


QUIET = {"devices", "Finding.lines", "Session.close", "Session.sample_inputs"}
"""What cannot fail."""


@each_callable
def test_every_function_says_what_comes_back(name: str) -> None:
    function = CALLABLES[name]
    hints = typing.get_type_hints(function) if name not in ("export", "check") else {}
    text = function.__doc__ or ""
    if hints.get("return") is type(None):
        return
    told = section(text, "Returns") is not None
    first = text.strip().partition("\n")[0]
    assert told or re.match(r"(The|Labels|All|Opens|Reads|Turns)\b", first), f"{name}: {first!r}"


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_is_explained(name: str) -> None:
    cls = getattr(sdk, name)
    fields = {field.name for field in dataclasses.fields(cls)}
    assert fields <= documented(cls.__doc__ or "", "Args")


@pytest.mark.parametrize("name", ["Bundle", "Session"])
def test_every_member_has_a_sentence(name: str) -> None:
    for member, value in members(getattr(sdk, name)).items():
        text = inspect.getdoc(value) or ""
        assert text, f"{name}.{member}"
        assert text.partition("\n")[0].endswith("."), f"{name}.{member}"


def test_quantities_carry_their_unit() -> None:
    limits = [name for name in EXPORT_PARAMETERS if name.startswith("max_")]
    assert all(name.endswith(UNITS) for name in limits)


def test_the_main_call_has_an_example() -> None:
    assert section(sdk.export.__doc__ or "", "Example")
    assert section(sdk.Session.run.__doc__ or "", "Example")
    assert section(sdk.Image.__doc__ or "", "Example")


def test_the_section_reader_would_notice() -> None:
    text = "One line.\n\nArgs:\n    a: Text\n        and b: more.\n    c, d: Both.\n\nReturns:\n    x: y.\n"
    assert documented(text, "Args") == {"a", "c", "d"}
    assert section(text, "Raises") is None
