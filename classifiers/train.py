"""Train a classifier on labelled CCDs, score it on nights it has not seen, and save it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sklearn.pipeline import Pipeline

from classifiers.active_learning.rounds import merged_rounds, same_nights
from classifiers.estimators import registry as estimators
from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.exposures.classifier import exposure_classifier_scores, train_exposure_classifier
from classifiers.model import Model, save_model
from classifiers.registry.card import model_card
from classifiers.sample.class_weight import NONE
from classifiers.sample.class_weight import parse as parse_class_weight
from classifiers.sample.features import Features
from classifiers.sample.sample import Sample, read_sample
from classifiers.validation.metrics import Scores, held_out_scores
from classifiers.validation.search import Search, check_search, find_settings
from classifiers.validation.splits import SPLITS, split_by_group
from classifiers.validation.test_set import IMAGE, keep_test_set, predicted_rows
from lake.errors import SurveyError
from lake.model_files import model_folder, stored_identity
from lake.paths import MODEL_FILE
from lake.progress import TitledProgress, ticker
from lake.store import Lake

#: How settings are found: the default ones are taken, or `classifiers.validation.search`.
SEARCHES = ("none", "halving")
#: Settings that a search draws unless told otherwise.
CANDIDATES = 200


@dataclass(frozen=True)
class TrainSummary:
    """What training gave.

    `scores` are of the held-out part, `image_scores` of the same classifier trained and scored on
    images divided at random, as the paper did: CCDs of one exposure then stand on both sides, and
    the difference is the leak. Each is keyed by the least probability, 0 for every prediction.
    `found` is the search, if there was one. `outdated` counts, by table, the partitions that hang
    on the model of the same name that was replaced by another.
    """

    model: Model
    n_train: int
    n_test: int
    n_missing: int
    scores: dict[float, Scores]
    image_scores: dict[float, Scores]
    held_out: tuple[str, ...]
    found: Search | None
    outdated: tuple[tuple[str, int], ...] = ()


def train(
    lake: Lake,
    embedders: str | Sequence[str],
    model: str,
    *,
    release: str | None = None,
    sources: Sequence[str] = (),
    seed: int = 0,
    search: str = "none",
    candidates: int = CANDIDATES,
    workers: int | None = None,
    test_fraction: float = 0.3,
    split: str = "night",
    held_out_like: str | None = None,
    classifier: str = "knn",
    good: int = 10_000,
    max_ebv: float = 0.04,
    min_probability: float = 0.9,
    nights: Sequence[str] | None = None,
    context: str | None = None,
    columns: Sequence[str] = (),
    class_weight: str = NONE,
    exposure_classifier: bool | None = None,
    trust_own_lines: bool = False,
    force: bool = False,
    progress: TitledProgress | None = None,
) -> TrainSummary:
    """Train `classifier` on the labelled CCDs of a lake and save it as ``models/<model>``.

    Defaults follow Luo et al. (2026): the balanced sample of section 2.4 and the classifier of
    section 3.1, fitted on 70 %. Unlike the paper, whole nights are held out.

    Parameters
    ----------
    release, sources, good, max_ebv, nights, trust_own_lines : the sample, see `read_sample`.
    seed : decides sample, split and fit; the same seed gives the same model bit for bit.
    embedders, context, columns : the inputs, see `inputs.features.Features`; no context means
        what suits the classifier (`estimators.CONTEXT`).
    classifier : ``knn``, the paper's, or another of `estimators.CLASSIFIERS`.
    exposure_classifier : whether to classify whole exposures too
        (`classifiers.exposures.classifier`); None for what suits the classifier: ``two-step`` does.
    search : ``none`` for the default settings, the paper's; ``halving`` to find better ones of
        `candidates` on the side that is learned from (`classifiers.validation.search`), over
        `workers` processes.
    class_weight : how much each class counts, see `classifiers.sample.class_weight`.
    test_fraction : share of the sample that is held out.
    held_out_like : a model whose held-out nights are held out again, whatever the fraction: so
        scores before and after a round of inspection are of the same nights.
    split : what is kept on one side: ``night``, ``exposure`` or ``image``.
    min_probability : the cut at which scores are given beside those of all predictions.
    force : replace a model of that name.

    Raises
    ------
    SurveyError : wrong settings, a model of that name, or a sample that cannot be divided or
        fitted.
    """
    # What ends it is better known before the work.
    _check_free(lake, model, force)
    _check(search, split, classifier, test_fraction, min_probability)
    parse_class_weight(class_weight)
    if search != "none":
        check_search(classifier, candidates, workers)
    names = (embedders,) if isinstance(embedders, str) else tuple(embedders)
    features = Features(names, context or estimators.CONTEXT[classifier], tuple(columns))
    tick = ticker(4, None if progress is None else partial(progress, title="training"))
    drawn: dict[str, Any] = {"sources": list(sources), "good": good, "max_ebv": max_ebv}
    drawn["nights"] = None if nights is None else list(nights)
    if trust_own_lines:
        drawn["trust_own_lines"] = True
    sample = read_sample(lake, features, release=release, seed=seed, **drawn)
    tick()
    if held_out_like is None:
        held_out = split_by_group(sample, split, test_fraction, seed)
    else:
        split, held_out = "night", same_nights(lake, sample, held_out_like)
    learn, test = sample.take(~held_out), sample.take(held_out)
    found = None
    if search != "none":
        found = find_settings(
            lake,
            learn,
            model,
            classifier,
            class_weight=class_weight,
            candidates=candidates,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    settings = None if found is None else found.settings

    def fit(part: Sample) -> Pipeline:
        return fit_part(part, classifier, seed, settings, class_weight)

    estimator = fit(learn)
    good_first = classifier in estimators.GOOD_FIRST
    exposures = None
    if good_first if exposure_classifier is None else exposure_classifier:
        exposures = train_exposure_classifier(lake, learn, fit, seed)
    tick()
    cuts = sorted({0.0, min_probability})
    scores = held_out_scores(test, predict_proba(estimator, test), cuts, good_first)
    tick()
    at_random = split_by_group(sample, IMAGE, test_fraction, seed)
    image_test = sample.take(at_random)
    image_probabilities = predict_proba(fit(sample.take(~at_random)), image_test)
    image_scores = held_out_scores(image_test, image_probabilities, cuts, good_first)
    tick()
    card = model_card(
        sample,
        held_out,
        estimator,
        {split: scores, IMAGE: image_scores},
        drawn=drawn,
        split=split,
        test_fraction=test_fraction,
        classifier=classifier,
        class_weight=class_weight,
        seed=seed,
        found=found,
    )
    card["exposure_scores"] = exposures and exposure_classifier_scores(
        lake, exposures, learn, test, estimator
    )
    card["rounds"] = merged_rounds(lake)
    former = stored_identity(lake, model)
    beside = None
    if split != IMAGE:
        beside = predicted_rows(IMAGE, image_test, image_probabilities, good_first)
    saved = save_model(
        lake,
        model,
        estimator,
        exposures,
        card,
        first=lambda trained: keep_test_set(lake, trained, test, beside),
    )
    return TrainSummary(
        model=saved,
        n_train=len(learn),
        n_test=len(test),
        n_missing=sample.n_missing,
        scores=scores,
        image_scores=image_scores,
        held_out=tuple(sample.nights_of(held_out)),
        found=found,
        outdated=_hanging(lake, model) if former not in (None, saved.identity) else (),
    )


def _check_free(lake: Lake, model: str, force: bool) -> None:
    """Raise `SurveyError` where there is a model of that name and it is not to be replaced."""
    folder = model_folder(lake, model)
    if force or not (folder / MODEL_FILE).exists():
        return
    hanging = ", ".join(f"{count:,} partitions of {name}" for name, count in _hanging(lake, model))
    raise SurveyError(
        f"there is a model {model} in {lake.root}; give another name, or --force replaces it"
        + (f": {hanging} would be out of date" if hanging else "")
    )


def _hanging(lake: Lake, model: str) -> tuple[tuple[str, int], ...]:
    """Return, by table, how many partitions were made by a model."""
    counts = [(name, len(lake.partitions(name, model=model))) for name in ("predictions", "votes")]
    return tuple((name, count) for name, count in counts if count)


def _check(
    search: str, split: str, classifier: str, test_fraction: float, min_probability: float
) -> None:
    for option, value, known in (
        ("--search", search, SEARCHES),
        ("--split", split, SPLITS),
        ("--classifier", classifier, estimators.CLASSIFIERS),
    ):
        if value not in known:
            raise SurveyError(f"{option} {value!r}: choose one of {', '.join(known)}")
    if not 0 < test_fraction < 1:
        raise SurveyError(f"--test-fraction {test_fraction}: give a share between 0 and 1")
    if not 0 <= min_probability <= 1:
        raise SurveyError(f"--min-probability {min_probability}: give a probability from 0 to 1")
