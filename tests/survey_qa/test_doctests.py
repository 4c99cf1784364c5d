"""Every example in the public API's documentation runs, and gives what it says."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import survey_qa
from survey_qa.opened import Result, SurveyLake

#: Names whose homes document them: the specs and the errors.
ERRORS = {"BadInput", "Conflict", "Damaged", "NotFound", "SurveyError"}
ELSEWHERE = {"ClassifierSpec", "Features", "SampleSpec", "SplitSpec", *ERRORS}


def documented() -> Iterator[tuple[str, Any]]:
    """Yield (name, object) of everything public that ``survey_qa`` itself defines."""
    yield "survey_qa", survey_qa
    for name in survey_qa.__all__:
        thing = getattr(survey_qa, name)
        if name in ELSEWHERE:
            continue
        yield name, thing
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                if not method.startswith("_") and callable(function):
                    yield f"{name}.{method}", function


EXAMPLES = {name: thing for name, thing in documented() if ">>>" in (thing.__doc__ or "")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, folder: Path) -> None:
    given = {
        "survey_qa": survey_qa,
        "lake": survey_qa.open("survey.lake"),
        "Result": Result,
        "pl": pl,
    }
    text = inspect.getdoc(EXAMPLES[name])
    assert text is not None and "+SKIP" not in text
    examples = doctest.DocTestParser().get_doctest(text, given, name, None, None)
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(examples, out=said.append)
    assert not said, "".join(said)
    assert examples.examples


def test_every_method_has_an_example() -> None:
    every = {name for name, _ in documented()}
    # They turn rows into what their names say; the class's own example shows it.
    plain = {"SurveyLake", "Result.to_arrow", "Result.to_polars"}
    assert every - set(EXAMPLES) == plain
    assert len([name for name in EXAMPLES if name.startswith("SurveyLake.")]) >= 24
    assert SurveyLake.__doc__
