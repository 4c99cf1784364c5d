"""What a classifier sees of a night: vectors of CCDs, alone or beside what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lake.errors import SurveyError
from lake.store import Lake, Partition, Record, digest, file_fingerprint, read_file

#: What a CCD's vector can be joined with: nothing (the paper), the median vector of its exposure
#: (a defect of the whole exposure shows on every CCD, one of a CCD against the others), or that
#: and the number of its band (what is usual depends on it).
CONTEXTS = ("none", "exposure", "band")


@dataclass(frozen=True)
class NightVectors:
    """The usable vectors of one partition.

    Attributes
    ----------
    expnum, ccdnum : keys, (n,).
    vectors : (n, d) float32, context included.
    unusable : rows left out because a value is missing or not finite: (expnum, ccdnum) pairs.
    """

    expnum: np.ndarray
    ccdnum: np.ndarray
    vectors: np.ndarray
    unusable: list[tuple[int, int]]


def fingerprint(partition: Partition) -> str:
    """Return what tells this version of a partition from another."""
    record = partition.record()
    return file_fingerprint(partition.path) if record is None else record.fingerprint


def vector_settings(partition: Partition) -> str:
    """Return a hash of the settings that decide a vector; equal hashes may be mixed."""
    record = partition.record() or Record("unknown")
    # The others choose CCDs; they do not change a vector.
    return digest(record.settings.get("embedder", {}))


def embedded_nights(lake: Lake, embedder: str) -> list[Partition]:
    """Return the partitions of an embedder; raises `SurveyError` when there is none."""
    found = lake.partitions("embeddings", embedder=embedder)
    if not found:
        known = sorted({partition["embedder"] for partition in lake.partitions("embeddings")})
        raise SurveyError(
            f"no embeddings of {embedder!r} in {lake.root}; run `survey-qa embed --embedder "
            f"{embedder}` first (the lake has {', '.join(known) or 'none'})"
        )
    return found


def read_vectors(lake: Lake, partition: Partition, context: str = "none") -> NightVectors:
    """Read the CCD vectors of one night, with their context.

    Raises
    ------
    SurveyError : an unknown context or a damaged file.
    """
    if context not in CONTEXTS:
        raise SurveyError(f"context {context!r}: choose one of {', '.join(CONTEXTS)}")
    rows = read_file(partition.path, ["expnum", "ccdnum", "embedding"])
    expnum, ccdnum = rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy()
    vectors = _matrix(rows["embedding"])
    # ccdnum 0 stands for a whole exposure, not a CCD.
    ccds = ccdnum > 0
    usable = np.isfinite(vectors).all(axis=1) & ccds
    lost = ccds & ~usable
    unusable = list(zip(expnum[lost].tolist(), ccdnum[lost].tolist(), strict=True))
    expnum, ccdnum, vectors = expnum[usable], ccdnum[usable], vectors[usable]
    if context != "none" and len(vectors):
        exposures, row = np.unique(expnum, return_inverse=True)
        joined = [vectors, group_medians(vectors, row, len(exposures))[row]]
        if context == "band":
            joined.append(read_bands(lake, partition, exposures)[row, None])
        vectors = np.concatenate(joined, axis=1)
    return NightVectors(expnum, ccdnum, vectors, unusable)


def context_fingerprints(lake: Lake, partition: Partition, context: str) -> dict[str, str]:
    """Return the inputs, beside the vectors, that decide the context of a partition."""
    if context != "band":
        return {}
    return {
        f"exposures/{exposures['release']}": fingerprint(exposures)
        for exposures in _exposures(lake, partition)
    }


def group_medians(vectors: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the median vector of each group, (n_groups, d); every group has a member."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(1, n_groups))
    return np.stack([np.median(part, axis=0) for part in np.split(vectors[order], bounds)])


def in_chunks(
    vectors: np.ndarray, function: Callable[[np.ndarray], np.ndarray], size: int = 16384
) -> np.ndarray:
    """Apply `function` to `size` rows at a time, so that memory does not grow with the night."""
    parts = [function(vectors[start : start + size]) for start in range(0, len(vectors), size)]
    return np.concatenate(parts)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of fixed-size lists as (n, d) float32, nulls as NaN."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no rows
        array = pa.array([], type=column.type)
    dimension = array.type.list_size
    values = array.values.slice(array.offset * dimension, len(array) * dimension)
    matrix = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, dimension)
    if array.null_count:
        matrix[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix


def _exposures(lake: Lake, partition: Partition) -> list[Partition]:
    return lake.partitions("exposures", camera=partition["camera"], night=partition["night"])


def read_bands(lake: Lake, partition: Partition, expnum: np.ndarray) -> np.ndarray:
    """Return a number for the band of each exposure, (n,) float32; 0 where it is not known."""
    bands: dict[int, float] = {}
    for exposures in _exposures(lake, partition):
        rows = read_file(exposures.path, ["expnum", "band"])
        for number, band in zip(rows["expnum"].to_pylist(), rows["band"].to_pylist(), strict=True):
            # Letters name bands; Y is not y everywhere, so case counts.
            bands.setdefault(number, float(ord(band[0])) if band else 0.0)
    return np.array([bands.get(int(number), 0.0) for number in expnum], dtype=np.float32)
