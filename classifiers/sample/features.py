"""What a classifier is told of a CCD: vectors of which embedders, their context, table columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lake.errors import BadInput, NotFound
from lake.tables import TABLES

#: What a CCD's vector can be joined with: nothing (the paper), the median vector of its exposure
#: (a defect of the whole exposure shows on every CCD, one of a CCD against the others), or that
#: and the number of its band (what is usual depends on it).
CONTEXTS = ("none", "exposure", "band")

#: Columns that say what the labels say, or only which CCD it is: scores from them mean nothing.
_TELLTALE = ("expnum", "ccdnum", "image_hdu", "ccd_cuts")


@dataclass(frozen=True)
class Features:
    """Inputs of a classifier, in the order of `Layout`.

    Attributes
    ----------
    embedders : the first decides which CCDs there are (its rows with ``ccdnum`` > 0). The others
        are joined by (expnum, ccdnum), or by expnum where they have rows of whole exposures only
        (``ccdnum`` 0: ``focal-plane-…``). Beyond that their order is that of the values.
    context : one of `CONTEXTS`.
    columns : numeric columns of the table ``ccds``. What is null is filled in by the classifier.
    release : whose ``ccds`` rows are read first; CCDs that it lacks have those of the latest
        release that has them.

    Raises
    ------
    SurveyError : no embedder or one named twice, an unknown context, a column that is not numeric
        or would give the labels away.
    """

    embedders: tuple[str, ...]
    context: str = "none"
    columns: tuple[str, ...] = ()
    release: str | None = None

    def __post_init__(self) -> None:
        if not self.embedders:
            raise NotFound("no embedder to learn from; name one with --embedder")
        for option, names in (("--embedder", self.embedders), ("--columns", self.columns)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise BadInput(f"{option}: {', '.join(twice)} is named twice")
        if self.context not in CONTEXTS:
            raise BadInput(f"context {self.context!r}: choose one of {', '.join(CONTEXTS)}")
        types = {column.name: column.type for column in TABLES["ccds"].columns}
        for name in self.columns:
            if name in _TELLTALE:
                raise BadInput(
                    f"--columns {name}: it names the CCD or says what the labels say, so that "
                    "scores would mean nothing; leave it out"
                )
            check_numeric(name, types.get(name, pa.float32()))


def as_features(given: Features | str | Sequence[str], context: str = "none") -> Features:
    """Return what is learned from; names of embedders alone stand for their vectors in `context`.

    Raises `SurveyError` as `Features`.
    """
    if isinstance(given, Features):
        return given
    return Features((given,) if isinstance(given, str) else tuple(given), context)


@dataclass(frozen=True)
class Layout:
    """How many values of a feature vector are what, in this order.

    Attributes
    ----------
    ccd : the CCD's own vectors.
    exposure : vectors of its whole exposure.
    median : median of `ccd` over the CCDs of the exposure: as many, or 0.
    band : number of the band, 0 or 1.
    columns : columns of the CCD table, NaN where null.
    """

    ccd: int
    exposure: int = 0
    median: int = 0
    band: int = 0
    columns: int = 0

    @property
    def width(self) -> int:
        """Length of a feature vector."""
        return self.ccd + self.exposure + self.median + self.band + self.columns


def check_numeric(name: str, kind: pa.DataType) -> None:
    """Raise `SurveyError` when the values of a column of the CCD table are no numbers."""
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise BadInput(f"--columns {name}: its values are no numbers but {kind}; leave it out")
