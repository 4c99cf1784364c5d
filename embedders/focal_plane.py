"""`focal-plane-…`: the whole exposure as one picture for a vision model.

The paper on bad exposures names it as its main limitation that patterns across CCDs escape a
model that sees one CCD at a time (Luo et al. 2026, section 5.4). The mosaic (`embedders.mosaic`)
becomes a square picture of three channels, each 0 to 1:

1. sky: arcsinh of the deviation from the exposure's median in per cent, 0.5 at the median;
2. noise of the pixels: logarithm of its ratio to the exposure's median, 0.5 at the median;
3. coverage: from 0.4 (dark sky) to 1 (bright sky) where a CCD was seen, 0.2 in gaps and outside,
   0 where a CCD could not be read.

In the first two, what was not seen has the value of the median, 0.5. Scales are fixed rather than
stretched to the picture: how strong a pattern is must show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from embedders.dinov2 import PATCH
from embedders.mosaic import CCD, LEVEL, NOISE
from embedders.tasks import View
from embedders.torch_embedder import TorchEmbedder
from lake.errors import BadInput

VERSION = 1  # raise whenever the picture changes
#: Side of the picture: DECam in bins of 32 pixels.
SIDE = 924
#: Ends of the ranges: per cent of the sky, powers of 2 of the noise, ADU.
_BRIGHT, _LOUD, _FULL = 50.0, 2.0, 60_000.0
_GAP, _DARK = 0.2, 0.4


class FocalPlaneEmbedder:
    """A vision model that is shown focal planes.

    Parameters
    ----------
    name : what the vectors are filed under.
    model : the model.
    sides : pixels of the picture; several give a vector that is as many times as long. A model
        whose input has a fixed size ignores them but for the binning.
    masked : whether pixels that the pipeline's mask or weights call bad are left out.
    """

    def __init__(
        self, name: str, model: TorchEmbedder, sides: Sequence[int], masked: bool = False
    ) -> None:
        self.name = name
        self.view = View(max(sides), masked)
        self.batch_size = model.batch_size
        self.has_memory = model.has_memory
        self._model, self._sides = model, tuple(sides)

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the vectors."""
        theirs = {
            name: value
            for name, value in self._model.settings.items()
            if name not in ("pixels", "not_finite", "size")
        }
        return {
            **theirs,
            "picture": f"focal plane {VERSION}",
            "sides": list(self._sides),
            "masked": self.view.masked,
        }

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._model.dimension * len(self._sides)

    def devices(self, asked: str) -> list[str]:
        """Return the devices that ``--device`` stands for."""
        return self._model.devices(asked)

    def at_work(self) -> AbstractContextManager[None]:
        """Return what the thread that prepares images holds during a run."""
        return self._model.at_work()

    def prepare(self, image: np.ndarray) -> list[Tensor]:
        """Return a mosaic (3, ny, nx) as pictures for the model, one a side, on the device."""
        return [
            self._model.on_device(image, partial(self._shown, side=side)) for side in self._sides
        ]

    def _shown(self, planes: Tensor, side: int) -> Tensor:
        return self._model.show(picture(planes), side)

    def embed_prepared(self, batch: Sequence[list[Tensor]]) -> np.ndarray:
        """Return the vectors (n, dimension) of n prepared mosaics, the first side's first.

        Raises `MemoryError` when the device has not enough memory for n at once.
        """
        found = [
            self._model.embed_prepared([pictures[index] for pictures in batch])
            for index in range(len(self._sides))
        ]
        return np.concatenate(found, axis=1)

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the vectors of mosaics of any shapes, one at a time."""
        vectors = [self.embed_prepared([self.prepare(image)]) for image in images]
        return np.concatenate([np.empty((0, self.dimension), np.float32), *vectors])


def modifiers(name: str) -> tuple[tuple[int, ...], bool]:
    """Return the sides that a name's modifiers ask for, and whether to mask: ``.462``, ``.masked``.

    Raises `SurveyError` for one it does not know, and for a side that is not made of patches.
    """
    sides, masked = [], False
    for modifier in name.split(".")[1:]:
        if modifier == "masked":
            masked = True
        elif modifier.isdigit() and int(modifier) > 0 and int(modifier) % PATCH == 0:
            sides.append(int(modifier))
        else:
            raise BadInput(
                f"embedder modifier .{modifier}: expected .masked, or the picture's side in "
                f"multiples of {PATCH}"
            )
    return tuple(sides) or (SIDE,), masked


def picture(planes: Tensor) -> Tensor:
    """Return a mosaic (3, ny, nx) as a square picture (3, n, n) of values 0 to 1."""
    level, noise, ccd = planes[LEVEL], planes[NOISE], planes[CCD]
    seen = level.isfinite()
    sky, quiet = level.nanmedian(), noise.nanmedian().nan_to_num(0).clamp(min=1e-3)
    # Where the sky was subtracted, what is a multiple of the noise stands in for it.
    percent = torch.maximum(sky, 5 * quiet) / 100
    brightness = 0.5 + torch.asinh((level - sky) / percent) / (2 * math.asinh(_BRIGHT))
    loudness = 0.5 + torch.log2(noise.clamp(min=1e-6) / quiet) / (2 * _LOUD)
    full = (torch.asinh(sky / 10) / math.asinh(_FULL / 10)).clamp(0, 1)
    coverage = torch.where(seen, _DARK + (1 - _DARK) * full, torch.where(ccd < 0, 0.0, _GAP))
    channels = [
        torch.where(seen, brightness, 0.5).clamp(0, 1),
        loudness.nan_to_num(0.5).clamp(0, 1),
        coverage,
    ]
    ny, nx = level.shape
    side = max(ny, nx)
    top, left = (side - ny) // 2, (side - nx) // 2
    pad = (left, side - nx - left, top, side - ny - top)
    outside = (0.5, 0.5, _GAP)
    return torch.stack(
        [F.pad(one, pad, value=value) for one, value in zip(channels, outside, strict=True)]
    )
