"""What is done to the pixels of a CCD before a model sees them, on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def _raw(pixels: Tensor) -> Tensor:
    return pixels


def _background(pixels: Tensor) -> Tensor:
    """Subtract a smooth background and divide by the noise."""
    residual = pixels - smooth_background(pixels)
    return residual / _noise(residual)


def smooth_background(pixels: Tensor) -> Tensor:
    """Return the medians of a mesh, interpolated; pixels that are NaN are left out.

    A mesh that holds nothing else takes the median of the image.
    """
    ny, nx = pixels.shape
    box = [side // max(round(side / _MESH), 1) for side in (ny, nx)]
    meshes = pixels.unfold(0, box[0], box[0]).unfold(1, box[1], box[1])  # (my, mx, box, box)
    medians = meshes.flatten(2).nanmedian(dim=2).values
    medians = torch.where(medians.isnan(), pixels.nanmedian(), medians)
    return F.interpolate(medians[None, None], (ny, nx), mode="bilinear")[0, 0]


def _asinh(pixels: Tensor) -> Tensor:
    """Make a photograph of it and give that the range of those that DINOv2 was trained on."""
    return as_photograph(photograph(pixels))


def as_photograph(picture: Tensor) -> Tensor:
    """Give 0 … 1 the range of DINOv2's photographs after their normalisation."""
    return _DARKEST + picture * (_BRIGHTEST - _DARKEST)


def photograph(pixels: Tensor) -> Tensor:
    """Compress by arcsinh in units of the noise, then stretch to 0 … 1.

    Percentile 0.5 becomes black, percentile 99.8 white.
    """
    compressed = torch.asinh((pixels - pixels.median()) / _noise(pixels))
    ordered = _sample(compressed).sort().values
    last = len(ordered) - 1
    low, high = ordered[round(0.005 * last)], ordered[round(0.998 * last)]
    scaled = (compressed - low) / (high - low).clamp(min=1e-6)
    return scaled.clamp(0, 1)


def _noise(pixels: Tensor) -> Tensor:
    """Return the scatter from the median absolute deviation, never nothing."""
    some = _sample(pixels)
    return (1.4826 * (some - some.median()).abs().median()).clamp(min=1e-6)


def _sample(pixels: Tensor) -> Tensor:
    """Return every so many pixels, enough for order statistics."""
    return pixels.flatten()[:: max(pixels.numel() // 500_000, 1)]


#: About the side of a mesh of the background in pixels.
_MESH = 128
#: Ends of the range of a photograph after the model's own normalisation.
_DARKEST, _BRIGHTEST = -2.1, 2.6
#: Stretches by name, each of (ny, nx) float32 to the same.
STRETCHES = {"raw": _raw, "asinh": _asinh, "background": _background}
