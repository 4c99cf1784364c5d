"""What an embedder is to the engine: the protocols that all of them follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import numpy as np


class Embedder(Protocol):
    """Turns images into vectors.

    An embedder of this kind needs no device: it is sent (pickled) to the processes that decode
    the images and works there. One with an attribute ``view`` (`tasks.View`) is shown whole
    focal planes or masked images instead; see `view`. One whose settings name a ``pixel_scale``
    (`lake.cameras.is_by_camera`) measures with the constants of a camera: its ``embed`` is given
    ``camera``, the camera's name, too, and images in ADU; vectors of other constants never mix.

    Attributes
    ----------
    name : what its vectors are filed under.
    settings : all that changes the vectors, as JSON; vectors of other settings never mix.
    dimension : length of a vector.
    """

    name: str

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return float32 of shape (n, dimension) for n images of shape (ny, nx)."""


@runtime_checkable
class DeviceEmbedder(Protocol):
    """An embedder that works on a device, in batches of `batch_size` prepared images.

    `has_memory` tells a device with a memory and arithmetic of its own, which leaves all cores to
    the reading, from the cores themselves.
    """

    name: str
    batch_size: int
    has_memory: bool

    @property
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def dimension(self) -> int: ...

    def devices(self, asked: str) -> list[str]:
        """Return the devices that ``--device`` stands for: ``auto`` is all there are."""

    def prepare(self, image: np.ndarray) -> Any:
        """Return `image` of shape (ny, nx) as the model wants it, on the device.

        The array is not referred to afterwards.
        """

    def embed_prepared(self, batch: Sequence[Any]) -> np.ndarray:
        """Return float32 of shape (n, dimension); raises `MemoryError` when n are too many."""


@runtime_checkable
class Attended(Protocol):
    """A device embedder that wants to know when a run begins and ends."""

    def at_work(self) -> AbstractContextManager[None]:
        """Return what the thread that prepares images holds during the run."""
