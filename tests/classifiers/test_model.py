"""Models of earlier days stay readable."""

from __future__ import annotations

from importlib import import_module

import pytest

from classifiers.estimators.registry import TYPES
from classifiers.model import _FORMER_NAMES


@pytest.mark.parametrize("name", sorted({*TYPES, *_FORMER_NAMES.values()}))
def test_every_type_that_a_model_file_names_is_there(name: str) -> None:
    """A type that moves leaves every saved model unreadable, unless its old name is kept."""
    module, _, kind = name.rpartition(".")
    assert getattr(import_module(module), kind).__module__ == module
    assert name in TYPES
