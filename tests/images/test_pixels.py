"""Rows of an image that a resize weighs: as torch has them, and no others decoded."""

from __future__ import annotations

from pathlib import Path

import fitsio
import numpy as np
import pytest
import torch
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from images.pixels import open_images, read_ccd
from lake.errors import SurveyError


def read(path: Path, height: int | None = None) -> np.ndarray:
    with open_images(path) as file:
        return read_ccd(file, path, 1, "S29", height)


def write(path: Path, pixels: np.ndarray, **options: object) -> Path:
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(None)
        file.write(pixels, extname="S29", **options)
    return path


def interpolated(pixels: np.ndarray, height: int) -> np.ndarray:
    given = torch.from_numpy(pixels.astype(np.float32))[None, None]
    size = (height, pixels.shape[1])
    found: np.ndarray = torch.nn.functional.interpolate(given, size, mode="bilinear")[0, 0].numpy()
    return found


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ny=st.integers(1, 90),
    nx=st.integers(2, 9),
    height=st.integers(1, 100),
    tiles=st.sampled_from([None, (1, 9), (7, 4), (90, 9)]),
    kind=st.sampled_from(["f4", "f8", "i2", "u2", "i4"]),
)
def test_rows_are_torchs(
    tmp_path: Path, ny: int, nx: int, height: int, tiles: tuple[int, int] | None, kind: str
) -> None:
    pixels = np.random.default_rng(ny).normal(900, 30, (ny, nx)).astype(kind)
    how = {"compress": "RICE", "tile_dims": [min(tiles[0], ny), min(tiles[1], nx)]} if tiles else {}
    path = write(tmp_path / "image.fits", pixels, **how)
    found, wanted = read(path, height), interpolated(read(path), height)
    assert found.shape == (height, nx) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=2e-6)


def test_rows_between_are_not_decoded(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(900, 30, (400, 64)).astype(np.float32)
    path = write(tmp_path / "image.fits.fz", pixels, compress="RICE")
    wanted = read(path, 10)
    with fits.open(path, disable_image_compression=True) as file:
        width = file[1].header["NAXIS1"]
    with fitsio.FITS(str(path)) as file:
        tile = file[1].get_info()["data_start"] + 30 * width
    # Of each 40 rows the 20th and 21st count; a tile's line begins with its length in bytes.
    damaged = bytearray(path.read_bytes())
    damaged[tile : tile + 4] = (-5).to_bytes(4, "big", signed=True)
    path.write_bytes(damaged)
    np.testing.assert_array_equal(read(path, 10), wanted)
    with pytest.raises(SurveyError, match="cannot be decoded"):
        read(path)


def test_rows_that_are_not_finite_stay_so(tmp_path: Path) -> None:
    pixels = np.ones((40, 8), np.float32)
    pixels[5] = np.nan
    found = read(write(tmp_path / "image.fits", pixels), 4)
    assert np.isnan(found[0]).all() and (found[1:] == 1).all()
