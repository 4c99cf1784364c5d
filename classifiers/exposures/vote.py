"""The learned vote: what the exposure classifier says of each exposure, and which CCDs it means."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from badlist.decisions import CONFIRMS, WHOLE
from classifiers.exposures.features import Exposures, describe, described_inputs
from classifiers.model import Model
from classifiers.sample.vectors import NightVectors, ccd_keys, look_up, read_vectors
from lake.errors import BadInput
from lake.record import model_reference
from lake.store import Lake, Partition

#: Exposures that are classified together; of each there are some 100 kB meanwhile.
_AT_ONCE = 1024


def learned_inputs(lake: Lake, model: Model, predictions: Partition) -> dict[str, str]:
    """Return the inputs, beside the predictions, that decide a learned vote."""
    vectors = _vectors(lake, model, predictions)
    described = described_inputs(lake, vectors, model.features)
    return {model_reference(model.name): model.identity, **described}


def learned_votes(
    lake: Lake,
    model: Model,
    predictions: Sequence[Partition],
    min_probability: float,
    min_fraction: float,
) -> Iterator[pa.Table]:
    """Yield the votes of each night under the rule ``learned``, see `classifiers.vote.vote`.

    Nights are read side by side and classified some at once, as many as have `_AT_ONCE` exposures:
    asking hundreds of trees of one night after the other takes longer than their answers.

    Raises
    ------
    SurveyError : the model has no exposure classifier, the night's vectors are gone or of other
        settings, or the predictions are of another version of the model.
    """
    if model.exposure_classifier is None:
        raise BadInput(
            f"model {model.name} cannot classify exposures; train it with --exposure-classifier, "
            "or vote with --rule share"
        )
    waiting: list[_Night] = []
    for night in _read_ahead(lambda partition: _read(lake, model, partition), predictions):
        waiting.append(night)
        if sum(len(one.described.expnum) for one in waiting) >= _AT_ONCE:
            yield from _judged(model, waiting, min_probability, min_fraction)
            waiting = []
    yield from _judged(model, waiting, min_probability, min_fraction)


@dataclass(frozen=True)
class _Night:
    """The exposures of a night, and the exposures `expnum` and probabilities of its CCDs."""

    described: Exposures
    expnum: np.ndarray
    shares: np.ndarray


def _read_ahead(
    read: Callable[[Partition], _Night], partitions: Sequence[Partition]
) -> Iterator[_Night]:
    """Yield what `read` returns of each, in order; a few are being read meanwhile."""
    n_threads = len(os.sched_getaffinity(0))
    ahead: deque[Future[_Night]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for partition in partitions:
                ahead.append(pool.submit(read, partition))
                if len(ahead) > n_threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(lake: Lake, model: Model, predictions: Partition) -> _Night:
    vectors = _vectors(lake, model, predictions)
    model.check_night(lake, vectors)
    shares, night = _predicted(lake, model, predictions, vectors)
    return _Night(describe(lake, vectors, night, shares), night.expnum, shares)


def _judged(
    model: Model, nights: Sequence[_Night], min_probability: float, min_fraction: float
) -> Iterator[pa.Table]:
    if not nights:
        return
    assert model.exposure_classifier is not None
    probabilities, is_novel = model.exposure_classifier.predict(
        np.concatenate([one.described.vectors for one in nights])
    )
    start = 0
    for one in nights:
        mine = slice(start, start + len(one.described.expnum))
        start = mine.stop
        yield _votes(model, one, probabilities[mine], is_novel[mine], min_probability, min_fraction)


def _votes(
    model: Model,
    night: _Night,
    probabilities: np.ndarray,
    is_novel: np.ndarray,
    min_probability: float,
    min_fraction: float,
) -> pa.Table:
    """Return the votes of a night.

    Its exposures have these `probabilities` of each class, and `is_novel` says which are farther
    from the good ones than these come.
    """
    assert model.exposure_classifier is not None
    exposures, n_ccds, shares = night.described.expnum, night.described.n_ccds, night.shares
    exposure = np.searchsorted(exposures, night.expnum)
    # Single precision on both sides, as SQL on the table compares.
    flagged = (1 - shares[:, 0]).astype(np.float32) >= np.float32(min_probability)
    n_bad = np.bincount(exposure[flagged], minlength=len(exposures))
    is_bad = 1 - probabilities[:, 0] >= model.exposure_classifier.threshold

    of_ccds = np.zeros((len(exposures), len(model.classes) - 1))
    np.add.at(of_ccds, exposure[flagged], shares[flagged, 1:])
    worst = np.where(is_bad[:, None], probabilities[:, 1:], of_ccds).argmax(axis=1) + 1
    surest = np.zeros(len(exposures))
    np.maximum.at(surest, exposure, 1 - shares[:, 0])

    local = model.exposure_classifier.extents[worst] < WHOLE
    confirmed = np.zeros(len(exposures), dtype=bool)
    confirmed[exposure[1 - shares[:, 0] >= CONFIRMS]] = True
    # What is beyond anything good needs no CCD to confirm it; which CCDs it strikes is not known.
    local &= confirmed | ~is_novel
    is_bad &= ~local | confirmed
    found = is_bad | (n_bad > 0)
    whole = (is_bad & ~local) | (n_bad >= min_fraction * n_ccds)
    probability = np.where(
        is_bad, 1 - probabilities[:, 0], np.where(found, surest, probabilities[:, 0])
    )
    return pa.table(
        {
            "expnum": exposures,
            "n_ccds": n_ccds.astype(np.int32),
            "n_bad": n_bad.astype(np.int32),
            "class": pa.array(model.classes).take(pa.array(np.where(found, worst, 0))),
            "probability": probability.astype(np.float32),
            "is_bad": whole,
        }
    )


def _vectors(lake: Lake, model: Model, predictions: Partition) -> Partition:
    where = {"camera": predictions["camera"], "night": predictions["night"]}
    embedder = model.features.embedders[0]
    found = lake.partitions("embeddings", embedder=embedder, **where)
    if not found:
        raise BadInput(
            f"{predictions.name}: the vectors of {embedder} that were predicted from are "
            "gone; embed again"
        )
    return found[0]


def _predicted(
    lake: Lake, model: Model, predictions: Partition, vectors: Partition
) -> tuple[np.ndarray, NightVectors]:
    """Return the probabilities (n, n_classes) of a night's CCDs, and their vectors."""
    record = predictions.record()
    if record is None or record.inputs.get(model_reference(model.name)) != model.identity:
        raise BadInput(
            f"{predictions.name}: predicted by another version of model {model.name}; run "
            "`survey-qa predict` again"
        )
    night = read_vectors(lake, vectors, model.features)
    columns = ["expnum", "ccdnum", "probabilities"]
    rows = lake.read("predictions", dict(predictions.keys), columns)
    keys = ccd_keys(rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy())
    # Predictions stay where vectors are gone: those CCDs have no say.
    at, has_prediction = look_up(keys, ccd_keys(night.expnum, night.ccdnum))
    if not has_prediction.all():
        raise BadInput(
            f"{predictions.name}: not of the CCDs that have vectors now; run `survey-qa predict` "
            "again"
        )
    shares = rows["probabilities"].combine_chunks().values.to_numpy()
    return shares.reshape(-1, len(model.classes))[at], night
