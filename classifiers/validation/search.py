"""Random search with successive halving, as Luo et al. (2026, section 3.1) found their classifier.

Candidates are drawn at random from a space of settings. All of them are scored on few images, the
best third on three times as many, and so on, until the last few have seen every image.

scikit-learn's ``HalvingRandomSearchCV`` does the same, but it cannot go on after a kill, keeps its
history to itself, and draws its few images anew for each rung, whatever night or class they are of.
So the rungs are driven here, with scikit-learn's sampler, folds and estimators.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from joblib import delayed
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterSampler, StratifiedGroupKFold
from threadpoolctl import threadpool_limits

from classifiers.estimators import registry as estimators
from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.estimators.processes import in_processes
from classifiers.sample.class_weight import NONE
from classifiers.sample.sample import Sample, ccd_keys
from classifiers.validation.metrics import decide
from lake.errors import BadInput, SurveyError
from lake.progress import TitledProgress
from lake.record import Record, digest
from lake.store import Lake

TABLE = "searches"
STAGE = "search"
#: One in so many candidates goes on, with so many times the images.
FACTOR = 3
FOLDS = 3
#: Least images of a class in each fold, as far as there are that many.
_LEAST = 4
#: Longest that an evaluation waits to be committed, s.
_PERIOD = 0.5


@dataclass(frozen=True)
class Rung:
    """A round of the search: how many candidates, on what share of the images."""

    number: int
    n_candidates: int
    share: float


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes
    ----------
    space : the values that each setting could have.
    settings : of the winner: highest mean accuracy over the folds of the last rung; of equals the
        first drawn.
    accuracy : that mean.
    rungs : as they were run, with `n_samples` images each.
    n_evaluations : all fits, those of earlier runs included; `n_failed` of them failed.
    n_kept : of them those that an earlier run had left.
    """

    space: Mapping[str, tuple[Any, ...]]
    settings: Mapping[str, Any]
    accuracy: float
    rungs: tuple[Rung, ...]
    n_samples: tuple[int, ...]
    n_evaluations: int
    n_failed: int
    n_kept: int

    def to_dict(self) -> dict[str, Any]:
        """Return what a model card says of it."""
        return {
            "factor": FACTOR,
            "folds": FOLDS,
            "grouped_by": "night",
            "scored_by": "accuracy",
            "space": {name: list(values) for name, values in self.space.items()},
            "winner": dict(self.settings),
            "accuracy": self.accuracy,
            "rungs": [
                {"n_candidates": rung.n_candidates, "n_samples": n_samples}
                for rung, n_samples in zip(self.rungs, self.n_samples, strict=True)
            ],
            "n_evaluations": self.n_evaluations,
            "n_failed": self.n_failed,
        }


class _History:
    """Evaluations of one rung: a file of the table, written anew as they are finished.

    A fit of few images takes less time than that: what comes within `_PERIOD` goes in together.
    """

    def __init__(self, lake: Lake, model: str, rung: Rung, record: Record) -> None:
        self.rung = rung
        self.rows: dict[tuple[int, int], dict[str, Any]] = {}
        self._lake, self._keys, self._record = lake, {"model": model}, record
        self._committed, self._time = 0, 0.0
        if lake.is_current(TABLE, self._keys, record, self.part):
            for row in lake.read(TABLE, self._keys, part=self.part).to_pylist():
                self.rows[row["candidate"], row["fold"]] = row
            self._committed = len(self.rows)

    @property
    def part(self) -> str:
        """Name of the file in the partition of the model."""
        return f"rung-{self.rung.number}"

    def add(self, row: dict[str, Any]) -> None:
        """Take an evaluation, and commit what has come when the last time was long enough ago."""
        self.rows[row["candidate"], row["fold"]] = row
        if time.monotonic() - self._time >= _PERIOD:
            self.commit()

    def commit(self) -> None:
        """Commit what has come."""
        if len(self.rows) > self._committed:
            rows = pa.Table.from_pylist(list(self.rows.values()))
            self._lake.write(TABLE, self._keys, rows, self._record, self.part)
        self._committed, self._time = len(self.rows), time.monotonic()

    def ranking(self) -> list[tuple[int, float]]:
        """Return (candidate, mean accuracy), best first, without those that failed."""
        scores: dict[int, list[float | None]] = {}
        for (candidate, _), row in sorted(self.rows.items()):
            scores.setdefault(candidate, []).append(row["accuracy"])
        means = [
            (candidate, float(np.mean([one for one in found if one is not None])))
            for candidate, found in scores.items()
            if None not in found
        ]
        # Rounded, as in queries/search_history.sql: sums in another order are no better.
        return sorted(means, key=lambda pair: (-round(pair[1], 12), pair[0]))


def find_settings(
    lake: Lake,
    sample: Sample,
    model: str,
    classifier: str,
    *,
    class_weight: str = NONE,
    candidates: int = 200,
    seed: int = 0,
    workers: int | None = None,
    progress: TitledProgress | None = None,
) -> Search:
    """Find settings of `classifier` for the images of `sample`, which must hold none to score with.

    Every evaluation is a row of the table `searches` within half a second of its end. Run again,
    with the same sample and settings, the search goes on from there and finds the same.

    Parameters
    ----------
    sample : the training side. Folds keep its nights together and its classes alike.
    class_weight : how much each class counts in the fits, see `classifiers.sample.class_weight`.
    candidates : how many settings are drawn; all there are when the space has fewer.
    seed : decides candidates, folds, subsamples and fits.
    workers : processes; the cores that there are when None. The result does not depend on it.

    Raises
    ------
    SurveyError : a classifier without settings to search, wrong numbers, fewer than two nights, or
        no candidate that could be fitted.
    """
    check_search(classifier, candidates, workers)
    drawn = draw(classifier, candidates, seed)
    folds = assign_folds(sample, seed)
    n_folds = int(folds.max()) + 1
    shares = entry_shares(sample.labels, folds, seed)
    rungs = schedule(len(drawn), len(sample), 2 * n_folds * len(sample.classes))
    record = _record(sample, folds, drawn, classifier, class_weight, seed)
    histories = _open(lake, model, rungs, record)
    n_kept = sum(len(history.rows) for history in histories)

    alive = list(range(len(drawn)))
    n_samples = []
    for history in histories:
        rung = history.rung
        rows = np.flatnonzero(shares < rung.share)
        part, part_folds = sample.take(rows), folds[rows]
        n_samples.append(len(part))
        tasks = [(candidate, fold) for candidate in alive for fold in range(n_folds)]
        waiting = [task for task in tasks if task not in history.rows]
        title = f"rung {rung.number + 1} of {len(rungs)}, {len(part):,} images"
        if progress is not None:
            progress(len(tasks) - len(waiting), len(tasks), title)
        given = _shared(part, part_folds, waiting, drawn, classifier, seed, workers)
        calls = [
            delayed(evaluate)(part, part_folds, *task, settings, classifier, class_weight, seed)
            for task, settings in zip(waiting, given, strict=True)
        ]
        try:
            for result in in_processes(calls, workers, ordered=False):
                common = {"rung": rung.number, "n_samples": len(part)}
                history.add({**common, **drawn[result["candidate"]], **result})
                if progress is not None:
                    progress(len(history.rows), len(tasks), title)
        finally:
            history.commit()
        ranking = history.ranking()
        if not ranking:
            why = next(row["error"] for row in history.rows.values() if row["error"])
            raise BadInput(f"none of {len(alive)} settings of {classifier} can be fitted: {why}")
        following = rungs[rung.number + 1].n_candidates if rung is not rungs[-1] else 1
        alive = sorted(candidate for candidate, _ in ranking[:following])
    everything = [row for history in histories for row in history.rows.values()]
    return Search(
        space=estimators.SPACES[classifier],
        settings=drawn[ranking[0][0]],
        accuracy=ranking[0][1],
        rungs=tuple(rungs),
        n_samples=tuple(n_samples),
        n_evaluations=len(everything),
        n_failed=sum(row["accuracy"] is None for row in everything),
        n_kept=n_kept,
    )


def check_search(classifier: str, candidates: int, workers: int | None) -> None:
    """Raise `SurveyError` for what cannot be searched."""
    if classifier not in estimators.SPACES:
        raise BadInput(f"--classifier {classifier!r}: choose one of {', '.join(estimators.SPACES)}")
    for option, value in (("--candidates", candidates), ("--workers", workers)):
        if value is not None and value < 1:
            raise BadInput(f"{option} {value}: give 1 or more")


def draw(classifier: str, candidates: int, seed: int) -> list[dict[str, Any]]:
    """Return that many different settings of `classifier`, drawn at random from its space."""
    space = {name: list(values) for name, values in estimators.SPACES[classifier].items()}
    size = int(np.prod([len(values) for values in space.values()]))
    return list(ParameterSampler(space, min(candidates, size), random_state=seed))


def schedule(n_candidates: int, n_samples: int, least: int) -> list[Rung]:
    """Return the rungs, with as many as halve the candidates to the last few.

    The last has every image, the one before a third, and so on; the first has not below `least`.
    """
    n_rungs, share = 1, 1.0
    while FACTOR**n_rungs <= n_candidates and n_samples * share / FACTOR >= least:
        n_rungs, share = n_rungs + 1, share / FACTOR
    rungs = []
    for number in range(n_rungs):
        rungs.append(Rung(number, n_candidates, 1 / FACTOR ** (n_rungs - 1 - number)))
        n_candidates = -(-n_candidates // FACTOR)
    return rungs


def assign_folds(sample: Sample, seed: int) -> np.ndarray:
    """Return the fold of each image, (n,): a night lies in one, and classes are alike in all.

    Raises
    ------
    SurveyError : images of fewer than two nights.
    """
    n_nights = len(np.unique(sample.night))
    if n_nights < 2:
        raise BadInput(
            "--search halving needs labelled CCDs of two nights or more to learn from; label more "
            "nights, or train without a search"
        )
    folds = StratifiedGroupKFold(min(FOLDS, n_nights), shuffle=True, random_state=seed)
    fold = np.empty(len(sample), dtype=np.intp)
    with warnings.catch_warnings():
        # Classes on fewer nights than folds are expected: they are as rare as they are.
        warnings.filterwarnings("ignore", message="The least populated class")
        for number, (_, test) in enumerate(
            folds.split(sample.rows, sample.labels, groups=sample.night)
        ):
            fold[test] = number
    # Few nights can leave a fold empty.
    return np.unique(fold, return_inverse=True)[1]


def entry_shares(labels: np.ndarray, folds: np.ndarray, seed: int) -> np.ndarray:
    """Return above which share of all images each one belongs to a subsample, (n,).

    Subsamples lie within one another. Each has that share of every class in every fold, and no
    fewer than a few, drawn at random: of as many nights and exposures as it can.
    """
    rng = np.random.default_rng(seed)
    shares = np.empty(len(labels))
    for label in np.unique(labels):
        for fold in np.unique(folds):
            members = np.flatnonzero((labels == label) & (folds == fold))
            place = rng.permutation(len(members))
            shares[members] = np.where(place < _LEAST, 0, place / max(len(members), 1))
    return shares


def _record(
    sample: Sample,
    folds: np.ndarray,
    drawn: list[dict[str, Any]],
    classifier: str,
    class_weight: str,
    seed: int,
) -> Record:
    rows = digest(
        [ccd_keys(sample.expnum, sample.ccdnum).tolist(), sample.labels.tolist(), folds.tolist()]
    )
    settings = {
        "classifier": classifier,
        "class_weight": class_weight,
        "drawn": digest(drawn),
        "factor": FACTOR,
        "seed": seed,
        "features": asdict(sample.features),
    }
    return Record(STAGE, settings, {"sample": sample.fingerprint, "rows": rows})


def _open(lake: Lake, model: str, rungs: Iterable[Rung], record: Record) -> list[_History]:
    """Return the history of each rung, and remove what another search has left."""
    histories = [_History(lake, model, rung, record) for rung in rungs]
    known = {history.part for history in histories if history.rows}
    for partition in lake.partitions(TABLE, model=model):
        if partition.path.stem not in known:
            lake.remove(TABLE, {"model": model}, partition.path.stem)
    return histories


def _shared(
    sample: Sample,
    folds: np.ndarray,
    tasks: Sequence[tuple[int, int]],
    drawn: Sequence[Mapping[str, Any]],
    classifier: str,
    seed: int,
    workers: int | None,
) -> list[Mapping[str, Any]]:
    """Return the settings of each (candidate, fold), with the step that many share fitted."""
    step = estimators.SHARED.get(classifier)
    if step is None:
        return [drawn[candidate] for candidate, _ in tasks]
    first = {(drawn[candidate][step], fold): drawn[candidate] for candidate, fold in tasks}
    calls = [
        delayed(_fit_step)(sample, folds, fold, settings, classifier, step, seed)
        for (_, fold), settings in first.items()
    ]
    fitted = {
        (value, fold): one for value, fold, one in in_processes(calls, workers, ordered=False)
    }
    return [{**drawn[task[0]], step: fitted[drawn[task[0]][step], task[1]]} for task in tasks]


def _fit_step(
    sample: Sample,
    folds: np.ndarray,
    fold: int,
    settings: Mapping[str, Any],
    classifier: str,
    step: str,
    seed: int,
) -> tuple[Any, int, FrozenEstimator]:
    """Fit a step, and those before it, on the other folds; return its setting, the fold and it."""
    learn = sample.take(folds != fold)
    estimator = estimators.build(classifier, learn.layout, len(learn), seed, settings)
    head = estimator[: list(estimator.named_steps).index(step) + 1]
    with threadpool_limits(1):
        head.fit(learn.vectors, learn.labels)
    return settings[step], fold, FrozenEstimator(head[-1])


def evaluate(
    sample: Sample,
    folds: np.ndarray,
    candidate: int,
    fold: int,
    settings: Mapping[str, Any],
    classifier: str,
    class_weight: str,
    seed: int,
) -> dict[str, Any]:
    """Fit on the other folds and return the accuracy on `fold`, or why it could not be fitted."""
    start = time.perf_counter()
    learn, test = sample.take(folds != fold), sample.take(folds == fold)
    result: dict[str, Any] = {"candidate": candidate, "fold": fold, "accuracy": None, "error": None}
    try:
        estimator = fit_part(learn, classifier, seed, settings, class_weight)
        called = decide(predict_proba(estimator, test), classifier in estimators.GOOD_FIRST)
        result["accuracy"] = float((called == test.labels).mean())
    except SurveyError as error:
        # Some settings do not go together: no component may vary by more than the threshold.
        result["error"] = str(error)
    return {**result, "seconds": time.perf_counter() - start}
