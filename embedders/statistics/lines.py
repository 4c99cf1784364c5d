"""Straight lines across the image: satellite trails, bleeding stars, bad columns."""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from embedders.statistics.definition import Feature
from embedders.statistics.frame import Floats, Frame, block_mean, median, robust_sigma

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ANGLES = 60
LONGEST = 256  # cells along the longer side of the image that is transformed
SHORTEST_LINE = 0.4  # of the shorter side

FEATURES = (
    Feature(
        "line", "log10(strongest / expected)", 0.15, 1.0, 0.15, "brightest line over the scatter"
    ),
    Feature("dark_line", "log10(strongest / expected)", 0.15, 1.0, 0.15, "darkest, the same way"),
)


@lru_cache(maxsize=4)
def _lines(ny: int, nx: int) -> "tuple[csr_matrix, Floats]":
    """Sums along all lines of an (ny, nx) image as a matrix, and the number of cells of each."""
    from scipy.sparse import csr_matrix

    y, x = np.mgrid[:ny, :nx].reshape(2, -1)
    reach = math.ceil(math.hypot(ny, nx) / 2) + 1
    angles = np.arange(ANGLES)[:, None] * math.pi / ANGLES
    distance = (x - (nx - 1) / 2) * np.cos(angles) + (y - (ny - 1) / 2) * np.sin(angles)
    line = np.rint(distance).astype(int) + reach + np.arange(ANGLES)[:, None] * (2 * reach + 1)
    cell = np.broadcast_to(np.arange(x.size), line.shape)
    shape = (ANGLES * (2 * reach + 1), x.size)
    ones = np.ones(line.size, np.float32)
    matrix = csr_matrix((ones, (line.ravel(), cell.ravel())), shape=shape)
    return matrix, np.asarray(matrix.sum(axis=1), dtype=np.float32).ravel()


def measure(frame: Frame) -> dict[str, float]:
    """Values of `FEATURES`; none when the image is too small for a line."""
    size = max(2, math.ceil(max(frame.pixels.shape) / LONGEST))
    if min(frame.pixels.shape) // size < 16:
        return {}
    # Stars are cut down to the height of a faint trail, so that only what is long adds up.
    cells = block_mean(np.clip(frame.residual, -3, 3), size)
    limit = 3 * robust_sigma(cells.ravel())
    cells = np.clip(cells - median(cells), -limit, limit)
    matrix, length = _lines(*cells.shape)
    long = length >= SHORTEST_LINE * min(cells.shape)
    z = (matrix @ cells.ravel())[long] / np.sqrt(length[long])
    scatter = robust_sigma(z)
    if scatter <= 0:
        return {}
    z = (z - median(z)) / scatter
    # The highest of n independent normal deviates is expected at sqrt(2 ln n).
    expected = math.sqrt(2 * math.log(z.size))
    return {
        "line": math.log10(max(float(z.max()), 1.0) / expected),
        "dark_line": math.log10(max(float(-z.min()), 1.0) / expected),
    }
