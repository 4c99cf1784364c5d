"""An image is the same when its pixels are, wherever it lies and whatever else its header says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import fitsio
import numpy as np
import pytest

from images.identity import file_identity


def write(path: Path, pixels: np.ndarray, checksum: bool = False, **how: object) -> Path:
    with fitsio.FITS(str(path), "rw", clobber=True) as fits:
        fits.write(None, header={"EXPNUM": 7})
        fits.write(pixels, extname="N4", **how)
        if checksum:
            fits[1].write_checksum()
    return path


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).normal(100, 5, (64, 48)).astype(np.float32)


@pytest.mark.parametrize("how", [{}, {"compress": "rice", "qlevel": 4, "qmethod": 1}])
@pytest.mark.parametrize("checksum", [False, True])
def test_folder_time_and_history_do_not_matter(
    tmp_path: Path, pixels: np.ndarray, checksum: bool, how: dict[str, object]
) -> None:
    one = write(tmp_path / "one.fits", pixels, checksum, **how)
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copyfile(one, tmp_path / "other" / "copy.fits"))
    os.utime(copy, (1, 1))
    assert file_identity(copy) == file_identity(one)
    with fitsio.FITS(str(copy), "rw") as fits:
        fits[1].write_history("looked at")
        fits[0].write_key("OBSERVER", "someone else")
    assert file_identity(copy) == file_identity(one)


@pytest.mark.parametrize("how", [{}, {"compress": "rice", "qlevel": 4, "qmethod": 1}])
@pytest.mark.parametrize("checksum", [False, True])
def test_other_pixels_are_another_image(
    tmp_path: Path, pixels: np.ndarray, checksum: bool, how: dict[str, object]
) -> None:
    one = write(tmp_path / "one.fits", pixels, checksum, **how)
    changed = pixels.copy()
    changed[3, 4] += 50
    other = write(tmp_path / "other.fits", changed, checksum, **how)
    assert file_identity(other) != file_identity(one)


def test_pixels_of_another_ccd_or_scale_are_another_image(
    tmp_path: Path, pixels: np.ndarray
) -> None:
    one = write(tmp_path / "one.fits", pixels)
    found = {file_identity(one)}
    for name, value in (("EXTNAME", "S4"), ("BSCALE", 2.0), ("BZERO", 3.0)):
        other = Path(shutil.copyfile(one, tmp_path / "other.fits"))
        with fitsio.FITS(str(other), "rw") as fits:
            fits[1].write_key(name, value)
        found.add(file_identity(other))
    assert len(found) == 4


def test_a_file_that_is_cut_or_no_fits_is_its_bytes(tmp_path: Path, pixels: np.ndarray) -> None:
    one = write(tmp_path / "one.fits", pixels)
    whole = file_identity(one)
    os.truncate(one, one.stat().st_size - 2880)
    cut = file_identity(one)
    os.truncate(one, 100)
    assert len({whole, cut, file_identity(one)}) == 3
    one.write_bytes(b"")
    other = tmp_path / "other"
    other.write_bytes(b"")
    assert file_identity(one) == file_identity(other)
    other.write_bytes(b"SIMPLE  = nothing")
    assert file_identity(one) != file_identity(other)
    with pytest.raises(FileNotFoundError):
        file_identity(tmp_path / "none")
