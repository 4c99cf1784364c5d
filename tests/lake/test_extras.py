"""What an extra brings is named where it is missing."""

from __future__ import annotations

import math

import pytest

from lake.errors import SurveyError
from lake.extras import import_extra


def test_a_library_that_is_there_is_given() -> None:
    assert import_extra("math", "x", "y") is math


def test_a_missing_one_says_what_to_install() -> None:
    expected = r"--engine ray needs no_such_library, .*pip install 'survey-qa\[ray\]'"
    with pytest.raises(SurveyError, match=expected):
        import_extra("no_such_library.part", "ray", "--engine ray")
