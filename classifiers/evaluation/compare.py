"""Several classifiers, trained and scored on the same divisions of the nights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from joblib import delayed
from scipy import stats

from classifiers import estimators
from classifiers.class_weight import NONE
from classifiers.class_weight import parse as parse_class_weight
from classifiers.division import divide, fit_part, probabilities_of
from classifiers.evaluation.metrics import Scores, score
from classifiers.inputs.features import Features
from classifiers.inputs.sample import Sample, ccd_keys, read_sample
from classifiers.model import read_card
from classifiers.processes import in_processes
from classifiers.progress import Progress
from lake.errors import SurveyError
from lake.store import Lake

#: Scores that are compared, in the order of the table.
METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "bad_f1", "coverage")
_BY_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Contender:
    """A classifier, what it is told of each CCD, and how it is fitted.

    Attributes
    ----------
    settings : of its space in `estimators.SPACES`; None for the default ones.
    class_weight : see `classifiers.class_weight`.
    model : the model that these are of; None where they are not of one.
    """

    classifier: str
    features: Features
    settings: Mapping[str, Any] | None = None
    class_weight: str = NONE
    model: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return what tells it from the others, as columns of a table."""
        return {
            "model": self.model,
            "classifier": self.classifier,
            "embedders": "+".join(self.features.embedders),
            "context": self.features.context,
            "columns": ",".join(self.features.columns) or None,
            "class_weight": self.class_weight,
        }


@dataclass(frozen=True)
class Trial:
    """Scores of one contender on one division: of every prediction, and of those at the cut."""

    every: Scores
    sure: Scores

    def value(self, metric: str) -> float:
        """Return one of `METRICS`."""
        if metric == "coverage":
            return self.sure.coverage
        if metric == "balanced_accuracy":
            true = self.every.confusion.sum(axis=1)
            return float((np.diagonal(self.every.confusion)[true > 0] / true[true > 0]).mean())
        if metric == "bad_f1":
            bad = self.every.confusion[1:, 1:].sum()
            wrong = self.every.confusion[0, 1:].sum() + self.every.confusion[1:, 0].sum()
            return float(2 * bad / (2 * bad + wrong))
        return float(getattr(self.every, metric))


@dataclass(frozen=True)
class Comparison:
    """Scores of contenders over seeds, each of which divides the nights and fits anew.

    Attributes
    ----------
    trials : by contender and seed.
    n_train, n_test : images of each seed's sides.
    n_left_out : labelled CCDs that not every contender has a vector of.
    """

    contenders: tuple[Contender, ...]
    trials: tuple[tuple[Trial, ...], ...]
    n_train: tuple[int, ...]
    n_test: tuple[int, ...]
    n_left_out: int
    min_probability: float

    def values(self, metric: str) -> np.ndarray:
        """Return a metric by contender and seed, (n_contenders, n_seeds)."""
        return np.array([[trial.value(metric) for trial in trials] for trials in self.trials])

    def table(self, metric: str = METRICS[0]) -> pa.Table:
        """Return one row per contender: means, standard deviations over seeds, difference.

        ``difference`` is that of `metric` from the first contender's on the same divisions, with
        a 95 % interval. Divisions share images, so that its variance over seeds is too small; it is
        corrected as by Nadeau & Bengio (2003, Machine Learning 52, 239).
        """
        rows: list[dict[str, Any]] = [contender.to_dict() for contender in self.contenders]
        for name in METRICS:
            for row, values in zip(rows, self.values(name), strict=True):
                row[name], row[f"{name}_sd"] = _mean(values), _deviation(values)
        values = self.values(metric)
        for row, difference in zip(rows[1:], values[1:] - values[0], strict=True):
            reach = self._reach(difference)
            row["difference"] = _mean(difference)
            row["difference_low"] = None if reach is None else row["difference"] - reach
            row["difference_high"] = None if reach is None else row["difference"] + reach
        numbers = [f"{name}{end}" for name in METRICS for end in ("", "_sd")]
        numbers += ["difference", "difference_low", "difference_high"]
        schema = [(name, pa.string()) for name in self.contenders[0].to_dict()]
        return pa.Table.from_pylist(
            [{**row, "metric": metric, "n_seeds": len(self.n_test)} for row in rows],
            schema=pa.schema(
                [
                    *schema,
                    *((name, pa.float64()) for name in numbers),
                    ("metric", pa.string()),
                    ("n_seeds", pa.int64()),
                ]
            ),
        )

    def by_class(self) -> pa.Table:
        """Return one row per contender, least probability and class: means and deviations.

        A seed in which a score is undefined, since nothing was predicted or true, does not count
        for it; ``support`` is the mean number of images of the class that pass the cut.
        """
        rows = []
        for contender, trials in zip(self.contenders, self.trials, strict=True):
            for cut, part in ((0.0, "every"), (self.min_probability, "sure")):
                seeds: list[Scores] = [getattr(trial, part) for trial in trials]
                for index, one in enumerate(seeds[0].classes):
                    row: dict[str, Any] = {**contender.to_dict(), "min_probability": cut}
                    row["class"] = one.name
                    for name in _BY_CLASS:
                        found = np.array([getattr(each.classes[index], name) for each in seeds])
                        defined = found[np.isfinite(found)]
                        row[name], row[f"{name}_sd"] = _mean(defined), _deviation(defined)
                    row["support"] = float(np.mean([each.classes[index].support for each in seeds]))
                    rows.append(row)
        numbers = [f"{name}{end}" for name in _BY_CLASS for end in ("", "_sd")]
        texts = [*self.contenders[0].to_dict(), "class"]
        fields = [(name, pa.string()) for name in texts]
        fields.insert(-1, ("min_probability", pa.float64()))
        fields += [(name, pa.float64()) for name in (*numbers, "support")]
        return pa.Table.from_pylist(rows, schema=pa.schema(fields))

    def _reach(self, differences: np.ndarray) -> float | None:
        """Return half the width of the 95 % interval of a mean over seeds; None for one seed."""
        n = len(differences)
        if n < 2:
            return None
        share = sum(self.n_test) / sum(self.n_train)
        variance = differences.var(ddof=1) * (1 / n + share)
        return float(stats.t.ppf(0.975, n - 1) * math.sqrt(variance))


def compare(
    lake: Lake,
    contenders: Sequence[Contender],
    *,
    release: str | None = None,
    sources: Sequence[str] = (),
    nights: Sequence[str] | None = None,
    good: int = 10_000,
    max_ebv: float = 0.04,
    split: str = "night",
    test_fraction: float = 0.3,
    min_probability: float = 0.9,
    n_seeds: int = 10,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train and score all contenders on the same CCDs, divided in the same ways. Saves no model.

    Parameters
    ----------
    release, sources, nights, good, max_ebv, split, test_fraction : as for `classifiers.train`.
    min_probability : the cut at which coverage and the second scores by class are given.
    n_seeds : how many divisions; `seed` is the first, and decides which CCDs are drawn.
    workers : processes; the cores that there are when None. The result does not depend on it.

    Raises
    ------
    SurveyError : nothing to compare, wrong settings, no CCD of which all have vectors, or a
        division that leaves a side without good or bad images.
    """
    if not contenders:
        raise SurveyError("nothing to compare; name an --embedder or a --model")
    for option, value in (("--seeds", n_seeds), ("--workers", workers)):
        if value is not None and value < 1:
            raise SurveyError(f"{option} {value}: give 1 or more")
    drawn: dict[str, Any] = {"release": release, "sources": sources, "nights": nights}
    drawn |= {"good": good, "max_ebv": max_ebv, "seed": seed}
    read = {one.features: read_sample(lake, one.features, **drawn) for one in contenders}
    samples, n_left_out = _same_ccds(read)
    seeds = range(seed, seed + n_seeds)
    any_sample = next(iter(samples.values()))
    divisions = [divide(any_sample, split, test_fraction, number) for number in seeds]
    tasks = [(one, number) for one in contenders for number in range(n_seeds)]
    if progress is not None:
        progress(0, len(tasks))
    calls = [
        delayed(_trial)(one, samples[one.features], divisions[n], seeds[n], min_probability)
        for one, n in tasks
    ]
    trials: list[Trial] = []
    for trial in in_processes(calls, workers, ordered=True):
        trials.append(trial)
        if progress is not None:
            progress(len(trials), len(tasks))
    return Comparison(
        contenders=tuple(contenders),
        trials=tuple(
            tuple(trials[start : start + n_seeds]) for start in range(0, len(trials), n_seeds)
        ),
        n_train=tuple(int((~held_out).sum()) for held_out in divisions),
        n_test=tuple(int(held_out.sum()) for held_out in divisions),
        n_left_out=n_left_out,
        min_probability=min_probability,
    )


def contenders_of(
    embedders: Sequence[str],
    classifiers: Sequence[str] = estimators.CLASSIFIERS,
    context: str | None = None,
    columns: Sequence[str] = (),
    class_weight: str = NONE,
) -> list[Contender]:
    """Return every classifier on every set of inputs.

    Parameters
    ----------
    embedders : sets of embedders, ``+`` between those that are joined.
    context, columns : see `Features`; None for the context that suits the classifier.

    Raises
    ------
    SurveyError : an unknown classifier, inputs that cannot be joined, or a wrong class weight.
    """
    parse_class_weight(class_weight)
    unknown = [name for name in classifiers if name not in estimators.CLASSIFIERS]
    if unknown:
        raise SurveyError(
            f"--classifier {unknown[0]!r}: choose one of {', '.join(estimators.CLASSIFIERS)}"
        )
    return [
        Contender(
            name,
            Features(tuple(text.split("+")), context or estimators.CONTEXT[name], tuple(columns)),
            class_weight=class_weight,
        )
        for text in embedders
        for name in classifiers
    ]


def contender_of(lake: Lake, model: str) -> Contender:
    """Return the classifier, inputs and settings of a trained model, to be trained anew."""
    card = read_card(lake, model)
    names = tuple(one["name"] for one in card["embedders"])
    features = Features(names, card["context"], tuple(card["columns"]))
    return Contender(card["classifier"], features, card["settings"], card["class_weight"], model)


def _same_ccds(read: Mapping[Features, Sample]) -> tuple[dict[Features, Sample], int]:
    """Return the samples reduced to the CCDs that all of them have, and how many these leave out.

    Rows, labels, weights and nights are then the same in all of them.
    """
    keys = {}
    for features, sample in read.items():
        night = np.array(sample.nights)[sample.night]
        ccds = ccd_keys(sample.expnum, sample.ccdnum)
        keys[features] = list(zip(night.tolist(), ccds.tolist(), strict=True))
    common = set.intersection(*(set(found) for found in keys.values()))
    if not common:
        raise SurveyError("no labelled CCD has vectors of all the embedders; embed the same nights")
    rows = {
        features: np.array([row for row, key in enumerate(found) if key in common])
        for features, found in keys.items()
    }
    first, taken = next((sample.take(rows[features])) for features, sample in read.items()), {}
    for features, sample in read.items():
        part = sample.take(rows[features])
        taken[features] = replace(
            first, held=part.held, rows=part.rows, layout=part.layout, features=features
        )
    return taken, len(set().union(*keys.values())) - len(common)


def _trial(
    contender: Contender, sample: Sample, held_out: np.ndarray, seed: int, cut: float
) -> Trial:
    good_first = contender.classifier in estimators.GOOD_FIRST
    learn, test = sample.take(~held_out), sample.take(held_out)
    estimator = fit_part(
        learn, contender.classifier, seed, contender.settings, contender.class_weight
    )
    shares = probabilities_of(estimator, test)

    def scores(least: float) -> Scores:
        return score(
            test.classes,
            test.labels,
            shares,
            min_probability=least,
            good_first=good_first,
        )

    return Trial(scores(0.0), scores(cut))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _deviation(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
