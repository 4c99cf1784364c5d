"""How many labels `select` saves: strategies against labels drawn by lot, on simulated surveys.

A survey is simulated for each seed (18 nights of 20 exposures, 35 % of them with a defect) and its
CCDs embedded with ``statistics``, 20 an exposure. Three nights in ten are held out. Starting from
30 exposures drawn by lot, ten more are labelled at a time as the strategy asks; a label is the
truth of all CCDs of an exposure, as a person would see it: defects too faint to see count as good.
After each step the classifier is fitted to all labels and scored on the held-out CCDs by its mean
F1 over the classes, those with a faint defect left out. A strategy's labels for an F1 are where its
curve, never falling, first reaches it. The curve by lot is the mean of five; what one of the five
alone comes to, whose luck counts as a strategy's does, stands beside.

Surveys are kept in the folder; the second run takes their vectors from there.

    python -m bench.select FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from classifiers.active_learning import som, strategies
from classifiers.active_learning.ensemble import class_shares, fit_ensemble
from classifiers.estimators import registry as estimators
from classifiers.sample.features import Features, Layout
from classifiers.sample.vectors import embedded_nights, read_vectors
from classifiers.validation.metrics import score
from lake.store import Lake
from lake.vocabulary import Vocabulary

EMBEDDER = "statistics"
#: Labels to begin with, and labelled at a time.
START, BATCH = 30, 10
#: Orders that the curve by lot is the mean of.
LOTS = 5
#: Cells along a side of the map: some twenty CCDs a cell, of so small a survey.
SIDE = 15
LOT = "by lot"
#: A strategy, and whether the outlier step is on.
RUNS = {
    "entropy": ("entropy", False),
    "entropy, outlier step": ("entropy", True),
    "margin": ("margin", False),
    "least-certain": ("least-certain", False),
    "anomalous": ("anomalous", False),
}

#: (labels, mean F1) after each step.
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Pool:
    """A survey's CCDs: vectors (n, d), `label` index into `classes`, faint defects marked."""

    vectors: np.ndarray
    layout: Layout
    expnum: np.ndarray
    night: np.ndarray
    label: np.ndarray
    faint: np.ndarray
    classes: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Pool:
        """Return the pool reduced to `rows`."""
        parts = (self.expnum[rows], self.night[rows], self.label[rows], self.faint[rows])
        return Pool(self.vectors[rows], self.layout, *parts, self.classes)


def simulated(folder: Path, seed: int, nights: int, exposures: int, classifier: str) -> Pool:
    """Return a simulated survey's CCDs as a classifier sees them, from `folder` if it has them."""
    from embedders.engine import run as embed
    from ingest.ccds import ingest
    from simulator.conditions import Settings
    from simulator.survey import simulate

    features = Features((EMBEDDER,), estimators.CONTEXT[classifier])
    names = tuple(Vocabulary.load().training_classes)
    kept = folder / f"pool-{features.context}.npz"
    if kept.exists():
        with np.load(kept) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        layout = Layout(*columns.pop("layout").tolist())
        return Pool(layout=layout, classes=names, **columns)
    settings = Settings(n_nights=nights, exposures_per_night=exposures, bad_fraction=0.35)
    survey = simulate(folder / "survey", settings, seed)
    lake = Lake(folder / "survey.lake", create=True)
    ingest(lake, [survey.ccd_table], "sim")
    embed(lake, EMBEDDER, survey.images, ccds_per_exposure=20, seed=seed)
    truth = {row["expnum"]: row for row in pq.read_table(survey.truth_exposures).to_pylist()}
    parts = []
    for number, partition in enumerate(embedded_nights(lake, features)):
        night = read_vectors(lake, partition, features)
        rows = [truth[expnum] for expnum in night.expnum.tolist()]
        struck = [ccdnum in row["ccdnums"] for ccdnum, row in zip(night.ccdnum, rows, strict=True)]
        label = np.array(
            [
                names.index(row["class"]) if hit and row["visible"] else 0
                for hit, row in zip(struck, rows, strict=True)
            ]
        )
        hidden = np.array(
            [hit and not row["visible"] for hit, row in zip(struck, rows, strict=True)]
        )
        parts.append((night.vectors, night.expnum, np.full(len(label), number), label, hidden))
    vectors, expnum, at, labels, faint = (np.concatenate(each) for each in zip(*parts, strict=True))
    columns = {"vectors": vectors, "expnum": expnum, "night": at, "label": labels, "faint": faint}
    np.savez(kept, layout=np.array(astuple(night.layout)), **columns)
    return Pool(layout=night.layout, classes=names, **columns)


def divided(survey: Pool, seed: int) -> tuple[Pool, Pool]:
    """Return what can be labelled, and what is held out: three nights in ten."""
    nights = np.random.default_rng([seed, 1]).permutation(np.unique(survey.night))
    held_out = np.isin(survey.night, nights[: max(round(0.3 * len(nights)), 1)])
    return survey.take(~held_out), survey.take(held_out & ~survey.faint)


def learn(
    pool: Pool,
    test: Pool,
    choose: Callable[[Pool, Pool, estimators.Pipeline], np.ndarray],
    classifier: str,
    seed: int,
    budget: int,
) -> Curve:
    """Label by `choose` up to a budget of exposures; return (labels, mean F1) after each step.

    `choose` gives the exposures of the open part of the pool, the first to be labelled first.
    """
    numbers = np.unique(pool.expnum)
    order = np.random.default_rng([seed, 2]).permutation(numbers)
    bad = set(np.unique(pool.expnum[pool.label > 0]).tolist())
    start = START
    while not any(int(number) in bad for number in order[:start]):
        start += 1
    known = list(order[:start])
    curve: Curve = []
    while True:
        rows = np.isin(pool.expnum, known)
        labelled = pool.take(rows)
        estimator = estimators.build(classifier, pool.layout, len(labelled.label), seed)
        estimators.fit(estimator, labelled.vectors, labelled.label, np.ones(len(labelled.label)))
        chances = estimators.probabilities(estimator, test.vectors, len(pool.classes))
        good_first = classifier in estimators.GOOD_FIRST
        scores = score(pool.classes, test.label, chances, n_bootstrap=0, good_first=good_first)
        curve.append((len(known), scores.macro_f1))
        if len(known) >= min(budget, len(numbers)):
            return curve
        known.extend(choose(labelled, pool.take(~rows), estimator)[:BATCH])


def by_lot(seed: int) -> Callable[[Pool, Pool, estimators.Pipeline], np.ndarray]:
    """Return a choice by lot."""

    def choose(labelled: Pool, open_: Pool, estimator: estimators.Pipeline) -> np.ndarray:
        numbers = np.unique(open_.expnum)
        return numbers[np.argsort(strategies.lot(numbers, seed))]

    return choose


def by_strategy(
    name: str, outlier_step: bool, classifier: str, n_models: int, seed: int
) -> Callable[[Pool, Pool, estimators.Pipeline], np.ndarray]:
    """Return a choice by a strategy of `classifiers.active_learning`, as `select` makes it."""

    def choose(labelled: Pool, open_: Pool, estimator: estimators.Pipeline) -> np.ndarray:
        points = estimator[:-1].transform(open_.vectors)
        learned = estimator[:-1].transform(labelled.vectors)
        if name == "anomalous":
            from sklearn.ensemble import IsolationForest

            worth = -IsolationForest(random_state=seed).fit(points).score_samples(points)
        else:
            ensemble = fit_ensemble(
                estimator[-1],
                learned,
                labelled.label,
                np.ones(len(labelled.label)),
                np.unique(labelled.expnum, return_inverse=True)[1],
                len(open_.classes),
                n_models=n_models,
                seed=seed,
                good_first=classifier in estimators.GOOD_FIRST,
            )
            shares = class_shares(ensemble.decisions(points), len(open_.classes))
            worth = strategies.OF_SHARES[name](shares)
        if outlier_step:
            everything = np.concatenate([learned, points])
            grid = som.fit_map(everything, seed, SIDE)
            occupancy = np.bincount(grid.cells(everything), minlength=grid.n_cells)
            worth = np.where(som.sparse_cells(occupancy)[grid.cells(points)], -1.0, worth)
        numbers, of = np.unique(open_.expnum, return_inverse=True)
        best = np.full(len(numbers), -np.inf)
        np.maximum.at(best, of, worth)
        return numbers[np.lexsort((strategies.lot(numbers, seed), -best))]

    return choose


def labels_needed(curve: Curve, target: float) -> float:
    """Return how many labels a curve needs for an F1, between steps; infinity for never."""
    counts = np.array([count for count, _ in curve], float)
    reached = np.maximum.accumulate([value for _, value in curve])
    at = int(np.searchsorted(reached, target))
    if at == len(counts):
        return np.inf
    if at == 0:
        return float(counts[0])
    share = (target - reached[at - 1]) / (reached[at] - reached[at - 1])
    return float(counts[at - 1] + share * (counts[at] - counts[at - 1]))


def ratios(curve: Curve, lot: Curve, counts: Sequence[int]) -> list[float]:
    """Return labels needed over those by lot, at the F1 that the lot reaches with each count."""
    reached = np.maximum.accumulate([value for _, value in lot])
    result = []
    for count in counts:
        target = float(np.interp(count, [n for n, _ in lot], reached))
        result.append(labels_needed(curve, target) / labels_needed(lot, target))
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print and keep the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where surveys are simulated and kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--classifier", default="knn", choices=estimators.CLASSIFIERS)
    parser.add_argument("--models", type=int, default=50, help="members of the ensemble")
    parser.add_argument("--budget", type=int, default=200, help="labels at most")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--quick", action="store_true", help="one tiny survey: does it run?")
    options = parser.parse_args(arguments)
    nights, exposures = (6, 10) if options.quick else (18, 20)
    seeds = options.seeds[:1] if options.quick else options.seeds
    budget = 50 if options.quick else options.budget
    counts = [40, 50] if options.quick else [60, 100, 150, 200]
    curves: dict[str, list[Curve]] = {}
    single: list[list[Curve]] = []
    start = time.perf_counter()
    for seed in seeds:
        folder = options.folder / f"{nights}x{exposures}" / f"seed-{seed}"
        pool, test = divided(simulated(folder, seed, nights, exposures, options.classifier), seed)
        print(f"seed {seed}: {len(np.unique(pool.expnum))} exposures to label from", flush=True)
        lots = [
            learn(pool, test, by_lot(1000 * seed + k), options.classifier, seed, budget)
            for k in range(1 if options.quick else LOTS)
        ]
        steps = np.array([[value for _, value in one] for one in lots]).mean(axis=0)
        mean = [(count, float(value)) for (count, _), value in zip(lots[0], steps, strict=True)]
        curves.setdefault(LOT, []).append(mean)
        single.append(lots)
        for run in options.runs:
            name, outlier_step = RUNS[run]
            choose = by_strategy(name, outlier_step, options.classifier, options.models, seed)
            curve = learn(pool, test, choose, options.classifier, seed, budget)
            curves.setdefault(run, []).append(curve)
            print(f"  {run}: F1 {curve[-1][1]:.3f}, by lot {mean[-1][1]:.3f}", flush=True)
    (options.folder / f"curves-{options.classifier}.json").write_text(
        json.dumps({**curves, "by lot, each": single})
    )
    print(f"\n{options.classifier}, {len(seeds)} seeds, {time.perf_counter() - start:.0f} s")
    print("mean F1 after " + ", ".join(f"{count} labels" for count in counts))
    for run, curves_of_run in curves.items():
        reached = [
            np.interp(counts, [n for n, _ in curve], [value for _, value in curve])
            for curve in curves_of_run
        ]
        print(f"  {run:24}" + "  ".join(f"{value:.3f}" for value in np.mean(reached, axis=0)))
    print("labels needed over those by lot for the F1 that the lot has with as many labels")
    print("(median over seeds, least and most; inf: not reached within the budget)")
    compared = {run: [[curve] for curve in curves[run]] for run in options.runs}
    for run, mine in {"by lot, one alone": single, **compared}.items():
        values = [
            ratios(curve, lot, counts)
            for several, lot in zip(mine, curves[LOT], strict=True)
            for curve in several
        ]
        shown = [
            f"{np.median(each):.2f} ({min(each):.2f}-{max(each):.2f})"
            for each in zip(*values, strict=True)
        ]
        print(f"  {run:24}" + "  ".join(shown))


if __name__ == "__main__":
    main()
