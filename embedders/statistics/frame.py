"""An image made ready to be measured: bad pixels, noise, background, source mask, windows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import sep
from numpy.typing import NDArray

from lake.cameras import Camera
from lake.errors import BadInput, NotFound

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

MESH = 64  # pixels of a background cell: wider than any source worth measuring
CELL = 4  # pixels of the cells in which sources are masked and structure is measured
SOURCE = 0.9  # mean of a cell, in units of the noise of a pixel, above which it holds a source
WINDOW = (512, 256)  # rows, columns of the windows on which fine features are measured
MAX_WINDOWS = (4, 2)  # along y and x: two amplifiers a CCD; bounds the cost of a full frame
SATURATED = 2 / 3  # of a typical full well: CCDs differ, DECam's from 35,000 to 60,000 ADU
ADU_LIMIT = 1e8  # anything beyond is no count of photons and would overflow float32 sums


@dataclass(frozen=True)
class Window:
    """A part of the frame, at full resolution."""

    residual: Floats  # (h, w) background subtracted, in units of the noise
    sky: Mask  # (h, w) neither a source nor a bad pixel
    pixels: Floats  # (h, w) ADU


class Frame:
    """A CCD image with its background and noise.

    Parameters
    ----------
    image : (ny, nx) array of numbers, ADU
    camera : whose constants turn pixels into arcsec and ADU into electrons
    mask : (ny, nx) array, true where a pixel is bad, or None
    weight : (ny, nx) array, zero or less where a pixel is bad, or None

    Raises
    ------
    SurveyError
        When there is nothing to measure: no pixel, no finite pixel, not two axes, not numbers.
    """

    def __init__(
        self,
        image: NDArray[np.generic],
        camera: Camera,
        mask: NDArray[np.generic] | None = None,
        weight: NDArray[np.generic] | None = None,
    ) -> None:
        image = np.asarray(image)
        if image.ndim != 2:
            raise BadInput(f"image has {image.ndim} axes, not 2: give one CCD at a time")
        if image.size == 0:
            raise BadInput(f"image is empty (shape {image.shape}): nothing to measure")
        if image.dtype.kind not in "fiub":
            raise BadInput(f"image holds {image.dtype}, not numbers: is this the image HDU?")
        with np.errstate(over="ignore", invalid="ignore"):
            pixels = np.array(image, dtype=np.float32, order="C")  # own, native byte order
        bad = ~np.isfinite(pixels)
        for name, plane in (("mask", mask), ("weight", weight)):
            if plane is None:
                continue
            if plane.shape != image.shape:
                raise BadInput(f"{name} is {plane.shape}, image is {image.shape}: not a pair")
            values = np.asarray(plane, dtype=np.float32)
            bad |= (values != 0) if name == "mask" else ~(values > 0)
        n_bad = int(np.count_nonzero(bad))
        if n_bad == bad.size:
            raise NotFound("image has no good pixel (all NaN, infinite or masked)")
        self.bad: Mask | None = bad if n_bad else None
        self.bad_fraction = n_bad / bad.size
        self.camera = camera
        if self.bad is not None:
            pixels[bad] = median(_sample(pixels[~bad]))
        np.clip(pixels, -ADU_LIMIT, ADU_LIMIT, out=pixels)
        self.pixels = pixels
        self.noise = _noise(pixels, self.bad)
        mesh = sep.Background(pixels, mask=self.bad, bw=MESH, bh=MESH, fw=3, fh=3)
        background = mesh.back()
        self.level = median(background[:: CELL * 2, :: CELL * 2])
        self.residual: Floats = (pixels - background) / np.float32(self.noise)
        if self.bad is not None:
            self.residual[bad] = 0
        self._background = background

    @property
    def saturated(self) -> float:
        """ADU from which a pixel counts as saturated."""
        return SATURATED * self.camera.saturation

    @property
    def percent(self) -> float:
        """The noise of a pixel in per cent of the sky's level (of itself where there is no sky)."""
        return 100 * self.noise / max(self.level, self.noise)

    @cached_property
    def cell(self) -> int:
        """Pixels along a side of a cell; 1 on images too small to have cells."""
        return CELL if min(self.pixels.shape) >= 2 * CELL else 1

    @cached_property
    def source_cells(self) -> Mask:
        """(ny // cell, nx // cell), true where a source reaches."""
        from scipy.ndimage import maximum_filter, minimum_filter

        means = block_mean(np.clip(self.residual, -4, 4), self.cell)
        limit = SOURCE if self.cell > 1 else 4.0
        # Light that is smooth over 5 cells is sky (a ghost, a glow), however bright. The lowest
        # of 25 cells lies 2 sigma below their mean: half of a pixel's noise for 16 pixels.
        smooth = np.maximum(minimum_filter(means, size=5) + 2 / self.cell, 0)
        cells: Mask = maximum_filter(means - smooth > limit, size=3)
        return cells

    @cached_property
    def sky_cells(self) -> tuple[Floats, Floats]:
        """Sky above its level in cells (in units of the noise) and 1 where it was seen, else 0.

        A cell with a source takes the value of the background mesh.
        """
        seen = (~self.source_cells).astype(np.float32)
        inner = block_mean(np.clip(self.residual, -4, 4), self.cell) * seen
        base = (block_mean(self._background, self.cell) - np.float32(self.level)) / self.noise
        return inner + base.astype(np.float32), seen

    @cached_property
    def sky_map(self) -> tuple[Floats, Floats]:
        """`sky_cells` in cells twice as wide, and the share of each that was seen."""
        sky, seen = self.sky_cells
        if min(sky.shape) < 2:
            return sky, seen
        share = block_mean(seen, 2)
        mean = block_mean(sky * seen, 2) / np.maximum(share, np.float32(0.25))
        return np.where(share > 0, mean, block_mean(sky, 2)), share

    @property
    def sky_cell(self) -> int:
        """Pixels along a side of a cell of `sky_map`."""
        return self.pixels.shape[0] // self.sky_map[0].shape[0]

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """Evenly spread parts, at most `MAX_WINDOWS`; a small image is its own only window."""
        (y0, height), (x0, width) = (
            _spread(n, size, most)
            for n, size, most in zip(self.pixels.shape, WINDOW, MAX_WINDOWS, strict=True)
        )
        sky = np.repeat(np.repeat(~self.source_cells, self.cell, axis=0), self.cell, axis=1)
        windows = []
        for y in y0:
            for x in x0:
                part = (slice(y, y + height), slice(x, x + width))
                clean = np.zeros((height, width), dtype=bool)
                inside = sky[part]
                clean[: inside.shape[0], : inside.shape[1]] = inside
                if self.bad is not None:
                    clean &= ~self.bad[part]
                residual = np.ascontiguousarray(self.residual[part])
                windows.append(Window(residual, clean, self.pixels[part]))
        return tuple(windows)


def block_mean(image: Floats, size: int) -> Floats:
    """Means of size x size blocks; rows and columns that fill no block are left out."""
    if size == 1:
        return image
    ny, nx = (n // size for n in image.shape)
    rows = image[: ny * size, : nx * size].reshape(ny, size, nx * size).sum(axis=1)
    blocks: Floats = rows.reshape(ny, nx, size).sum(axis=2) * np.float32(size**-2)
    return blocks


def median(values: Floats | NDArray[np.float64]) -> float:
    """Upper median; several times faster than numpy's on the small arrays measured here."""
    middle = values.size // 2
    return float(np.partition(values, middle, axis=None)[middle])


def robust_sigma(values: Floats | NDArray[np.float64]) -> float:
    """Standard deviation from the median absolute deviation, to 1 per cent."""
    if values.size == 0:
        return 0.0
    values = values[:: max(1, values.size // 8192)]
    return 1.4826 * median(np.abs(values - median(values)))


def _spread(n: int, size: int, most: int) -> tuple[list[int], int]:
    """First indices and the length of `most` or fewer evenly spread windows along an axis."""
    count = min(most, max(1, round(n / size)))
    length = min(n // count, size * 3 // 2)
    return [i * (n // count) + (n // count - length) // 2 for i in range(count)], length


def _sample(values: Floats, n: int = 32768) -> Floats:
    return values[:: max(1, values.size // n)]


def _noise(pixels: Floats, bad: Mask | None) -> float:
    """Standard deviation of a pixel, ADU, from differences of neighbours: blind to sources."""
    rows = slice(None, None, max(1, pixels.size // 65536))
    steps: list[Floats] = []
    for axis in (1, 0):
        part = pixels[rows] if axis else pixels[:, rows]
        if part.shape[axis] < 2:
            continue
        step = np.diff(part, axis=axis).ravel()
        if bad is not None:
            sick = bad[rows] if axis else bad[:, rows]
            pair = sick[:, 1:] | sick[:, :-1] if axis else sick[1:] | sick[:-1]
            step = step[~pair.ravel()]
        steps.append(step)
    found = [robust_sigma(step) or float(np.std(step)) for step in steps if step.size]
    positive = [sigma for sigma in found if sigma > 0]
    # Saturated and constant images have no noise: a small share of the level stands in, so
    # that what is measured in units of the noise stays finite.
    floor = 1e-4 * max(1.0, float(np.abs(_sample(pixels.ravel())).max()) * 1e-2)
    return max(min(positive) / np.sqrt(2) if positive else 0.0, floor)
