"""What a run of embedding was asked for, and whose vectors may stand beside its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedders.tasks import CCD_BY_CCD, View
from lake import paths
from lake.cameras import is_by_camera, named_constants
from lake.errors import Conflict
from lake.record import Record, digest
from lake.shares import Night
from lake.store import Lake, Partition

STAGE = "embed"
#: What of a record's settings decides the vectors: those of the embedder, and the constants of the
#: camera where they count and differ from DECam's.
SETTINGS = ("embedder", "camera")
#: Raise whenever the same images and settings of an embedder give other vectors.
ALGORITHM = 1


@dataclass(frozen=True)
class Job:
    """What a run was asked for, apart from how fast it should be.

    `embedder` holds the settings that change the vectors; `images` the folders that
    ``image_filename`` is relative to, of which the first that has a file wins;
    `ccds_per_exposure` None takes all; `view` is what the embedder is shown. With `prune`, vectors
    that the run does not ask for go, and those whose images are missing. `is_apart`: vectors of
    other settings stand in the lake, and these wait beside them.
    """

    name: str
    embedder: Mapping[str, Any]
    dimension: int
    notes: Mapping[str, Any]
    images: tuple[Path, ...]
    releases: tuple[str, ...] = ()
    ccds_per_exposure: int | None = None
    seed: int = 0
    force: bool = False
    prune: bool = False
    view: View = CCD_BY_CCD
    is_apart: bool = False

    def settings(self, camera: str) -> dict[str, Any]:
        """Return what goes into the records of a camera's vectors: those of others never mix."""
        constants = named_constants(camera) if is_by_camera(self.embedder) else {}
        return {"embedder": dict(self.embedder), **({"camera": constants} if constants else {})}

    @property
    def facet(self) -> str:
        """What of the CCD table decides which vectors there are to be."""
        return "mosaics" if self.view.mosaic else "images"

    @property
    def pending(self) -> str:
        """Folder, in a lake, of vectors of these settings that wait for the others."""
        return f"{paths.PENDING}/{self.name}-{digest({'embedder': dict(self.embedder)})}"

    def keys(self, night: Night) -> dict[str, str]:
        """Return the keys of the partition of vectors of `night`."""
        return {"embedder": self.name, "camera": night[0], "night": night[1]}

    def replacing(self, lake: Lake) -> AbstractContextManager[None]:
        """Return what keeps vectors that wait from being moved while some are added to them."""
        return lake.lock(f"replace-{self.name}") if self.is_apart else nullcontext()

    def target(self, lake: Lake, night: Night) -> Lake:
        """Return where the vectors of `night` go: into the lake, or where they wait."""
        if not self.is_apart or is_of(lake.record("embeddings", self.keys(night)), self, night[0]):
            return lake
        return Lake(lake.root / self.pending, create=True)


def is_of(record: Record | None, job: Job, camera: str) -> bool:
    """Tell whether vectors of `camera` were made with the settings of `job`."""
    if record is None or record.algorithm != ALGORITHM:
        return False
    ours = _plain(job.settings(camera))
    return all(record.settings.get(name) == ours.get(name) for name in SETTINGS)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as a record gives them back."""
    return dict(json.loads(json.dumps(dict(settings))))


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an embedder and the constants of a camera as one."""
    return {**settings.get("embedder", {}), **settings.get("camera", {})}


def check_settings(lake: Lake, job: Job) -> None:
    """Raise `SurveyError` when the lake holds vectors of other settings under the same name."""
    for partition in of_other_settings(lake, job):
        record = partition.record()
        camera = partition["camera"]
        theirs = {} if record is None else _flat(record.settings)
        ours = _flat(_plain(job.settings(camera)))
        names = sorted(theirs.keys() | ours.keys())
        differences = ", ".join(
            f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} now"
            for name in names
            if theirs.get(name) != ours.get(name)
        )
        raise Conflict(
            f"{partition.path}: its vectors were made with other settings ({differences}); use "
            "the same settings, or make every partition anew with --force"
        )


def of_other_settings(lake: Lake, job: Job) -> list[Partition]:
    """Return the partitions of the job's embedder that were made with other settings."""
    partitions = lake.partitions("embeddings", embedder=job.name)
    return [part for part in partitions if not is_of(part.record(), job, part["camera"])]
