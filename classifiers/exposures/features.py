"""What a classifier of exposures is told of each: its CCDs' vectors, its own, its CCDs' classes.

The paper lets CCDs vote, each on its own; its section 5.4 names the whole exposure as what that
misses (Luo et al. 2026). Here an exposure is described by what its CCDs' vectors have in common and
how they differ, by the vectors of embedders that see it whole, and by how its CCDs were classified
and where in the focal plane the suspicious ones lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.pipeline import Pipeline

from classifiers.estimators import registry as estimators
from classifiers.sample.features import Features, Layout
from classifiers.sample.held import HeldVectors
from classifiers.sample.sample import Sample
from classifiers.sample.vectors import (
    NightVectors,
    embedded_nights,
    in_chunks,
    input_references,
    read_bands,
    read_vectors,
)
from lake.errors import BadInput
from lake.focal_plane import COLUMNS, layout
from lake.record import table_reference
from lake.store import Lake, Partition, read_file

#: Quantiles over an exposure's CCDs of their deviation from its median vector.
_QUANTILES = (0.0, 0.05, 0.95, 1.0)
#: Values of CCDs' vectors that are summarised at once: what the cache holds.
_BLOCK = 1 << 17
#: Trees draw features by lot. The exposure's own vectors, few beside the summaries of its CCDs',
#: stand so often that there are this many times as many values of them.
_OWN = 1 / 3
#: The focal plane is divided into so many cells along each side.
_CELLS = 3
#: Probabilities of being bad above which CCDs are counted.
_CUTS = (0.25, 0.5, 0.9)
#: Ranks of the CCDs, the most suspicious first, whose probability of being bad is told.
_RANKS = (1, 3, 10)


@dataclass(frozen=True)
class Exposures:
    """The exposures of a night.

    Attributes
    ----------
    expnum, n_ccds : (n,), sorted by exposure.
    vectors : (n, d) float32: summary of the CCDs' vectors, vectors of the whole exposure, these
        again (`_OWN`), summary of the CCDs' classes, number of the band.
    n_measured : how many of the values are of vectors, each once: the first ones.
    """

    expnum: np.ndarray
    n_ccds: np.ndarray
    vectors: np.ndarray
    n_measured: int


def describe(
    lake: Lake, partition: Partition, night: NightVectors, probabilities: np.ndarray
) -> Exposures:
    """Describe the exposures of a night.

    Parameters
    ----------
    night : the vectors of its CCDs, of the partition `partition` of the first embedder.
    probabilities : (n_ccds, n_classes) of the classes of the same CCDs, good first.
    """
    start = night.layout.ccd
    exposures, summaries = summarise(night.expnum, night.vectors[:, :start])
    first, n_ccds = np.unique(night.expnum, return_index=True, return_counts=True)[1:]
    whole = night.vectors[first, start : start + night.layout.exposure]
    cells = focal_plane_cells(lake, partition)
    cell = np.array([cells.get(number, -1) for number in night.ccdnum.tolist()], np.intp)
    classes = summarise_classes(night.expnum, probabilities, cell)
    bands = read_bands(lake, partition, exposures)
    times = round(_OWN * summaries.shape[1] / whole.shape[1]) if whole.shape[1] else 1
    again = [whole] * max(times - 1, 0)
    vectors = np.concatenate([summaries, whole, *again, classes, bands[:, None]], axis=1)
    return Exposures(exposures, n_ccds, vectors, summaries.shape[1] + whole.shape[1])


def summarise(expnum: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return exposures (n,) and what their CCDs have in common and how they differ, (n, 6 d).

    Per feature: the median over the CCDs, and lowest, 5 %, 95 %, highest and rms deviation from it.
    """
    exposures, counts = np.unique(expnum, return_counts=True)
    summaries = np.empty((len(exposures), 6 * vectors.shape[1]), dtype=np.float32)
    order = np.argsort(expnum, kind="stable")
    start = np.cumsum(counts) - counts
    for count in np.unique(counts):
        alike = np.flatnonzero(counts == count)
        size = max(_BLOCK // (count * vectors.shape[1]), 1)
        for some in np.split(alike, range(size, len(alike), size)):
            ccds = order[start[some, None] + np.arange(count)]
            summaries[some] = _summaries(vectors[ccds])
    return exposures, summaries


def _summaries(vectors: np.ndarray) -> np.ndarray:
    """Return the summaries, (n, 6 d), of exposures of as many CCDs, (n, n_ccds, d).

    The same bits as numpy's median and quantiles, from one sorting for all of them.
    """
    last = vectors.shape[1] - 1
    ranked = np.sort(vectors, axis=1)
    median = ranked[:, [last // 2, (last + 1) // 2]].mean(axis=1, keepdims=True)
    place = np.array(_QUANTILES) * last
    below = place.astype(np.intp)
    share = (place - below)[:, None]
    low = ranked[:, below] - median
    high = ranked[:, np.minimum(below + 1, last)] - median
    step = high - low
    quantiles = np.where(share < 0.5, low + step * share, high - step * (1 - share))
    spread = np.sqrt(((vectors - median) ** 2).mean(axis=1, keepdims=True))
    return np.concatenate([median, quantiles, spread], axis=1).reshape(len(vectors), -1)


def summarise_classes(
    expnum: np.ndarray, probabilities: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Return how the CCDs of each exposure were classified, (n, f) float32, exposures sorted.

    Parameters
    ----------
    probabilities : (n_ccds, n_classes), good first.
    cell : (n_ccds,) part of the focal plane that each lies in, -1 where that is not known.

    Returns
    -------
    Of being bad: the mean, the share of CCDs above some cuts, the 1st, 3rd and 10th highest, the
    mean in each part of the focal plane (the exposure's where none of its CCDs lies), and the
    scatter between the parts. Then the mean probability of each bad class.
    """
    n_cells = _CELLS**2
    exposures, row, counts = np.unique(expnum, return_inverse=True, return_counts=True)
    bad = 1 - probabilities[:, 0].astype(np.float64)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(row, values, len(exposures)) / counts

    mean_bad = mean(bad)
    shares = [mean(bad >= cut) for cut in _CUTS]
    order = np.lexsort((-bad, row))
    start = np.cumsum(counts) - counts
    highest = [bad[order[start + np.minimum(rank, counts) - 1]] for rank in _RANKS]
    known = cell >= 0
    place = row[known] * n_cells + cell[known]
    total = np.bincount(place, bad[known], len(exposures) * n_cells)
    n_there = np.bincount(place, minlength=len(exposures) * n_cells)
    everywhere = np.repeat(mean_bad, n_cells)
    cells = np.where(n_there > 0, total / np.maximum(n_there, 1), everywhere)
    cells = cells.reshape(-1, n_cells)
    classes = [mean(probabilities[:, index]) for index in range(1, probabilities.shape[1])]
    columns = [mean_bad, *shares, *highest, *cells.T, cells.std(axis=1), *classes]
    return np.stack(columns, axis=1).astype(np.float32)


def focal_plane_cells(lake: Lake, partition: Partition) -> dict[int, int]:
    """Return in which part of the focal plane each CCD of a night's camera lies, by its number.

    Parts are counted along x, then y. The layout is that of the exposure with most CCDs: where a
    CCD is mounted does not change within a night. Empty where no table has astrometry.
    """
    tables = lake.partitions("ccds", camera=partition["camera"], night=partition["night"])
    for table in reversed(tables):
        if not set(COLUMNS) <= set(pq.read_schema(table.path).names):
            continue
        rows = read_file(table.path, ["expnum", *COLUMNS])
        if not rows.num_rows:
            continue
        numbers, counts = np.unique(rows["expnum"].to_numpy(), return_counts=True)
        plane = layout(rows.filter(pc.field("expnum") == numbers[counts.argmax()]).to_pylist())
        if plane.places:
            return {
                place.ccdnum: _cell((place.x + place.width / 2) / plane.width)
                + _CELLS * _cell((place.y + place.height / 2) / plane.height)
                for place in plane.places
            }
    return {}


def _cell(share: float) -> int:
    return min(max(int(share * _CELLS), 0), _CELLS - 1)


def exposure_sample(
    lake: Lake, sample: Sample, estimator_of: Mapping[int, Pipeline]
) -> tuple[Sample, np.ndarray, int]:
    """Return a sample of CCDs as one of exposures.

    An exposure has the class of most of its labelled CCDs, and all its CCDs that have vectors
    describe it.

    Parameters
    ----------
    estimator_of : by night (index into ``sample.nights``), what classifies its CCDs: to be honest,
        a classifier that has not seen the night. Nights without one are left out.

    Returns
    -------
    The sample, the share of each exposure's CCDs that it labels, and how many of its values are
    measured (`Exposures.n_measured`).

    Raises
    ------
    SurveyError : no night has a classifier.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    n_measured = 0
    for partition in embedded_nights(lake, sample.features):
        name = f"{partition['camera']}/{partition['night']}"
        index = sample.nights.index(name) if name in sample.nights else -1
        here = sample.night == index
        if index not in estimator_of or not here.any():
            continue
        described = _described(lake, partition, sample, estimator_of[index])
        n_measured = described.n_measured
        weight = np.zeros((len(described.expnum), len(sample.classes)))
        at = np.searchsorted(described.expnum, sample.expnum[here])
        np.add.at(weight, (at, sample.labels[here]), sample.weights[here])
        rows = np.flatnonzero(weight.sum(axis=1))
        share = np.minimum(weight[rows].max(axis=1) / described.n_ccds[rows], 1.0)
        night = np.full(len(rows), index)
        labels = weight[rows].argmax(axis=1)
        parts.append((described.vectors[rows], labels, described.expnum[rows], night, share))
    if not parts:
        raise BadInput(
            "judging exposures needs good and bad ones on at least two nights; label more nights"
        )
    vectors, labels, expnum, nights, share = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    whole = Sample(
        held=HeldVectors.of(vectors),
        rows=np.arange(len(vectors)),
        layout=Layout(vectors.shape[1] - 1, band=1),
        labels=labels,
        weights=np.ones(len(labels)),
        expnum=expnum,
        ccdnum=np.zeros(len(labels), np.int16),
        night=nights,
        classes=sample.classes,
        nights=sample.nights,
        release=sample.release,
        features=sample.features,
        settings=sample.settings,
        fingerprint=sample.fingerprint,
        n_missing=0,
    )
    return whole, share, n_measured


def _described(lake: Lake, partition: Partition, sample: Sample, estimator: Pipeline) -> Exposures:
    night = read_vectors(lake, partition, sample.features)
    n_classes = len(sample.classes)
    probabilities = in_chunks(
        night.vectors, lambda part: estimators.probabilities(estimator, part, n_classes)
    )
    return describe(lake, partition, night, probabilities)


def described_inputs(lake: Lake, partition: Partition, features: Features) -> dict[str, str]:
    """Return the identity of everything that decides the descriptions of a night, by reference.

    Beside the features of its CCDs these are the bands and the places of CCDs in the focal plane.
    """
    inputs = input_references(lake, partition, replace(features, context="band"))
    for table in lake.partitions("ccds", camera=partition["camera"], night=partition["night"]):
        if not features.columns:
            reference = table_reference("ccds", dict(table.keys), "places")
            inputs[reference] = table.identity("places")
    return inputs
