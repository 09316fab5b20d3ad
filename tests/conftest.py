"""Long tests first, so that two processes end at nearly the same time."""

from __future__ import annotations

import pytest

LONG = ("test_reference_models", "test_real_models", "test_export", "test_bad_input")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the order within a file."""
    items.sort(key=lambda item: item.path.stem not in LONG)
