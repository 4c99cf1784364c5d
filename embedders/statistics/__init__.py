"""`statistics`: a CCD image as a vector of named, physical features. No weights, no download.

The features come in families, a module each; `FEATURES` lists all of them in the vector's
order. They need no header, only the constants of the camera (`lake.cameras`): an image is measured
in ADU, in units of its own noise and in arcsec. Distances are local (pixels, arcsec, arcmin), so
that cut-outs and full frames compare.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedders.statistics import background, lines, noise, pixels, psf, sources
from embedders.statistics.definition import Feature
from embedders.statistics.frame import Frame
from embedders.tasks import View
from lake.cameras import DECAM, PIXEL_SCALE, Camera
from lake.cameras import camera as camera_named

__all__ = ["FEATURES", "Feature", "StatisticsEmbedder", "features"]

VERSION = 1  # raise whenever a value changes: vectors of different versions must not mix

FEATURES: tuple[Feature, ...] = (
    *pixels.FEATURES,
    *background.FEATURES,
    *noise.FEATURES,
    *sources.FEATURES,
    *psf.FEATURES,
    *lines.FEATURES,
)


def features(
    image: NDArray[np.generic],
    *,
    camera: Camera = DECAM,
    mask: NDArray[np.generic] | None = None,
    weight: NDArray[np.generic] | None = None,
) -> NDArray[np.float32]:
    """Measure a CCD image.

    Parameters
    ----------
    image : (ny, nx) array of numbers, ADU, with or without the sky
    camera : the camera that took it
    mask : (ny, nx), not zero where a pixel is bad
    weight : (ny, nx), zero or less where a pixel is bad

    Returns
    -------
    (len(FEATURES),) float32, each value inside its feature's range: never NaN or infinite

    Raises
    ------
    SurveyError
        When there is nothing to measure: not two axes, not numbers, empty, no good pixel.
    """
    frame = Frame(image, camera, mask, weight)
    catalogues = [sources.detect(window.residual) for window in frame.windows]
    values = (
        pixels.measure(frame)
        | background.measure(frame)
        | noise.measure(frame)
        | sources.measure(frame, catalogues)
        | psf.measure(frame, catalogues)
        | lines.measure(frame)
    )
    return np.array([f.limit(values.get(f.name)) for f in FEATURES], dtype=np.float32)


class StatisticsEmbedder:
    """The features as an embedder: images in, vectors out.

    Parameters
    ----------
    masked : whether pixels that the pipeline's mask or weights call bad count as such.
    """

    def __init__(self, masked: bool = False) -> None:
        self.name = "statistics.masked" if masked else "statistics"
        self.view = View(masked=masked)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return len(FEATURES)

    @property
    def settings(self) -> dict[str, object]:
        """What decides the values: part of the identity of every vector.

        The pixel scale is DECam's; what differs from DECam's stands in the record of the other
        cameras' vectors (`lake.cameras.named_constants`).
        """
        masked = {"masked": "ood, oow"} if self.view.masked else {}
        return {
            "version": VERSION,
            PIXEL_SCALE: DECAM.pixel_scale,
            "features": [f.name for f in FEATURES],
            **masked,
        }

    def embed(
        self,
        images: Sequence[NDArray[np.generic]],
        camera: str = DECAM.name,
    ) -> NDArray[np.float32]:
        """Vectors (n, dimension) of n images of `camera`, in ADU and of any shapes.

        Raises
        ------
        SurveyError
            For a camera that is not known, and at the first image with nothing to measure.
        """
        known = camera_named(camera)
        vectors = [features(image, camera=known) for image in images]
        return np.array(vectors, dtype=np.float32).reshape(-1, self.dimension)
