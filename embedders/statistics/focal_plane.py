"""`focal-plane-statistics`: a whole exposure as named features of its focal plane.

What no CCD shows by itself: how the CCDs differ from each other, what the sky does over the whole
field, and light that spans several CCDs (ghosts, arcs, clouds). Brightness is measured in per cent
of the exposure's sky, lengths in cells of the mosaic (`embedders.mosaic`), of which the longer side
of any camera has about `SIZE`, so that cameras compare.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embedders.mosaic import CCD, LEVEL, NOISE
from embedders.statistics import lines
from embedders.statistics.definition import Feature, log_excess, log_fraction
from embedders.statistics.frame import Floats, Frame, Mask, block_mean, robust_sigma
from embedders.tasks import View
from lake.cameras import DECAM
from lake.errors import NotFound

VERSION = 1  # raise whenever a value changes: vectors of different versions must not mix
SIZE = 480  # cells of the longer side: DECam in bins of about 62 pixels, a CCD 33 x 66 cells

SMOOTH = 3.0  # cells, standard deviation: closes the gaps between CCDs
STANDING_OUT = 4.0  # a patch is this many times higher than noise and scatter of CCDs explain
PATCH = 0.02  # of the field, a CCD and a half: the shape of what is smaller fades
SHARE_FLOOR, CCD_FLOOR = 0.01, 0.03  # a star's halo, and one CCD of sixty, move little
NOISY = 0.15  # ln of a CCD's noise over that of the exposure
UNEVEN = 1.5  # of the median scatter inside a CCD

_PERCENT = "log10(%)"
_SHARE = "log10(0.01 + fraction)"
_CCD_SHARE = "log10(0.03 + fraction)"
_EXCESS = "log10(rms / rms of white noise)"

FEATURES = (
    Feature("sky_level", "asinh(ADU / 10)", -3, 10, 4, "median over the exposure"),
    Feature("noise", "log10(ADU)", -1, 3, 1, "of a pixel, median over the exposure"),
    Feature("n_ccds", "log10(1 + n)", 0, 2.3, 0, "CCDs that were seen"),
    Feature("missing_share", "fraction", 0, 1, 0, "CCDs of the table that could not be read"),
    Feature("ccd_level_scatter", _PERCENT, -1, 1.5, -1, "of the CCDs' levels about a smooth sky"),
    Feature("ccd_level_high", _PERCENT, -1, 2, -1, "highest CCD over the smooth sky"),
    Feature("ccd_level_low", _PERCENT, -1, 2, -1, "lowest CCD under the smooth sky"),
    Feature("ccd_noise_scatter", "log10(ln)", -2, 0, -2, "of the CCDs' noise"),
    Feature("ccd_noise_high", "ln", 0, 1.5, 0, "noisiest CCD over the median"),
    Feature("ccd_noise_low", "ln", 0, 1.5, 0, "quietest CCD under the median"),
    Feature("noisy_ccds", _CCD_SHARE, -1.5, 0, -1.5, "CCDs 15 per cent noisier than the median"),
    Feature("ccd_rms", _PERCENT, -1, 1.5, -1, "median of the sky's scatter inside a CCD"),
    Feature("ccd_rms_high", "log10(highest / median)", 0, 1.5, 0, "of the scatter inside a CCD"),
    Feature("uneven_ccds", _CCD_SHARE, -1.5, 0, -1.5, "CCDs with 1.5 times the median scatter"),
    Feature("amplifier_step", _PERCENT, -1, 1.5, -1, "median step between the halves in x"),
    Feature("amplifier_step_high", _PERCENT, -1, 2, -1, "largest step between the halves in x"),
    Feature("amplifier_sign", "mean / mean of abs", -1, 1, 0, "whether the steps go one way"),
    Feature("gradient", _PERCENT, -1, 2, -1, "of the sky over the field, peak to valley"),
    Feature("curvature", _PERCENT, -1, 2, -1, "quadratic part of the sky, peak to valley"),
    Feature("sky_rms", _PERCENT, -1, 2, -1, "scatter about the smooth sky"),
    Feature("sky_high", _PERCENT, -1, 2.5, -1, "99th percentile over the smooth sky"),
    Feature("sky_low", _PERCENT, -1, 2, -1, "1st percentile under the smooth sky"),
    Feature("ring", _PERCENT, -1, 2, -1, "scatter of rings about the middle of the field"),
    Feature("cell_rms", _PERCENT, -1, 1.5, -1, "difference of neighbouring cells"),
    *(
        Feature(f"structure_{n}", _EXCESS, -0.3, 1.8, 0, f"of the sky between blocks of {n} cells")
        for n in (2, 4, 8, 16, 32)
    ),
    Feature("continuity", "correlation", -1, 1, 0, "of facing edges of neighbouring CCDs"),
    *(
        Feature(f"{sign}_{name}", unit, low, high, neutral, f"{meaning} {sign} patch")
        for sign in ("bright", "dark")
        for name, unit, low, high, neutral, meaning in (
            ("area", _SHARE, -2, 0, -2, "share of the field in"),
            ("patch", _SHARE, -2, 0, -2, "share of the field in the largest"),
            ("ccds", "log10(1 + n)", 0, 1.8, 0, "CCDs that share the largest"),
            ("fill", "fraction", 0, 1, 1, "1 for an ellipse, less for an arc: the largest"),
            ("height", "log10(mean / threshold)", 0, 1.5, 0, "of the largest"),
        )
    ),
    *lines.FEATURES,
)


class FocalPlaneStatistics:
    """The features as an embedder: focal planes in, vectors out.

    Parameters
    ----------
    masked : whether pixels that the pipeline's mask or weights call bad are left out.
    """

    def __init__(self, masked: bool = False) -> None:
        self.name = "focal-plane-statistics" + (".masked" if masked else "")
        self.view = View(SIZE, masked)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return len(FEATURES)

    @property
    def settings(self) -> dict[str, object]:
        """What decides the values: part of the identity of every vector."""
        return {
            "version": VERSION,
            "size": SIZE,
            "masked": self.view.masked,
            "features": [feature.name for feature in FEATURES],
        }

    def embed(self, images: Sequence[Floats]) -> Floats:
        """Return the vectors (n, dimension) of n mosaics, each (3, ny, nx).

        Raises `SurveyError` at the first that has no pixel.
        """
        vectors = [features(image) for image in images]
        return np.array(vectors, dtype=np.float32).reshape(-1, self.dimension)


def features(planes: Floats) -> Floats:
    """Measure a mosaic (3, ny, nx): a value for each of `FEATURES`, never NaN or infinite.

    Raises `SurveyError` when it has no pixel.
    """
    plane = _Plane(planes)
    values = (
        _exposure(plane)
        | _ccds(plane)
        | _amplifiers(plane)
        | _field(plane)
        | _structure(plane)
        | _continuity(plane)
        | _patches(plane)
        | lines.measure(Frame(planes[LEVEL], DECAM))  # no constant decides what a line is
    )
    return np.array([f.limit(values.get(f.name)) for f in FEATURES], dtype=np.float32)


@dataclass(frozen=True)
class _Ccd:
    """A CCD in the mosaic; brightness in per cent of the sky, NaN where nothing was seen."""

    number: int
    part: tuple[slice, slice]
    sky: Floats
    level: float
    noise: float


class _Plane:
    """A mosaic in per cent of its sky."""

    def __init__(self, planes: Floats) -> None:
        level, noise = planes[LEVEL], planes[NOISE]
        self.seen: Mask = np.isfinite(level)
        if not self.seen.any():
            raise NotFound("the focal plane has no pixel that is good")
        self.ccd = np.where(self.seen, planes[CCD], 0).astype(np.int32)
        self.n_missing = int((np.unique(planes[CCD]) < 0).sum())
        self.level = float(np.median(level[self.seen]))
        quiet = noise[np.isfinite(noise)]
        self.noise = max(float(np.median(quiet)) if quiet.size else 0.0, 1e-3)
        self._pixel_noise = noise
        # Where the sky was subtracted, what is a multiple of the noise stands in for it.
        percent = 100 / max(self.level, 5 * self.noise)
        self.sky: Floats = ((level - np.float32(self.level)) * np.float32(percent)).astype(
            np.float32
        )

    @cached_property
    def ccds(self) -> list[_Ccd]:
        """The CCDs that were seen, in the order of their numbers."""
        from scipy.ndimage import find_objects

        found = []
        for index, part in enumerate(find_objects(self.ccd)):
            if part is None:
                continue
            own = self.ccd[part] == index + 1
            sky = np.where(own, self.sky[part], np.float32(np.nan))
            noise = self._pixel_noise[part][own & np.isfinite(self._pixel_noise[part])]
            found.append(
                _Ccd(
                    index + 1,
                    part,
                    sky,
                    float(np.median(sky[own])),
                    float(np.median(noise)) if noise.size else self.noise,
                )
            )
        return found

    @cached_property
    def xy(self) -> tuple[Floats, Floats]:
        """Place in the field of the rows (n, 1) and columns (m,), -1 to 1 along the longer side."""
        ny, nx = self.sky.shape
        half = max(ny, nx, 2) / 2
        y, x = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) / half for n in (ny, nx))
        return x[None, :], y[:, None]

    @cached_property
    def fit(self) -> NDArray[np.float64]:
        """Coefficients of 1, x, y, xx, yy, xy of the sky; what stands out is left out."""
        terms = self._terms()
        y, x = np.nonzero(self.seen)
        step = max(1, y.size // 20_000)
        y, x = y[::step], x[::step]
        a = np.stack([np.broadcast_to(t, self.sky.shape)[y, x] for t in terms], axis=1)
        target = self.sky[y, x].astype(float)
        if y.size < 12:
            return np.array([float(np.median(target)), 0, 0, 0, 0, 0])
        solution = np.zeros(6)
        kept = np.ones(y.size, dtype=bool)
        for _ in range(4):
            solution = np.linalg.lstsq(a[kept], target[kept], rcond=None)[0]
            off = target - a @ solution
            kept = np.abs(off - np.median(off)) <= 3 * robust_sigma(off) + 1e-6
            if kept.sum() < 12:
                break
        return solution

    @cached_property
    def residual(self) -> Floats:
        """The sky less its smooth part, 0 where nothing was seen."""
        smooth = sum(c * t for c, t in zip(self.fit, self._terms(), strict=True))
        residual: Floats = np.where(self.seen, self.sky - smooth, 0).astype(np.float32)
        return residual

    @cached_property
    def cell_noise(self) -> float:
        """Scatter of a cell by itself, from differences of neighbours inside CCDs."""
        steps = []
        for axis in (0, 1):
            same = np.diff(self.ccd, axis=axis) == 0
            both = same & (np.delete(self.ccd, -1, axis=axis) > 0)
            steps.append(np.diff(self.residual, axis=axis)[both])
        return max(robust_sigma(np.concatenate(steps)) / math.sqrt(2), 1e-4)

    @cached_property
    def ccd_offsets(self) -> Floats:
        """Median of each CCD over the smooth sky."""
        return np.array(
            [np.median(self.residual[c.part][np.isfinite(c.sky)]) for c in self.ccds], np.float32
        )

    def _terms(self) -> tuple[Floats | float, ...]:
        x, y = self.xy
        return np.ones((1, 1), np.float32), x, y, x * x, y * y, x * y


def _exposure(plane: _Plane) -> dict[str, float]:
    n = len(plane.ccds)
    return {
        "sky_level": math.asinh(plane.level / 10),
        "noise": math.log10(plane.noise),
        "n_ccds": math.log10(1 + n),
        "missing_share": plane.n_missing / (plane.n_missing + n),
    }


def _ccds(plane: _Plane) -> dict[str, float]:
    """How the CCDs differ from each other."""
    inside = np.array([robust_sigma(c.sky[np.isfinite(c.sky)]) for c in plane.ccds])
    middle = max(float(np.median(inside)), 1e-3)
    values = {"ccd_rms": log_excess(middle, 0.1)}
    if len(plane.ccds) < 3:
        return values
    offsets = plane.ccd_offsets
    noise = np.array([math.log(max(c.noise, 1e-3) / plane.noise) for c in plane.ccds])
    return values | {
        "ccd_level_scatter": log_excess(robust_sigma(offsets), 0.1),
        "ccd_level_high": log_excess(max(float(offsets.max()), 0), 0.1),
        "ccd_level_low": log_excess(max(-float(offsets.min()), 0), 0.1),
        "ccd_noise_scatter": log_excess(robust_sigma(noise), 0.01),
        "ccd_noise_high": float(noise.max()),
        "ccd_noise_low": -float(noise.min()),
        "noisy_ccds": log_fraction(float((noise > NOISY).mean()), CCD_FLOOR),
        "ccd_rms_high": math.log10(max(float(inside.max()) / middle, 1)),
        "uneven_ccds": log_fraction(float((inside > UNEVEN * middle).mean()), CCD_FLOOR),
    }


def _amplifiers(plane: _Plane) -> dict[str, float]:
    """Steps in the middle of the CCDs along x, what a gradient gives taken off."""
    steps = []
    for ccd in plane.ccds:
        width = ccd.sky.shape[1]
        reach, middle = width // 8, width // 2
        if reach < 1:
            continue
        # The column in the middle may hold pixels of both.
        right = middle + 1 if width % 2 or width >= 16 else middle
        left = middle - 1 if width >= 16 else middle
        starts = (left - 2 * reach, left - reach, right, right + reach)
        strips = [ccd.sky[:, max(s, 0) : max(s, 0) + reach] for s in starts]
        if all(np.isfinite(strip).any() for strip in strips):
            a, b, c, d = (float(np.nanmedian(strip)) for strip in strips)
            steps.append((c - b) - ((b - a) + (d - c)) / 2)
    if not steps:
        return {}
    size = np.abs(steps)
    total = float(size.sum())
    return {
        "amplifier_step": log_excess(float(np.median(size)), 0.1),
        "amplifier_step_high": log_excess(float(size.max()), 0.1),
        "amplifier_sign": float(np.sum(steps)) / total if total > 0 else 0.0,
    }


def _field(plane: _Plane) -> dict[str, float]:
    """The sky over the whole field: its smooth part, tails, and rings about the middle."""
    x, y = plane.xy
    _, slope_x, slope_y, *bend = plane.fit
    quadratic = bend[0] * x * x + bend[1] * y * y + bend[2] * x * y
    residual = plane.residual[plane.seen]
    low, high = (float(p) for p in np.percentile(residual, [1, 99]))
    radius = np.hypot(x, y)[plane.seen]
    ring = np.minimum((radius * 24).astype(int), 35)
    count = np.bincount(ring)
    limit = 5 * robust_sigma(residual) + 1e-6
    profile = np.bincount(ring, np.clip(residual, -limit, limit)) / np.maximum(count, 1)
    rings = profile[count >= max(16, residual.size // 500)]
    return {
        "gradient": log_excess(2 * math.hypot(slope_x, slope_y), 0.1),
        "curvature": log_excess(float(np.ptp(quadratic[plane.seen])), 0.1),
        "sky_rms": log_excess(robust_sigma(residual), 0.1),
        "sky_high": log_excess(max(high, 0), 0.1),
        "sky_low": log_excess(max(-low, 0), 0.1),
        "ring": log_excess(float(np.std(rings)) if rings.size >= 3 else 0.0, 0.1),
    }


def _structure(plane: _Plane) -> dict[str, float]:
    """Differences of neighbouring blocks at doubling scales, over what cells alone would give."""
    values = {"cell_rms": log_excess(plane.cell_noise * math.sqrt(2), 0.1)}
    total, share = plane.residual, plane.seen.astype(np.float32)
    for size in (2, 4, 8, 16, 32):
        if min(total.shape) < 4:
            break
        total, share = block_mean(total, 2), block_mean(share, 2)
        mean = total / np.maximum(share, np.float32(0.25))
        steps = []
        for axis in (0, 1):
            good = np.minimum(np.delete(share, 0, axis=axis), np.delete(share, -1, axis=axis)) > 0.5
            steps.append(np.diff(mean, axis=axis)[good])
        found = np.concatenate(steps)
        if found.size >= 3:
            white = math.sqrt(2) * plane.cell_noise / size
            rms = min(float(np.sqrt(np.mean(found**2))), 4 * robust_sigma(found) + white)
            values[f"structure_{size}"] = math.log10(max(rms / white, 1e-2))
    return values


def _continuity(plane: _Plane) -> dict[str, float]:
    """Correlation of what two CCDs see at their facing edges, each less its own median.

    Light goes on beyond a gap, what a CCD or its readout makes does not.
    """
    pairs = []
    own = {c.number: plane.residual[c.part] - o for c, o in zip(plane.ccds, plane.ccd_offsets,
                                                                strict=True)}  # fmt: skip
    for one in plane.ccds:
        for other in plane.ccds:
            for axis in (0, 1):
                pair = _facing(one, other, own, axis)
                if pair is not None:
                    pairs.append(pair)
    if not pairs:
        return {}
    a, b = np.concatenate(pairs, axis=1)
    limit = 10 * plane.cell_noise + 1e-6  # a star on an edge is one of many cells
    a, b = np.clip(a, -limit, limit), np.clip(b, -limit, limit)
    size = math.sqrt(float(np.sum(a * a)) * float(np.sum(b * b)))
    return {"continuity": float(np.sum(a * b)) / size} if size > 0 and a.size >= 16 else {}


def _facing(one: _Ccd, other: _Ccd, own: dict[int, Floats], axis: int) -> Floats | None:
    """Return what lies beside the gap between `one` and `other`, which follows it on `axis`.

    Means (2, n) of stretches of the two edges, None where the CCDs do not face each other.
    """
    gap = other.part[axis].start - one.part[axis].stop
    length = one.part[axis].stop - one.part[axis].start
    start = max(one.part[1 - axis].start, other.part[1 - axis].start)
    stop = min(one.part[1 - axis].stop, other.part[1 - axis].stop)
    depth, step = max(1, length // 16), max(1, length // 8)
    count = (stop - start) // step
    if not -2 <= gap <= length / 4 or count < 2:
        return None
    strips = []
    for ccd, edge in ((one, slice(-depth, None)), (other, slice(0, depth))):
        first = start - ccd.part[1 - axis].start
        along = slice(first, first + count * step)
        where = (edge, along) if axis == 0 else (along, edge)
        if not np.isfinite(ccd.sky[where]).all():
            return None
        strips.append(own[ccd.number][where].mean(axis=axis).reshape(count, step).mean(axis=1))
    return np.stack(strips)


def _patches(plane: _Plane) -> dict[str, float]:
    """Connected areas, across gaps, that stand out from noise and from the CCDs' own scatter."""
    from scipy.ndimage import gaussian_filter, label

    coverage = gaussian_filter(plane.seen.astype(np.float32), SMOOTH, mode="constant")
    smooth = gaussian_filter(plane.residual, SMOOTH, mode="constant") / np.maximum(coverage, 0.1)
    # White noise under a Gaussian of that width.
    white = plane.cell_noise / (2 * math.sqrt(math.pi) * SMOOTH)
    scatter = robust_sigma(plane.ccd_offsets) if len(plane.ccds) >= 3 else 0.0
    threshold = STANDING_OUT * math.hypot(white, scatter)
    values: dict[str, float] = {}
    n_seen = int(plane.seen.sum())
    for sign, name in ((1, "bright"), (-1, "dark")):
        labels, _ = label((sign * smooth > threshold) & (coverage > 0.1))
        inside = labels * plane.seen
        sizes = np.bincount(inside.ravel())[1:]
        values[f"{name}_area"] = log_fraction(int(sizes.sum()) / n_seen, SHARE_FLOOR)
        if not sizes.any():
            continue
        y, x = np.nonzero(inside == 1 + int(sizes.argmax()))
        share = y.size / n_seen
        trust = min(1.0, share / PATCH)
        numbers = np.bincount(plane.ccd[y, x])
        height = math.log10(max(float(np.abs(smooth[y, x]).mean()) / threshold, 1.0))
        values |= {
            f"{name}_patch": log_fraction(share, SHARE_FLOOR),
            f"{name}_ccds": trust * math.log10(1 + int((numbers >= 5).sum())),
            f"{name}_fill": 1 - trust * (1 - _fill(y, x)),
            f"{name}_height": trust * height,
        }
    return values


def _fill(y: NDArray[np.int64], x: NDArray[np.int64]) -> float:
    """Area over that of the ellipse with the same second moments."""
    # A cell has a variance of 1/12 by itself.
    moments = np.cov(np.stack([y, x]), bias=True) + np.eye(2) / 12
    return min(y.size / (4 * math.pi * math.sqrt(float(np.linalg.det(moments)))), 1.0)
