"""What the drawing processes do: read CCDs of one file, binned or whole.

Imported by worker processes: nothing here may import the web server.
"""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from images.pixels import open_images, read_ccd
from images.stretch import Stretch, grey, scale_of
from lake.errors import BadInput, NotFound, SurveyError
from lake.focal_plane import Turn

#: Rows read of each bin. A compressed row costs its decoding, and a quarter of the rows of a
#: 16-fold bin still average 64 pixels; whoever wants every pixel opens the CCD.
SAMPLED_ROWS = 4

#: Pixels that a CCD may have: the largest of any survey has a tenth of that. A damaged header may
#: claim anything, and memory is asked for before the file turns out to end.
MAX_PIXELS = 1 << 30

#: A CCD to read: number, name, HDU.
Wanted = tuple[int, str, int]


def live_with(parent: int) -> None:
    """End this process when the server is gone, also when that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    # A terminal's Ctrl-C goes to the whole group; the server ends its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


def read_binned(
    path: str, wanted: list[Wanted], binning: int
) -> dict[int, NDArray[np.float32] | str]:
    """Return CCDs of a file as means over `binning` x `binning` pixels, or what is wrong.

    Returns
    -------
    By CCD number: an array of shape (ny // binning, nx // binning), or one line of text.
    """
    found: dict[int, NDArray[np.float32] | str] = {}
    try:
        with open_images(Path(path)) as file:
            for ccdnum, name, hdu in wanted:
                try:
                    pixels = _binned(file, Path(path), name, hdu, binning)
                    found[ccdnum] = _with_values(pixels, _label(name, hdu))
                except Exception as error:
                    found[ccdnum] = _why(error, _label(name, hdu))
    except Exception as error:
        return {ccdnum: _why(error) for ccdnum, *_ in wanted} | found
    return found


def _read_whole(path: str, wanted: Wanted) -> NDArray[np.float32]:
    """Return a CCD as it is, shape (ny, nx)."""
    _, name, hdu = wanted
    with open_images(Path(path)) as file:
        extension = _extension(file, name, hdu)
        if extension is None:
            return read_ccd(file, Path(path), hdu, name)
        _check_size(extension.get_dims(), _label(name, hdu))
        return np.ascontiguousarray(extension.read(), dtype=np.float32)


def _binned(
    file: fitsio.FITS, path: Path, name: str, hdu: int, binning: int
) -> NDArray[np.float32]:
    extension = _extension(file, name, hdu)
    if extension is not None:
        _check_size(extension.get_dims(), _label(name, hdu))
        ny, nx = extension.get_dims()
        rows, columns = ny // binning, nx // binning
        if binning > SAMPLED_ROWS and rows and columns and _has_row_tiles(extension):
            strips = np.stack(
                [extension[row * binning : row * binning + SAMPLED_ROWS, :] for row in range(rows)]
            ).astype(np.float32, copy=False)  # (rows, SAMPLED_ROWS, nx)
            return _means(
                strips[:, :, : columns * binning].reshape(rows, SAMPLED_ROWS, columns, binning)
            )
    image = read_ccd(file, path, hdu, name)
    rows, columns = (length // binning for length in image.shape)
    if binning == 1 or not rows or not columns:
        return image
    cut = image[: rows * binning, : columns * binning]
    return _means(cut.reshape(rows, binning, columns, binning))


def _means(bins: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the means of bins (rows, down, columns, across): (rows, columns).

    Pixels without a value do not count; a bin of such pixels alone has none.
    """
    means = bins.mean(axis=(1, 3), dtype=np.float32)
    if np.isfinite(means).all():
        return means
    usable = np.isfinite(bins)
    sums = np.where(usable, bins, 0).sum(axis=(1, 3), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return (sums / usable.sum(axis=(1, 3))).astype(np.float32)


def _with_values(pixels: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return the pixels of a CCD; raises `SurveyError` where not one has a value to show."""
    if not pixels.size:
        raise NotFound(f"{name} has no pixels")
    if not np.isfinite(pixels).any():
        raise BadInput(f"{name}: no pixel has a value")
    return pixels


def _check_size(dimensions: Sequence[int], name: str) -> None:
    if np.prod(dimensions, dtype=float) > MAX_PIXELS:
        across = " x ".join(str(length) for length in reversed(dimensions))
        raise BadInput(f"{name}: its header claims {across} pixels")


def _label(name: str, hdu: int) -> str:
    """Return what a CCD is called in what is said of it."""
    return name or f"HDU {hdu}"


def _why(error: Exception, name: str = "the file") -> str:
    """Return in one line why something cannot be read, whatever was raised."""
    if isinstance(error, SurveyError):
        return str(error)
    text = " ".join(str(error).split())
    detail = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{name} cannot be decoded ({detail})"


def _extension(file: fitsio.FITS, name: str, hdu: int) -> Any:
    """Return the HDU that the table names when it is that CCD, without searching the file."""
    try:
        extension = file[hdu]
        same = extension.get_extname().strip().upper() == name.strip().upper()
        return extension if same and len(extension.get_dims()) == 2 else None
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def _has_row_tiles(extension: Any) -> bool:
    """Tell whether each row is compressed by itself, so that rows can be left out."""
    return extension.is_compressed() and extension.read_header().get("ZTILE2", 0) == 1


def draw_whole(path: str, wanted: Wanted, turn: Turn, stretch: Stretch) -> bytes | str:
    """Return a CCD at full resolution as JPEG, or what is wrong."""
    label = _label(*wanted[1:])
    try:
        pixels = _with_values(_read_whole(path, wanted), label)
        levels = grey(pixels, scale_of(pixels, stretch))
        return to_jpeg(turn.apply(levels), quality=90)
    except Exception as error:
        return _why(error, label)


def to_jpeg(levels: NDArray[np.uint8], quality: int = 82) -> bytes:
    """Return grey levels (rows downwards) as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
