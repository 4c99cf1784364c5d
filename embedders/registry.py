"""The embedders by name; other packages add theirs by the entry point ``survey_qa.embedders``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lake.errors import SurveyError

#: Entry points of this group are functions that take `Options` and return an embedder.
GROUP = "survey_qa.embedders"


class Embedder(Protocol):
    """Turns images into vectors.

    An embedder of this kind needs no device: it is sent (pickled) to the processes that decode
    the images and works there.

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


@dataclass(frozen=True)
class Options:
    """What a person may say about an embedder; None leaves the choice to it."""

    name: str
    device: str = "auto"
    weights: Path | None = None
    precision: str | None = None
    batch_size: int | None = None


def names() -> list[str]:
    """Return the names of all embedders; imports none of them."""
    return sorted(_builtin() | _others().keys())


def embedder(options: Options) -> Embedder | DeviceEmbedder:
    """Return the embedder called `options.name`, with modifiers behind it joined by ``.``.

    An unknown name with a folder of weights is a backbone of transformers.

    Raises `SurveyError` for a name or options it does not know, or when its weights are missing.
    """
    known = _builtin() | _others()
    make = known.get(options.name) or known.get(options.name.split(".")[0])
    if make is None and options.weights is not None and options.weights.is_dir():
        make = _backbone
    if make is None:
        raise SurveyError(f"no embedder {options.name!r}; there are {', '.join(names())}")
    return make(options)


def _builtin() -> dict[str, Callable[[Options], Embedder | DeviceEmbedder]]:
    made: dict[str, Callable[[Options], Embedder | DeviceEmbedder]] = {"statistics": _statistics}
    for size in "sblg":
        for registers in ("", "-reg"):
            made[f"dinov2-vit{size}14{registers}"] = _dinov2
    return made


def _others() -> dict[str, Callable[[Options], Embedder | DeviceEmbedder]]:
    return {point.name: _Lazy(point.load) for point in entry_points(group=GROUP)}


@dataclass(frozen=True)
class _Lazy:
    load: Callable[[], Callable[[Options], Embedder | DeviceEmbedder]]

    def __call__(self, options: Options) -> Embedder | DeviceEmbedder:
        return self.load()(options)


def _statistics(options: Options) -> Embedder:
    from embedders.statistics import StatisticsEmbedder

    if options.name != "statistics":
        raise SurveyError(f"embedder {options.name!r}: statistics knows no modifiers")
    if options.weights is not None or options.precision is not None:
        raise SurveyError("the embedder statistics has no weights and no precision to choose")
    return StatisticsEmbedder()


def _backbone(options: Options) -> DeviceEmbedder:
    from embedders.backbone import BackboneEmbedder
    from lake.paths import check_name

    if options.weights is None:
        raise SurveyError(f"embedder {options.name!r}: name the model's folder with --weights")
    return BackboneEmbedder(
        check_name("embedder", options.name),
        options.weights,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
    )


def _dinov2(options: Options) -> DeviceEmbedder:
    from embedders.dinov2 import Dinov2Embedder

    return Dinov2Embedder(
        options.name,
        weights=options.weights,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
    )
