"""The CCDs of an exposure put together as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from images.stretch import Stretch, grey, scale_of
from inspector.facts import Facts
from inspector.focal_plane import MOSAIC_SIZE, Layout, Place
from inspector.pixels import read_binned
from inspector.rounds import located
from lake.errors import BadInput, NotFound
from lake.store import Lake

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pixels of the longer side of a CCD in a mosaic, at most: a table may be wrong about its size.
MAX_TILE = 4000
#: Grey of the cross over a CCD that cannot be read.
_CROSS = 110

Pixels = NDArray[np.float32]


def draw_exposure(
    lake: Lake,
    expnum: int,
    images: Path,
    *,
    camera: str = "decam",
    release: str | None = None,
    size: int = MOSAIC_SIZE,
    stretch: Stretch = "zscale",
) -> Image:
    """Return an exposure on the focal plane, north up and east left, in grey levels.

    CCDs that cannot be read are crossed out. Every CCD is stretched alike.

    Parameters
    ----------
    images : the folder that ``image_filename`` of the CCD table is relative to.
    release : whose CCD table says where the CCDs are; None for the last by name that has them.
    size : pixels of the longer side, about.

    Raises
    ------
    SurveyError : an exposure that no CCD table of the lake knows, or not one CCD can be read.
    """
    from PIL import Image

    (subject,) = located(lake, [{"camera": camera, "expnum": expnum}], release)
    layout = Facts(lake).layout(subject)
    if layout is None:
        raise NotFound(f"no CCD table of the lake knows exposure {expnum} of {camera}")
    binning = layout.binning(size)
    files: dict[str, list[tuple[int, str, int]]] = {}
    for place in layout.places:
        files.setdefault(place.file, []).append((place.ccdnum, place.ccdname, place.hdu))
    ccds: dict[int, Pixels] = {}
    problems: dict[int, str] = {}
    for name, wanted in files.items():
        for ccdnum, pixels in read_binned(str(images / name), wanted, binning).items():
            if isinstance(pixels, str):
                problems[ccdnum] = f"{images / name}: {pixels}"
            else:
                ccds[ccdnum] = pixels
    if not ccds:
        raise BadInput(f"exposure {expnum} cannot be drawn: {next(iter(problems.values()))}")
    return Image.fromarray(compose(layout, binning, ccds, problems.keys(), stretch))


def compose(
    layout: Layout,
    binning: int,
    ccds: Mapping[int, Pixels],
    unreadable: Set[int],
    stretch: Stretch,
) -> NDArray[np.uint8]:
    """Return a mosaic of binned CCDs in grey levels, (ny, nx), rows downwards.

    Parameters
    ----------
    ccds : one or more, by their numbers.
    unreadable : numbers of CCDs that are crossed out.
    """
    # Every CCD counts the same, also the one whose values are far off.
    sample = np.concatenate(
        [pixels.ravel()[:: max(1, pixels.size // 1000)] for pixels in ccds.values()]
    )
    scale = scale_of(sample, stretch)
    tiles = []
    for place in layout.places:
        if place.ccdnum in ccds:
            pixels = ccds[place.ccdnum]
            step = -(-max(pixels.shape) // MAX_TILE)
            tiles.append((place, place.turn.apply(grey(pixels[::step, ::step], scale))))
    height = max(round(layout.height / binning), *(tile.shape[0] for _, tile in tiles))
    width = max(round(layout.width / binning), *(tile.shape[1] for _, tile in tiles))
    canvas = np.zeros((height, width), np.uint8)
    for place, tile in tiles:
        top = min(round(place.top * height), height - tile.shape[0])
        left = min(round(place.left * width), width - tile.shape[1])
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    for place in layout.places:
        if place.ccdnum in unreadable:
            _cross_out(canvas, place)
    return canvas


def _cross_out(canvas: NDArray[np.uint8], place: Place) -> None:
    """Draw a cross where a CCD would be: black alone could be taken for what it saw."""
    height, width = canvas.shape
    top, left = place.top * height, place.left * width
    steps = np.linspace(0, 1, max(height, width))
    rows = np.clip(top + steps * place.height * height, 0, height - 1).astype(int)
    for along in (steps, 1 - steps):
        columns = np.clip(left + along * place.width * width, 0, width - 1).astype(int)
        canvas[rows, columns] = _CROSS
