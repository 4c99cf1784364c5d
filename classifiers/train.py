"""Train a classifier on labelled CCDs, score it on nights it has not seen, and save it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from sklearn.pipeline import Pipeline

from classifiers.active_learning.rounds import merged_rounds, same_nights
from classifiers.estimators import registry as estimators
from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.estimators.spec import ClassifierSpec
from classifiers.exposures.classifier import exposure_classifier_scores, train_exposure_classifier
from classifiers.model import Model, save_model
from classifiers.registry.card import model_card
from classifiers.sample.features import Features, as_features
from classifiers.sample.sample import Sample, read_sample
from classifiers.sample.spec import SampleSpec
from classifiers.validation.metrics import Scores, held_out_scores
from classifiers.validation.search import Search, check_search, find_settings
from classifiers.validation.splits import SplitSpec, split_by_group
from classifiers.validation.test_set import IMAGE, keep_test_set, predicted_rows
from lake.errors import BadInput, Conflict
from lake.model_files import model_folder, stored_identity
from lake.paths import MODEL_FILE
from lake.progress import TitledProgress, ticker
from lake.store import Lake


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
    features: Features | str | Sequence[str],
    model: str,
    *,
    sample: SampleSpec = SampleSpec(),
    split: SplitSpec = SplitSpec(),
    classifier: ClassifierSpec = ClassifierSpec(),
    exposure_classifier: bool | None = None,
    min_probability: float = 0.9,
    seed: int = 0,
    workers: int | None = None,
    force: bool = False,
    progress: TitledProgress | None = None,
) -> TrainSummary:
    """Train `classifier` on the labelled CCDs of a lake and save it as ``models/<model>``.

    Defaults follow Luo et al. (2026): the balanced sample of section 2.4 and the classifier of
    section 3.2, fitted on 70 %. Unlike the paper, whole nights are held out.

    Parameters
    ----------
    features : what is learned from; names of embedders alone stand for their vectors in the
        context that suits the classifier.
    sample : the labelled CCDs (section 2.4).
    split : what is held out. What the paper does, ``image``, is scored beside it.
    classifier : which one, and how its settings are found (section 3.2).
    exposure_classifier : whether to classify whole exposures too
        (`classifiers.exposures.classifier`); None for what suits the classifier: ``two-step`` does.
    min_probability : the cut at which scores are given beside those of all predictions; 0.9 as in
        section 3.2.
    seed : decides sample, split and fit; the same seed gives the same model bit for bit.
    workers : processes of a search; the cores that there are when None.
    force : replace a model of that name.

    Raises
    ------
    SurveyError : wrong settings, a model of that name, or a sample that cannot be divided or
        fitted.
    """
    # What ends it is better known before the work.
    _check_free(lake, model, force)
    if not 0 <= min_probability <= 1:
        raise BadInput(f"probability {min_probability}: give one from 0 to 1")
    if classifier.is_searched:
        check_search(classifier.name, classifier.candidates, workers)
    features = as_features(features, classifier.context)
    tick = ticker(4, None if progress is None else partial(progress, title="training"))
    labelled = read_sample(lake, features, sample, seed=seed)
    tick()
    if split.held_out_like is None:
        held_out = split_by_group(labelled, split.by, split.test_fraction, seed)
    else:
        split = replace(split, by="night")
        held_out = same_nights(lake, labelled, str(split.held_out_like))
    learn, test = labelled.take(~held_out), labelled.take(held_out)
    found = None
    if classifier.is_searched:
        found = find_settings(
            lake,
            learn,
            model,
            classifier.name,
            class_weight=classifier.class_weight,
            candidates=classifier.candidates,
            seed=seed,
            workers=workers,
            progress=progress,
        )
        classifier = replace(classifier, search="none", settings=found.settings)

    def fit(part: Sample) -> Pipeline:
        return fit_part(part, classifier.name, seed, classifier.settings, classifier.class_weight)

    estimator = fit(learn)
    good_first = classifier.name in estimators.GOOD_FIRST
    exposures = None
    if good_first if exposure_classifier is None else exposure_classifier:
        exposures = train_exposure_classifier(lake, learn, fit, seed)
    tick()
    cuts = sorted({0.0, min_probability})
    scores = held_out_scores(test, predict_proba(estimator, test), cuts, good_first)
    tick()
    at_random = split_by_group(labelled, IMAGE, split.test_fraction, seed)
    image_test = labelled.take(at_random)
    image_probabilities = predict_proba(fit(labelled.take(~at_random)), image_test)
    image_scores = held_out_scores(image_test, image_probabilities, cuts, good_first)
    tick()
    card = model_card(
        labelled,
        held_out,
        estimator,
        {split.by: scores, IMAGE: image_scores},
        drawn=sample,
        split=split,
        classifier=classifier,
        seed=seed,
        found=found,
    )
    card["exposure_scores"] = exposures and exposure_classifier_scores(
        lake, exposures, learn, test, estimator
    )
    card["rounds"] = merged_rounds(lake)
    former = stored_identity(lake, model)
    beside = None
    if split.by != IMAGE:
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
        n_missing=labelled.n_missing,
        scores=scores,
        image_scores=image_scores,
        held_out=tuple(labelled.nights_of(held_out)),
        found=found,
        outdated=_hanging(lake, model) if former not in (None, saved.identity) else (),
    )


def _check_free(lake: Lake, model: str, force: bool) -> None:
    """Raise `SurveyError` where there is a model of that name and it is not to be replaced."""
    folder = model_folder(lake, model)
    if force or not (folder / MODEL_FILE).exists():
        return
    hanging = ", ".join(f"{count:,} partitions of {name}" for name, count in _hanging(lake, model))
    raise Conflict(
        f"there is a model {model} in {lake.root}; give another name, or --force replaces it"
        + (f": {hanging} would be out of date" if hanging else "")
    )


def _hanging(lake: Lake, model: str) -> tuple[tuple[str, int], ...]:
    """Return, by table, how many partitions were made by a model."""
    counts = [(name, len(lake.partitions(name, model=model))) for name in ("predictions", "votes")]
    return tuple((name, count) for name, count in counts if count)
