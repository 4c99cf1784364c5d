"""Which classifier is fitted, and how its settings are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from classifiers.estimators.registry import CLASSIFIERS, CONTEXT, SPACES
from classifiers.sample.class_weight import NONE
from classifiers.sample.class_weight import parse as parse_class_weight
from lake.errors import BadInput

#: How settings are found: they are taken as they are, or `classifiers.validation.search`.
SEARCHES = ("none", "halving")


@dataclass(frozen=True)
class ClassifierSpec:
    """A classifier and how it is fitted.

    Attributes
    ----------
    name : one of `registry.CLASSIFIERS`; ``knn`` is the one of Luo et al. (2026), section 3.2.
    search : ``none`` for the default settings, which for ``knn`` are the optimum of section 3.2;
        ``halving`` to find better ones among `candidates` on the training side.
    candidates : settings that a search draws; 200 take minutes, and more found nothing better.
    class_weight : ``none`` for the sample's proportions, as published; ``balanced``, or shares
        such as ``good=0.97``, see `classifiers.sample.class_weight`.
    settings : of the classifier's space in `registry.SPACES`; None for the default ones.

    Raises
    ------
    SurveyError : a name, search, weight or setting that there is not, fewer than one candidate, or
        settings beside a search for them.
    """

    name: str = "knn"
    search: str = "none"
    candidates: int = 200
    class_weight: str = NONE
    settings: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("classifier", self.name, CLASSIFIERS),
            ("search", self.search, SEARCHES),
        ):
            if value not in known:
                raise BadInput(f"{what} {value!r}: choose one of {', '.join(known)}")
        if self.candidates < 1:
            raise BadInput(f"candidates {self.candidates}: give 1 or more")
        parse_class_weight(self.class_weight)
        if self.settings is None:
            return
        if self.is_searched:
            raise BadInput("settings are given and searched for: leave one out")
        for setting in self.settings:
            if setting not in (space := SPACES[self.name]):
                raise BadInput(
                    f"setting {setting!r} of {self.name}: choose among {', '.join(space)}"
                )

    @property
    def is_searched(self) -> bool:
        """Whether settings are searched for."""
        return self.search != "none"

    @property
    def context(self) -> str:
        """What a CCD's vector is joined with unless told otherwise, see `Features`."""
        return CONTEXT[self.name]
