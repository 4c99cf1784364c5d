"""What the drawing processes do: read CCDs of one file, binned or whole.

Imported by worker processes: nothing here may import the web server.
"""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from lake.errors import SurveyError
from lake.focal_plane import Turn
from lake.images import bin_image, open_images, read_ccd
from lake.stretch import Stretch, grey, scale_of

#: Rows read of each bin. A compressed row costs its decoding, and a quarter of the rows of a
#: 16-fold bin still average 64 pixels; whoever wants every pixel opens the CCD.
SAMPLED_ROWS = 4

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
                    found[ccdnum] = _binned(file, Path(path), name, hdu, binning)
                except SurveyError as error:
                    found[ccdnum] = str(error)
    except SurveyError as error:
        return {ccdnum: str(error) for ccdnum, *_ in wanted}
    return found


def _read_whole(path: str, wanted: Wanted) -> NDArray[np.float32] | str:
    """Return a CCD as it is, shape (ny, nx), or what is wrong."""
    _, name, hdu = wanted
    try:
        with open_images(Path(path)) as file:
            extension = _extension(file, name, hdu)
            if extension is not None:
                return np.ascontiguousarray(extension.read(), dtype=np.float32)
            return read_ccd(file, Path(path), hdu, name)
    except (SurveyError, OSError, ValueError) as error:
        return str(SurveyError(str(error)))


def _binned(
    file: fitsio.FITS, path: Path, name: str, hdu: int, binning: int
) -> NDArray[np.float32]:
    extension = _extension(file, name, hdu)
    if extension is None or binning <= SAMPLED_ROWS or not _has_row_tiles(extension):
        return bin_image(read_ccd(file, path, hdu, name), binning)
    ny, nx = extension.get_dims()
    rows = ny // binning
    try:
        strips = np.stack(
            [extension[row * binning : row * binning + SAMPLED_ROWS, :] for row in range(rows)]
        ).astype(np.float32, copy=False)  # (rows, SAMPLED_ROWS, nx)
    except (OSError, ValueError) as error:
        raise SurveyError(f"{path}[{name}]: cannot be decoded ({error})") from error
    columns = strips[:, :, : nx // binning * binning]
    return columns.reshape(rows, SAMPLED_ROWS, -1, binning).mean(axis=(1, 3))


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
    pixels = _read_whole(path, wanted)
    if isinstance(pixels, str):
        return pixels
    levels = grey(pixels, scale_of(pixels, stretch))
    return to_jpeg(turn.apply(levels), quality=90)


def to_jpeg(levels: NDArray[np.uint8], quality: int = 82) -> bytes:
    """Return grey levels (rows downwards) as JPEG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
