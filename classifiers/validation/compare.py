"""Several classifiers, trained and scored on the same splits of the nights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from joblib import delayed
from scipy import stats

from classifiers.estimators import registry as estimators
from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.estimators.processes import in_processes
from classifiers.sample.class_weight import NONE
from classifiers.sample.class_weight import parse as parse_class_weight
from classifiers.sample.features import Features
from classifiers.sample.sample import Sample, ccd_keys, read_sample
from classifiers.sample.spec import SampleSpec
from classifiers.validation.metrics import Scores, score, score_decided
from classifiers.validation.splits import SplitSpec, split_by_group
from lake.errors import BadInput, NotFound
from lake.model_files import read_card
from lake.progress import Progress
from lake.record import Record, digest
from lake.store import Lake

TABLE = "comparisons"
STAGE = "compare"
#: Scores that are compared, in the order of the table.
METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "bad_f1", "coverage")
_BY_CLASS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Contender:
    """A classifier, what it is told of each CCD, and how it is fitted.

    Attributes
    ----------
    settings : of its space in `estimators.SPACES`; None for the default ones.
    class_weight : see `classifiers.sample.class_weight`.
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
    """Scores of one contender on one split: of every prediction, and of those at the cut."""

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


class _Fits:
    """Fits of one contender: a partition of the table, written anew with each."""

    def __init__(self, lake: Lake, contender: Contender, record: Record) -> None:
        self._lake, self._record = lake, record
        self._keys = {"contender": digest(record.settings)}
        self._about = contender.to_dict()
        self._rows: dict[int, dict[str, Any]] = {}
        if lake.is_current(TABLE, self._keys, record):
            rows = lake.read(TABLE, self._keys).to_pylist()
            self._rows = {row["seed"]: row for row in rows}

    def __contains__(self, seed: int) -> bool:
        return seed in self._rows

    def add(self, row: dict[str, Any]) -> None:
        """Take a fit, what `_fit` returned, and commit it."""
        self._rows[row["seed"]] = {**self._about, **row}
        rows = pa.Table.from_pylist(list(self._rows.values()))
        self._lake.write(TABLE, self._keys, rows, self._record)

    def trial(self, seed: int) -> Trial:
        """Return the scores of a fit: they follow from the counts alone."""
        row = self._rows[seed]
        classes, cut = tuple(row["classes"]), row["min_probability"]
        sure = np.array(row["sure"])
        counts = np.concatenate([sure, np.array(row["confusion"]) - sure])
        cells = np.repeat(np.tile(np.arange(len(sure)), 2), counts)
        truth, called = np.divmod(cells, len(classes))
        passes = np.arange(len(cells)) < sure.sum()

        def scores(least: float) -> Scores:
            surety = np.where(passes, 1.0, -1.0) if least else None
            return replace(
                score_decided(classes, truth, called, surety=surety), min_probability=least
            )

        return Trial(scores(0.0), scores(cut))


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

        ``difference`` is that of `metric` from the first contender's on the same splits, with
        a 95 % interval. Splits share images, so that its variance over seeds is too small; it is
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
    sample: SampleSpec = SampleSpec(),
    split: SplitSpec = SplitSpec(),
    min_probability: float = 0.9,
    n_seeds: int = 10,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train and score all contenders on the same CCDs, divided in the same ways. Saves no model.

    Every fit is a row of the table `comparisons` as soon as it is scored: run again, what was
    interrupted goes on, and further seeds or contenders are all that is fitted.

    Parameters
    ----------
    sample, split : as for `classifiers.train`; a split like another model's is of one seed, and so
        none to compare on.
    min_probability : the cut at which coverage and the second scores by class are given.
    n_seeds : how many splits; `seed` is the first, and decides which CCDs are drawn.
    workers : processes; the cores that there are when None. The result does not depend on it.

    Raises
    ------
    SurveyError : nothing to compare, wrong settings, no CCD of which all have vectors, or a
        split that leaves a side without good or bad images.
    """
    if not contenders:
        raise BadInput("nothing to compare; name an --embedder or a --model")
    if split.held_out_like is not None:
        raise BadInput(
            f"held out like {split.held_out_like}: a comparison divides the nights anew with "
            "each seed; leave it out"
        )
    for option, value in (("--seeds", n_seeds), ("--workers", workers)):
        if value is not None and value < 1:
            raise BadInput(f"{option} {value}: give 1 or more")
    read = {
        contender.features: read_sample(lake, contender.features, sample, seed=seed)
        for contender in contenders
    }
    samples, n_left_out = _same_ccds(read)
    seeds = range(seed, seed + n_seeds)
    any_sample = next(iter(samples.values()))
    splits = [split_by_group(any_sample, split.by, split.test_fraction, number) for number in seeds]
    rows = _rows_digest(any_sample)
    common = {
        "split": split.by,
        "test_fraction": split.test_fraction,
        "min_probability": min_probability,
    }
    fits = []
    for one in contenders:
        settings = {**common, "first_seed": seed, "contender": asdict(one)}
        inputs = {"sample": samples[one.features].fingerprint, "rows": rows}
        fits.append(_Fits(lake, one, Record(STAGE, settings, inputs)))
    waiting = [
        (place, number)
        for place in range(len(contenders))
        for number in range(n_seeds)
        if seeds[number] not in fits[place]
    ]
    n_fits = len(contenders) * n_seeds
    if progress is not None:
        progress(n_fits - len(waiting), n_fits)
    calls = [
        delayed(_fit)(
            place,
            contenders[place],
            samples[contenders[place].features],
            splits[number],
            seeds[number],
            min_probability,
        )
        for place, number in waiting
    ]
    results = in_processes(calls, workers, ordered=False)
    for done, (place, row) in enumerate(results, start=n_fits - len(waiting) + 1):
        fits[place].add(row)
        if progress is not None:
            progress(done, n_fits)
    return Comparison(
        contenders=tuple(contenders),
        trials=tuple(tuple(one.trial(number) for number in seeds) for one in fits),
        n_train=tuple(int((~held_out).sum()) for held_out in splits),
        n_test=tuple(int(held_out.sum()) for held_out in splits),
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
        raise BadInput(
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
        raise NotFound("no labelled CCD has vectors of all the embedders; embed the same nights")
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


def _rows_digest(sample: Sample) -> str:
    """Return a hash of the CCDs of a sample, their labels and nights."""
    keys = ccd_keys(sample.expnum, sample.ccdnum)
    numbers = [keys.tolist(), sample.labels.tolist(), sample.night.tolist()]
    return digest([*numbers, sample.weights.tolist(), sample.nights, sample.classes])


def _fit(
    place: int, contender: Contender, sample: Sample, held_out: np.ndarray, seed: int, cut: float
) -> tuple[int, dict[str, Any]]:
    """Fit a contender on what is not held out; return its place and the counts of the rest."""
    start = time.perf_counter()
    good_first = contender.classifier in estimators.GOOD_FIRST
    learn, test = sample.take(~held_out), sample.take(held_out)
    estimator = fit_part(
        learn, contender.classifier, seed, contender.settings, contender.class_weight
    )
    shares = predict_proba(estimator, test)

    def counts(least: float) -> list[int]:
        scores = score(
            test.classes, test.labels, shares, min_probability=least, good_first=good_first
        )
        return [int(count) for count in scores.confusion.ravel()]

    return place, {
        "seed": seed,
        "classes": list(test.classes),
        "confusion": counts(0.0),
        "sure": counts(cut),
        "min_probability": cut,
        "seconds": time.perf_counter() - start,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _deviation(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
