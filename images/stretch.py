"""From pixel values to grey levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Stretch = Literal["zscale", "arcsinh", "percentile"]
STRETCHES: tuple[Stretch, ...] = ("zscale", "arcsinh", "percentile")

_SAMPLE = 20_000
#: Contrast of zscale, as IRAF and ds9 have it.
_CONTRAST = 0.25
_CLIP, _ROUNDS, _LEAST_KEPT = 2.5, 5, 0.5
#: Knee of the arcsinh stretch, in units of the sky's scatter: faint structure of the sky stays
#: below it.
_KNEE = 4.0
#: Grey level of a pixel without a value.
BLANK = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """Values that become black and white, and, for arcsinh, how many knees lie between them.

    Below the knee grey levels grow in proportion, above with the logarithm; 0 is a straight line.
    """

    low: float
    high: float
    knees: float = 0.0


def scale_of(values: NDArray[np.float32], stretch: Stretch) -> Scale:
    """Return the scale of an image; 0 to 1 where there is nothing to see.

    `values` may have any shape; those that are not finite do not count.
    """
    thinned = values.ravel()[:: max(1, values.size // _SAMPLE)]
    sample = np.sort(thinned[np.isfinite(thinned)].astype(np.float64))
    if sample.size == 0:
        return Scale(0.0, 1.0)
    knees = 0.0
    if stretch == "zscale":
        low, high = _zscale(sample)
    elif stretch == "percentile":
        low, high = (float(value) for value in np.percentile(sample, (1, 99)))
    else:
        middle, scatter = _sky(sample)
        low, high = middle - 3 * scatter, float(np.percentile(sample, 99.9))
        knees = (high - low) / (_KNEE * scatter) if scatter > 0 else 0.0
    return Scale(low, high, knees) if high > low else Scale(low - 0.5, low + 0.5)


def grey(values: NDArray[np.float32], scale: Scale) -> NDArray[np.uint8]:
    """Return grey levels of the shape of `values`, from 1 at black to 255; 0 is no value."""
    span = np.float32(scale.high - scale.low)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((values - np.float32(scale.low)) / span, 0, 1)
        if scale.knees > 0:
            scaled = np.arcsinh(scaled * np.float32(scale.knees)) / np.arcsinh(scale.knees)
        levels = scaled * 254 + 1
    return np.where(np.isfinite(levels), levels, BLANK).astype(np.uint8)


def _sky(ordered: NDArray[np.float64]) -> tuple[float, float]:
    middle = float(np.median(ordered))
    return middle, 1.4826 * float(np.median(np.abs(ordered - middle)))


def _zscale(ordered: NDArray[np.float64]) -> tuple[float, float]:
    """The algorithm of IRAF's display task: a line through the sorted values, clipped."""
    count = ordered.size
    low, high = float(ordered[0]), float(ordered[-1])
    x = np.arange(count) - (count - 1) / 2
    kept = np.ones(count, bool)
    slope = intercept = 0.0
    for _ in range(_ROUNDS):
        if kept.sum() < max(5, _LEAST_KEPT * count):
            # No line fits, as when CCDs differ widely: IRAF takes all values, which shows the
            # brightest alone; the sky and what is a little above it tells more.
            middle, scatter = _sky(ordered)
            return max(low, middle - 3 * scatter), min(high, middle + 9 * scatter)
        slope, intercept = np.polyfit(x[kept], ordered[kept], 1)
        residual = ordered - (slope * x + intercept)
        scatter = float(residual[kept].std())
        again = kept & (np.abs(residual) <= _CLIP * scatter)
        if scatter == 0 or again.sum() == kept.sum():
            break
        kept = again
    middle = float(np.median(ordered))
    slope /= _CONTRAST
    reach = slope * (count - 1) / 2
    return max(low, middle - reach), min(high, middle + reach)
