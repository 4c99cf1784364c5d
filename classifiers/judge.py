"""Judging a whole exposure at once, from the vectors of all its CCDs.

The paper lets CCDs vote, each on its own; its section 5.4 names the whole exposure as what that
misses. Here an exposure is what its CCDs have in common and how they differ, and a classifier of
exposures says whether it is bad and of what class. Which of its CCDs are bad is then read from the
predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline

from classifiers import estimators
from classifiers.features import Features, Layout
from classifiers.forest import Deviations, TwoStep
from classifiers.sample import Sample
from classifiers.vectors import embedded_nights, read_bands, read_vectors
from lake.errors import SurveyError
from lake.store import Lake, Partition

#: Quantiles over an exposure's CCDs of their deviation from its median vector.
_QUANTILES = (0.0, 0.05, 0.95, 1.0)
_FOLDS = 5
#: Weight of recall against precision where the threshold is chosen. More than 1, since lists miss
#: bad exposures: some of what counts as a false alarm here is none.
_BETA = 1.5
#: Trees of each step.
TREES = 300


@dataclass(frozen=True)
class ExposureJudge:
    """A classifier of exposures.

    Attributes
    ----------
    pipeline : from summaries (n, f) to class probabilities.
    threshold : probability of being bad from which an exposure is judged so: where F was highest
        on nights that were left out in turn (`_BETA`).
    extents : by class, the share of an exposure's CCDs that is usually labelled.
    """

    pipeline: Pipeline
    threshold: float
    extents: np.ndarray

    def probabilities(self, summaries: np.ndarray) -> np.ndarray:
        """Return (n, n_classes) float32."""
        return estimators.probabilities(self.pipeline, summaries, len(self.extents))

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return what a model card says of it."""
        return {
            "threshold": self.threshold,
            "extents": {name: float(self.extents[row]) for row, name in enumerate(classes)},
            "steps": estimators.settings(self.pipeline),
        }

    @classmethod
    def from_dict(
        cls, pipeline: Pipeline, card: Mapping[str, Any], classes: Sequence[str]
    ) -> ExposureJudge:
        """Return the judge that `to_dict` described."""
        extents = np.array([card["extents"][name] for name in classes])
        return cls(pipeline, card["threshold"], extents)


def summarise(expnum: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return exposures (n,) and what their CCDs have in common and how they differ, (n, 6 d).

    Per feature: the median over the CCDs, and lowest, 5 %, 95 %, highest and rms deviation from it.
    """
    exposures, counts = np.unique(expnum, return_counts=True)
    summaries = np.empty((len(exposures), 6 * vectors.shape[1]), dtype=np.float32)
    order = np.argsort(expnum, kind="stable")
    for row, end in enumerate(np.cumsum(counts)):
        ccds = order[end - counts[row] : end]
        median = np.median(vectors[ccds], axis=0)
        deviation = vectors[ccds] - median
        spread = np.sqrt((deviation**2).mean(axis=0))
        parts = [median[None], np.quantile(deviation, _QUANTILES, axis=0), spread[None]]
        summaries[row] = np.concatenate(parts).ravel()
    return exposures, summaries


def read_summaries(
    lake: Lake, partition: Partition, features: Features
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the exposures of a night, their summaries, and how many CCDs each has.

    A summary is that of the CCDs' own vectors, then the vectors of the whole exposure, if there
    are any, then the number of the band. `partition` is of the first embedder.
    """
    night = read_vectors(lake, partition, alone(features))
    exposures, summaries = summarise(night.expnum, night.vectors[:, : night.layout.ccd])
    first, n_ccds = np.unique(night.expnum, return_index=True, return_counts=True)[1:]
    whole = night.vectors[first, night.layout.ccd :]
    bands = read_bands(lake, partition, exposures)
    return exposures, np.concatenate([summaries, whole, bands[:, None]], axis=1), n_ccds


def alone(features: Features) -> Features:
    """Return the features without what is known of a CCD beside its vectors."""
    return replace(features, context="none", columns=())


def exposure_sample(lake: Lake, sample: Sample) -> tuple[Sample, np.ndarray]:
    """Return a sample of CCDs as one of exposures, and the share of each one's CCDs it labels.

    An exposure has the class of most of its labelled CCDs. Vectors are its summary.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    used = {sample.nights[index] for index in np.unique(sample.night)}
    for partition in embedded_nights(lake, sample.features):
        name = f"{partition['camera']}/{partition['night']}"
        if name not in used:
            continue
        here = sample.night == sample.nights.index(name)
        exposures, summaries, n_ccds = read_summaries(lake, partition, sample.features)
        weight = np.zeros((len(exposures), len(sample.classes)))
        at = np.searchsorted(exposures, sample.expnum[here])
        np.add.at(weight, (at, sample.labels[here]), sample.weights[here])
        labelled = np.flatnonzero(weight.sum(axis=1))
        labels = weight[labelled].argmax(axis=1)
        share = np.minimum(weight[labelled].max(axis=1) / n_ccds[labelled], 1.0)
        night = np.full(len(labelled), sample.nights.index(name))
        parts.append((summaries[labelled], labels, exposures[labelled], night, share))
    summaries, labels, expnum, night, share = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    whole = Sample(
        vectors=summaries,
        layout=Layout(summaries.shape[1] - 1, band=1),
        labels=labels,
        weights=np.ones(len(labels)),
        expnum=expnum,
        ccdnum=np.zeros(len(labels), np.int16),
        night=night,
        classes=sample.classes,
        nights=sample.nights,
        release=sample.release,
        features=sample.features,
        settings=sample.settings,
        fingerprint=sample.fingerprint,
        n_missing=0,
    )
    return whole, share


def fit_judge(sample: Sample, share: np.ndarray, seed: int = 0) -> ExposureJudge:
    """Fit a classifier of exposures and choose its threshold on nights left out in turn.

    Raises
    ------
    SurveyError : fewer than two nights, or exposures of one class alone.
    """
    n_nights = len(np.unique(sample.night))
    if n_nights < 2 or len(np.unique(sample.labels > 0)) < 2:
        raise SurveyError(
            "judging exposures needs good and bad ones on at least two nights; label more nights"
        )
    bad = sample.labels > 0
    chance = np.full(len(sample), np.nan)
    for learn, test in GroupKFold(min(_FOLDS, n_nights)).split(bad, groups=sample.night):
        if len(np.unique(bad[learn])) == 2:
            pipeline = _fitted(sample.take(learn), seed)
            scores = estimators.probabilities(pipeline, sample.vectors[test], len(sample.classes))
            chance[test] = 1 - scores[:, 0]
    extents = np.ones(len(sample.classes))
    for index in np.unique(sample.labels[bad]):
        extents[index] = np.median(share[sample.labels == index])
    return ExposureJudge(_fitted(sample, seed), _best_threshold(bad, chance), extents)


def _best_threshold(bad: np.ndarray, chance: np.ndarray) -> float:
    """Return the probability at which F is highest: midway to the next lower one."""
    known = np.isfinite(chance)
    precision, recall, thresholds = precision_recall_curve(bad[known], chance[known])
    weighted = _BETA**2 * precision + recall
    score = (1 + _BETA**2) * precision * recall / np.maximum(weighted, 1e-9)
    best = int(score[:-1].argmax())
    below = thresholds[best - 1] if best else thresholds[best]
    return float((thresholds[best] + below) / 2)


def _fitted(sample: Sample, seed: int) -> Pipeline:
    pipeline = Pipeline(
        [("deviations", Deviations(band=True)), ("classifier", TwoStep(TREES, seed=seed))]
    )
    return estimators.fit(pipeline, sample.vectors, sample.labels, sample.weights)
