"""Stars, galaxies and the false objects of a failed sky subtraction."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from simulator.camera import PIXEL_SCALE, Camera, Ccd
from simulator.conditions import BANDS, SATURATION, SEEING, Conditions, Settings, pixel_noise
from simulator.psf import Psf, Stamps

_GALAXIES_PER_STAR = 0.6
_FAINTEST = 6.0  # signal-to-noise ratio in a typical exposure
# dN/dm goes as 10^(0.3 m) for stars and 10^(0.4 m) for galaxies
_STAR_SLOPE, _GALAXY_SLOPE = 0.75, 1.0
_BRIGHTEST_STAR, _BRIGHTEST_GALAXY = 3e4, 300.0  # over the faintest
_SMALL_STAMP = 14  # half width for sources whose wings drown in the noise


def objects_per_ccd(settings: Settings) -> float:
    """Stars and galaxies in a CCD of the median field."""
    return settings.star_density * (1 + _GALAXIES_PER_STAR)


def faintest_flux(band: str) -> float:
    """Flux [ADU] of a star at the limit of a typical exposure of a band."""
    typical = BANDS[band]
    # the effective area of a PSF of width w is 4 pi w^2
    width = SEEING / PIXEL_SCALE / 2.3548
    return float(
        _FAINTEST * pixel_noise(typical.sky * typical.exptime) * np.sqrt(4 * np.pi) * width
    )


def _power_law(
    rng: np.random.Generator, count: int, faintest: float, slope: float, brightest: float
) -> NDArray[np.float64]:
    """Fluxes with N(>F) as F^-slope between the faintest and ``brightest`` times that."""
    share = rng.random(count) * (1 - brightest**-slope) + brightest**-slope
    return faintest * share ** (-1 / slope)


def add_sources(
    image: NDArray[np.float32],
    conditions: Conditions,
    settings: Settings,
    ccd: Ccd,
    psf: Psf,
    rng: np.random.Generator,
) -> None:
    """Add stars and galaxies to a CCD, dimmed by clouds, airmass and a short exposure."""
    camera = settings.camera
    n_stars = rng.poisson(settings.star_density * conditions.object_density)
    n_galaxies = rng.poisson(settings.star_density * _GALAXIES_PER_STAR * conditions.object_density)
    faintest = faintest_flux(conditions.band)
    fluxes = np.concatenate(
        [
            _power_law(rng, n_stars, faintest, _STAR_SLOPE, _BRIGHTEST_STAR),
            _power_law(rng, n_galaxies, faintest, _GALAXY_SLOPE, _BRIGHTEST_GALAXY),
        ]
    )
    # some lie just outside, with light on the CCD
    x = rng.uniform(-10, camera.nx + 10, fluxes.size)
    y = rng.uniform(-10, camera.ny + 10, fluxes.size)
    u, v = camera.focal_plane(ccd, x + 1, y + 1)
    scale = conditions.exptime / BANDS[conditions.band].exptime
    fluxes *= scale * 10 ** (-0.4 * extinction(conditions, ccd, u, v))
    shapes = rng.integers(len(psf.galaxies), size=fluxes.size)
    bright = 40 * faintest
    faint = 0.05 * pixel_noise(conditions.sky)
    for index in range(fluxes.size):
        if index < n_stars:
            stamps = psf.sector(float(u[index]), float(v[index]))
        else:
            stamps = psf.galaxies[shapes[index]]
        half = None if fluxes[index] > bright else _SMALL_STAMP + stamps.half - 32
        stamps.add(image, x[index], y[index], float(fluxes[index]), half)
        if index < n_stars:
            stamps.add_wing(image, x[index], y[index], float(fluxes[index]), faint)


def extinction(
    conditions: Conditions, ccd: Ccd, u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lost light [mag] at focal-plane positions; under clouds it is patchy as their light is."""
    loss = np.full(u.shape, conditions.extinction + 0.1 * (conditions.airmass - 1))
    for pattern in conditions.patterns:
        if pattern.kind == "clouds" and pattern.mean > 0:
            # a patch as bright as the mean of the scattered light loses a third more
            loss += conditions.extinction / 3 * (pattern.evaluate(ccd, u, v) / pattern.mean - 1)
    return np.maximum(loss, 0.0)


@cache
def _blobs() -> Stamps:
    """Sixteen lumps of irregular shape, as the residue of a sky model; unit peak."""
    rng = np.random.default_rng(20140818)
    half = 8
    radius = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    phases = np.empty((4, 4, 2 * half + 1, 2 * half + 1), dtype=np.float32)
    for index in np.ndindex(4, 4):
        lump = np.exp(gaussian_filter(3 * rng.standard_normal(radius.shape), 1.5))
        lump *= np.exp(-((radius / 3.5) ** 2) / 2)
        phases[index] = lump / lump.max()
    return Stamps(half, phases)


def add_false_objects(
    image: NDArray[np.float32], conditions: Conditions, camera: Camera, rng: np.random.Generator
) -> None:
    """Add the mottled sky of a failed sky subtraction: lumps that are detected as objects.

    The sky was subtracted from them too: the mean level stays.
    """
    lumps = _blobs()
    count = rng.poisson(conditions.false_objects)
    x = rng.uniform(0, camera.nx, count)
    y = rng.uniform(0, camera.ny, count)
    peak = pixel_noise(conditions.sky) * rng.uniform(2.5, 6, count)
    mottled = np.zeros_like(image)
    for index in range(count):
        lumps.add(mottled, x[index], y[index], float(peak[index]))
    image += mottled - mottled.mean()


def bleed(image: NDArray[np.float32], level: float = SATURATION) -> None:
    """Let charge above saturation run along its column until it is used up, then clip."""
    for column in np.flatnonzero((image > level).any(axis=0)):
        strip = image[:, column]
        above = strip > level
        excess = float((strip[above] - level).sum())
        middle = int(np.flatnonzero(above).mean())
        reach = int(min(excess / level / 2, image.shape[0]))
        strip[max(middle - reach, 0) : middle + reach + 1] = level
    np.minimum(image, level, out=image)
