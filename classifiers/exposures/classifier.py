"""Judging a whole exposure at once: bad or not, of what class, and how probably.

`classifiers.exposures.features` says what an exposure is to the classifier. A forest learns from
the labelled ones; what it says on nights that it has not seen is calibrated, so that of the
exposures with probability 0.8 four in five are bad. An exposure farther from the good ones than any
of them comes (`classifiers.exposures.novelty`) is at least as probably bad as such exposures were,
whatever the forest makes of it. Which of its CCDs are bad is then read from the predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline

from classifiers.estimators import registry as estimators
from classifiers.estimators.forest import RobustZScore, TwoStep
from classifiers.exposures.features import exposure_sample
from classifiers.exposures.novelty import NoveltyScore, novelty_threshold
from classifiers.sample.sample import Sample
from lake.errors import BadInput
from lake.store import Lake

_FOLDS = 5
#: Weight of recall against precision where the threshold is chosen. More than 1, since lists miss
#: bad exposures: some of what counts as a false alarm here is none.
_BETA = 1.5
#: Bins of probability in which the calibration is told.
_BINS = 5
#: Shares of trees closer to none or all than this are not told apart.
_CLOSE = 1e-3
#: Trees of each step.
TREES = 300


@dataclass(frozen=True)
class Calibration:
    """What turns the forest's share of trees into a probability, learned on nights left out.

    Attributes
    ----------
    slope, intercept : of the log odds (Platt).
    limit : score of `NoveltyScore` from which an exposure is as far out as good ones hardly come.
    beyond : probability that one beyond the limit is bad: their share, by Laplace's rule.
    """

    slope: float
    intercept: float
    limit: float
    beyond: float

    def __call__(self, raw: np.ndarray, surprise: np.ndarray) -> np.ndarray:
        """Return probabilities of being bad, (n,)."""
        probability = 1 / (1 + np.exp(-(self.slope * _log_odds(raw) + self.intercept)))
        return np.where(surprise >= self.limit, np.maximum(probability, self.beyond), probability)


@dataclass(frozen=True)
class ExposureClassifier:
    """A classifier of exposures.

    Attributes
    ----------
    pipeline : forest over descriptions (n, d).
    surprise : how far they are from the good ones.
    calibration : of the probability of being bad.
    threshold : probability of being bad from which an exposure counts as bad: where F was highest
        on nights that were left out in turn (`_BETA`).
    extents : by class, the share of an exposure's CCDs that is usually labelled.
    """

    pipeline: Pipeline
    surprise: NoveltyScore
    calibration: Calibration
    threshold: float
    extents: np.ndarray

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Return (n, n_classes) float32 of descriptions (n, d)."""
        return self.predict(vectors)[0]

    def predict(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return `probabilities` of descriptions (n, d), and which are beyond what good ones show.

        The second is (n,) bool.
        """
        result = np.zeros((len(vectors), len(self.extents)), np.float32)
        if not len(vectors):
            return result, np.zeros(0, bool)
        raw, kinds = _steps(self.pipeline, vectors)
        surprise = self.surprise.score(vectors)
        bad = self.calibration(raw, surprise)
        result[:, 0] = 1 - bad
        result[:, self.pipeline.classes_[1:]] = bad[:, None] * kinds
        return result, surprise >= self.calibration.limit

    @property
    def estimators(self) -> dict[str, Any]:
        """What of the classifier a model file holds; the card has the rest."""
        return {"forest": self.pipeline, "surprise": self.surprise}

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return what a model card says of it."""
        return {
            "threshold": self.threshold,
            "calibration": {
                field.name: getattr(self.calibration, field.name) for field in fields(Calibration)
            },
            "extents": {name: float(self.extents[row]) for row, name in enumerate(classes)},
            "steps": estimators.settings(self.pipeline),
        }

    @classmethod
    def from_dict(
        cls, parts: Mapping[str, Any], card: Mapping[str, Any], classes: Sequence[str]
    ) -> ExposureClassifier:
        """Return the classifier of whose `estimators` and card `to_dict` gave the rest."""
        return cls(
            parts["forest"],
            parts["surprise"],
            Calibration(**card["calibration"]),
            card["threshold"],
            np.array([card["extents"][name] for name in classes]),
        )


def train_exposure_classifier(
    lake: Lake, sample: Sample, fit_ccds: Callable[[Sample], Pipeline], seed: int = 0
) -> ExposureClassifier:
    """Train a classifier of the exposures that a sample of CCDs labels.

    Parameters
    ----------
    fit_ccds : fits the classifier of CCDs. Nights are left out of it in turn, so that the
        classifier learns what the classes of CCDs are worth where their night was not learned from.

    Raises
    ------
    SurveyError : fewer than two nights, or exposures of one class alone.
    """
    estimator_of = {}
    for learn, test in _folds(sample):
        estimator = fit_ccds(sample.take(learn))
        estimator_of.update(dict.fromkeys(np.unique(sample.night[test]).tolist(), estimator))
    return fit_exposure_classifier(*exposure_sample(lake, sample, estimator_of), seed)


def fit_exposure_classifier(
    sample: Sample, share: np.ndarray, n_measured: int, seed: int = 0
) -> ExposureClassifier:
    """Fit a classifier of exposures; calibrate it and choose its threshold on nights left out.

    Parameters are what `exposure_sample` returns.

    Raises
    ------
    SurveyError : fewer than two nights, or exposures of one class alone.
    """
    bad = sample.labels > 0
    raw, surprise = np.full((2, len(sample)), np.nan)
    for learn, test in _folds(sample):
        known, vectors = sample.take(learn), sample.take(test).vectors
        raw[test] = _steps(_fitted(known, seed), vectors)[0]
        surprise[test] = NoveltyScore(n_measured).fit(known.vectors, known.labels).score(vectors)
    known = np.isfinite(raw)
    if len(np.unique(bad[known])) < 2:
        raise BadInput(
            "judging exposures needs good and bad ones on at least two nights; label more nights"
        )
    calibration = _calibrated(raw[known], surprise[known], bad[known])
    extents = np.ones(len(sample.classes))
    for index in np.unique(sample.labels[bad]):
        extents[index] = np.median(share[sample.labels == index])
    return ExposureClassifier(
        _fitted(sample, seed),
        NoveltyScore(n_measured).fit(sample.vectors, sample.labels),
        calibration,
        _best_threshold(bad[known], calibration(raw[known], surprise[known])),
        extents,
    )


def exposure_classifier_scores(
    lake: Lake, classifier: ExposureClassifier, learn: Sample, test: Sample, estimator: Pipeline
) -> dict[str, Any] | None:
    """Return how a classifier does on exposures that it has not seen, as a model card holds it.

    Against the labels: precision and recall at its threshold, the Brier score beside that of
    always telling the share of bad ones, and by bins of the probability of being bad how many
    exposures there are, its mean, and the share that is bad.

    Parameters
    ----------
    learn, test : samples of CCDs. None is returned where no exposure is of the second alone.
    estimator : classifies CCDs; it has not seen `test` either.
    """
    nights = dict.fromkeys(np.unique(test.night).tolist(), estimator)
    sample = exposure_sample(lake, test, nights)[0]
    sample = sample.take(~np.isin(sample.expnum, learn.expnum))
    if not len(sample):
        return None
    bad = sample.labels > 0
    probability = 1 - classifier.probabilities(sample.vectors)[:, 0].astype(np.float64)
    is_bad = probability >= classifier.threshold
    place = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    bins = [
        {
            "from": index / _BINS,
            "exposures": int(inside.sum()),
            "probability": float(probability[inside].mean()),
            "share_bad": float(bad[inside].mean()),
        }
        for index in range(_BINS)
        if (inside := place == index).any()
    ]
    return {
        "exposures": len(sample),
        "bad": int(bad.sum()),
        "precision": float(bad[is_bad].mean()) if is_bad.any() else None,
        "recall": float(is_bad[bad].mean()) if bad.any() else None,
        "brier": float(((probability - bad) ** 2).mean()),
        "brier_of_share": float(bad.mean() * (1 - bad.mean())),
        "calibration": bins,
    }


def _folds(sample: Sample) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows to learn from and rows of other nights, where there is enough to learn from."""
    bad = sample.labels > 0
    n_nights = len(np.unique(sample.night))
    if n_nights < 2:
        return
    for learn, test in GroupKFold(min(_FOLDS, n_nights)).split(bad, groups=sample.night):
        if len(np.unique(bad[learn])) == 2:
            yield learn, test


def _calibrated(raw: np.ndarray, surprise: np.ndarray, bad: np.ndarray) -> Calibration:
    platt = estimators.fit(
        Pipeline([("platt", LogisticRegression())]), _log_odds(raw)[:, None], bad, np.ones(len(bad))
    )[-1]
    limit = novelty_threshold(surprise[~bad])
    beyond = surprise >= limit
    return Calibration(
        slope=float(platt.coef_[0, 0]),
        intercept=float(platt.intercept_[0]),
        limit=limit,
        beyond=float((bad[beyond].sum() + 1) / (beyond.sum() + 2)),
    )


def _log_odds(share: np.ndarray) -> np.ndarray:
    """Return the log odds of shares of trees."""
    inside = np.clip(share, _CLOSE, 1 - _CLOSE)
    return np.log(inside / (1 - inside))


def _best_threshold(bad: np.ndarray, probability: np.ndarray) -> float:
    """Return the probability at which F is highest: midway to the next lower one."""
    precision, recall, thresholds = precision_recall_curve(bad, probability)
    weighted = _BETA**2 * precision + recall
    score = (1 + _BETA**2) * precision * recall / np.maximum(weighted, 1e-9)
    best = int(score[:-1].argmax())
    below = thresholds[best - 1] if best else thresholds[best]
    return float((thresholds[best] + below) / 2)


def _steps(pipeline: Pipeline, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return pipeline[-1].predict_steps(pipeline[:-1].transform(vectors))


def _fitted(sample: Sample, seed: int) -> Pipeline:
    pipeline = Pipeline(
        [("deviations", RobustZScore(band=True)), ("classifier", TwoStep(TREES, seed=seed))]
    )
    return estimators.fit(pipeline, sample.vectors, sample.labels, sample.weights)
