"""The point spread function: a stack of the brightest stars, and the image's autocorrelation.

The stack needs stars to stand on; the autocorrelation needs only that the image repeats one
shape, so it also sees double images and trails where sources are confused or faint.
"""

import math

import numpy as np
from numpy.typing import NDArray

from embedders.statistics.definition import Feature, log_excess
from embedders.statistics.frame import Frame, robust_sigma
from embedders.statistics.sources import Catalogue

HALF = 20  # pixels from the centre to the edge of a stamp: donuts of 10 arcsec fit
STARS = 32  # stamps in the stack
MIN_SNR = 10.0
CLIP = (-5.0, 10.0)  # units of the noise: in the autocorrelation no star speaks for all
ISOPHOTE = 0.1  # of the peak: shapes are measured inside it

FEATURES = (
    Feature("psf_stars", "n / 8", 0, 1, 0, "stars in the stack; 0: the rest is neutral"),
    Feature(
        "psf_fwhm", "log10(arcsec)", -0.3, 0.8, 0.05, "diameter of the half-peak isophote's area"
    ),
    Feature(
        "psf_half_light", "log10(arcsec)", -0.3, 0.8, 0.1, "diameter that holds half the light"
    ),
    Feature("psf_concentration", "log10(r80 / r50)", 0, 0.5, 0.2, "low for a donut's sharp edge"),
    Feature("psf_peak", "log10(1 / arcsec2)", -2.5, 0.5, -0.4, "peak over flux"),
    Feature("psf_ellipticity", "asinh(50 (a - b) / (a + b))", 0, 3.2, 0.7, "of the mean star"),
    Feature("psf_e1", "(a - b) / (a + b) cos 2 theta", -0.4, 0.4, 0, "along x positive"),
    Feature("psf_e2", "(a - b) / (a + b) sin 2 theta", -0.4, 0.4, 0, "along the diagonal positive"),
    Feature("psf_trail", "log10(arcsec)", -0.4, 0.8, -0.3, "length of a line of the same moments"),
    Feature("psf_dip", "1 - centre / ring", 0, 1, 0, "how dark the middle of a donut is"),
    Feature("psf_secondary", "fraction of the peak", 0, 1, 0, "second peak of a double image"),
    Feature("psf_asymmetry", "fraction of the flux", 0, 0.6, 0, "left by half a turn, less noise"),
    Feature("repeat_fwhm", "log10(arcsec)", -0.3, 1.1, 0.2, "width of the autocorrelation"),
    Feature("repeat_ellipticity", "(a - b) / (a + b)", 0, 0.6, 0.03, "of the autocorrelation"),
    Feature("repeat_secondary", "fraction of the peak", 0, 0.6, 0, "its second peak"),
)

_Y, _X = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1].astype(float)
_R = np.hypot(_X, _Y)
_RING = np.minimum(np.rint(_R).astype(int), HALF + 1).ravel()
_RING_SIZE = np.bincount(_RING)


def measure(frame: Frame, catalogues: list[Catalogue]) -> dict[str, float]:
    """Values of `FEATURES`; what is missing takes its neutral value."""
    values = {"psf_stars": 0.0}
    stamps, snr = _stamps(frame, catalogues)
    if len(stamps):
        values["psf_stars"] = len(stamps) / 8
        stack = np.median(stamps, axis=0)
        if stack.max() > 0:
            scale = frame.camera.pixel_scale
            values |= _profile(stack, scale)
            width = 10 ** values["psf_fwhm"] / scale / 2.355
            values |= _elongation(stamps, snr, width, scale)
    return values | _autocorrelation(frame)


def _stamps(
    frame: Frame, catalogues: list[Catalogue]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stamps (n, 2 HALF + 1, 2 HALF + 1) of unit flux, the brightest stars first, and their S/N."""
    limit = (frame.saturated - frame.level) / frame.noise
    chosen: list[tuple[float, Catalogue, int]] = []
    for c in catalogues:
        ny, nx = c.residual.shape
        margin = np.minimum(np.minimum(c.x, nx - 1 - c.x), np.minimum(c.y, ny - 1 - c.y))
        sound = (c.snr >= MIN_SNR) & (c.peak < limit) & (margin >= 6) & (c.npix < 1500)
        chosen += [(float(c.snr[i]), c, int(i)) for i in np.flatnonzero(sound)]
    chosen.sort(key=lambda item: -item[0])
    padded = {id(c): np.pad(c.residual, HALF) for c in catalogues}
    stamps = []
    for _, c, i in chosen[:STARS]:
        y, x = round(float(c.y[i])), round(float(c.x[i]))
        stamp = padded[id(c)][y : y + 2 * HALF + 1, x : x + 2 * HALF + 1]
        stamps.append(stamp / max(float(c.flux[i]), 1.0))
    images = np.array(stamps, dtype=float).reshape(-1, 2 * HALF + 1, 2 * HALF + 1)
    return images, np.array([snr for snr, _, _ in chosen[:STARS]])


def _elongation(
    stamps: NDArray[np.float64], snr: NDArray[np.float64], width: float, scale: float
) -> dict[str, float]:
    """Shape of the mean star from moments under a Gaussian weight, `width` pixels wide.

    Each star is measured about its own centre, so that pixel phases do not blur the mean; what
    differs from the other stars (galaxies, blends) is left out; the weight is deconvolved.
    """
    width = min(max(0.85 * width, 1.5), HALF / 2.5)
    core = slice(HALF - min(HALF, math.ceil(3 * width)), HALF + 1 + min(HALF, math.ceil(3 * width)))
    light, x, y = stamps[:, core, core], _X[core, core], _Y[core, core]
    cx, cy = np.zeros(len(light)), np.zeros(len(light))
    for last in (False, False, True):
        dx, dy = x - cx[:, None, None], y - cy[:, None, None]
        weighted = light * np.exp(-(dx * dx + dy * dy) / (2 * width**2))
        total = np.maximum(weighted.sum(axis=(1, 2)), 1e-6)
        if not last:  # a Gaussian under a like weight moves half of the way
            cx = np.clip(cx + 2 * (weighted * dx).sum(axis=(1, 2)) / total, -3, 3)
            cy = np.clip(cy + 2 * (weighted * dy).sum(axis=(1, 2)) / total, -3, 3)
    moments = np.stack(
        [(weighted * m).sum(axis=(1, 2)) / total for m in (dx * dx, dy * dy, dx * dy)]
    )
    # The smaller two thirds are the stars; the median over all would lean to the galaxies.
    small = np.argsort(moments[0] + moments[1])[: max(3, 2 * len(light) // 3)]
    middle = np.median(moments[:, small], axis=1, keepdims=True)
    off = np.abs(moments - middle)
    typical = np.maximum(1.4826 * np.median(off, axis=1, keepdims=True), 0.02 * width**2)
    trust = (off < 2 * typical).all(axis=0) / (0.02**2 + (2 / snr) ** 2)
    if trust.sum() <= 0:
        return {}
    xx, yy, xy = moments @ trust / trust.sum()
    try:
        shape = np.linalg.inv(np.linalg.inv([[xx, xy], [xy, yy]]) - np.eye(2) / width**2)
    except np.linalg.LinAlgError:
        return {}
    if not (shape[0, 0] > 0 and np.linalg.det(shape) > 0):
        return {}  # wider than the weight: no shape to speak of
    split = math.hypot(shape[0, 0] - shape[1, 1], 2 * shape[0, 1])
    size = float(np.trace(shape)) + 2 * math.sqrt(float(np.linalg.det(shape)))
    return {
        "psf_ellipticity": math.asinh(50 * split / size),
        "psf_e1": float(shape[0, 0] - shape[1, 1]) / size,
        "psf_e2": float(2 * shape[0, 1]) / size,
        # A line of length L has a variance of L^2 / 12 along it.
        "psf_trail": log_excess(scale * math.sqrt(12 * split), 0.4),
    }


def _profile(stack: NDArray[np.float64], scale: float) -> dict[str, float]:
    """What the stacked star looks like."""
    stack = stack - np.median(stack[_R > HALF - 2])
    smooth = _smooth(stack)
    peak = max(float(smooth.max()), 1e-9)
    profile = np.bincount(_RING, smooth.ravel()) / _RING_SIZE
    growth = np.cumsum(np.bincount(_RING, stack.ravel())[: HALF - 1])
    total = max(float(growth.max()), 1e-9)
    r50, r80 = (
        float(np.interp(share * total, np.maximum.accumulate(growth), np.arange(HALF - 1) + 0.5))
        for share in (0.5, 0.8)
    )
    inner = np.clip(stack, 0, None) * (_R < 12)
    light = max(float(inner.sum()), 1e-9)
    turned = float(np.abs(stack - stack[::-1, ::-1])[_R < 10].sum()) / 2
    # The mean absolute difference of two normal numbers is 2 / sqrt(pi) standard deviations.
    chance = robust_sigma(stack[_R > HALF - 6]) / math.sqrt(math.pi) * float((_R < 10).sum())
    return {
        "psf_fwhm": math.log10(
            2 * scale * math.sqrt(max(float((smooth > peak / 2).sum()), 1) / math.pi)
        ),
        "psf_half_light": math.log10(2 * scale * max(r50, 0.5)),
        "psf_concentration": math.log10(max(r80, 0.5) / max(r50, 0.5)),
        "psf_peak": math.log10(peak / total / scale**2),
        "psf_dip": 1
        - float(profile[:2].mean())
        / max(float(profile[2:].max()), float(profile[:2].mean()), 1e-9),
        "psf_secondary": _second_peak(smooth),
        "psf_asymmetry": (turned - chance) / light,
    }


def _smooth(stamp: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolved with 1-2-1 along both axes: what a peak of one noisy pixel does not survive."""
    padded = np.pad(stamp, 1, mode="edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth: NDArray[np.float64] = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
    return smooth


def _distortion(stamp: NDArray[np.float64]) -> float:
    """(a - b) / (a + b) from second moments inside the isophote."""
    weight = np.clip(stamp - ISOPHOTE * stamp.max(), 0, None) * (_R < HALF - 2)
    total = float(weight.sum())
    if total <= 0:
        return 0.0
    x, y = float((weight * _X).sum()) / total, float((weight * _Y).sum()) / total
    dx, dy = _X - x, _Y - y
    xx, yy, xy = (float((weight * m).sum()) / total for m in (dx * dx, dy * dy, dx * dy))
    size = xx + yy + 2 * math.sqrt(max(xx * yy - xy * xy, 0.0))
    return math.hypot(xx - yy, 2 * xy) / max(size, 1e-9)


def _second_peak(stamp: NDArray[np.float64]) -> float:
    """Height above the saddle of the second highest peak, as a fraction of the first."""
    top = float(stamp.max())
    if top <= 0:
        return 0.0
    y0, x0 = np.unravel_index(int(np.argmax(stamp)), stamp.shape)
    best = 0.0
    inner = stamp[1:-1, 1:-1]
    around = np.max(
        [
            stamp[1 + i : stamp.shape[0] - 1 + i, 1 + j : stamp.shape[1] - 1 + j]
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
            if i or j
        ],
        axis=0,
    )
    maxima = np.argwhere((inner >= around) & (inner > 0.05 * top)) + 1
    highest = np.argsort(-stamp[maxima[:, 0], maxima[:, 1]])[:8]
    for y, x in maxima[highest]:
        n = math.ceil(math.hypot(y - y0, x - x0))
        if n < 3 or n > HALF:
            continue
        path = np.linspace(0, 1, 2 * n)
        between = stamp[
            np.rint(y0 + (y - y0) * path).astype(int), np.rint(x0 + (x - x0) * path).astype(int)
        ]
        best = max(best, float(stamp[y, x] - between.min()) / top)
    return best


def _autocorrelation(frame: Frame) -> dict[str, float]:
    """Width, shape and second peak of the sharpened autocorrelation, added over the windows."""
    from scipy.fft import irfft2, next_fast_len, rfft2

    total = np.zeros((2 * HALF + 1, 2 * HALF + 1))
    n = 0
    for window in frame.windows:
        r = window.residual
        if min(r.shape) < 8:
            continue
        light = np.clip(r, *CLIP)
        light -= light.mean()
        shape = tuple(next_fast_len(s + HALF, real=True) for s in r.shape)
        # The fourth root of the power narrows the peak, so that a second one stands apart.
        lags = irfft2(np.sqrt(np.abs(rfft2(light, s=shape))), s=shape)
        rows, columns = (np.arange(-HALF, HALF + 1) % s for s in shape)
        total += lags[np.ix_(rows, columns)]
        n += r.size
    if n == 0 or total[HALF, HALF] <= 0:
        return {}
    # Pixel noise correlates with itself alone: the peak is read from its neighbours.
    total[HALF, HALF] = total[HALF - 1 : HALF + 2, HALF - 1 : HALF + 2].sum() - total[HALF, HALF]
    total[HALF, HALF] /= 8
    total -= np.median(total[_R > HALF - 2])
    peak = float(total.max())
    scatter = robust_sigma(total[_R > HALF / 2])
    if peak <= 10 * scatter:  # too little light to have a shape
        return {}
    area = float((total > peak / 2).sum())
    return {
        "repeat_fwhm": math.log10(2 * frame.camera.pixel_scale * math.sqrt(area / math.pi)),
        "repeat_ellipticity": _distortion(total),
        "repeat_secondary": _second_peak(total),
    }
