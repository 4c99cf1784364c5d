"""Exposure-level scores of a vote where the truth is known: on a simulated survey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from badlist.proposal import additions_from_votes
from classifiers.validation.metrics import ClassScore, Scores, score_decided
from lake.errors import BadInput, NotFound
from lake.store import Lake, read_file
from lake.vocabulary import Vocabulary

#: Edges of the bins of defect strength; 3 is where a defect counts as visible.
STRENGTHS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, np.inf)

_TRUTH = ("expnum", "night", "class", "strength", "visible")


@dataclass(frozen=True)
class ExposureScores:
    """What of the defects of some nights was found. An exposure is found when a line names it.

    Attributes
    ----------
    n_exposures, n_visible, n_found : exposures of the nights; those with a visible defect; found.
    n_visible_found : found with a visible defect.
    n_faint_found : found with a defect below what counts as visible.
    n_false : found without any defect.
    classes : precision, recall and F1 by class, with intervals over nights, and support; a faint
        exposure is left out of them.
    strengths : by bin of strength: exposures, found, recall.
    """

    n_exposures: int
    n_visible: int
    n_found: int
    n_visible_found: int
    n_faint_found: int
    n_false: int
    classes: tuple[ClassScore, ...]
    strengths: pa.Table

    @property
    def recall(self) -> float:
        """Share of the visibly bad exposures that was found."""
        return self.n_visible_found / self.n_visible if self.n_visible else np.nan

    @property
    def precision(self) -> float:
        """Share of the found exposures that have a defect, however faint."""
        return (self.n_found - self.n_false) / self.n_found if self.n_found else np.nan

    @property
    def precision_visible(self) -> float:
        """Share of the found exposures that have a visible defect: faint ones count as false."""
        return self.n_visible_found / self.n_found if self.n_found else np.nan

    def table(self) -> pa.Table:
        """Return one row per class."""
        rows = [
            {
                "class": one.name,
                "precision": _defined(one.precision),
                "recall": _defined(one.recall),
                "f1": _defined(one.f1),
                "support": one.support,
            }
            for one in self.classes
        ]
        return pa.Table.from_pylist(rows)


def score_exposures(
    lake: Lake,
    model: str,
    truth: Path,
    *,
    nights: Sequence[str] | None = None,
    ccd_probability: float | None = 0.9,
    camera: str = "decam",
) -> ExposureScores:
    """Compare what a model would put on the list with the truth of a simulated survey.

    Parameters
    ----------
    truth : ``truth-exposures.parquet`` of the simulator: a row per exposure, good ones included.
    nights : nights to score, YYYYMMDD; those with votes when None. Score nights that the model
        has not seen.
    ccd_probability : least probability of single CCDs, as for the list; None for whole exposures.

    Raises
    ------
    SurveyError : the model has not voted, or a truth without the columns or nights needed.
    """
    additions = additions_from_votes(lake, model, ccd_probability, camera)
    rows = _truth(truth, lake, model, nights, camera)
    voted: dict[int, str] = {}
    for partition in lake.partitions("votes", model=model, camera=camera):
        votes = lake.read("votes", dict(partition.keys), ["expnum", "class"])
        voted.update(zip(votes["expnum"].to_pylist(), votes["class"].to_pylist(), strict=True))
    listed = {addition.expnum for addition in additions}

    expnum = rows["expnum"].to_pylist()
    found = np.array([number in listed for number in expnum], dtype=bool)
    visible = np.array(rows["visible"].to_pylist(), dtype=bool)
    strength = np.array([value or 0.0 for value in rows["strength"].to_pylist()])
    bad = np.array([value != "good" for value in rows["class"].to_pylist()], dtype=bool)
    called = [
        voted.get(number, "good") if is_found else "good"
        for number, is_found in zip(expnum, found, strict=True)
    ]
    clear = visible | ~bad
    return ExposureScores(
        n_exposures=len(expnum),
        n_visible=int(visible.sum()),
        n_found=int(found.sum()),
        n_visible_found=int((found & visible).sum()),
        n_faint_found=int((found & bad & ~visible).sum()),
        n_false=int((found & ~bad).sum()),
        classes=_by_class(
            Vocabulary.of_lake(lake.root).classes,
            rows["class"].to_pylist(),
            called,
            rows["night"].cast(pa.string()).to_pylist(),
            clear,
        ).classes,
        strengths=_by_strength(strength[bad], found[bad]),
    )


def _truth(
    path: Path, lake: Lake, model: str, nights: Sequence[str] | None, camera: str
) -> pa.Table:
    if not path.is_file():
        raise NotFound(f"{path}: no such file; the simulator writes truth-exposures.parquet")
    rows = read_file(path)
    missing = [name for name in _TRUTH if name not in rows.column_names]
    if missing:
        raise BadInput(f"{path}: no column {', '.join(missing)}; not a truth of exposures")
    if nights is None:
        votes = lake.partitions("votes", model=model, camera=camera)
        nights = [partition["night"] for partition in votes]
    rows = rows.filter(pc.is_in(rows["night"].cast(pa.string()), pa.array(list(nights))))
    if not rows.num_rows:
        raise BadInput(f"{path}: knows none of the nights {', '.join(nights)}")
    return rows


def _by_class(
    order: Sequence[str],
    truth: Sequence[str],
    called: Sequence[str],
    night: Sequence[str],
    rows: np.ndarray,
) -> Scores:
    classes = tuple(name for name in order if name in truth or name in called)
    index = {name: place for place, name in enumerate(classes)}
    true = np.array([index[name] for name in truth])[rows]
    decided = np.array([index[name] for name in called])[rows]
    return score_decided(classes, true, decided, np.asarray(night)[rows])


def _by_strength(strength: np.ndarray, found: np.ndarray) -> pa.Table:
    place = np.digitize(strength, STRENGTHS) - 1
    n = np.bincount(place, minlength=len(STRENGTHS) - 1)
    hits = np.bincount(place[found], minlength=len(STRENGTHS) - 1)
    return pa.table(
        {
            "from": list(STRENGTHS[:-1]),
            "to": [None if np.isinf(edge) else edge for edge in STRENGTHS[1:]],
            "exposures": n.tolist(),
            "found": hits.tolist(),
            "recall": [hit / count if count else None for hit, count in zip(hits, n, strict=True)],
        }
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
