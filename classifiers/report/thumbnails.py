"""Small pictures of CCD images, to stand inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from images.pixels import bin_image, open_images, read_ccd
from images.stretch import grey, scale_of
from lake.errors import BadInput, SurveyError

#: Longest side of a thumbnail, pixels; 2 to 3 times of what the page shows.
LONGEST = 320


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a ``data:`` URL with its size in pixels, or why there is none."""

    url: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""


def thumbnails(
    images: Path, rows: Sequence[Mapping[str, Any]], longest: int = LONGEST
) -> list[Thumbnail]:
    """Return a picture of each CCD, in the order of `rows`.

    Parameters
    ----------
    images : the survey's image folder.
    rows : with ``image_filename``, ``image_hdu`` and ``ccdname``. Each file is opened once.
    """
    by_file: dict[str | None, list[int]] = {}
    for index, row in enumerate(rows):
        by_file.setdefault(row["image_filename"], []).append(index)
    drawn: dict[int, Thumbnail] = {}
    for name, indices in by_file.items():
        try:
            path = _inside(images, name)
            with open_images(path) as file:
                for index in indices:
                    row = rows[index]
                    try:
                        pixels = read_ccd(file, path, row["image_hdu"], row["ccdname"])
                        drawn[index] = _draw(pixels, longest)
                    except SurveyError as error:
                        drawn[index] = Thumbnail(problem=str(error))
        except SurveyError as error:
            drawn.update(dict.fromkeys(indices, Thumbnail(problem=str(error))))
    return [drawn[index] for index in range(len(rows))]


def _inside(images: Path, name: str | None) -> Path:
    """Return an image's file; a table may name what it likes, but nothing outside is read."""
    if not name:
        raise BadInput("the CCD table does not say which image file it is in")
    path = images / name
    if not path.resolve().is_relative_to(images.resolve()):
        raise BadInput(f"{name}: not in the image folder")
    return path


def _draw(pixels: np.ndarray, longest: int) -> Thumbnail:
    from PIL import Image

    small = bin_image(pixels, max(1, max(pixels.shape) // longest))
    # Row 0 of a FITS image is at the bottom.
    levels = np.ascontiguousarray(grey(small, scale_of(small, "arcsinh"))[::-1])
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=80)
    url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(url, levels.shape[1], levels.shape[0])
