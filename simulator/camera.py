"""The DECam focal plane: names, numbers and places of its 62 CCDs.

Reference: Flaugher et al. 2015, AJ 150, 150. Pixels of 15 micrometres, gaps of 201 pixels between
the long edges of neighbouring CCDs and 153 pixels between the short ones, a scale of 0.262 arcsec
per pixel.

A CCD's x axis runs along the focal plane's twelve rows (S29-S31 first, N29-N31 last), its y axis
along a row. A camera with smaller CCDs keeps the pixel scale and shrinks everything else in
proportion: the layout and the relative size of the gaps stay, the field of view gets smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lake.cameras import DECAM_NAMES

PIXEL_SCALE = 0.262  # arcsec
FULL_NX, FULL_NY = 2046, 4094
_GAP_X, _GAP_Y = 201, 153  # pixels, of a full-size camera
_DETSEC_STEP_X, _DETSEC_STEP_Y = 2048, 4096

# CCDs of each row along x; CCD numbers follow the same order
_ROWS = (3, 4, 5, 6, 6, 7, 7, 6, 6, 5, 4, 3)
N_ROWS = len(_ROWS)
MAX_PER_ROW = max(_ROWS)


@dataclass(frozen=True)
class Ccd:
    """One CCD: its ``row`` along x (0 to 11) and ``place`` along y (in CCDs from the centre)."""

    num: int
    name: str
    row: int
    place: float


def _layout() -> tuple[Ccd, ...]:
    ccds: list[Ccd] = []
    for row, count in enumerate(_ROWS):
        for index in range(count):
            num = len(ccds) + 1
            ccds.append(Ccd(num, DECAM_NAMES[num], row, index - (count - 1) / 2))
    return tuple(ccds)


CCDS: tuple[Ccd, ...] = _layout()
"""All 62 CCDs in the order of their numbers."""


@dataclass(frozen=True)
class Camera:
    """A DECam whose CCDs have ``nx`` x ``ny`` pixels."""

    nx: int = FULL_NX
    ny: int = FULL_NY

    @cached_property
    def pitch(self) -> tuple[float, float]:
        """Distance in pixels between the centres of neighbouring CCDs along x and y."""
        return self.nx * (1 + _GAP_X / FULL_NX), self.ny * (1 + _GAP_Y / FULL_NY)

    @cached_property
    def radius(self) -> float:
        """Pixels from the centre of the focal plane to the edge of its longest row."""
        return MAX_PER_ROW / 2 * self.pitch[1]

    def centre(self, ccd: Ccd) -> tuple[float, float]:
        """Focal-plane position of the CCD's centre, in pixels from the optical axis."""
        return (ccd.row - (N_ROWS - 1) / 2) * self.pitch[0], ccd.place * self.pitch[1]

    def crpix(self, ccd: Ccd) -> tuple[float, float]:
        """The optical axis in the CCD's own (FITS, from 1) pixel coordinates."""
        x, y = self.centre(ccd)
        return (self.nx + 1) / 2 - x, (self.ny + 1) / 2 - y

    def focal_plane(
        self, ccd: Ccd, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Focal-plane position, in units of `radius`, of FITS pixel coordinates of a CCD."""
        crpix1, crpix2 = self.crpix(ccd)
        return (x - crpix1) / self.radius, (y - crpix2) / self.radius

    @staticmethod
    def cd_matrix() -> tuple[float, float, float, float]:
        """CD1_1, CD1_2, CD2_1, CD2_2 in degrees per pixel: +y is east, +x is south."""
        step = PIXEL_SCALE / 3600
        return 0.0, step, -step, 0.0

    def sky_position(
        self, ccd: Ccd, ra_bore: float, dec_bore: float, x: float, y: float
    ) -> tuple[float, float]:
        """RA and Dec in degrees of a FITS pixel of a CCD (tangent plane)."""
        crpix1, crpix2 = self.crpix(ccd)
        cd1_1, cd1_2, cd2_1, cd2_2 = np.radians(self.cd_matrix())
        xi = cd1_1 * (x - crpix1) + cd1_2 * (y - crpix2)
        eta = cd2_1 * (x - crpix1) + cd2_2 * (y - crpix2)
        dec0 = np.radians(dec_bore)
        denominator = np.cos(dec0) - eta * np.sin(dec0)
        ra = np.radians(ra_bore) + np.arctan2(xi, denominator)
        dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, denominator))
        return float(np.degrees(ra) % 360), float(np.degrees(dec))

    @staticmethod
    def detsec(ccd: Ccd) -> str:
        """The DETSEC card: where the CCD lies on a mosaic of full-size CCDs without gaps."""
        x = _DETSEC_STEP_X * (ccd.row + 1)
        y = int(_DETSEC_STEP_Y * (ccd.place + (MAX_PER_ROW - 1) / 2))
        return f"[{x + 1}:{x + _DETSEC_STEP_X},{y + 1}:{y + _DETSEC_STEP_Y}]"
