"""A small lake with labelled vectors, made without images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from lake.record import Record
from lake.store import Lake

CLASSES = ("good", "PSF", "Ghost_scatter", "Noise")


@dataclass
class Survey:
    """What was put into the lake: one row per CCD."""

    lake: Lake
    night: np.ndarray
    expnum: np.ndarray
    ccdnum: np.ndarray
    label: np.ndarray
    vectors: np.ndarray


MakeSurvey = Callable[..., Survey]


def write_vectors(
    lake: Lake,
    night: str,
    expnum: np.ndarray,
    ccdnum: np.ndarray,
    vectors: np.ndarray,
    embedder: str = "toy",
    **settings,
) -> None:
    """Commit one night of embeddings of an embedder."""
    flat = pa.array(vectors.astype(np.float16).ravel())
    lake.write(
        "embeddings",
        {"embedder": embedder, "camera": "decam", "night": night},
        pa.table(
            {
                "expnum": expnum,
                "ccdnum": ccdnum.astype(np.int16),
                "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            }
        ),
        Record("embed", {"embedder": {"version": 1, **settings}}, {"vectors": str(vectors.sum())}),
    )


@pytest.fixture
def make_survey(lake: Lake) -> MakeSurvey:
    """Return a function that fills the lake, see `fill_survey`."""
    return partial(fill_survey, lake)


def fill_survey(
    lake: Lake,
    n_nights: int = 10,
    n_exposures: int = 8,
    n_ccds: int = 10,
    dimension: int = 16,
    signal: float = 4.0,
    scatter: float = 0.5,
    seed: int = 0,
    struck: int | None = None,
    n_labelled: int | None = None,
) -> Survey:
    """Fill a lake with `n_nights` nights of exposures.

    `signal` moves the vectors of a class, `scatter` those of an exposure, along random directions;
    CCDs scatter by 1. The last class strikes the first `struck` CCDs of an exposure alone. Lists
    name the bad ones of the first `n_labelled` nights, by default of all.
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(CLASSES), dimension)) * signal
    parts, bad = [], []
    for index in range(n_nights):
        night = str(20140801 + index)
        expnum = np.repeat(1000 * (index + 1) + np.arange(n_exposures), n_ccds)
        ccdnum = np.tile(np.arange(1, n_ccds + 1), n_exposures)
        label = np.repeat(np.arange(n_exposures) % len(CLASSES), n_ccds)
        if struck is not None:
            label[(label == len(CLASSES) - 1) & (ccdnum > struck)] = 0
        offsets = np.repeat(rng.normal(size=(n_exposures, dimension)) * scatter, n_ccds, axis=0)
        vectors = centres[label] + offsets + rng.normal(size=(len(label), dimension))
        vectors = vectors.astype(np.float16)
        write_vectors(lake, night, expnum, ccdnum, vectors)
        is_listed = n_labelled is None or index < n_labelled
        _write_tables(lake, night, expnum, ccdnum, label, is_listed)
        if is_listed:
            struck_ones = np.unique(np.stack([expnum, label])[:, label > 0], axis=1)
            bad.extend(map(tuple, struck_ones.T.tolist()))
        parts.append((np.full(len(label), night), expnum, ccdnum, label, vectors))
    _write_reports(lake, bad)
    return Survey(lake, *(np.concatenate(column) for column in zip(*parts, strict=True)))


def _write_tables(
    lake: Lake,
    night: str,
    expnum: np.ndarray,
    ccdnum: np.ndarray,
    label: np.ndarray,
    is_listed: bool,
) -> None:
    keys = {"release": "sim", "camera": "decam", "night": night}
    names = [f"C{number}" for number in ccdnum]
    lake.write(
        "ccds",
        keys,
        pa.table(
            {
                "expnum": expnum,
                "ccdnum": ccdnum.astype(np.int16),
                "ccdname": names,
                "ccd_cuts": np.zeros(len(expnum), np.int64),
                "ebv": np.full(len(expnum), 0.02, np.float32),
            }
        ),
        Record("ingest"),
    )
    exposures = np.unique(expnum)
    lake.write(
        "exposures",
        keys,
        pa.table({"expnum": exposures, "band": ["g" if e % 2 else "r" for e in exposures]}),
        Record("ingest"),
    )
    if not is_listed:
        return
    bad = label > 0
    lake.write(
        "labels",
        keys,
        pa.table(
            {
                "expnum": expnum[bad],
                "ccdnum": ccdnum[bad].astype(np.int16),
                "ccdname": np.array(names)[bad],
                "class": np.array(CLASSES)[label[bad]],
                "source": ["delve"] * int(bad.sum()),
                "reason": ["because"] * int(bad.sum()),
            }
        ),
        Record("merge-labels"),
    )


def _write_reports(lake: Lake, bad: list[tuple[int, int]]) -> None:
    """Report exposures, (expnum, index of the class), as bad."""
    lake.write(
        "reports",
        {"source": "delve"},
        pa.table(
            {
                "expnum": [expnum for expnum, _ in bad],
                "camera": ["decam"] * len(bad),
                "classes": [[CLASSES[label]] for _, label in bad],
                "reason": [CLASSES[label] for _, label in bad],
                "is_bad": [True] * len(bad),
                "line": pa.array(range(len(bad)), pa.int32()),
            }
        ),
        Record("ingest"),
    )
