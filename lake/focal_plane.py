"""Where each CCD of an exposure lies in the focal plane, from the astrometry of its CCD table.

The table's linear terms (``crpix``, ``crval``, ``cd``; TAN projection) place every CCD of any
camera; no layout is kept for any. The plane is laid out in the pixel frame that most of the
exposure's CCDs share, so that it turns with the camera: what belongs to the instrument (readout,
ghosts) stays in place whatever its angle on the sky. CCDs that are mounted otherwise are turned
by quarters or mirrored into that frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Columns of `ccds` that a layout needs.
COLUMNS = (
    "ccdnum", "width", "height",
    "crpix1", "crpix2", "crval1", "crval2", "cd1_1", "cd1_2", "cd2_1", "cd2_2",
)  # fmt: skip
#: Degrees from the middle of an exposure beyond which a CCD's astrometry is wrong: the largest
#: cameras reach 2.
FARTHEST = 5.0
#: Neighbours' edges are at most this part of a CCD's side apart.
REACH = 0.25

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Turn:
    """A quarter turn with or without mirroring: transpose, then flip along y, then along x."""

    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return `image` (..., y, x) in the frame of the focal plane."""
        turned = image.swapaxes(-1, -2) if self.transpose else image
        if self.flip_y:
            turned = turned[..., ::-1, :]
        return turned[..., ::-1] if self.flip_x else turned

    def then(self, other: Turn) -> Turn:
        """Return the turn that does what this one does and then what `other` does."""
        # A transposition after a flip is a flip of the other axis after the transposition.
        flips = (self.flip_x, self.flip_y) if other.transpose else (self.flip_y, self.flip_x)
        return Turn(
            self.transpose != other.transpose,
            flips[0] != other.flip_y,
            flips[1] != other.flip_x,
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A CCD in the plane: its lower left corner and extent in pixels, y upwards."""

    ccdnum: int
    x: float
    y: float
    width: int
    height: int
    turn: Turn

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the CCD's image before it is turned."""
        return (self.width, self.height) if self.turn.transpose else (self.height, self.width)


@dataclass(frozen=True)
class Layout:
    """The CCDs of an exposure in the plane.

    Attributes
    ----------
    places : in the order of the CCD numbers.
    width, height : extent of all of them in pixels.
    unplaced : numbers of the CCDs whose size or astrometry is missing or impossible.
    frame : (2, 2) degrees east and north by pixel along x and y; None where that is not known.
    """

    places: tuple[Place, ...]
    width: float
    height: float
    unplaced: tuple[int, ...] = ()
    frame: Floats | None = field(default=None, compare=False, repr=False)

    def binning(self, size: int) -> int:
        """Return by how much to bin so that the longer side has about `size` pixels."""
        return max(1, round(max(self.width, self.height) / size))

    def neighbours(self) -> dict[int, tuple[int, ...]]:
        """Return for each placed CCD the numbers of those beside it, corner to corner included."""
        found = {}
        for one in self.places:
            found[one.ccdnum] = tuple(
                other.ccdnum
                for other in self.places
                if other is not one
                and _gap(one.x, one.width, other.x, other.width) <= REACH * one.width
                and _gap(one.y, one.height, other.y, other.height) <= REACH * one.height
            )
        return found


def layout(ccds: Sequence[Mapping[str, Any]]) -> Layout:
    """Lay out the CCDs of one exposure; rows hold `COLUMNS`.

    A CCD that is alone needs a size but no astrometry.
    """
    rows = sorted(ccds, key=lambda row: row["ccdnum"])
    numbers = [int(row["ccdnum"]) for row in rows]
    # A missing number becomes NaN, which no comparison below lets pass.
    values = {name: np.array([row[name] for row in rows], float) for name in COLUMNS}
    sizes = np.stack([values["width"], values["height"]], axis=-1).reshape(-1, 2)
    sized = (sizes >= 1).all(axis=1)
    if len(rows) == 1 and sized.all():
        width, height = (int(side) for side in sizes[0])
        return Layout((Place(numbers[0], 0.0, 0.0, width, height, Turn()),), width, height)

    matrices = np.stack([values[f"cd{i}_{j}"] for i in (1, 2) for j in (1, 2)], axis=-1)
    matrices = matrices.reshape(-1, 2, 2)
    with np.errstate(invalid="ignore"):
        solved = sized & (np.abs(np.linalg.det(matrices)) > 1e-14)
    sky = _centres(values, sizes, matrices)  # (n, 2) degrees in one tangent plane
    solved &= np.isfinite(sky).all(axis=1)
    if solved.any():
        solved[solved] &= np.hypot(*(sky[solved] - np.median(sky[solved], axis=0)).T) < FARTHEST
    unplaced = tuple(number for number, good in zip(numbers, solved, strict=True) if not good)
    if not solved.any():
        return Layout((), 0.0, 0.0, unplaced)
    return _placed(
        np.array(numbers)[solved], sizes[solved], matrices[solved], sky[solved], unplaced
    )


def _placed(
    numbers: NDArray[np.int64],
    sizes: Floats,
    matrices: Floats,
    sky: Floats,
    unplaced: tuple[int, ...],
) -> Layout:
    quarters = [_quarter(np.linalg.solve(matrices[0], matrix)) for matrix in matrices]
    # The frame is that of most CCDs, and of the first of these.
    common, _ = Counter(quarter.tobytes() for quarter in quarters).most_common(1)[0]
    first = next(i for i, quarter in enumerate(quarters) if quarter.tobytes() == common)
    quarters = [quarters[first].T @ quarter for quarter in quarters]
    # The small angles between CCDs (and its rounding) would move the far ones: the mean counts.
    frame = np.mean([m @ q.T for m, q in zip(matrices, quarters, strict=True)], axis=0)
    centres = np.linalg.solve(frame, sky.T).T  # pixels
    turned = np.array(
        [size[::-1] if q[0, 0] == 0 else size for size, q in zip(sizes, quarters, strict=True)]
    )
    corners = centres - turned / 2
    origin = corners.min(axis=0)
    width, height = (corners + turned).max(axis=0) - origin
    places = (
        Place(int(number), float(x), float(y), int(nx), int(ny), _turn(quarter))
        for number, (x, y), (nx, ny), quarter in zip(
            numbers, corners - origin, turned, quarters, strict=True
        )
    )
    return Layout(tuple(places), float(width), float(height), unplaced, frame)


def _centres(values: Mapping[str, Floats], sizes: Floats, matrices: Floats) -> Floats:
    """Return the CCDs' centres in degrees on the plane that touches the sky at the middle one."""
    reference = np.stack([values["crpix1"], values["crpix2"]], axis=-1)
    xi, eta = np.radians(np.einsum("nij,nj->in", matrices, (sizes + 1) / 2 - reference))
    ra0, dec0 = np.radians(values["crval1"]), np.radians(values["crval2"])
    known = np.flatnonzero(np.isfinite(ra0) & np.isfinite(dec0))
    if not known.size:
        return np.full_like(sizes, np.nan)
    # From each CCD's own tangent plane to the sky, and from there to the common plane.
    down = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, down)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, down))
    middle = known[len(known) // 2]
    ra0, dec0 = ra0[middle], dec0[middle]
    depth = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    depth = np.where(depth > 0, depth, np.nan)  # the other side of the sky
    xi = np.cos(dec) * np.sin(ra - ra0) / depth
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / depth
    return np.degrees(np.stack([xi, eta], axis=-1))


def _quarter(matrix: Floats) -> Floats:
    """Return the nearest quarter turn (with or without mirroring) to a 2 x 2 matrix."""
    straight = abs(matrix[0, 0]) + abs(matrix[1, 1]) >= abs(matrix[0, 1]) + abs(matrix[1, 0])
    return np.sign(matrix) * (np.eye(2) if straight else 1 - np.eye(2)) + 0.0  # no -0


def _turn(quarter: Floats) -> Turn:
    """Return what puts an image into the frame, of the matrix from its pixels to the frame's."""
    across = int(quarter[0, 0] == 0)
    return Turn(bool(across), bool(quarter[1, 1 - across] < 0), bool(quarter[0, across] < 0))


def _gap(start: float, length: float, other: float, other_length: float) -> float:
    """Return the distance between two stretches of a line, negative where they overlap."""
    return max(other - (start + length), start - (other + other_length))
