"""Long tests first, so that two processes end at nearly the same time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module

import pytest

from edgewright_runtime import measure as timing
from edgewright_runtime.engines import ENGINES

LONG = ("test_reference_models", "test_real_models", "test_export", "test_bad_input", "test_quantized_targets")

for _where in ENGINES.values():  # before a test puts something in the place of what they import
    import_module(f"edgewright_runtime.engines.{_where.partition(':')[0]}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the order within a file."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="session", autouse=True)
def timed_for_a_moment() -> Iterator[None]:
    """Exports for this machine measure as many runs as they always do, but not for a whole second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "measure", partial(timing.measure, min_seconds=0.02))
        yield


@pytest.fixture
def no_speed_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantized modules are not timed, so that small ones do not stay float by chance."""
    for name in ("ptq", "qat"):
        monkeypatch.setattr(f"edgewright_export.methods.{name}.too_slow", lambda *_: None)
