"""Find the bad exposures of an imaging survey from Python: open a lake, ask it, run a stage.

>>> import survey_qa
>>> lake = survey_qa.open("survey.lake")
>>> lake.sql("select count(*) as n_exposures from exposures").to_polars().item()
20
>>> lake.table("ccds").select("night", "expnum", "fwhm").collect().height
1240

Everything that the command ``survey-qa`` does is a method of what `open` returns, and gives the
same. What goes wrong raises `SurveyError`, whose message is one line; its kinds are `NotFound`,
`BadInput`, `Conflict` and `Damaged`.

>>> try:
...     lake.model("none")
... except survey_qa.NotFound as error:
...     print(str(error).partition(" in ")[0])
no model 'none'
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifiers.estimators.spec import ClassifierSpec
    from classifiers.sample.features import Features
    from classifiers.sample.spec import SampleSpec
    from classifiers.validation.splits import SplitSpec
    from lake.errors import BadInput, Conflict, Damaged, NotFound, SurveyError
    from simulator.survey import SimulatedSurvey
    from survey_qa.opened import Result, SurveyLake

__all__ = [
    "BadInput",
    "ClassifierSpec",
    "Conflict",
    "Damaged",
    "Features",
    "NotFound",
    "Result",
    "SampleSpec",
    "SplitSpec",
    "SurveyError",
    "SurveyLake",
    "create",
    "open",
    "simulate",
]

#: Where each name comes from. They are imported when they are used: to import torch, scikit-learn
#: and DuckDB takes seconds.
_HOMES = {
    **dict.fromkeys(("BadInput", "Conflict", "Damaged", "NotFound"), "lake.errors"),
    "ClassifierSpec": "classifiers.estimators.spec",
    "Features": "classifiers.sample.features",
    "Result": "survey_qa.opened",
    "SampleSpec": "classifiers.sample.spec",
    "SplitSpec": "classifiers.validation.splits",
    "SurveyError": "lake.errors",
    "SurveyLake": "survey_qa.opened",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'survey_qa' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


def open(path: str | Path, create: bool = False) -> SurveyLake:
    """Open the lake at `path`, a folder.

    >>> survey_qa.open("survey.lake")
    SurveyLake('survey.lake')
    >>> survey_qa.open("nowhere.lake")
    Traceback (most recent call last):
    ...
    lake.errors.NotFound: no lake at nowhere.lake; make one with `survey-qa ingest ccds`, or ...

    Parameters
    ----------
    create : make it where there is none.

    Raises
    ------
    SurveyError : there is none, or `path` is a file.
    """
    from lake.store import Lake
    from survey_qa.opened import SurveyLake

    return SurveyLake(Lake(path, create=create))


def create(path: str | Path) -> SurveyLake:
    """Open the lake at `path`, and make it where there is none.

    >>> survey_qa.create("new.lake").status()
    shape: (0, 9)
    ...
    """
    return open(path, create=True)


def simulate(
    directory: str | Path,
    *,
    nights: int = 12,
    exposures_per_night: int = 14,
    ccd_size: tuple[int, int] = (128, 256),
    bands: Sequence[str] = ("g", "r", "z"),
    bad_fraction: float = 0.5,
    seed: int = 1,
    workers: int = 2,
) -> SimulatedSurvey:
    """Write a survey with known defects: images, a CCD table, lists with errors, and the truth.

    Run again with the same settings, images that are there stay.

    >>> survey = survey_qa.simulate(
    ...     "survey", nights=5, exposures_per_night=4, ccd_size=(32, 64), bands=["g", "r"]
    ... )
    >>> survey.n_exposures, survey.ccd_table.name, survey.decam_list.name
    (20, 'survey-ccds-sim.fits.gz', 'decam-bad_expid.txt')

    Parameters
    ----------
    ccd_size : width and height of a CCD in pixels; DECam's are 2046 x 4094.
    bad_fraction : share of the exposures that have a defect.
    workers : processes that draw.

    Raises
    ------
    SurveyError : a folder that cannot be written, or that holds something else.
    """
    from simulator.conditions import Settings
    from simulator.survey import simulate

    settings = Settings(
        n_nights=nights,
        exposures_per_night=exposures_per_night,
        nx=ccd_size[0],
        ny=ccd_size[1],
        bands=tuple(bands),
        bad_fraction=bad_fraction,
    )
    return simulate(Path(directory), settings, seed, workers)
