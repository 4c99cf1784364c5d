"""The scores of a model on its held-out part, as tables, and the SQL that gives each again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from classifiers.model import Model
from classifiers.validation.metrics import Scores
from classifiers.validation.test_set import IMAGE

if TYPE_CHECKING:
    from classifiers.train import TrainSummary
    from classifiers.validation.compare import Comparison

#: Row of the scores over all classes.
ALL = "all"


@dataclass(frozen=True)
class Answer:
    """Rows of a named query with these parameters, and the SQL that gives them again."""

    query: str
    parameters: Mapping[str, str | float]
    rows: pa.Table
    sql: str


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on its held-out part.

    Attributes
    ----------
    scores : by least probability, 0 for every prediction.
    split : what the held-out part was kept apart by, and `held_out` its nights.
    n_held_out : CCD images scored.
    answers : by query, at least probability 0 where it takes one.
    at_cut : those of the queries that take a least probability, at the greatest one.
    exposures : scores of the votes by class, and of good or bad; None where nothing has voted.
    seeds : the same classifier on other splits; None where that was not asked for.
    n_unreadable : images of mistakes that the report could not show.
    """

    model: Model
    scores: dict[float, Scores]
    split: str
    held_out: tuple[str, ...]
    n_held_out: int
    answers: Mapping[str, Answer]
    at_cut: Mapping[str, Answer]
    exposures: tuple[Scores, Scores] | None
    seeds: Comparison | None = None
    n_unreadable: int = 0

    @property
    def cut(self) -> float:
        """The greatest least probability."""
        return max(self.scores)

    @property
    def brier(self) -> float:
        """Mean squared distance of the probabilities from the truth, 0 (best) to 2."""
        return float(self._own("score_summary")["brier"])

    @property
    def calibration(self) -> pa.Table:
        """By bin of the decided class's probability: predictions, its mean, share right."""
        return self.answers["score_calibration"].rows

    @property
    def any_bad(self) -> dict[str, Any]:
        """Precision, recall and counts of good or bad, whatever class."""
        return next(
            row for row in self.answers["score_groups"].rows.to_pylist() if row["part"] == ALL
        )

    @property
    def leak(self) -> float | None:
        """How much better a split by image makes the accuracy look; None where it is the split."""
        rows = {row["split"]: row for row in self.answers["score_summary"].rows.to_pylist()}
        if self.split == IMAGE or IMAGE not in rows:
            return None
        return float(rows[IMAGE]["accuracy"] - rows[self.split]["accuracy"])

    def table(self) -> pa.Table:
        """Return one row per cut and class, and one over all classes."""
        return _table([(self.split, self.scores)])

    def confusion(self, min_probability: float = 0.0) -> pa.Table:
        """Return the confusion counts, a row per true class."""
        counts = self.scores[min_probability].confusion
        columns: dict[str, list] = {"class": list(self.model.classes)}
        for index, name in enumerate(self.model.classes):
            columns[f"as {name}"] = counts[:, index].tolist()
        return pa.table(columns)

    def _own(self, query: str) -> dict[str, Any]:
        rows = self.answers[query].rows.to_pylist()
        return next(row for row in rows if row["split"] == self.split)


def score_table(summary: TrainSummary) -> pa.Table:
    """Return the scores of a training, by split, cut and class: the leak in two lines."""
    split = str(summary.model.card["split"]["by"])
    splits = [(split, summary.scores)]
    if split != IMAGE:
        splits.append((IMAGE, summary.image_scores))
    return _table(splits)


def _table(splits: Sequence[tuple[str, dict[float, Scores]]]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for split, scores in splits:
        for cut, value in scores.items():
            common = {"split": split, "min_probability": cut, "coverage": value.coverage}
            for one in value.classes:
                rows.append(
                    {
                        **common,
                        "class": one.name,
                        "precision": one.precision,
                        "recall": one.recall,
                        "f1": one.f1,
                        "support": one.support,
                        **_interval("precision", one.precision_interval),
                        **_interval("recall", one.recall_interval),
                        **_interval("f1", one.f1_interval),
                    }
                )
            rows.append(
                {
                    **common,
                    "class": ALL,
                    "precision": value.accuracy,
                    "recall": value.accuracy,
                    "f1": value.macro_f1,
                    "support": int(value.confusion.sum()),
                    **_interval("precision", value.accuracy_interval),
                    **_interval("recall", value.accuracy_interval),
                    **_interval("f1", value.macro_f1_interval),
                }
            )
    names = ["split", "min_probability", "class", "precision", "precision_low", "precision_high"]
    names += ["recall", "recall_low", "recall_high", "f1", "f1_low", "f1_high"]
    names += ["support", "coverage"]
    return pa.table(
        {
            name: [
                # A score that is undefined is null, not a number.
                None if isinstance(cell := row.get(name), float) and np.isnan(cell) else cell
                for row in rows
            ]
            for name in names
        }
    )


def _interval(name: str, bounds: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": bounds[0], f"{name}_high": bounds[1]}
