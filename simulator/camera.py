"""The DECam focal plane (`lake.cameras`) with CCDs of any size.

A CCD's x axis runs along the focal plane's twelve rows (S29-S31 first, N29-N31 last), its y axis
along a row. A camera with smaller CCDs keeps the pixel scale and shrinks everything else in
proportion: the layout and the relative size of the gaps stay, the field of view gets smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lake.cameras import DECAM, Ccd

PIXEL_SCALE = DECAM.pixel_scale  # arcsec
FULL_NX, FULL_NY = DECAM.size
_GAP_X, _GAP_Y = DECAM.pitch[0] - FULL_NX, DECAM.pitch[1] - FULL_NY  # pixels, of a full-size CCD
_DETSEC_STEP_X, _DETSEC_STEP_Y = 2048, 4096

CCDS: tuple[Ccd, ...] = DECAM.ccds
"""All 62 CCDs in the order of their numbers."""

#: From the middle of the focal plane to its edges, in CCDs along x and y.
_REACH_X, _REACH_Y = max(ccd.x for ccd in CCDS) + 0.5, max(ccd.y for ccd in CCDS) + 0.5


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
        return _REACH_Y * self.pitch[1]

    def centre(self, ccd: Ccd) -> tuple[float, float]:
        """Focal-plane position of the CCD's centre, in pixels from the optical axis."""
        return ccd.x * self.pitch[0], ccd.y * self.pitch[1]

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
        x = int(_DETSEC_STEP_X * (ccd.x + _REACH_X + 0.5))
        y = int(_DETSEC_STEP_Y * (ccd.y + _REACH_Y - 0.5))
        return f"[{x + 1}:{x + _DETSEC_STEP_X},{y + 1}:{y + _DETSEC_STEP_Y}]"
