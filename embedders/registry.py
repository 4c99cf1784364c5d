"""The embedders by name; other packages add theirs by the entry point ``survey_qa.embedders``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from embedders.kinds import DeviceEmbedder, Embedder
from embedders.neighbours import MODIFIER, Pooled
from embedders.tasks import CCD_BY_CCD, View
from lake.errors import BadInput, NotFound

if TYPE_CHECKING:
    from embedders.backbone import BackboneEmbedder
    from embedders.dinov2 import Dinov2Embedder

#: Entry points of this group are functions that take `Options` and return an embedder.
GROUP = "survey_qa.embedders"
#: What is put before an embedder's name to have it see whole exposures.
FOCAL_PLANE = "focal-plane-"


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


def view(embedder: Embedder | DeviceEmbedder) -> View:
    """Return what an embedder is shown: its ``view``, or one CCD after the other."""
    own: View = getattr(embedder, "view", CCD_BY_CCD)
    return own


def embedder(options: Options) -> Embedder | DeviceEmbedder | Pooled:
    """Return the embedder called `options.name`, with modifiers behind it joined by ``.``.

    An unknown name with a folder of weights is a backbone of transformers, which may see whole
    exposures (``focal-plane-…``) too. ``….neighbours`` pools the vectors of any embedder of CCDs.

    Raises `SurveyError` for a name or options it does not know, or when its weights are missing.
    """
    if options.name.endswith(MODIFIER):
        base = embedder(replace(options, name=options.name.removesuffix(MODIFIER)))
        if isinstance(base, Pooled) or view(base).mosaic:
            raise BadInput(f"embedder {options.name!r}: only vectors of CCDs have neighbours")
        return Pooled(base)
    known = _builtin() | _others()
    make = known.get(options.name) or known.get(options.name.split(".")[0])
    if make is None and options.weights is not None and options.weights.is_dir():
        make = _focal_plane if options.name.startswith(FOCAL_PLANE) else _backbone
    if make is None:
        raise NotFound(f"no embedder {options.name!r}; there are {', '.join(names())}")
    return make(options)


def image_embedder(options: Options) -> Embedder | DeviceEmbedder:
    """Return the embedder called `options.name`, which must be one of images.

    Raises `SurveyError` as `embedder` does.
    """
    found = embedder(options)
    if isinstance(found, Pooled):
        raise BadInput(f"embedder {options.name!r} pools vectors and sees no images")
    return found


Make = Callable[[Options], Embedder | DeviceEmbedder]


def _builtin() -> dict[str, Make]:
    made: dict[str, Make] = {
        "statistics": _statistics,
        f"{FOCAL_PLANE}statistics": _focal_plane_statistics,
    }
    for size in "sblg":
        for registers in ("", "-reg"):
            name = f"dinov2-vit{size}14{registers}"
            made[name] = _dinov2
            made[FOCAL_PLANE + name] = _focal_plane
    return made


def _others() -> dict[str, Make]:
    return {point.name: _Lazy(point.load) for point in entry_points(group=GROUP)}


@dataclass(frozen=True)
class _Lazy:
    load: Callable[[], Make]

    def __call__(self, options: Options) -> Embedder | DeviceEmbedder:
        return self.load()(options)


def _statistics(options: Options) -> Embedder:
    from embedders.statistics import StatisticsEmbedder

    return StatisticsEmbedder(masked=_only_masked(options))


def _focal_plane_statistics(options: Options) -> Embedder:
    from embedders.statistics.focal_plane import FocalPlaneStatistics

    return FocalPlaneStatistics(masked=_only_masked(options))


def _only_masked(options: Options) -> bool:
    """Tell whether a model without weights is to leave out masked pixels: its one modifier."""
    name, _, modifier = options.name.partition(".")
    if modifier not in ("", "masked"):
        raise BadInput(f"embedder {options.name!r}: {name} knows no modifier but .masked")
    if options.weights is not None or options.precision is not None:
        raise NotFound(f"the embedder {name} has no weights and no precision to choose")
    return modifier == "masked"


def _backbone(options: Options) -> DeviceEmbedder:
    return _folder(options.name, options, options.name.endswith(".masked"))


def _folder(name: str, options: Options, masked: bool) -> BackboneEmbedder:
    from embedders.backbone import BackboneEmbedder
    from lake.paths import check_name

    if options.weights is None:
        raise BadInput(f"embedder {options.name!r}: name the model's folder with --weights")
    return BackboneEmbedder(
        check_name("embedder", name),
        options.weights,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
        masked=masked,
    )


def _focal_plane(options: Options) -> DeviceEmbedder:
    from embedders.focal_plane import FocalPlaneEmbedder, modifiers

    plain = options.name.removeprefix(FOCAL_PLANE).split(".")[0]
    if FOCAL_PLANE + plain not in _builtin():
        folder = _folder(options.name, options, False)
        masked = options.name.endswith(".masked")
        return FocalPlaneEmbedder(options.name, folder, [max(folder.size)], masked)
    sides, masked = modifiers(options.name)
    return FocalPlaneEmbedder(options.name, _dinov2(replace(options, name=plain)), sides, masked)


def _dinov2(options: Options) -> Dinov2Embedder:
    from embedders.dinov2 import Dinov2Embedder

    return Dinov2Embedder(
        options.name,
        weights=options.weights,
        device=options.device,
        precision=options.precision,
        batch_size=options.batch_size,
    )
