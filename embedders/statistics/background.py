"""The sky: level, gradient, structure from 8 to 64 pixels, edges, step between amplifiers."""

import math

import numpy as np
from numpy.typing import NDArray

from embedders.statistics.definition import Feature, log_excess
from embedders.statistics.frame import Floats, Frame, block_mean, robust_sigma

STRIP = 16  # pixels beside the boundary of the amplifiers

_EXCESS = "log10(rms / rms of white noise)"

FEATURES = (
    Feature("sky_level", "asinh(ADU / 10)", -3, 10, 4, "level of the background"),
    Feature("noise", "log10(ADU)", -1, 3, 1, "noise of a pixel, from differences of neighbours"),
    Feature("noise_to_poisson", "log10(variance / expected)", -1, 1, 0, "of sky and readout"),
    Feature("gradient", "log10(% / arcmin)", -0.7, 1.8, -0.5, "slope of the sky over its level"),
    Feature("curvature", "log10(%)", -0.7, 1.5, -0.7, "peak to valley of the sky's quadratic part"),
    Feature("structure_8", _EXCESS, -0.2, 1.0, 0, "of the sky between cells of 8 pixels"),
    Feature("structure_16", _EXCESS, -0.2, 1.2, 0, "of the sky between cells of 16 pixels"),
    Feature("structure_32", _EXCESS, -0.2, 1.5, 0, "of the sky between cells of 32 pixels"),
    Feature("structure_64", _EXCESS, -0.2, 1.8, 0, "of the sky between cells of 64 pixels"),
    Feature(
        "sky_rms",
        "log10(%)",
        -0.7,
        1.2,
        -0.5,
        "scatter of the sky in cells of 16 pixels, over its level",
    ),
    Feature(
        "sky_peak",
        "log10(%)",
        -0.5,
        2,
        -0.4,
        "99th percentile of the sky in cells of 16 over its median",
    ),
    Feature("sky_asymmetry", "(p95 + p5 - 2 p50) / (p95 - p5)", -1, 1, 0, "bright over dark areas"),
    Feature("sky_edge", "log10(slope / expected)", -0.2, 1.2, 0, "98th percentile of local slopes"),
    Feature("noise_scatter", "log10(fraction)", -1.5, -0.3, -1.3, "local noise over the image"),
    Feature("amplifier_step", "log10(%)", -0.8, 1.0, -0.8, "sky step between the halves in x"),
    Feature("amplifier_noise", "abs ln(right / left)", 0.05, 0.7, 0.05, "noise of the halves in x"),
)


def measure(frame: Frame) -> dict[str, float]:
    """Values of `FEATURES`; what is missing takes its neutral value."""
    level, noise = frame.level, frame.noise
    camera = frame.camera
    expected = max(level, 0.0) / camera.gain + (camera.read_noise / camera.gain) ** 2
    values = {
        "sky_level": math.asinh(level / 10),
        "noise": math.log10(noise),
        "noise_to_poisson": math.log10(noise**2 / expected),
    }
    sky, weight = frame.sky_map
    values |= _trend(sky, weight, frame)
    values |= _structure(sky, frame)
    values |= _noise_map(frame)
    values |= _amplifiers(frame)
    return values


def _trend(sky: Floats, weight: Floats, frame: Frame) -> dict[str, float]:
    """Plane and quadratic surface through the sky, sources left out."""
    if min(sky.shape) < 4:
        return {}
    ny, nx = sky.shape
    size = frame.sky_cell * frame.camera.pixel_scale / 60  # arcmin of a cell
    y, x = np.linspace(-1, 1, ny)[:, None], np.linspace(-1, 1, nx)[None, :]
    terms = (np.ones((1, 1)), x, y, x * x, y * y, x * y)
    a = np.stack([np.broadcast_to(t, sky.shape).ravel() for t in terms], axis=1)
    w = np.sqrt(weight.ravel().astype(float)) + 1e-3
    target = sky.ravel().astype(float)
    for _ in range(2):  # the second time without what stands out (stars' halos)
        solution = np.linalg.solve((a * w[:, None] ** 2).T @ a, (a * w[:, None] ** 2).T @ target)
        off = target - a @ solution
        w = np.where(np.abs(off) > 4 * robust_sigma(off) + 1e-6, 1e-3, w)
    slope = math.hypot(solution[1] / (nx * size / 2), solution[2] / (ny * size / 2))
    bend = a[:, 3:] @ solution[3:]
    return {
        "gradient": log_excess(frame.percent * slope, 0.2),
        "curvature": log_excess(frame.percent * float(np.ptp(bend)), 0.2),
    }


def _structure(sky: Floats, frame: Frame) -> dict[str, float]:
    """Differences between neighbouring cells at doubling scales, and the map's tails and edges."""
    values: dict[str, float] = {}
    cells, scale = sky, frame.sky_cell
    while scale <= 64 and max(cells.shape) >= 2:
        steps = np.concatenate([np.diff(cells, axis=axis).ravel() for axis in (0, 1)])
        if scale >= 8 and steps.size >= 3:
            white = math.sqrt(2) / scale
            rms = min(float(np.sqrt(np.mean(steps**2))), 4 * robust_sigma(steps) + white)
            values[f"structure_{scale}"] = math.log10(max(rms / white, 1e-2))
        if scale == 16 and cells.size >= 24:
            values |= _tails(cells, frame.percent)
        if min(cells.shape) < 2:
            break
        cells, scale = block_mean(cells, 2), scale * 2
    return values


def _tails(cells: Floats, percent: float) -> dict[str, float]:
    """Of the sky in cells of 16 pixels."""
    white = 1 / 16
    p5, p50, p95, p99 = (float(p) for p in np.percentile(cells, [5, 50, 95, 99]))
    spread = max(p95 - p5, 1e-6)
    # Skewness of noise alone means nothing: it fades where the spread is what noise gives.
    real = max(0.0, 1 - (4 * white / spread) ** 2)
    slope = np.hypot(*np.gradient(cells)) if min(cells.shape) >= 2 else np.zeros(1)
    edge = float(np.percentile(slope, 98)) / (2 * white)
    return {
        # 3.29 standard deviations of a normal distribution lie between the two percentiles.
        "sky_rms": log_excess(percent * spread / 3.29, 0.2),
        "sky_peak": log_excess(percent * (p99 - p50), 0.4),
        "sky_asymmetry": real * (p95 + p5 - 2 * p50) / spread,
        "sky_edge": math.log10(max(edge, 1e-2)),
    }


def _noise_map(frame: Frame) -> dict[str, float]:
    """Scatter of the noise measured in cells of 32 pixels over that of all of them."""
    local = []
    for window in frame.windows:
        clipped = np.where(window.sky, np.clip(window.residual, -4, 4), 0)
        share = block_mean(window.sky.astype(np.float32), 32) if min(clipped.shape) >= 32 else None
        if share is None:
            continue
        variance = block_mean(clipped * clipped, 32) / np.maximum(share, 0.1)
        local.append(np.sqrt(variance[share > 0.3]))
    sigmas: NDArray[np.float32] = np.concatenate(local) if local else np.zeros(0, np.float32)
    if sigmas.size < 6:
        return {}
    scatter = float(np.std(sigmas)) / max(float(np.mean(sigmas)), 1e-3)
    return {"noise_scatter": log_excess(scatter, 0.03)}


def _amplifiers(frame: Frame) -> dict[str, float]:
    """Step of the sky and ratio of the noise between the left and the right half."""
    sky, seen = frame.sky_cells
    reach, middle = STRIP // frame.cell, frame.pixels.shape[1] // 2
    if frame.cell == 1 or sky.shape[1] < 4 * reach + 2:
        return {}
    first_right = -(-middle // frame.cell)  # a cell that straddles the boundary is left out
    first_left = middle // frame.cell
    strips = []
    for start in (first_left - 2 * reach, first_left - reach, first_right, first_right + reach):
        part = (slice(None), slice(start, start + reach))
        strips.append(float((sky[part] * seen[part]).sum() / max(seen[part].sum(), 1)))
    far_left, left, right, far_right = strips
    # What a smooth gradient would give at the boundary is taken off.
    step = (right - left) - ((left - far_left) + (far_right - right)) / 2
    sample = frame.residual[:: max(1, frame.residual.size // 65536)]
    halves = [
        robust_sigma(np.diff(h, axis=1).ravel()) for h in (sample[:, :middle], sample[:, middle:])
    ]
    values = {"amplifier_step": log_excess(frame.percent * step, 0.2)}
    if min(halves) > 0:
        values["amplifier_noise"] = abs(math.log(halves[1] / halves[0]))
    return values
