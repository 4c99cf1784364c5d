"""Where each CCD of an exposure lies on the screen, from the astrometry of its CCD table.

The focal plane is laid out in the pixel frame of one CCD, turned to the nearest quarter so that
north is up and east is left: CCDs stay upright rectangles whatever the camera's angle on the sky.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Pixels of the longer side of a focal plane, about.
MOSAIC_SIZE = 1800
#: Pixels of the longer side of a thumbnail, about.
THUMBNAIL_SIZE = 320
#: Columns of `ccds` that a layout needs.
COLUMNS = (
    "ccdnum", "ccdname", "image_filename", "image_hdu", "width", "height",
    "crpix1", "crpix2", "crval1", "crval2", "cd1_1", "cd1_2", "cd2_1", "cd2_2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turn:
    """A quarter turn with or without mirroring: transpose, then flip rows, then flip columns."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return `image` (rows y, columns x, y upwards) as the screen shows it."""
        turned = image.T if self.transpose else image
        if self.flip_rows:
            turned = turned[::-1]
        return turned[:, ::-1] if self.flip_columns else turned


@dataclass(frozen=True, slots=True)
class Place:
    """A CCD on the screen; `left`, `top`, `width`, `height` as shares of the whole, 0-1."""

    ccdnum: int
    ccdname: str
    file: str
    hdu: int
    turn: Turn
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """The CCDs of an exposure on the screen.

    Attributes
    ----------
    width, height : extent in CCD pixels.
    """

    places: tuple[Place, ...]
    width: float
    height: float

    def binning(self, size: int) -> int:
        """Return by how much to bin so that the longer side has about `size` pixels."""
        return max(1, round(max(self.width, self.height) / size))

    def only(self, ccdnum: int) -> Layout:
        """Return the layout of one CCD alone; raises `KeyError` when it is not there."""
        for place in self.places:
            if place.ccdnum == ccdnum:
                alone = Place(
                    place.ccdnum, place.ccdname, place.file, place.hdu, place.turn, 0, 0, 1, 1
                )
                return Layout((alone,), place.width * self.width, place.height * self.height)
        raise KeyError(ccdnum)


def layout(ccds: Sequence[Mapping[str, Any]]) -> Layout:
    """Lay out the CCDs of one exposure; rows hold `COLUMNS`. CCDs without astrometry go in a grid.

    Raises `ValueError` for no rows.
    """
    if not ccds:
        raise ValueError("no CCDs to lay out")
    sizes = np.array([[row["width"] or 2046, row["height"] or 4094] for row in ccds], float)
    centres, turn = _centres(ccds, sizes)
    if centres is None:
        centres, turn = _grid(sizes), Turn(False, True, False)
    shown = sizes[:, ::-1] if turn.transpose else sizes
    corner = (centres - shown / 2).min(axis=0)
    width, height = (centres + shown / 2).max(axis=0) - corner
    places = []
    for row, centre, size in zip(ccds, centres, shown, strict=True):
        left, top = centre - size / 2 - corner
        places.append(
            Place(
                int(row["ccdnum"]),
                str(row["ccdname"] or row["ccdnum"]).strip(),
                str(row["image_filename"] or ""),
                int(row["image_hdu"] or 0),
                turn,
                float(left / width),
                float(top / height),
                float(size[0] / width),
                float(size[1] / height),
            )
        )
    return Layout(tuple(places), float(width), float(height))


def _centres(
    ccds: Sequence[Mapping[str, Any]], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, Turn]:
    """Return the centres on the screen in pixels (x right, y down), None without astrometry."""
    plain = Turn(False, True, False)
    names = ("crpix1", "crpix2", "crval1", "crval2", "cd1_1", "cd1_2", "cd2_1", "cd2_2")
    if any(row[name] is None for row in ccds for name in names):
        return None, plain
    values = {name: np.array([row[name] for row in ccds], float) for name in names}
    matrices = np.stack(
        [values["cd1_1"], values["cd1_2"], values["cd2_1"], values["cd2_2"]], axis=-1
    ).reshape(-1, 2, 2)
    reference = matrices[len(ccds) // 2]
    if not np.isfinite(reference).all() or abs(np.linalg.det(reference)) < 1e-14:
        return None, plain
    offsets = (sizes + 1) / 2 - np.stack([values["crpix1"], values["crpix2"]], axis=-1)
    # Degrees on the sky, east and north of the reference value of the middle CCD.
    sky = np.einsum("nij,nj->ni", matrices, offsets) + _tangent(values["crval1"], values["crval2"])
    pixels = sky @ np.linalg.inv(reference).T
    if not np.isfinite(pixels).all():
        return None, plain
    turn, matrix = _north_up(reference)
    return pixels @ matrix.T, turn


def _tangent(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gnomonic offsets in degrees of (ra, dec) from the middle one of them."""
    ra0, dec0 = np.radians(ra[len(ra) // 2]), np.radians(dec[len(dec) // 2])
    ra, dec = np.radians(ra), np.radians(dec)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    xi = np.cos(dec) * np.sin(ra - ra0) / cosine
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return np.degrees(np.stack([xi, eta], axis=-1))


def _north_up(matrix: NDArray[np.float64]) -> tuple[Turn, NDArray[np.float64]]:
    """Return the turn that puts north up and east left, and its matrix from pixels to the screen.

    Rows of an image count upwards in y, those of the screen downwards.
    """
    # Which pixel axis runs along east, and which way.
    transpose = abs(matrix[0, 1]) > abs(matrix[0, 0])
    east = matrix[0, 1] if transpose else matrix[0, 0]
    north = matrix[1, 0] if transpose else matrix[1, 1]
    right, down = (-1.0 if east > 0 else 1.0), (-1.0 if north > 0 else 1.0)
    screen = np.array([[0, right], [down, 0]]) if transpose else np.array([[right, 0], [0, down]])
    return Turn(transpose, down < 0, right < 0), screen


def _grid(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    count = len(sizes)
    width, height = sizes.max(axis=0) * 1.05
    columns = max(1, round(float(np.sqrt(count * height / width))))
    index = np.arange(count)
    return np.stack([(index % columns) * width, (index // columns) * height], axis=-1)
