"""The focal plane of an exposure as one image, binned while its CCDs are decoded.

An image of three planes, (3, ny, nx) float32, in the frame of `lake.focal_plane`:

`LEVEL`
    sky in ADU: the median over a bin of means of small cells, which stars hardly touch; NaN where
    no pixel was seen.
`NOISE`
    scatter of a pixel in ADU, from differences of neighbours; NaN likewise.
`CCD`
    the CCD's number, its negative where the table has a CCD that could not be read, and 0 in gaps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lake.errors import BadInput
from lake.focal_plane import Layout, Place

LEVEL, NOISE, CCD = 0, 1, 2
#: Cells along the side of a bin, and rows of it that the noise is measured on, about.
_CELLS, _ROWS = 8, 16
_MAD = 1.4826  # standard deviations of a normal distribution in a median absolute deviation

Floats = NDArray[np.float32]


class Mosaic:
    """A focal plane that is filled CCD by CCD.

    Parameters
    ----------
    layout : where the CCDs lie.
    size : pixels of the longer side, about.
    """

    def __init__(self, layout: Layout, size: int) -> None:
        self._by = layout.binning(size)
        self._places = {place.ccdnum: place for place in layout.places}
        shape = (_bins(layout.height, self._by), _bins(layout.width, self._by))
        self.planes = np.zeros((3, *shape), np.float32)
        self.planes[[LEVEL, NOISE]] = np.nan
        for place in layout.places:
            part = self._part(place, (int(place.height) // self._by, int(place.width) // self._by))
            self.planes[CCD][part] = -place.ccdnum

    def put(self, ccdnum: int, pixels: Floats) -> None:
        """Bin the image (ny, nx) of a CCD and put it in its place.

        Raises `SurveyError` when its size is not what the layout was made of.
        """
        place = self._places[ccdnum]
        if pixels.shape != place.shape:
            ny, nx = place.shape
            raise BadInput(
                f"the image has {pixels.shape[1]} x {pixels.shape[0]} pixels, the CCD table says "
                f"{nx} x {ny}"
            )
        level, noise = binned(pixels, self._by)
        part = self._part(place, place.turn.apply(level).shape)
        self.planes[LEVEL][part] = place.turn.apply(level)
        self.planes[NOISE][part] = place.turn.apply(noise)
        self.planes[CCD][part] = ccdnum

    def _part(self, place: Place, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Return where a CCD of `shape` bins goes."""
        ends = self.planes.shape[1:]
        starts = [round(place.y / self._by), round(place.x / self._by)]
        lengths = [max(length, 1) for length in shape]
        starts = [
            max(0, min(start, end - length))
            for start, end, length in zip(starts, ends, lengths, strict=True)
        ]
        y, x = (slice(s, s + length) for s, length in zip(starts, lengths, strict=True))
        return y, x


def binned(pixels: Floats, by: int) -> tuple[Floats, Floats]:
    """Return level and noise of an image in bins of `by` x `by` pixels.

    What fills no bin at the far edges is left out, but every image has one bin at least. Pixels
    that are not finite are left out, with the cell (an eighth of a bin wide) that they are in;
    bins without any other are NaN.
    """
    sides = [min(by, length) for length in pixels.shape]
    ny, nx = (length // side for length, side in zip(pixels.shape, sides, strict=True))
    bins = pixels[: ny * sides[0], : nx * sides[1]].reshape(ny, sides[0], nx, sides[1])
    if not np.isfinite(bins).all():
        bins = np.where(np.isfinite(bins), bins, np.float32(np.nan))
    level = _middle(_cells(bins))
    if sides[1] > 1:
        rows = bins[:, :: max(1, sides[0] // _ROWS)]
        even = sides[1] // 2 * 2
        steps: Floats = rows[..., 1:even:2] - rows[..., 0:even:2]
    else:  # the neighbours are bins of their own
        steps = np.diff(bins, axis=2, append=bins[:, :, -2:-1] if nx > 1 else bins)
    noise = _middle(np.abs(steps)) * np.float32(_MAD / 2**0.5)
    return level, noise


def _cells(bins: Floats) -> Floats:
    """Return the means of the cells of each bin, (ny, cells, nx, cells); 8 to 15 where it can be.

    Pixels beyond the last whole cell of a bin are left out.
    """
    size = [max(1, bins.shape[axis] // _CELLS) for axis in (1, 3)]
    count = [bins.shape[axis] // side for axis, side in zip((1, 3), size, strict=True)]
    used = bins[:, : count[0] * size[0], :, : count[1] * size[1]]
    # Strided sums are several times faster than a mean over two short axes.
    rows = np.add.reduce([used[:, i :: size[0]] for i in range(size[0])])
    means: Floats = np.add.reduce([rows[..., i :: size[1]] for i in range(size[1])])
    means /= np.float32(size[0] * size[1])
    return means


def _middle(values: Floats) -> Floats:
    """Return the medians (ny, nx) over axes 1 and 3, NaN left out."""
    ny, rows, nx, columns = values.shape
    # NaN sorts behind all numbers.
    ordered = np.sort(values.transpose(0, 2, 1, 3).reshape(ny, nx, rows * columns), axis=-1)
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    high = np.take_along_axis(ordered, count // 2, axis=-1)
    middle: Floats = np.where(count > 0, (low + high) / 2, np.float32(np.nan))[..., 0]
    return middle.astype(np.float32)


def _bins(length: float, by: int) -> int:
    return max(1, -int(-length // by))
