"""Point spread functions: GalSim makes the profiles, numpy copies their stamps onto CCDs.

A profile is drawn once per exposure and sector of the focal plane, four times finer than the
pixels; stars take the stamp of the nearest quarter-pixel phase. This is what makes 62 CCDs
affordable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from lake.extras import import_extra
from simulator.background import OBSCURATION
from simulator.camera import PIXEL_SCALE
from simulator.conditions import Conditions

_FINE = 4  # samples per pixel
SECTORS = 8  # of azimuth, each with a PSF of its own
_CAMERA_ASTIGMATISM = 0.006  # elongation that DECam's optics leave everywhere
_CHARGE_DIFFUSION = 0.9  # FWHM, pixels
_N_GALAXIES = 6

Stamp = NDArray[np.float32]


@dataclass(frozen=True)
class Stamps:
    """A profile at the 16 quarter-pixel phases, each (2 half + 1) pixels wide, with unit sum."""

    half: int
    phases: NDArray[np.float32]  # (4, 4, 2 half + 1, 2 half + 1): y phase, x phase, y, x
    wing: float = 0.0  # surface brightness at the edge, where the stamps are faded out

    def add(self, image: Stamp, x: float, y: float, flux: float, half: int | None = None) -> None:
        """Add a source of ``flux`` at pixel coordinates (from 0), clipped at the edges."""
        half = self.half if half is None else min(half, self.half)
        x4, y4 = round(x * _FINE), round(y * _FINE)
        ix, iy = x4 // _FINE, y4 // _FINE
        ny, nx = image.shape
        x0, x1, y0, y1 = (
            max(ix - half, 0),
            min(ix + half + 1, nx),
            max(iy - half, 0),
            min(iy + half + 1, ny),
        )
        if x0 >= x1 or y0 >= y1:
            return
        stamp = self.phases[y4 % _FINE, x4 % _FINE]
        left, bottom = self.half - ix, self.half - iy
        image[y0:y1, x0:x1] += flux * stamp[y0 + bottom : y1 + bottom, x0 + left : x1 + left]

    def add_wing(self, image: Stamp, x: float, y: float, flux: float, faintest: float) -> None:
        """Continue a star's light beyond its stamp, to where it falls below ``faintest``.

        Kolmogorov turbulence spreads light as radius^(-11/3).
        """
        if flux * self.wing < faintest:
            return
        reach = self.half * min((flux * self.wing / faintest) ** (3 / 11), 12.0)
        ny, nx = image.shape
        x0, x1 = max(int(x - reach), 0), min(int(x + reach) + 2, nx)
        y0, y1 = max(int(y - reach), 0), min(int(y + reach) + 2, ny)
        if x0 >= x1 or y0 >= y1:
            return
        columns = np.arange(x0, x1, dtype=np.float32)[None, :] - np.float32(x)
        rows = np.arange(y0, y1, dtype=np.float32)[:, None] - np.float32(y)
        radius = np.hypot(columns, rows) / np.float32(self.half)
        light = (1 - _fade(radius)) * np.maximum(radius, 0.5) ** np.float32(-11 / 3)
        image[y0:y1, x0:x1] += np.float32(flux * self.wing) * light


def _fade(radius: NDArray[Any]) -> NDArray[Any]:
    """Weight of a stamp against its wing: 1 inside 0.7 of its half width, 0 at its edge."""
    ramp = np.clip((1 - radius) / np.float32(0.3), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _stamps(profile: Any, half: int) -> tuple[Stamps, NDArray[np.float32]]:
    """Draw a GalSim profile (already convolved with the pixel); also its fine image."""
    size = 2 * _FINE * half + 2 * _FINE + 1
    fine = profile.drawImage(
        nx=size, ny=size, scale=1 / _FINE, method="no_pixel", dtype=np.float32
    ).array
    fine = fine / (fine.sum(dtype=np.float64) / _FINE**2)
    # fading the stamps out in a circle keeps bright stars from showing a square edge
    offset = np.arange(size, dtype=np.float32) - (size - 1) // 2
    radius = np.hypot(offset[None, :], offset[:, None]) / (_FINE * half)
    ring = np.abs(radius - 0.85) < 0.05
    wing = max(float(fine[ring].mean()) * 0.85 ** (11 / 3), 0.0)
    faded = fine * _fade(radius)
    width = 2 * half + 1
    phases = np.empty((_FINE, _FINE, width, width), dtype=np.float32)
    for py in range(_FINE):
        for px in range(_FINE):
            phases[py, px] = faded[_FINE - py :: _FINE, _FINE - px :: _FINE][:width, :width]
    return Stamps(half, phases, wing), fine


class Psf:
    """The stars and galaxies of one exposure.

    Attributes
    ----------
    stars
        One `Stamps` per sector of azimuth.
    galaxies
        `Stamps` of galaxies of several sizes and shapes behind the mean PSF.
    fwhm
        Full width at half maximum in pixels (of the area above half maximum, holes filled).
    norm
        Root of the sum of the squared PSF: legacypipe's ``psfnorm``.
    """

    def __init__(self, conditions: Conditions, rng: np.random.Generator) -> None:
        self._galsim = galsim = import_extra("galsim", "simulator", "the simulator")
        half = 32 + int(
            np.ceil(conditions.trail[0] / 2 + conditions.double[0] + conditions.donut)
            + 3 * max(conditions.seeing - 1.5, 0)
        )
        self.stars = []
        for sector in range(SECTORS):
            azimuth = 2 * np.pi * (sector + 0.5) / SECTORS
            stamps, fine = _stamps(self._profile(conditions, azimuth), half)
            self.stars.append(stamps)
        self.fwhm = self._width(fine)
        self.norm = float(np.sqrt((self.stars[0].phases[0, 0].astype(np.float64) ** 2).sum()))
        mean = self._profile(conditions, None)
        self.galaxies = []
        for _ in range(_N_GALAXIES):
            radius = float(np.exp(rng.normal(np.log(0.5), 0.4))) / PIXEL_SCALE
            make = galsim.Exponential if rng.random() < 0.7 else galsim.DeVaucouleurs
            galaxy = make(half_light_radius=radius).shear(
                g=rng.uniform(0, 0.5), beta=rng.uniform(0, np.pi) * galsim.radians
            )
            self.galaxies.append(_stamps(galsim.Convolve([mean, galaxy]), half)[0])

    def sector(self, u: float, v: float) -> Stamps:
        """The stars' stamps at a place in the focal plane."""
        return self.stars[int(np.arctan2(v, u) / (2 * np.pi) * SECTORS) % SECTORS]

    def _profile(self, conditions: Conditions, azimuth: float | None) -> Any:
        galsim = self._galsim
        fwhm = conditions.seeing / PIXEL_SCALE
        e1, e2 = conditions.elongation
        if azimuth is not None:
            astigmatism = _CAMERA_ASTIGMATISM + conditions.astigmatism
            e1 += astigmatism * np.cos(2 * azimuth)
            e2 += astigmatism * np.sin(2 * azimuth)
        size = np.hypot(e1, e2)
        # elongation (a^2 - b^2) / 2 b^2 -> GalSim's distortion (a^2 - b^2) / (a^2 + b^2)
        factor = 1 / (1 + size)
        air = galsim.Kolmogorov(fwhm=float(np.sqrt(max(fwhm**2 - _CHARGE_DIFFUSION**2, 1.0))))
        parts = [
            galsim.Convolve([air, galsim.Gaussian(fwhm=_CHARGE_DIFFUSION)]).shear(
                e1=float(e1 * factor), e2=float(e2 * factor)
            )
        ]
        length, angle = conditions.trail
        if length > 0.05:
            parts.append(galsim.Box(length, 0.05).rotate(angle * galsim.radians))
        if conditions.donut > 0.05:
            radius = conditions.donut
            parts.append(
                galsim.TopHat(radius) - galsim.TopHat(radius * OBSCURATION, flux=OBSCURATION**2)
            )
        separation, angle, share = conditions.double
        if separation > 0.02:
            dx, dy = separation * np.cos(angle), separation * np.sin(angle)
            point = galsim.Gaussian(sigma=0.05)
            parts.append(
                point.withFlux(1 - share).shift(-share * dx, -share * dy)
                + point.withFlux(share).shift((1 - share) * dx, (1 - share) * dy)
            )
        return galsim.Convolve([*parts, galsim.Pixel(1.0)])

    @staticmethod
    def _width(fine: NDArray[np.float32]) -> float:
        area = binary_fill_holes(fine > fine.max() / 2).sum() / _FINE**2
        return float(2 * np.sqrt(area / np.pi))
