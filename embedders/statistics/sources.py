"""Stars and galaxies: how many, how bright, how large, how elongated and in which direction."""

import math
from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

from embedders.statistics.definition import Feature, log_fraction
from embedders.statistics.frame import Floats, Frame

THRESHOLD = 1.5  # units of the pixel noise, on the image smoothed by sep's 3 x 3 kernel
MIN_AREA = 5  # pixels
DEBLEND = 0.1  # share of the light a part needs to be a source: a donut stays in one piece
MEASURED = 100  # brightest sources of a window whose half-light radius is measured

_DENSITY = "log10(1 + n / arcmin2)"

FEATURES = (
    Feature("source_density", _DENSITY, 0, 3, 0, "sources of 5 sigma and brighter"),
    Feature("negative_density", _DENSITY, 0, 2.5, 0, "holes of 5 sigma and deeper"),
    Feature("flux_median", "log10(ADU)", 1, 5, 2.5, "of the sources of 5 sigma and brighter"),
    Feature("source_area", "log10(0.001 + fraction)", -3, 0, -3, "pixels that belong to a source"),
    Feature("source_size", "log10(arcsec)", -0.5, 0.8, 0, "median half-light diameter"),
    Feature("source_size_spread", "log10(p84 / p16)", 0, 1, 0.2, "of the half-light diameters"),
    Feature("effective_area", "log10(arcsec2)", -0.5, 1.6, 0.4, "median of flux over peak"),
    Feature("ellipticity", "1 - b / a", 0, 0.8, 0.2, "median"),
    Feature("ellipticity_coherence", "fraction", 0, 1, 0, "squared mean of exp(2 i theta)"),
    Feature("e1", "(a - b) / (a + b) cos 2 theta", -0.4, 0.4, 0, "mean; along x positive"),
    Feature("e2", "(a - b) / (a + b) sin 2 theta", -0.4, 0.4, 0, "mean; along the diagonal"),
    Feature("elongated_share", "fraction", 0, 1, 0, "bright sources with a > 1.6 b"),
    Feature("longest_source", "log10(arcsec)", 0, 2.5, 0.5, "largest semi-major axis (1 sigma)"),
    Feature("blended_share", "fraction", 0, 1, 0, "sources that were split from a neighbour"),
)


@dataclass(frozen=True)
class Catalogue:
    """Sources of one window. Lengths in pixels, fluxes in units of the pixel noise."""

    residual: Floats
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    theta: NDArray[np.float64]
    flux: NDArray[np.float64]
    peak: NDArray[np.float64]
    npix: NDArray[np.int64]
    blended: NDArray[np.bool_]

    @property
    def snr(self) -> NDArray[np.float64]:
        """Isophotal flux over the noise of the isophote."""
        return self.flux / np.sqrt(np.maximum(self.npix, 1))


def detect(residual: Floats) -> Catalogue:
    """Sources of a background-subtracted image in units of its noise."""
    found = _extract(residual)
    return Catalogue(
        residual=residual,
        x=found["x"],
        y=found["y"],
        a=np.maximum(found["a"], 0.29),  # of a uniform pixel
        b=np.maximum(found["b"], 0.29),
        theta=found["theta"],
        flux=found["flux"],
        peak=np.maximum(found["peak"], 1e-3),
        npix=found["npix"],
        blended=(found["flag"] & sep.OBJ_MERGED) > 0,
    )


def _extract(residual: Floats) -> NDArray[np.void]:
    # All pixels can be active at once (inverted, saturated images); sep would give up.
    sep.set_extract_pixstack(max(300_000, residual.size + 1))
    options = {"minarea": MIN_AREA, "deblend_nthresh": 16, "clean": False}
    for threshold, deblend in ((THRESHOLD, DEBLEND), (THRESHOLD, 1.0), (5.0, 1.0)):
        try:
            found: NDArray[np.void] = sep.extract(
                residual, threshold, deblend_cont=deblend, **options
            )
        except Exception as error:  # sep raises nothing more specific
            if "overflow" not in str(error) and "full" not in str(error):
                raise
            continue
        finite = np.isfinite(found["a"]) & np.isfinite(found["b"]) & np.isfinite(found["flux"])
        return found[finite]
    return np.zeros(0, dtype=sep.extract(np.zeros((8, 8), np.float32), 1.0).dtype)


def measure(frame: Frame, catalogues: list[Catalogue]) -> dict[str, float]:
    """Values of `FEATURES`; what is missing takes its neutral value."""
    scale = frame.camera.pixel_scale
    area = sum(c.residual.size for c in catalogues) * (scale / 60) ** 2
    snr = np.concatenate([c.snr for c in catalogues])
    flux = np.concatenate([c.flux for c in catalogues]) * frame.noise
    holes = sum(int((detect(-w.residual).snr >= 5).sum()) for w in frame.windows)
    sure = snr >= 5

    def density(n: int) -> float:
        return math.log10(1 + n / area)

    covered = sum(int(c.npix.sum()) for c in catalogues) / frame_pixels(catalogues)
    values = {
        "source_density": density(int(sure.sum())),
        "negative_density": density(holes),
        "source_area": log_fraction(covered),
    }
    if sure.sum() >= 3:
        values["flux_median"] = math.log10(max(float(np.median(flux[sure])), 1e-3))
    if sure.any():
        longest = max(float(c.a.max()) for c in catalogues if c.a.size)
        values["longest_source"] = math.log10(longest * scale)
        values["blended_share"] = float(
            np.concatenate([c.blended for c in catalogues])[sure].mean()
        )
    return values | _shapes(frame, catalogues)


def frame_pixels(catalogues: list[Catalogue]) -> int:
    """Pixels that were searched."""
    return sum(c.residual.size for c in catalogues)


def _shapes(frame: Frame, catalogues: list[Catalogue]) -> dict[str, float]:
    """Sizes and shapes of unsaturated sources of 10 sigma and brighter."""
    limit = (frame.saturated - frame.level) / frame.noise
    columns: list[NDArray[np.float64]] = []
    for c in catalogues:
        chosen = np.flatnonzero((c.snr >= 10) & (c.peak < limit))
        if chosen.size == 0:
            continue
        chosen = chosen[np.argsort(c.flux[chosen])[::-1][:MEASURED]]
        x, y, a, b = c.x[chosen], c.y[chosen], c.a[chosen], c.b[chosen]
        radius, _ = sep.flux_radius(
            c.residual, x, y, np.minimum(5 * a, 30), 0.5, normflux=c.flux[chosen], subpix=3
        )
        area = c.flux[chosen] / c.peak[chosen]
        columns.append(np.stack([radius, a, b, c.theta[chosen], area, c.snr[chosen]]))
    if not columns:
        return {}
    radius, a, b, theta, area, snr = np.concatenate(columns, axis=1)
    n = a.size
    values: dict[str, float] = {}
    diameter = 2 * radius[np.isfinite(radius) & (radius > 0)] * frame.camera.pixel_scale
    if diameter.size:
        p16, p50, p84 = np.percentile(diameter, [16, 50, 84])
        values["source_size"] = math.log10(p50)
        if diameter.size >= 5:
            values["source_size_spread"] = math.log10(p84 / p16)
    values["effective_area"] = math.log10(float(np.median(area)) * frame.camera.pixel_scale**2)
    values["ellipticity"] = float(np.median(1 - b / a))
    values["elongated_share"] = float((a > 1.6 * b).mean())
    if n >= 3:
        e = (a - b) / (a + b)
        weight = np.sqrt(np.minimum(snr, 100.0))
        spin = np.exp(2j * theta)
        total = float(weight.sum())
        coherence = abs(complex(np.sum(weight * spin))) / total
        # n random directions of equal weight give a squared mean of 1 / n.
        random = float(np.sum(weight**2)) / total**2
        values["ellipticity_coherence"] = coherence**2 - random
        mean = complex(np.sum(weight * e * spin)) / total
        values["e1"], values["e2"] = mean.real, mean.imag
    return values
