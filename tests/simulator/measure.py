"""What an observer measures on a CCD image, without knowing how it was made."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray

Image = NDArray[np.float32]


def noise(image: Image) -> float:
    """Noise of a pixel, from the differences of neighbours."""
    return float(1.4826 * np.median(np.abs(np.diff(image, axis=1))) / np.sqrt(2))


def blocks(image: Image, size: int = 32) -> NDArray[np.float64]:
    """Sky in cells of ``size`` x ``size`` pixels: the clipped median of each."""
    ny, nx = image.shape[0] // size, image.shape[1] // size
    cells = image[: ny * size, : nx * size].reshape(ny, size, nx, size)
    cells = cells.transpose(0, 2, 1, 3).reshape(ny * nx, -1).astype(np.float64)
    limit = np.median(cells, axis=1, keepdims=True) + 2.5 * noise(image)
    return np.nanmedian(np.where(cells < limit, cells, np.nan), axis=1).reshape(ny, nx)


def structure(image: Image) -> float:
    """Rms of the sky over the cells of an image."""
    return float(blocks(image).std())


def amplifier_step(image: Image) -> float:
    """Step of the sky across the middle column, where a slope does not matter."""
    half = image.shape[1] // 2
    return float(np.median(image[:, half : half + 16]) - np.median(image[:, half - 16 : half]))


def pattern(image: Image, axis: int) -> float:
    """Rms over the noise of the medians of rows (axis 0) or columns (1), about their neighbours."""
    lines = np.median(image, axis=1 - axis).astype(np.float64)
    return float(np.diff(lines).std() / np.sqrt(2) / noise(image))


def sources(image: Image) -> NDArray[np.void]:
    """Objects above five times the noise of the sky."""
    flat = np.ascontiguousarray(image, dtype=np.float32)
    background = sep.Background(flat, bw=32, bh=32)
    return sep.extract(flat - background.back(), 1.5, err=noise(image), minarea=6)


def elongation(objects: NDArray[np.void]) -> tuple[float, float]:
    """Median elongation (a^2 - b^2) / 2 b^2 of objects, as components cos 2a and sin 2a."""
    good = (objects["flag"] == 0) & (objects["npix"] > 20) & (objects["b"] > 0.5)
    a2, b2, angle = objects["a"][good] ** 2, objects["b"][good] ** 2, objects["theta"][good]
    size = (a2 - b2) / (2 * b2)
    return float(np.median(size * np.cos(2 * angle))), float(np.median(size * np.sin(2 * angle)))


def half_light_radius(image: Image, objects: NDArray[np.void]) -> float:
    """Lower quartile (galaxies are larger) of the half-light radii of bright objects [pixels]."""
    bright = objects[(objects["flag"] == 0) & (objects["flux"] > 40 * noise(image))]
    flat = np.ascontiguousarray(image - np.median(image), dtype=np.float32)
    radii, _ = sep.flux_radius(
        flat, bright["x"], bright["y"], np.full(len(bright), 25.0), 0.5, normflux=bright["flux"]
    )
    return float(np.nanquantile(radii, 0.25)) if len(radii) else float("nan")
