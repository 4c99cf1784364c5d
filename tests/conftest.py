"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.store import Lake

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs; the test is skipped where a checkout has none beside it."""
    if not SHARED.is_dir():
        pytest.skip(f"no real inputs at ../shared/data beside the checkout ({SHARED.name})")
    return SHARED


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake."""
    return Lake(tmp_path / "survey.lake", create=True)
