"""Train a classifier on labelled CCDs, score it on nights it has not seen, and save it."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from classifiers import estimators
from classifiers.features import Features
from classifiers.holdouts import IMAGE, keep_holdouts, predicted_rows
from classifiers.judge import exposure_sample, fit_judge
from classifiers.metrics import Scores, score
from classifiers.model import Model, model_folder, save_model
from classifiers.sample import Sample, read_sample
from lake.errors import SurveyError
from lake.store import Lake, tool_version

#: How the sample can be divided: what stays together on one side.
SPLITS = ("night", "exposure", "image")

Progress = Callable[[int, int], None]

#: What a model card says a model is for.
INTENDED_USE = (
    "Proposes CCD images and exposures that may be unfit, for people to confirm; for the cameras, "
    "embedder and kinds of defects that it was trained on. Probabilities are of a balanced sample, "
    "in which bad images are far more common than in a survey."
)


@dataclass(frozen=True)
class TrainSummary:
    """What training gave.

    `scores` are of the held-out part, `image_scores` of the same classifier trained and scored on
    images divided at random, as the paper did: CCDs of one exposure then stand on both sides, and
    the difference is the leak. Each is keyed by the least probability, 0 for every prediction.
    """

    model: Model
    n_train: int
    n_test: int
    n_missing: int
    scores: dict[float, Scores]
    image_scores: dict[float, Scores]
    held_out: tuple[str, ...]


def train(
    lake: Lake,
    embedders: str | Sequence[str],
    model: str,
    *,
    release: str | None = None,
    sources: Sequence[str] = (),
    seed: int = 0,
    search: str = "none",
    test_fraction: float = 0.3,
    split: str = "night",
    classifier: str = "knn",
    good: int = 10_000,
    max_ebv: float = 0.04,
    min_probability: float = 0.9,
    nights: Sequence[str] | None = None,
    context: str | None = None,
    columns: Sequence[str] = (),
    progress: Progress | None = None,
) -> TrainSummary:
    """Train `classifier` on the labelled CCDs of a lake and save it as ``models/<model>``.

    Defaults follow Luo et al. (2026): the balanced sample of section 2.4 and the classifier of
    section 3.1, fitted on 70 %. Unlike the paper, whole nights are held out.

    Parameters
    ----------
    release, sources, good, max_ebv, nights : the sample, see `read_sample`.
    seed : decides sample, split and fit; the same seed gives the same model bit for bit.
    embedders, context, columns : the inputs, see `classifiers.features.Features`; no context means
        what suits the classifier (`estimators.CONTEXT`).
    classifier : ``knn``, the paper's, or ``two-step`` (`classifiers.forest`), which also learns to
        judge whole exposures (`classifiers.judge`).
    test_fraction : share of the sample that is held out.
    split : what is kept on one side: ``night``, ``exposure`` or ``image``.
    min_probability : the cut at which scores are given beside those of all predictions.

    Raises
    ------
    SurveyError : wrong settings, or a sample that cannot be divided or fitted.
    """
    model_folder(lake, model)  # a name that cannot be used is better known before the work
    _check(search, split, classifier, test_fraction, min_probability)
    names = (embedders,) if isinstance(embedders, str) else tuple(embedders)
    features = Features(names, context or estimators.CONTEXT[classifier], tuple(columns))
    tick = _ticker(4, progress)
    sample = read_sample(
        lake,
        features,
        release=release,
        sources=sources,
        good=good,
        max_ebv=max_ebv,
        seed=seed,
        nights=nights,
    )
    tick()
    held_out = divide(sample, split, test_fraction, seed)
    estimator = _fitted(sample, ~held_out, classifier, seed)
    judge = None
    if classifier in estimators.GOOD_FIRST:
        judge = fit_judge(*exposure_sample(lake, sample.take(~held_out)), seed)
    tick()
    cuts = sorted({0.0, min_probability})
    good_first = classifier in estimators.GOOD_FIRST
    test = sample.take(held_out)
    scores = held_out_scores(test, _probabilities(estimator, test), cuts, good_first)
    tick()
    at_random = divide(sample, IMAGE, test_fraction, seed)
    image_test = sample.take(at_random)
    leaky = _probabilities(_fitted(sample, ~at_random, classifier, seed), image_test)
    image_scores = held_out_scores(image_test, leaky, cuts, good_first)
    tick()
    card = {
        "intended_use": INTENDED_USE,
        "classes": list(sample.classes),
        "embedders": [
            {"name": name, "settings": settings}
            for name, settings in zip(names, sample.settings, strict=True)
        ],
        "context": features.context,
        "columns": list(features.columns),
        "classifier": classifier,
        "steps": estimators.settings(estimator),
        "training": {
            "fingerprint": sample.fingerprint,
            "release": sample.release,
            "sources": list(sources),
            "good": good,
            "max_ebv": max_ebv,
            "nights": None if nights is None else list(nights),
            "n_train": int((~held_out).sum()),
            "n_test": int(held_out.sum()),
            "n_missing": sample.n_missing,
            "n_by_class": {
                name: int((sample.labels == index).sum())
                for index, name in enumerate(sample.classes)
            },
        },
        "split": {
            "by": split,
            "test_fraction": test_fraction,
            "held_out": _names(sample, held_out),
            "trained_on": _names(sample, ~held_out),
        },
        "seed": seed,
        "search": search,
        "scores": {
            split: {str(cut): value.to_dict() for cut, value in scores.items()},
            "image": {str(cut): value.to_dict() for cut, value in image_scores.items()},
        },
        "versions": {
            "survey-qa": tool_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scikit-learn", "skops", "torch")},
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    saved = save_model(lake, model, estimator, judge, card)
    beside = None if split == IMAGE else predicted_rows(IMAGE, image_test, leaky, good_first)
    keep_holdouts(lake, saved, test, beside)
    return TrainSummary(
        model=saved,
        n_train=int((~held_out).sum()),
        n_test=int(held_out.sum()),
        n_missing=sample.n_missing,
        scores=scores,
        image_scores=image_scores,
        held_out=tuple(_names(sample, held_out)),
    )


def divide(sample: Sample, by: str, test_fraction: float, seed: int) -> np.ndarray:
    """Return which rows are held out, (n,) bool: whole groups, classes alike on both sides.

    Raises
    ------
    SurveyError : there are fewer than two groups, or a side lacks good or bad images.
    """
    rows = np.arange(len(sample))
    held_out = np.zeros(len(sample), bool)
    if by == "image":
        counts = np.bincount(sample.labels)
        # A class of one image cannot be on both sides.
        alike = None if counts[counts > 0].min() < 2 else sample.labels
        test = train_test_split(rows, test_size=test_fraction, random_state=seed, stratify=alike)[1]
        held_out[test] = True
        return held_out
    groups = sample.night if by == "night" else sample.expnum
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise SurveyError(
            f"all labelled CCDs are of one {by}: nothing can be held out; label more nights, or "
            "use --split image"
        )
    n_folds = min(10, n_groups)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Classes on fewer nights than folds are expected: they are as rare as they are.
        warnings.filterwarnings("ignore", message="The least populated class")
        tests = [test for _, test in folds.split(rows, sample.labels, groups)]
    n_test = min(max(round(n_folds * test_fraction), 1), n_folds - 1)
    held_out[np.concatenate(tests[:n_test])] = True
    for side, name in ((held_out, "held out"), (~held_out, "trained on")):
        if len(np.unique(sample.labels[side])) < 2:
            raise SurveyError(
                f"the {by}s {name} have labels of one class alone; label more nights or choose "
                "another --seed"
            )
    return held_out


def held_out_scores(
    test: Sample, probabilities: np.ndarray, cuts: Sequence[float], good_first: bool
) -> dict[float, Scores]:
    """Score probabilities (n, n_classes) of a held-out part, at each least probability."""
    return {
        cut: score(test.classes, test.labels, probabilities, test.night, cut, good_first=good_first)
        for cut in cuts
    }


def _probabilities(estimator: Any, test: Sample) -> np.ndarray:
    return estimators.probabilities(estimator, test.vectors, len(test.classes))


def _fitted(sample: Sample, rows: np.ndarray, classifier: str, seed: int) -> Any:
    part = sample.take(rows)
    estimator = estimators.build(classifier, part.layout, len(part), seed)
    return estimators.fit(estimator, part.vectors, part.labels, part.weights)


def _names(sample: Sample, rows: np.ndarray) -> list[str]:
    return [sample.nights[index] for index in np.unique(sample.night[rows])]


def _check(
    search: str, split: str, classifier: str, test_fraction: float, min_probability: float
) -> None:
    for option, value, known in (
        ("--search", search, ("none",)),
        ("--split", split, SPLITS),
        ("--classifier", classifier, estimators.CLASSIFIERS),
    ):
        if value not in known:
            raise SurveyError(f"{option} {value!r}: choose one of {', '.join(known)}")
    if not 0 < test_fraction < 1:
        raise SurveyError(f"--test-fraction {test_fraction}: give a share between 0 and 1")
    if not 0 <= min_probability <= 1:
        raise SurveyError(f"--min-probability {min_probability}: give a probability from 0 to 1")


def _ticker(total: int, progress: Progress | None) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick
