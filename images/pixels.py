"""Reading CCD images: a file is opened once for all the CCDs that are wanted from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from images.damage import plain_words
from lake.errors import BadInput, Damaged, NotFound, SurveyError

#: Share of the rows from which on an image is read as a whole.
_MANY = 0.5


@contextmanager
def open_images(path: Path) -> Iterator[fitsio.FITS]:
    """Open a FITS image file; raises `SurveyError` when it is missing or not FITS."""
    if not path.is_file():
        raise NotFound(f"{path}: no such file; is --images the folder that the table names?")
    try:
        file = fitsio.FITS(str(path), "r")
    except (OSError, ValueError) as error:
        raise Damaged(f"{path}: not a readable FITS file ({plain_words(error)})") from error
    with file:
        yield file


def read_ccd(
    file: fitsio.FITS, path: Path, hdu: int | None, name: str | None, height: int | None = None
) -> np.ndarray:
    """Return one CCD of an open file as float32 of shape (ny, nx), or (height, nx).

    The CCD is the extension called `name`; where the file has no such name, the HDU numbered
    `hdu` (the primary is 0). With `height` the rows are interpolated as a bilinear resize without
    antialiasing does it, and only those that it weighs are decoded: two of each `ny` / `height`.

    Raises
    ------
    SurveyError : the HDU is missing, is not a two-dimensional image, or cannot be decoded.
    """
    where = f"{path}[{name or hdu}]"
    try:
        extension = _find(file, hdu, name)
        if extension is None:
            raise NotFound(f"{where}: the file has no such HDU")
        dimensions = extension.get_dims() if extension.has_data() else []
        if len(dimensions) != 2:
            found = f"{len(dimensions)} axes" if len(dimensions) else "no pixels"
            raise BadInput(f"{where}: expected a two-dimensional image, found {found}")
        if height is not None:
            return _sampled(extension, dimensions[0], height)
        return np.ascontiguousarray(extension.read(), dtype=np.float32)
    except SurveyError:
        raise
    except Exception as error:  # damage surprises cfitsio and what is built on it in many ways
        raise BadInput(f"{where}: cannot be decoded ({plain_words(error)})") from error


def bin_image(image: NDArray[np.float32], binning: int) -> NDArray[np.float32]:
    """Return means over `binning` x `binning` pixels; what does not fill a bin is left out."""
    rows, columns = (length // binning for length in image.shape)
    if binning == 1 or rows == 0 or columns == 0:
        return image
    cut = image[: rows * binning, : columns * binning]
    return cut.reshape(rows, binning, columns, binning).mean(axis=(1, 3), dtype=np.float32)


def _sampled(extension: Any, ny: int, height: int) -> NDArray[np.float32]:
    """Return rows of an image, (height, nx), each between the two nearest of its own `ny`."""
    # In single precision, as torch has it, so that both give the same rows.
    centre = np.float32(ny / height) * (np.arange(height, dtype=np.float32) + np.float32(0.5))
    position = (centre - np.float32(0.5)).clip(0, ny - 1)
    lower = position.astype(np.int64)
    upper = (lower + 1).clip(max=ny - 1)
    weight = (position - lower).astype(np.float32)[:, None]
    wanted = np.union1d(lower, upper)
    rows = _rows(extension, wanted, ny)
    below, above = (rows[np.searchsorted(wanted, one)] for one in (lower, upper))
    return (1 - weight) * below + weight * above


def _rows(extension: Any, wanted: NDArray[np.int64], ny: int) -> NDArray[np.float32]:
    """Return the rows numbered `wanted` (ascending) of the `ny` there are."""
    if len(wanted) > _MANY * ny:
        image: NDArray[np.float32] = extension.read().astype(np.float32)[wanted]
        return image
    # A call costs about as much as a row, so that a single row between two is read along.
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 2) + 1)
    parts = [extension[int(run[0]) : int(run[-1]) + 1, :][run - run[0]] for run in runs]
    return np.concatenate(parts).astype(np.float32)


def _find(file: fitsio.FITS, hdu: int | None, name: str | None) -> Any:
    if name:
        for extension in file:
            if extension.get_extname().strip().upper() == name.strip().upper():
                return extension
    if hdu is not None and 0 <= hdu < len(file):
        extension = file[hdu]
        # An HDU that names another CCD is not the one that was asked for.
        if not name or not extension.get_extname().strip():
            return extension
    return None
