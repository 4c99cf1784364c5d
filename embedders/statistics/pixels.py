"""Single pixels: dead, saturated, hot, bad columns and rows; and the distribution of the sky."""

import numpy as np
from numpy.typing import NDArray

from embedders.statistics.definition import Feature, log_fraction
from embedders.statistics.frame import Frame, Window, robust_sigma

LINE_DEPTH = 0.7  # a bad column or row is off by at least this many units of pixel noise

LINE_FLOOR = 0.03  # one bad column of a hundred is every CCD's

SHARE = "log10(0.001 + fraction)"
LINE_SHARE = "log10(0.03 + fraction)"

FEATURES = (
    Feature("masked_fraction", SHARE, -3, 0, -3, "pixels that are NaN, infinite or masked"),
    Feature("zero_fraction", SHARE, -3, 0, -3, "pixels that are exactly 0"),
    Feature("flat_fraction", SHARE, -3, 0, -3, "pixels exactly equal to their neighbour in x"),
    Feature("saturated_fraction", SHARE, -3, 0, -3, "pixels above 2/3 of a full well"),
    Feature("low_fraction", SHARE, -3, 0, -3, "pixels more than 6 sigma below the sky"),
    Feature("spike_fraction", SHARE, -3, -1, -3, "hot pixels and cosmic rays: sharper than a star"),
    Feature(
        "bad_column_fraction", LINE_SHARE, -1.5, 0, -1.5, "columns that stand off their neighbours"
    ),
    Feature("bad_row_fraction", LINE_SHARE, -1.5, 0, -1.5, "rows that stand off their neighbours"),
    Feature("sky_skewness", "(p84 + p16 - 2 p50) / (p84 - p16)", -0.3, 0.3, 0, "of the sky pixels"),
    Feature("sky_tail_low", "log10(-p0.1 / 3.09 sigma)", -0.3, 1, 0, "0 for a Gaussian sky"),
)


def measure(frame: Frame) -> dict[str, float]:
    """Values of `FEATURES`; what is missing takes its neutral value."""
    pixels, residual = frame.pixels, frame.residual
    equal = float((np.diff(pixels, axis=1) == 0).mean()) if pixels.shape[1] > 1 else 0.0
    values = {
        "masked_fraction": log_fraction(frame.bad_fraction),
        "zero_fraction": log_fraction(float((pixels == 0).mean())),
        "flat_fraction": log_fraction(equal),
        "saturated_fraction": log_fraction(float((pixels >= frame.saturated).mean())),
        "low_fraction": log_fraction(float((residual < -6).mean())),
    }
    windows = frame.windows
    values["spike_fraction"] = log_fraction(float(np.mean([_spikes(w) for w in windows])))
    for axis, name in ((0, "bad_column_fraction"), (1, "bad_row_fraction")):
        values[name] = log_fraction(
            float(np.mean([_bad_lines(w, axis) for w in windows])), LINE_FLOOR
        )
    sky = np.concatenate([w.residual[w.sky] for w in windows])
    sky = sky[:: max(1, sky.size // 16384)]
    if sky.size >= 500:
        low, p16, p50, p84 = np.percentile(sky, [0.1, 16, 50, 84])
        values["sky_skewness"] = float((p84 + p16 - 2 * p50) / max(p84 - p16, 1e-6))
        values["sky_tail_low"] = float(np.log10(max(-low, 1e-3) / 3.09))
    return values


def _spikes(window: Window) -> float:
    """Share of pixels that no point spread function could have made."""
    r = window.residual
    if min(r.shape) < 3:
        return 0.0
    centre = r[1:-1, 1:-1]
    around = np.maximum(
        np.maximum(r[:-2, 1:-1], r[2:, 1:-1]), np.maximum(r[1:-1, :-2], r[1:-1, 2:])
    )
    # Half of the peak one pixel away from it: a star would have a FWHM of 2 pixels, 0.5 arcsec.
    return float(((centre > 8) & (around < 0.5 * centre)).mean())


def _bad_lines(window: Window, axis: int) -> float:
    """Share of the columns (axis 0) or rows (axis 1) that stand off their neighbours.

    They must do so in both halves of their length: a star or a galaxy seldom does.
    """
    residual = window.residual if axis == 0 else window.residual.T
    if min(residual.shape) < 16:
        return 0.0
    middle = residual.shape[0] // 2
    line = _high_pass(np.partition(residual, middle, axis=0)[middle])
    limit = max(LINE_DEPTH, 6 * robust_sigma(line))
    off = np.where(np.abs(line) > limit, np.sign(line), 0)
    for half in (residual[:middle], residual[middle:]):
        off = off * (_high_pass(np.clip(half, -3, 3).mean(axis=0)) * off > limit / 2)
    return float((off != 0).mean())


def _high_pass(line: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy.ndimage import median_filter

    return line - median_filter(line, size=9, mode="nearest")
