"""Where each CCD of an exposure lies on the screen: north up, east left.

The focal plane (`lake.focal_plane`) is turned to the nearest quarter, or mirrored: CCDs stay
upright rectangles whatever the camera's angle on the sky.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lake import focal_plane
from lake.cameras import CAMERAS, DECAM, Camera
from lake.focal_plane import Turn

#: Pixels of the longer side of a focal plane, about.
MOSAIC_SIZE = 1800
#: Pixels of the longer side of a thumbnail, about.
THUMBNAIL_SIZE = 320
#: Columns of `ccds` that a layout needs.
COLUMNS = (*focal_plane.COLUMNS, "ccdname", "image_filename", "image_hdu")
#: How an image is shown whose orientation is not known: y upwards.
_PLAIN = Turn(flip_y=True)


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


def layout(ccds: Sequence[Mapping[str, Any]], camera: str = DECAM.name) -> Layout:
    """Lay out the CCDs of one exposure of `camera`; rows hold `COLUMNS`.

    CCDs without astrometry stand in a grid below the others; where not one has any, they stand as
    they are mounted in the camera, if that is known. A CCD whose size is not known has the size
    of its camera's (of DECam's where the camera is not known). Raises `ValueError` for no rows.
    """
    if not ccds:
        raise ValueError("no CCDs to lay out")
    plane = focal_plane.layout(ccds)
    screen = _PLAIN if plane.frame is None else _north_up(plane.frame)
    boxes = {place.ccdnum: _on_screen(place, plane, screen) for place in plane.places}
    turns = {place.ccdnum: place.turn.then(screen) for place in plane.places}
    below = plane.width if screen.transpose else plane.height
    known = CAMERAS.get(camera)
    usual = (known or DECAM).size
    sizes = {
        row["ccdnum"]: (_side(row["width"], usual[0]), _side(row["height"], usual[1]))
        for row in ccds
        if row["ccdnum"] in plane.unplaced
    }
    mounted = not boxes and known is not None and sizes.keys() <= known.ccdnames.keys()
    boxes |= _as_mounted(sizes, known) if mounted and known else _grid(sizes, below)
    width = max(left + across for left, _, across, _ in boxes.values())
    height = max(top + down for _, top, _, down in boxes.values())
    places = []
    for row in ccds:
        left, top, across, down = boxes[row["ccdnum"]]
        places.append(
            Place(
                int(row["ccdnum"]),
                str(row["ccdname"] or row["ccdnum"]).strip(),
                str(row["image_filename"] or ""),
                int(row["image_hdu"] or 0),
                turns.get(row["ccdnum"], _PLAIN),
                left / width,
                top / height,
                across / width,
                down / height,
            )
        )
    return Layout(tuple(places), width, height)


def _side(length: int | None, usual: int) -> int:
    """Return a CCD's side in pixels, the usual one where the table's makes no sense."""
    return length if length is not None and length > 0 else usual


def _on_screen(
    place: focal_plane.Place, plane: focal_plane.Layout, turn: Turn
) -> tuple[float, float, float, float]:
    """Return left, top, width and height in pixels of a CCD after the plane was turned."""
    x, y = place.x, place.y
    across, down = float(place.width), float(place.height)
    width, height = plane.width, plane.height
    if turn.transpose:
        x, y, across, down, width, height = y, x, down, across, height, width
    # Rows of the screen count downwards, as those of an array do.
    return (
        width - x - across if turn.flip_x else x,
        height - y - down if turn.flip_y else y,
        across,
        down,
    )


def _north_up(frame: NDArray[np.float64]) -> Turn:
    """Return the turn that puts north up and east left, of degrees by pixel (2, 2)."""
    # Which pixel axis runs along east, and which way.
    transpose = bool(abs(frame[0, 1]) > abs(frame[0, 0]))
    east, north = (frame[0, 1], frame[1, 0]) if transpose else (frame[0, 0], frame[1, 1])
    return Turn(transpose, bool(north > 0), bool(east > 0))


def _as_mounted(
    sizes: Mapping[int, tuple[float, float]], camera: Camera
) -> dict[int, tuple[float, float, float, float]]:
    """Return left, top, width and height in pixels of CCDs as the camera has them, y upwards."""
    # CCDs may be smaller than the camera's: cut-outs, and simulated ones.
    widest, highest = np.array(list(sizes.values()), float).max(axis=0)
    step_x = camera.pitch[0] * widest / camera.size[0]
    step_y = camera.pitch[1] * highest / camera.size[1]
    corners = {
        ccd.num: (ccd.x * step_x - sizes[ccd.num][0] / 2, -ccd.y * step_y - sizes[ccd.num][1] / 2)
        for ccd in camera.ccds
        if ccd.num in sizes
    }
    left, top = (min(corner[axis] for corner in corners.values()) for axis in (0, 1))
    return {num: (x - left, y - top, *sizes[num]) for num, (x, y) in corners.items()}


def _grid(
    sizes: Mapping[int, tuple[float, float]], top: float
) -> dict[int, tuple[float, float, float, float]]:
    """Return left, top, width and height in pixels of CCDs in a grid that begins at `top`."""
    if not sizes:
        return {}
    width, height = np.array(list(sizes.values()), float).max(axis=0) * 1.05
    columns = max(1, round(float(np.sqrt(len(sizes) * height / width))))
    boxes = {}
    for index, (ccdnum, (across, down)) in enumerate(sizes.items()):
        row, column = divmod(index, columns)
        boxes[ccdnum] = (column * width, top * 1.05 + row * height, float(across), float(down))
    return boxes
