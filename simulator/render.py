"""Pixels: one CCD image from an exposure's conditions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simulator.background import grid, to_pixels
from simulator.camera import CCDS, Camera, Ccd
from simulator.conditions import (
    GAIN,
    READ_NOISE,
    STRUCTURE_SCATTER,
    Conditions,
    Exposure,
    Settings,
    pixel_noise,
)
from simulator.psf import Psf
from simulator.sources import add_false_objects, add_sources, bleed

_COSMIC_RAYS = 40.0  # a full-size CCD and 100 s
_BAD_COLUMNS = 0.001  # of a CCD's columns
_FLAT_RESIDUAL = 0.4  # of STRUCTURE_SCATTER, fixed for each CCD
_CAMERA_SEED = 570  # the camera's own blemishes are the same in every survey

Image = NDArray[np.float32]


def simulate_exposure(
    exposure: Exposure, settings: Settings, ccdnums: tuple[int, ...] | None = None
) -> Iterator[tuple[Ccd, Image]]:
    """Yield the CCD images of an exposure, in the order of their numbers.

    Parameters
    ----------
    exposure
        From `simulator.survey.plan`.
    ccdnums
        These alone; None: all 62. A CCD's pixels do not depend on which others are made.

    Yields
    ------
    Ccd, array of float32 (ny, nx)
        The CCD and its pixels in ADU, sky included.

    Raises
    ------
    SurveyError
        Where GalSim is not installed.
    """
    psf = exposure_psf(exposure)
    for ccd in CCDS:
        if ccdnums is None or ccd.num in ccdnums:
            yield ccd, render(exposure, settings, ccd, psf)


def exposure_psf(exposure: Exposure) -> Psf:
    """The point spread functions of an exposure."""
    return Psf(exposure.conditions, np.random.default_rng([exposure.seed, 0]))


def render(exposure: Exposure, settings: Settings, ccd: Ccd, psf: Psf) -> Image:
    """Render one CCD, shape (ny, nx), ADU."""
    conditions, camera = exposure.conditions, settings.camera
    rng = np.random.default_rng([exposure.seed, ccd.num])
    image = to_pixels(camera, background(conditions, camera, ccd))
    add_sources(image, conditions, settings, ccd, psf, rng)
    gain_error = conditions.amplifier_steps[ccd.num - 1]
    if conditions.amplifier_loss is not None and conditions.amplifier_loss[0] == ccd.num:
        gain_error -= conditions.amplifier_loss[1]
    image[:, camera.nx // 2 :] *= max(1 + gain_error, 0)
    _add_noise(image, rng)
    if conditions.satellite is not None:
        _add_satellite(image, conditions, camera, ccd)
    if conditions.false_objects > 0:
        add_false_objects(image, conditions, camera, rng)
    _add_cosmic_rays(image, conditions.exptime, rng)
    _add_readout_pattern(image, conditions, ccd, rng)
    bleed(image)
    _add_bad_columns(image, ccd)
    return image


def background(conditions: Conditions, camera: Camera, ccd: Ccd) -> NDArray[np.float64]:
    """Smooth light [ADU] on a CCD's grid nodes."""
    u, v = grid(camera, ccd)
    fixed = np.random.default_rng([_CAMERA_SEED, ccd.num]).standard_normal((2,))
    x = np.linspace(-1, 1, u.shape[1])[None, :]
    y = np.linspace(-1, 1, u.shape[0])[:, None]
    residual = fixed[0] * (x**2 - 1 / 3) / 0.42 + fixed[1] * (y**2 - 1 / 3) / 0.42
    uneven = conditions.gradient[0] * u + conditions.gradient[1] * v
    uneven += _FLAT_RESIDUAL * STRUCTURE_SCATTER * residual
    light = conditions.sky * (1 + uneven) + conditions.twilight
    for pattern in conditions.patterns:
        light += pattern.evaluate(ccd, u, v)
    return np.maximum(light, 0.02 * conditions.sky)


def _add_noise(image: Image, rng: np.random.Generator) -> None:
    """Add the noise of photons and readout (in place: a full-size image is 34 MB)."""
    noise = np.maximum(image, 0)
    noise /= np.float32(GAIN)
    noise += np.float32((READ_NOISE / GAIN) ** 2)
    np.sqrt(noise, out=noise)
    noise *= rng.standard_normal(image.shape, dtype=np.float32)
    image += noise


def _add_readout_pattern(
    image: Image, conditions: Conditions, ccd: Ccd, rng: np.random.Generator
) -> None:
    noise = pixel_noise(conditions.sky)
    row_rms, column_rms = conditions.readout_pattern
    rows = row_rms * noise * rng.standard_normal((image.shape[0],))
    columns = column_rms * noise * rng.standard_normal((image.shape[1],))
    image += rows[:, None].astype(np.float32)
    image += columns[None, :].astype(np.float32)
    if conditions.noise is None or ccd.num not in conditions.noise[2]:
        return
    kind, rms, _ = conditions.noise
    lines = image.shape[0] if kind == "rows" else image.shape[1]
    # pick-up at one frequency with jitter from line to line, half of the power each
    phase = 2 * np.pi * (np.arange(lines) / rng.uniform(3, 12) + rng.random())
    pattern = rms * (np.sin(phase) + np.sqrt(0.5) * rng.standard_normal((lines,)))
    image += (pattern[:, None] if kind == "rows" else pattern[None, :]).astype(np.float32)


def _add_satellite(image: Image, conditions: Conditions, camera: Camera, ccd: Ccd) -> None:
    if conditions.satellite is None:
        return
    angle, offset, brightness = conditions.satellite
    ny, nx = image.shape
    crpix1, crpix2 = camera.crpix(ccd)
    x = np.arange(1, nx + 1, dtype=np.float32)[None, :] - np.float32(crpix1)
    y = np.arange(1, ny + 1, dtype=np.float32)[:, None] - np.float32(crpix2)
    distance = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    distance -= np.float32(offset * camera.radius)
    near = np.abs(distance) < 12
    if near.any():
        peak = brightness * pixel_noise(conditions.sky)
        image[near] += np.float32(peak) * np.exp(-(distance[near] ** 2) / np.float32(8))


def _add_cosmic_rays(image: Image, exptime: float, rng: np.random.Generator) -> None:
    ny, nx = image.shape
    share = nx * ny / (2046 * 4094)
    for _ in range(rng.poisson(_COSMIC_RAYS * share * exptime / 100)):
        length = int(min(1 + rng.exponential(6), 60))
        angle = rng.uniform(0, np.pi)
        x = (rng.uniform(0, nx) + np.cos(angle) * np.arange(length)).astype(int)
        y = (rng.uniform(0, ny) + np.sin(angle) * np.arange(length)).astype(int)
        inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
        image[y[inside], x[inside]] += rng.uniform(50, 600)


def _add_bad_columns(image: Image, ccd: Ccd) -> None:
    """Columns that do not collect charge well; always the same ones of a CCD."""
    rng = np.random.default_rng([_CAMERA_SEED, 1, ccd.num])
    places = rng.random(rng.poisson(_BAD_COLUMNS * 2046 * image.shape[1] / 2046))
    starts = rng.random(places.size)
    for place, start in zip(places, starts, strict=True):
        image[int(start * image.shape[0]) :, int(place * image.shape[1])] *= 0.9
