"""The readout: noise common to rows or columns, periodic patterns, correlated pixels."""

import math

import numpy as np
from numpy.typing import NDArray

from embedders.statistics.definition import Feature, log_excess
from embedders.statistics.frame import Floats, Frame, Window

SMOOTH = 15  # rows or columns over which a profile is levelled: slower change is background
CLIP = 4.0  # units of the noise

FEATURES = (
    Feature("row_noise", "log10(sigma)", -1.3, 0.0, -1.3, "scatter of rows beyond pixel noise"),
    Feature(
        "column_noise", "log10(sigma)", -1.3, 0.0, -1.3, "scatter of columns beyond pixel noise"
    ),
    Feature("row_correlation", "r abs(r)", -1, 1, 0, "row patterns of the halves in x"),
    Feature("column_correlation", "r abs(r)", -1, 1, 0, "column patterns of the halves in y"),
    Feature("row_period", "log10(peak / expected)", -0.3, 1.3, 0, "periodic pattern across rows"),
    Feature("pattern_x", "log10(peak / continuum)", 0, 1.3, 0.1, "periodic pattern within rows"),
    Feature(
        "pattern_x_frequency", "1 / pixel", 0, 0.5, 0, "of that pattern; 0 where there is none"
    ),
    Feature("pattern_y", "log10(peak / continuum)", 0, 1.3, 0.1, "periodic pattern within columns"),
    Feature("correlation_x", "coefficient", -0.3, 0.6, 0, "of sky pixels with the next in x"),
    Feature("correlation_y", "coefficient", -0.3, 0.6, 0, "of sky pixels with the next in y"),
)


def measure(frame: Frame) -> dict[str, float]:
    """Values of `FEATURES`, averaged over the windows; what is missing takes its neutral value."""
    found: dict[str, list[float]] = {}
    for window in frame.windows:
        if min(window.residual.shape) < 16 or window.sky.mean() < 0.1:
            continue
        for name, value in _window(window).items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _window(window: Window) -> dict[str, float]:
    sky = np.where(window.sky, np.clip(window.residual, -CLIP, CLIP), np.float32(0))
    good = window.sky.astype(np.float32)
    values: dict[str, float] = {}

    middle = sky.shape[1] // 2
    halves = [_profile(sky[:, part], good[:, part], axis=1) for part in _halves(middle)]
    excess = [_excess(profile, variance) for profile, variance in halves]
    values["row_noise"] = log_excess(math.sqrt(max(float(np.mean(excess)), 0.0)), 0.06)
    left, right = halves[0][0], halves[1][0]
    values["row_correlation"] = _likeness(left, right)

    rows = (left + right) / 2
    power = np.abs(np.fft.rfft(rows))[2:] ** 2
    if power.size >= 8 and power.mean() > 0:
        # The highest of n exponentially distributed powers is expected at ln(n) means.
        expected = math.log(power.size) + 0.577
        values["row_period"] = math.log10(float(power.max() / power.mean()) / expected)

    columns, variance = _profile(sky, good, axis=0)
    values["column_noise"] = log_excess(math.sqrt(max(_excess(columns, variance), 0.0)), 0.06)

    lower, upper = (
        _profile(sky[part], good[part], axis=0)[0] for part in _halves(sky.shape[0] // 2)
    )
    values["column_correlation"] = _likeness(lower, upper)

    peak, frequency = _pattern(sky, axis=1)
    values["pattern_x"] = peak
    values["pattern_x_frequency"] = frequency * min(1.0, max(0.0, (peak - 0.3) / 0.3))
    values["pattern_y"], _ = _pattern(sky, axis=0)

    power0 = float(np.sum(sky * sky))
    if power0 > 0:
        n0 = float(good.sum())
        for name, a, b, ga, gb in (
            ("correlation_x", sky[:, 1:], sky[:, :-1], good[:, 1:], good[:, :-1]),
            ("correlation_y", sky[1:], sky[:-1], good[1:], good[:-1]),
        ):
            pairs = float(np.sum(ga * gb))
            values[name] = float(np.sum(a * b)) / max(pairs, 1.0) / (power0 / n0)
    return values


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two profiles times its size, so that what chance gives fades."""
    size = math.sqrt(float(np.sum(one**2)) * float(np.sum(other**2)))
    r = float(np.sum(one * other)) / size if size > 0 else 0.0
    return r * abs(r)


def _halves(middle: int) -> tuple[slice, slice]:
    return slice(None, middle), slice(middle, None)


def _profile(
    sky: Floats, good: Floats, axis: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean of the sky along `axis` less its own running mean, and its variance by pixel noise."""
    from scipy.ndimage import uniform_filter1d

    n = good.sum(axis=axis)
    enough = n > 0.1 * good.shape[axis]
    mean = np.where(enough, sky.sum(axis=axis) / np.maximum(n, 1), 0).astype(np.float32)
    pixel = float(np.sum(sky * sky)) / max(float(good.sum()), 1.0)
    variance = np.where(enough, pixel / np.maximum(n, 1), 0).astype(np.float32)
    width = min(SMOOTH, mean.size)
    level = uniform_filter1d(mean, width, mode="nearest")
    return mean - level, variance * np.float32(1 - 1 / width)


def _excess(profile: NDArray[np.float32], variance: NDArray[np.float32]) -> float:
    """Variance of a profile beyond that of its pixels, in units of the pixel variance."""
    return float(np.mean(np.clip(profile, -2, 2) ** 2) - np.mean(variance))


def _pattern(sky: Floats, axis: int) -> tuple[float, float]:
    """Highest peak over the continuum of the mean periodogram along an axis; its frequency.

    The phase differs from line to line, as that of interference during the readout does. What
    all lines share is taken off: steps, gradients and patterns of columns (see `column_noise`).
    """
    from scipy.fft import rfft
    from scipy.ndimage import median_filter

    n = sky.shape[axis]
    sky = sky - sky.mean(axis=1 - axis, keepdims=True)
    power = (np.abs(rfft(sky, axis=axis)) ** 2).mean(axis=1 - axis)
    continuum = median_filter(power, size=min(21, power.size), mode="nearest")
    first = max(2, n // 64)  # longer than 64 pixels: background
    ratio = power[first:] / np.maximum(continuum[first:], 1e-6 * max(float(power.max()), 1e-12))
    if ratio.size == 0:
        return 0.0, 0.0
    best = int(np.argmax(ratio))
    return math.log10(max(float(ratio[best]), 1.0)), (first + best) / n
