"""A camera that nobody has told the program of: 189 CCDs on 21 rafts, as LSSTCam has them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import fitsio
import numpy as np
import pytest

from embedders.engine import run
from embedders.focal_plane import FocalPlaneEmbedder
from embedders.statistics.focal_plane import FEATURES, FocalPlaneStatistics
from ingest.images import ingest_images
from lake.store import Lake
from tests.embedders.doubles import Mean
from tests.embedders.test_focal_plane import Channels

#: Five by five rafts without the corners, three by three CCDs each.
CORNERS = {(0, 0), (0, 4), (4, 0), (4, 4)}
CCDS = [
    (f"R{ry}{rx}_S{sy}{sx}", 3 * rx + sx, 3 * ry + sy)
    for ry, rx in product(range(5), repeat=2)
    if (ry, rx) not in CORNERS
    for sy, sx in product(range(3), repeat=2)
]
SIDE, PITCH = 48, 50
#: Degrees a pixel, of a field 3.5 degrees wide; the camera is turned by 30 degrees.
STEP = 3.5 / (15 * PITCH)
COS, SIN = np.cos(np.radians(30)) * STEP, np.sin(np.radians(30)) * STEP


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    with fitsio.FITS(str(folder / "lsst_000007_ooi_r.fits.fz"), "rw") as file:
        cards = {"EXPNUM": 2_025_050_100_007, "MJD-OBS": 60800.2, "FILTER": "r", "EXPTIME": 30.0}
        file.write(None, header=cards)
        for number, (name, x, y) in enumerate(CCDS, start=1):
            pixels = random.normal(400 + number, 12, (SIDE, SIDE)).astype(np.float32)
            wcs = {
                "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": -30.0,
                "CRPIX1": (7 - x) * PITCH + SIDE / 2, "CRPIX2": (7 - y) * PITCH + SIDE / 2,
                "CD1_1": -COS, "CD1_2": SIN, "CD2_1": SIN, "CD2_2": COS, "CCDNUM": number,
            }  # fmt: skip
            file.write(pixels, extname=name, header=wcs)
    return folder


def test_189_ccds_from_headers_to_vectors(lake: Lake, images: Path) -> None:
    assert len(CCDS) == 189
    summary = ingest_images(lake, images, "dp1", camera="lsstcam")
    assert summary.ccds == 189 and not summary.unusable
    assert run(lake, Mean(), images, workers=1).n_images == 189
    keys = {"camera": "lsstcam", "night": "20250504"}
    rows = lake.read("embeddings", {"embedder": "mean", **keys}).to_pylist()
    assert [row["ccdnum"] for row in rows] == list(range(1, 190))
    # Each vector is of its own CCD.
    means = np.array([row["embedding"][0] for row in rows])
    np.testing.assert_allclose(means, 400 + np.arange(1, 190), atol=2)

    statistics = FocalPlaneStatistics()
    assert run(lake, statistics, images, workers=1).n_images == 1
    (row,) = lake.read("embeddings", {"embedder": statistics.name, **keys}).to_pylist()
    values = dict(zip((f.name for f in FEATURES), row["embedding"], strict=True))
    assert row["ccdnum"] == 0 and np.isfinite(row["embedding"]).all()
    assert values["n_ccds"] == pytest.approx(np.log10(190), rel=1e-3)

    picture = FocalPlaneEmbedder("focal-plane-channels", Channels(), (28,))
    assert run(lake, picture, images, workers=1).n_images == 1
