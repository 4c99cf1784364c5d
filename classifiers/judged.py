"""The learned vote: what a model's judge says of each exposure, and which CCDs it means."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from classifiers.inputs.exposures import describe, described_inputs
from classifiers.inputs.vectors import NightVectors, ccd_keys, read_vectors
from classifiers.model import Model
from lake.errors import SurveyError
from lake.store import Lake, Partition

#: Classes that strike at least this share of an exposure's CCDs make it bad as a whole.
_WHOLE = 0.5
#: Least probability of being bad at which a CCD confirms that its exposure has bad ones. The list
#: names them from the same probability on (queries/bad_expid_ccds.sql).
_CONFIRMS = 0.5


def judged_inputs(lake: Lake, model: Model, predictions: Partition) -> dict[str, str]:
    """Return the fingerprints, beside the predictions', that decide a learned vote."""
    vectors = _vectors(lake, model, predictions)
    return {"model": model.fingerprint, **described_inputs(lake, vectors, model.features)}


def judged_votes(
    lake: Lake, model: Model, predictions: Partition, min_probability: float, min_fraction: float
) -> pa.Table:
    """Return the votes of one night under the rule ``learned``, see `classifiers.vote.vote`.

    Raises
    ------
    SurveyError : the model has no judge, the night's vectors are gone or of other settings, or
        the predictions are of another version of the model.
    """
    if model.judge is None:
        raise SurveyError(
            f"model {model.name} cannot judge exposures; train it with --judge, or vote "
            "with --rule share"
        )
    vectors = _vectors(lake, model, predictions)
    model.check_night(lake, vectors)
    shares, night = _predicted(lake, model, predictions, vectors)
    described = describe(lake, vectors, night, shares)
    exposures, n_ccds = described.expnum, described.n_ccds
    chances = model.judge.probabilities(described.vectors)
    exposure = np.searchsorted(exposures, night.expnum)
    # Single precision on both sides, as SQL on the table compares.
    flagged = (1 - shares[:, 0]).astype(np.float32) >= np.float32(min_probability)
    n_bad = np.bincount(exposure[flagged], minlength=len(exposures))
    judged = 1 - chances[:, 0] >= model.judge.threshold

    of_ccds = np.zeros((len(exposures), len(model.classes) - 1))
    np.add.at(of_ccds, exposure[flagged], shares[flagged, 1:])
    worst = np.where(judged[:, None], chances[:, 1:], of_ccds).argmax(axis=1) + 1
    surest = np.zeros(len(exposures))
    np.maximum.at(surest, exposure, 1 - shares[:, 0])

    local = model.judge.extents[worst] < _WHOLE
    confirmed = np.zeros(len(exposures), dtype=bool)
    confirmed[exposure[1 - shares[:, 0] >= _CONFIRMS]] = True
    # What is beyond anything good needs no CCD to confirm it; which CCDs it strikes is not known.
    local &= confirmed | ~model.judge.is_far_out(described.vectors)
    judged &= ~local | confirmed
    found = judged | (n_bad > 0)
    whole = (judged & ~local) | (n_bad >= min_fraction * n_ccds)
    chance = np.where(judged, 1 - chances[:, 0], np.where(found, surest, chances[:, 0]))
    return pa.table(
        {
            "expnum": exposures,
            "n_ccds": n_ccds.astype(np.int32),
            "n_bad": n_bad.astype(np.int32),
            "class": pa.array(model.classes).take(pa.array(np.where(found, worst, 0))),
            "probability": chance.astype(np.float32),
            "is_bad": whole,
        }
    )


def _vectors(lake: Lake, model: Model, predictions: Partition) -> Partition:
    where = {"camera": predictions["camera"], "night": predictions["night"]}
    embedder = model.features.embedders[0]
    found = lake.partitions("embeddings", embedder=embedder, **where)
    if not found:
        raise SurveyError(
            f"{predictions.name}: the vectors of {embedder} that were predicted from are "
            "gone; embed again"
        )
    return found[0]


def _predicted(
    lake: Lake, model: Model, predictions: Partition, vectors: Partition
) -> tuple[np.ndarray, NightVectors]:
    """Return the probabilities (n, n_classes) of a night's CCDs, and their vectors."""
    record = predictions.record()
    if record is None or record.inputs.get("model") != model.fingerprint:
        raise SurveyError(
            f"{predictions.name}: predicted by another version of model {model.name}; run "
            "`survey-qa predict` again"
        )
    night = read_vectors(lake, vectors, model.features)
    columns = ["expnum", "ccdnum", "probabilities"]
    rows = lake.read("predictions", dict(predictions.keys), columns)
    keys = ccd_keys(rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy())
    if not np.array_equal(keys, ccd_keys(night.expnum, night.ccdnum)):
        raise SurveyError(
            f"{predictions.name}: not of the CCDs that have vectors now; run `survey-qa predict` "
            "again"
        )
    shares = rows["probabilities"].combine_chunks().values.to_numpy()
    return shares.reshape(-1, len(model.classes)), night
