"""Labels that are likely wrong: CCDs that look like another class than the lists say.

Confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70, 1373; arXiv:1911.00068): probabilities
of a classifier that has not seen the night, thresholds by class, and the margin between what a
label says and what the vectors say.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import StratifiedGroupKFold

from classifiers.estimators import knn
from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.estimators.spec import ClassifierSpec
from classifiers.label_errors.evidence import Found, describe, read_units
from classifiers.sample.features import Features
from classifiers.sample.sample import Sample, only_release, read_sample
from classifiers.sample.spec import SampleSpec
from classifiers.sample.vectors import embedded_nights, input_references
from lake.errors import BadInput
from lake.model_files import read_card
from lake.progress import Progress
from lake.record import Record
from lake.store import Lake, identities

STAGE = "label-errors"
#: What a row stands for: all CCDs of an exposure that have one label, or each CCD by itself.
UNITS = ("exposure", "ccd")
#: Parts into which the nights are divided; each is judged by what the others taught.
FOLDS = 5
#: The paper's classifier, asking more neighbours: a share of 7 tells few degrees of doubt apart.
_KNN = {**knn.OPTIMUM, "n_neighbors": 30}


@dataclass(frozen=True)
class Suspects:
    """Labels that the vectors contradict.

    Attributes
    ----------
    rows : the most suspicious first, at most as many as asked for; see `rank`.
    counts : how many there are in all, by ``label`` and ``suggested`` class; ``confident`` ones
        are what confident learning holds for wrong.
    n_judged : labels that could be judged, and `n_unjudged`: of a class on too few nights.
    n_missing : labelled CCDs that have no usable vector.
    origin : what judged them, as a round of inspection that is made of them says it.
    """

    rows: pa.Table
    counts: pa.Table
    n_judged: int
    n_unjudged: int
    n_missing: int
    origin: Mapping[str, Any]

    def subjects(self) -> list[dict[str, Any]]:
        """Return what to look at, the suggested class proposed, as `inspector.rounds` takes it."""
        return [
            {**row, "class": row["suggested"], "probability": row["p_suggested"]}
            for row in self.rows.to_pylist()
        ]


def rank(
    lake: Lake,
    features: Features | None = None,
    *,
    model: str | None = None,
    n: int = 100,
    by: str = "exposure",
    sample: SampleSpec | None = None,
    classifier: ClassifierSpec | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Suspects:
    """Rank the labels of the training sample by how much the vectors contradict them.

    Each CCD is judged by a classifier fitted to other nights. A label is held for wrong
    (``confident``) when some other class has at least the probability that it usually has among
    its own, and more than the label, or the label has less than its own usual one (section 3.1 of
    Northcutt et al. 2021). Those come first, then others of which another class is more probable;
    within, the smallest margin p(label) - p(suggested) first. What several lists call by several
    classes contradicts none of them.

    Columns of the rows: camera, night, expnum, ccdnum (0: the whole exposure), label, suggested,
    p_label, p_suggested, margin, confident, kind, n_ccds (labelled CCDs that were judged
    together), agree and agree_label (share of the nearest labelled CCDs of other nights that are
    of the suggested class, and of the label's), nearest (these CCDs), sources and reasons (lists
    that give the label, their words), why (all that in a sentence).

    Parameters
    ----------
    model : judge as this model was trained, in place of `features`: what is None is the model's.
    n : rows at most.
    by : one of `UNITS`.
    sample : the labels that are judged, and judge each other.
    classifier : what judges; by default the paper's with 30 neighbours. It is not searched.
    seed : decides the sample, the folds, the fit, and the order of equals; 0 by default.

    Raises
    ------
    SurveyError : wrong settings, or too few nights or labels to judge one part by the others.
    """
    features, sample, classifier, seed = _resolved(lake, features, model, sample, classifier, seed)
    _check(by, n, classifier)
    labelled = read_sample(lake, features, sample, seed=seed)
    chances = _out_of_fold(labelled, classifier, seed, progress)
    units = read_units(lake, labelled, sample.sources, by)
    # A class that the other nights do not have cannot be recognised there.
    judged = ~np.isnan(chances).any(axis=1)
    n_of_unit = np.bincount(units.member[judged], minlength=len(units.first))
    mean = (
        np.stack(
            [np.bincount(units.member[judged], p, len(units.first)) for p in chances[judged].T],
            axis=1,
        )
        / np.maximum(n_of_unit, 1)[:, None]
    )
    label = labelled.labels[units.first]
    found = contradictions(mean, label, units.given, n_of_unit > 0)
    # Equals in an order of their own, so that early nights are not looked at first.
    lot = np.random.default_rng(seed).permutation(len(label))
    order = np.lexsort((lot, found.margin, ~found.confident))
    order = order[found.suspect[order]]
    return Suspects(
        rows=describe(labelled, units, found, n_of_unit, order[:n], seed),
        counts=_counts(labelled, label, found),
        n_judged=int((n_of_unit > 0).sum()),
        n_unjudged=int((n_of_unit == 0).sum()),
        n_missing=labelled.n_missing,
        origin={
            "label_errors": classifier.name,
            "embedders": list(features.embedders),
            "release": sample.release,
            "seed": seed,
        },
    )


def _resolved(
    lake: Lake,
    features: Features | None,
    model: str | None,
    sample: SampleSpec | None,
    classifier: ClassifierSpec | None,
    seed: int | None,
) -> tuple[Features, SampleSpec, ClassifierSpec, int]:
    """Return what labels are judged by, where `None` says that a model or the defaults decide."""
    if (features is None) == (model is None):
        raise BadInput("name embedders to judge by, or a model to judge as")
    if model is not None:
        card = read_card(lake, model)
        names = tuple(embedder["name"] for embedder in card["embedders"])
        features = Features(names, card["context"], tuple(card["columns"]))
        sample = sample or SampleSpec.from_card(card)
        classifier = classifier or ClassifierSpec(card["classifier"], settings=card["settings"])
        seed = card["seed"] if seed is None else seed
    assert features is not None
    sample, seed = sample or SampleSpec(), seed or 0
    classifier = classifier or ClassifierSpec()
    if classifier == ClassifierSpec("knn"):
        classifier = ClassifierSpec("knn", settings=_KNN)
    return features, sample, classifier, seed


def find_label_errors(
    lake: Lake,
    features: Features | None = None,
    *,
    model: str | None = None,
    n: int = 100,
    by: str = "exposure",
    sample: SampleSpec | None = None,
    classifier: ClassifierSpec | None = None,
    seed: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Suspects:
    """Write ``label_errors`` and return what `rank` finds, with the same arguments.

    What stands in the lake for the same inputs and settings is kept, unless `force`; so are more
    rows than `n`.

    Raises
    ------
    SurveyError : as `rank`.
    """
    features, sample, classifier, seed = _resolved(lake, features, model, sample, classifier, seed)
    sample = replace(sample, release=sample.release or only_release(lake))
    keys = {"embedder": "+".join(features.embedders)}
    settings = {
        "features": asdict(features),
        "sample": asdict(sample),
        "classifier": asdict(classifier),
        "seed": seed,
        "by": by,
    }
    _check(by, n, classifier)
    record = Record(STAGE, settings, _inputs(lake, features, str(sample.release)))
    standing = lake.record("label_errors", keys)
    is_enough = standing is not None and record.matches(standing) and standing.notes["n"] >= n
    if force or standing is None or not is_enough:
        options: dict[str, Any] = {"n": n, "by": by, "sample": sample, "classifier": classifier}
        suspects = rank(lake, features, seed=seed, progress=progress, **options)
        notes = {
            "n": n,
            "counts": suspects.counts.to_pylist(),
            "origin": suspects.origin,
            **{name: getattr(suspects, name) for name in _COUNTED},
        }
        ranks = pa.array(range(suspects.rows.num_rows), pa.int32())
        rows = suspects.rows.add_column(0, "rank", ranks)
        standing = replace(record, notes=notes)
        lake.write("label_errors", keys, rows, standing)
    rows = lake.read("label_errors", keys).sort_by("rank").drop_columns(["rank"])
    return Suspects(
        rows.replace_schema_metadata(None).slice(0, n),
        pa.Table.from_pylist(list(standing.notes["counts"]), _COUNTS),
        **{name: standing.notes[name] for name in (*_COUNTED, "origin")},
    )


#: Counts of `Suspects` beside its tables.
_COUNTED = ("n_judged", "n_unjudged", "n_missing")
_COUNTS = pa.schema(
    [
        ("label", pa.string()),
        ("suggested", pa.string()),
        ("confident", pa.int64()),
        ("suspect", pa.int64()),
    ]
)


def _inputs(lake: Lake, features: Features, release: str) -> dict[str, str]:
    """Return the identities of all that the labels are judged by."""
    inputs: dict[str, str] = {}
    for night in embedded_nights(lake, features):
        inputs |= input_references(lake, night, features)
    for name in ("ccds", "exposures", "labels"):
        inputs |= identities(lake.partitions(name, release=release))
    return inputs


def _out_of_fold(
    sample: Sample,
    classifier: ClassifierSpec,
    seed: int,
    progress: Progress | None,
) -> np.ndarray:
    """Return class probabilities, (n, classes), each CCD's by a fit to other nights.

    NaN where those nights have no CCD of its class.
    """
    n_nights = len(np.unique(sample.night))
    if n_nights < 2:
        raise BadInput(
            "all labelled CCDs are of one night: none can be judged by others; label more nights"
        )
    folds = StratifiedGroupKFold(min(FOLDS, n_nights), shuffle=True, random_state=seed)
    chances = np.empty((len(sample), len(sample.classes)), np.float32)
    rows = np.arange(len(sample))
    with warnings.catch_warnings():
        # Classes on fewer nights than folds are expected: they are as rare as they are.
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = list(folds.split(rows, sample.labels, sample.night))
    for number, (teach, judge) in enumerate(parts, start=1):
        known = sample.take(teach)
        estimator = fit_part(known, classifier.name, seed, classifier.settings)
        chances[judge] = predict_proba(estimator, sample.take(judge))
        strange = ~np.isin(sample.labels[judge], known.labels)
        chances[judge[strange]] = np.nan
        if progress is not None:
            progress(number, len(parts))
    if np.isnan(chances).all():
        raise BadInput(
            "every class is on one night alone: none can be judged by others; label more nights"
        )
    return chances


def contradictions(
    chances: np.ndarray, label: np.ndarray, given: np.ndarray, judged: np.ndarray
) -> Found:
    """Compare probabilities (n, classes) with labels (n,); `given` are classes of any list."""
    rows = np.arange(len(label))
    p_label = np.where(given, chances, 0).sum(axis=1)
    # How probable a class usually is where the label says it (equation 2).
    usual = np.array(
        [
            chances[judged & (label == index), index].mean()
            if (judged & (label == index)).any()
            else np.inf
            for index in range(chances.shape[1])
        ]
    )
    others = np.where(given, -1, chances)
    clear = np.where(chances >= usual, others, -1)
    best = clear.argmax(axis=1)
    p_clear = clear[rows, best]
    stands = (p_label >= usual[label]) & (p_label >= p_clear)
    confident = judged & (p_clear > 0) & ~stands
    suggested = np.where(confident, best, others.argmax(axis=1))
    p_suggested = np.maximum(others[rows, suggested], 0)
    return Found(
        suggested=suggested,
        p_label=p_label,
        p_suggested=p_suggested,
        confident=confident,
        suspect=judged & (confident | (p_suggested > p_label)),
    )


def _counts(sample: Sample, label: np.ndarray, found: Found) -> pa.Table:
    names = np.array(sample.classes)
    suspects = pa.table(
        {
            "label": names[label[found.suspect]],
            "suggested": names[found.suggested[found.suspect]],
            "confident": found.confident[found.suspect].astype(np.int64),
        }
    )
    counts = suspects.group_by(["label", "suggested"], use_threads=False).aggregate(
        [("confident", "sum"), ("confident", "count")]
    )
    counts = counts.rename_columns(["label", "suggested", "confident", "suspect"])
    by_number = [("confident", "descending"), ("suspect", "descending")]
    return counts.sort_by([*by_number, ("label", "ascending"), ("suggested", "ascending")])


def _check(by: str, n: int, classifier: ClassifierSpec) -> None:
    if by not in UNITS:
        raise BadInput(f"--by {by!r}: choose one of {', '.join(UNITS)}")
    if classifier.is_searched:
        raise BadInput("labels are judged without a search: name settings, or none")
    if n < 1:
        raise BadInput(f"-n {n}: give 1 or more")
