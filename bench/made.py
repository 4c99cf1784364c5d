"""A survey without images, at any size: CCD table, exposures, labels and vectors in a lake."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from lake.cameras import DECAM
from lake.record import Record
from lake.store import Lake
from lake.vocabulary import Vocabulary

EMBEDDER, RELEASE = "made", "made"
DIMENSION = 768
#: CCDs of an exposure that are drawn to be embedded.
DRAWN = 20
SETTINGS = {"version": 1}
_FIRST_NIGHT, _FIRST_EXPOSURE = date(2013, 1, 1), 300_000
_NAMES, _NUMBERS = list(DECAM.ccdnums), np.array(list(DECAM.ccdnums.values()), np.int16)
#: Degrees a pixel.
_SCALE = 7.3e-5


@dataclass(frozen=True)
class Survey:
    """What to make.

    Attributes
    ----------
    n_exposures, n_nights : as many exposures on each night.
    bad_fraction : share of the exposures that is bad: of one class, on all their CCDs.
    n_listed : on how many nights, the first ones, lists name the bad ones; None for all.
    n_ccds : CCDs of an exposure in the tables.
    """

    n_exposures: int
    n_nights: int
    bad_fraction: float
    n_listed: int | None = None
    n_ccds: int = 61


def classes() -> tuple[str, ...]:
    """Return the classes that are trained, good first."""
    return tuple(Vocabulary.load().training_classes)


def vectors(rng: np.random.Generator, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return vectors (n, 768) float32 of classes that overlap, of labels (n,).

    Their variance falls over some 30 directions as that of image embeddings does.
    """
    fixed = np.random.default_rng(0)
    basis = np.linalg.qr(fixed.normal(size=(DIMENSION, 30)))[0].T.astype(np.float32)
    widths = (1.5 * np.arange(1, 31) ** -0.7).astype(np.float32)
    centres = fixed.normal(size=(n_classes, 30)).astype(np.float32) * widths * 1.5
    spread = rng.standard_normal((len(labels), 30), dtype=np.float32)
    noise = rng.standard_normal((len(labels), DIMENSION), dtype=np.float32)
    noise *= np.float32(0.02)
    return (centres[labels] + spread * widths) @ basis + noise


def embedded(expnum: np.ndarray, ccdnum: np.ndarray, made: np.ndarray) -> pa.Table:
    """Return vectors (n, 768) of CCDs as rows of ``embeddings``."""
    flat = pa.array(made.astype(np.float16).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, DIMENSION)
    return pa.table({"expnum": expnum, "ccdnum": ccdnum.astype(np.int16), "embedding": column})


def write_vectors(lake: Lake, nights: Iterable[tuple[str, pa.Table]]) -> None:
    """Commit (night, rows) as the vectors of a camera."""
    parts = (
        (
            {"embedder": EMBEDDER, "camera": "decam", "night": night},
            rows,
            Record("embed", {"embedder": SETTINGS}, {"night": night}),
        )
        for night, rows in nights
    )
    for _ in lake.write_many("embeddings", parts):
        pass


def name_of(night: int) -> str:
    """Return the name of a night, counted from 0."""
    return f"{_FIRST_NIGHT + timedelta(days=night):%Y%m%d}"


def make_lake(root: Path, survey: Survey, seed: int = 0) -> Lake:
    """Fill a lake with a survey and return it."""
    lake = Lake(root, create=True)
    names = classes()
    rng = np.random.default_rng(seed)
    numbers = np.arange(survey.n_exposures) + _FIRST_EXPOSURE
    bad = rng.random(survey.n_exposures) < survey.bad_fraction
    kinds = np.where(bad, rng.integers(1, len(names), survey.n_exposures), 0)
    nights = np.array_split(np.arange(survey.n_exposures), survey.n_nights)

    for index, mine in enumerate(nights):
        keys = {"release": RELEASE, "camera": "decam", "night": name_of(index)}
        lake.write("ccds", keys, _ccds(numbers[mine], survey.n_ccds), Record("ingest"))
        lake.write("exposures", keys, _exposures(numbers[mine]), Record("ingest"))
        if survey.n_listed is None or index < survey.n_listed:
            listed = _labels(numbers[mine], np.array(names)[kinds[mine]], survey.n_ccds)
            lake.write("labels", keys, listed, Record("merge-labels"))

    def made() -> Iterator[tuple[str, pa.Table]]:
        for index, mine in enumerate(nights):
            drawn = np.linspace(0, survey.n_ccds - 1, DRAWN).astype(int)
            labels = np.repeat(kinds[mine], DRAWN)
            yield (
                name_of(index),
                embedded(
                    np.repeat(numbers[mine], DRAWN),
                    np.tile(np.sort(_NUMBERS[drawn]), len(mine)),
                    vectors(rng, labels, len(names)),
                ),
            )

    write_vectors(lake, made())
    return lake


def _ccds(expnum: np.ndarray, n_ccds: int) -> pa.Table:
    n = len(expnum)
    row, column = np.divmod(np.arange(n_ccds), 8)
    return pa.table(
        {
            "expnum": np.repeat(expnum, n_ccds),
            "ccdnum": np.tile(_NUMBERS[:n_ccds], n),
            "ccdname": _NAMES[:n_ccds] * n,
            "ccd_cuts": np.zeros(n * n_ccds, np.int64),
            "ebv": np.full(n * n_ccds, 0.02, np.float32),
            "width": np.full(n * n_ccds, DECAM.size[0], np.int32),
            "height": np.full(n * n_ccds, DECAM.size[1], np.int32),
            "crval1": np.repeat(expnum % 360.0, n_ccds),
            "crval2": np.zeros(n * n_ccds),
            "crpix1": np.tile(8_000 - 2_100.0 * column, n).astype(np.float32),
            "crpix2": np.tile(16_000 - 4_200.0 * row, n).astype(np.float32),
            "cd1_1": np.full(n * n_ccds, _SCALE, np.float32),
            "cd1_2": np.zeros(n * n_ccds, np.float32),
            "cd2_1": np.zeros(n * n_ccds, np.float32),
            "cd2_2": np.full(n * n_ccds, _SCALE, np.float32),
        }
    )


def _exposures(expnum: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "expnum": expnum,
            "band": np.array(["g", "r", "z"])[expnum % 3],
            "ccd_cuts": np.zeros(len(expnum), np.int64),
            "ebv": np.full(len(expnum), 0.02, np.float32),
        }
    )


def _labels(expnum: np.ndarray, kind: np.ndarray, n_ccds: int) -> pa.Table:
    bad = kind != "good"
    n = int(bad.sum())
    return pa.table(
        {
            "expnum": np.repeat(expnum[bad], n_ccds),
            "ccdnum": np.tile(_NUMBERS[:n_ccds], n),
            "ccdname": _NAMES[:n_ccds] * n,
            "class": np.repeat(kind[bad], n_ccds),
            "source": ["delve"] * (n * n_ccds),
            "reason": ["made"] * (n * n_ccds),
        }
    )


def timed(lake: Path, *words: str) -> tuple[float, float]:
    """Run `survey-qa` with `words` on a lake; return seconds and peak memory, GiB, of its process.

    Starting up is in it.
    """
    command = [sys.executable, "-m", "cli.main", "--lake", str(lake), *words]
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=Path(__file__).resolve().parents[1], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"survey-qa {' '.join(words)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20
