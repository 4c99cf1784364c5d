"""Scores of a classification, all of them from confusion counts kept by night."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.sample.sample import Sample


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class; NaN where nothing was predicted (precision) or true (recall)."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    precision_interval: tuple[float, float] = (np.nan, np.nan)
    recall_interval: tuple[float, float] = (np.nan, np.nan)
    f1_interval: tuple[float, float] = (np.nan, np.nan)


@dataclass(frozen=True)
class Scores:
    """Scores of the predictions at or above a probability.

    Attributes
    ----------
    min_probability : the cut; 0 keeps every prediction.
    coverage : share of the predictions that pass the cut.
    accuracy : share of those that are right.
    macro_f1 : mean F1 over the classes that occur.
    accuracy_interval, macro_f1_interval : 95 %, from a bootstrap over nights.
    classes : scores by class, with 95 % intervals from a bootstrap over nights.
    confusion : counts (n_classes, n_classes), true class by row, predicted by column.
    """

    min_probability: float
    coverage: float
    accuracy: float
    macro_f1: float
    classes: tuple[ClassScore, ...]
    confusion: np.ndarray
    accuracy_interval: tuple[float, float] = (np.nan, np.nan)
    macro_f1_interval: tuple[float, float] = (np.nan, np.nan)

    def to_dict(self) -> dict:
        """Return what a model card holds: plain numbers, None where a score is undefined."""
        return {
            "min_probability": self.min_probability,
            "coverage": _plain(self.coverage),
            "accuracy": _plain(self.accuracy),
            "macro_f1": _plain(self.macro_f1),
            "accuracy_interval": [_plain(value) for value in self.accuracy_interval],
            "macro_f1_interval": [_plain(value) for value in self.macro_f1_interval],
            "classes": {
                score.name: {
                    "precision": _plain(score.precision),
                    "recall": _plain(score.recall),
                    "f1": _plain(score.f1),
                    "support": score.support,
                    "precision_interval": [_plain(v) for v in score.precision_interval],
                    "recall_interval": [_plain(v) for v in score.recall_interval],
                    "f1_interval": [_plain(v) for v in score.f1_interval],
                }
                for score in self.classes
            },
            "confusion": self.confusion.tolist(),
        }


def score(
    classes: tuple[str, ...],
    truth: np.ndarray,
    probabilities: np.ndarray,
    night: np.ndarray | None = None,
    min_probability: float = 0.0,
    n_bootstrap: int = 1000,
    seed: int = 0,
    good_first: bool = False,
) -> Scores:
    """Score probabilities (n, n_classes) against true class indices (n,).

    Images whose highest probability is below `min_probability` are left out, as in the paper
    (section 4.2), and `coverage` says how many stayed; `good_first` as in `decide`. Otherwise as
    `score_decided`.
    """
    predicted = decide(probabilities, good_first)
    surety = probabilities[np.arange(len(predicted)), predicted]
    return score_decided(
        classes, truth, predicted, night, surety, min_probability, n_bootstrap, seed
    )


def score_decided(
    classes: tuple[str, ...],
    truth: np.ndarray,
    predicted: np.ndarray,
    night: np.ndarray | None = None,
    surety: np.ndarray | None = None,
    min_probability: float = 0.0,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score class indices (n,) against the true ones; `surety` (n,) is what the cut is about.

    Where `night` (n,) tells the groups, the intervals are of 95 %, from nights drawn with
    replacement: images of one night are not independent. Few nights vary less among themselves
    than many would, and the quantiles are taken further out for it (the expanded percentile
    interval of Hesterberg 2015, The American Statistician 69, 371). An interval is no narrower than
    Wilson's of independent images, since draws of nights without a mistake know of none. A score
    that is from one night alone has none: how nights differ is then not known.
    """
    kept = np.ones(len(truth), bool)
    if surety is not None:
        # The table keeps single precision; the same comparison must hold there.
        kept = surety.astype(np.float32) >= np.float32(min_probability)
    groups = np.zeros(len(truth), np.intp)
    if night is not None and len(night):
        groups = np.unique(night, return_inverse=True)[1]
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    counts = np.zeros((n_groups, len(classes), len(classes)))
    np.add.at(counts, (groups[kept], truth[kept], predicted[kept]), 1)
    total = counts.sum(axis=0)
    values = _values(total)
    overall = _overall(total)
    intervals = np.full((2, 3, len(classes)), np.nan)
    overall_intervals = np.full((2, 2), np.nan)
    if night is not None and n_groups > 1 and n_bootstrap:
        draws = np.random.default_rng(seed).multinomial(
            n_groups, np.full(n_groups, 1 / n_groups), size=n_bootstrap
        )
        resampled = np.tensordot(draws, counts, axes=1)
        intervals = _intervals(_values(resampled), counts)
        overall_intervals = _quantiles(_overall(resampled), np.full(2, n_groups))
        independent = _wilson(np.trace(total), total.sum())
        overall_intervals[:, 0] = _union(overall_intervals[:, 0], independent)
    return Scores(
        min_probability=min_probability,
        coverage=float(total.sum() / len(truth)) if len(truth) else np.nan,
        accuracy=float(overall[0]),
        macro_f1=float(overall[1]),
        classes=tuple(
            _class_score(name, values[:, index], int(total[index].sum()), intervals[:, :, index])
            for index, name in enumerate(classes)
        ),
        confusion=total.astype(int),
        accuracy_interval=_bounds(overall_intervals[:, 0]),
        macro_f1_interval=_bounds(overall_intervals[:, 1]),
    )


def decide(probabilities: np.ndarray, good_first: bool) -> np.ndarray:
    """Return the class of each row of probabilities (n, n_classes), as an index.

    It is the most probable one; with `good_first` only among the bad ones when good, the first
    class, has less than half of the probability.
    """
    if not good_first:
        return probabilities.argmax(axis=1)
    return np.where(probabilities[:, 0] >= 0.5, 0, probabilities[:, 1:].argmax(axis=1) + 1)


def _class_score(name: str, values: np.ndarray, support: int, intervals: np.ndarray) -> ClassScore:
    precision, recall, f1 = (float(value) for value in values)
    bounds = [_bounds(both) for both in intervals.T]
    return ClassScore(name, precision, recall, f1, support, *bounds)


def _values(confusion: np.ndarray) -> np.ndarray:
    """Return precision, recall and F1 by class, (3, ..., n_classes), of (..., true, predicted)."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, true = confusion.sum(axis=-2), confusion.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.stack([hits / predicted, hits / true, 2 * hits / (predicted + true)])


def _overall(confusion: np.ndarray) -> np.ndarray:
    """Return accuracy and mean F1 over the classes that occur, (2, ...), of confusion counts."""
    true = confusion.sum(axis=-1)
    f1 = np.where(true > 0, _values(confusion)[2], 0)
    with np.errstate(invalid="ignore"):
        return np.stack(
            [
                np.trace(confusion, axis1=-2, axis2=-1) / true.sum(axis=-1),
                f1.sum(axis=-1) / (true > 0).sum(axis=-1),
            ]
        )


def _intervals(drawn: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return intervals (2, 3, n_classes) of `drawn` (3, n_draws, n_classes), see `score_decided`.

    `counts` (n_nights, true, predicted) are what was drawn from.
    """
    total = counts.sum(axis=0)
    hits, predicted, true = np.diagonal(total), total.sum(axis=0), total.sum(axis=1)
    shares = _wilson(hits, predicted + true - hits)  # F1 is 2 s / (1 + s) of this share s
    independent = np.stack(
        [_wilson(hits, predicted), _wilson(hits, true), 2 * shares / (1 + shares)], axis=1
    )
    predicted_on = (counts.sum(axis=1) > 0).sum(axis=0)
    true_on = (counts.sum(axis=2) > 0).sum(axis=0)
    n_nights = np.stack([predicted_on, true_on, np.minimum(predicted_on, true_on)])
    over_nights = _quantiles(drawn, n_nights)
    return np.where(n_nights > 1, _union(over_nights, independent), np.nan)


def _wilson(hits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return Wilson's 95 % interval (2, ...) of the share of `hits` among `n`; NaN of none."""
    z = 1.959964
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hits / n
        middle = share + z**2 / (2 * n)
        reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        bounds = np.stack([middle - reach, middle + reach]) / (1 + z**2 / n)
    return np.clip(bounds, 0, 1)


def _union(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.stack([np.fmin(one[0], other[0]), np.fmax(one[1], other[1])])


def _bounds(both: np.ndarray) -> tuple[float, float]:
    return float(both[0]), float(both[1])


def _quantiles(drawn: np.ndarray, n_nights: np.ndarray) -> np.ndarray:
    """Return the bounds (2, ...) over axis 1 of `drawn`, of the draws in which there is a score.

    `n_nights` (...) says how many nights each is from; NaN where that is one or none.
    """
    from scipy.stats import norm, t

    n = np.maximum(n_nights, 2)
    tails = norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(0.025, n - 1))
    bounds = np.full((2, *n_nights.shape), np.nan)
    for place in np.ndindex(n_nights.shape):
        values = drawn[(place[0], slice(None), *place[1:])]
        values = values[np.isfinite(values)]
        if n_nights[place] > 1 and len(values):
            tail = tails[place]
            bounds[(slice(None), *place)] = np.quantile(values, [tail, 1 - tail])
    return bounds


def _plain(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 6)


def held_out_scores(
    test: Sample, probabilities: np.ndarray, cuts: Sequence[float], good_first: bool
) -> dict[float, Scores]:
    """Score probabilities (n, n_classes) of a held-out part, at each least probability."""
    return {
        cut: score(test.classes, test.labels, probabilities, test.night, cut, good_first=good_first)
        for cut in cuts
    }
