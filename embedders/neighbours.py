"""`….neighbours`: a CCD's vector joined to the mean of its neighbours', from vectors that exist.

No image is read again: what another embedder has put into the lake is pooled, night by night, by
where the CCDs lie in the focal plane (`lake.focal_plane`). A CCD without neighbours among the
vectors (one that is alone, was drawn alone, or has no astrometry) takes its own in their place, as
if it did not differ from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from embedders.job import SETTINGS, Job, is_of
from embedders.progress import EmbedSummary, Event, Progress, Stop
from embedders.tasks import Key
from embedders.vectors import read_vectors, vector_rows
from embedders.wanted import ccd_sources, latest
from lake.focal_plane import COLUMNS, REACH, layout
from lake.record import Record, table_reference
from lake.shares import Night
from lake.store import Lake

if TYPE_CHECKING:
    from embedders.kinds import DeviceEmbedder, Embedder

#: What is put behind an embedder's name.
MODIFIER = ".neighbours"
STAGE = "pool"
#: Raise whenever the same vectors give other pooled ones.
ALGORITHM = 1


@dataclass(frozen=True)
class Pooled:
    """The vectors of `base`, an embedder of CCDs, joined to those of neighbours."""

    base: Embedder | DeviceEmbedder

    @property
    def name(self) -> str:
        """What the vectors are filed under."""
        return self.base.name + MODIFIER

    @property
    def settings(self) -> Mapping[str, Any]:
        """All that changes the vectors."""
        return {
            "pooled": dict(self.base.settings),
            "pooling": "own, mean of neighbours",
            "reach": REACH,
        }

    @property
    def notes(self) -> dict[str, Any]:
        """The names of the features, where the base has any."""
        features = self.base.settings.get("features", ())
        names = [*features, *(f"neighbours_{name}" for name in features)]
        return {"features": names} if names else {}

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return 2 * self.base.dimension


def pool_nights(
    lake: Lake, job: Job, base: str, nights: Sequence[Night], progress: Progress | None, stop: Stop
) -> EmbedSummary:
    """Pool the vectors of the embedder `base` into those of `job`, for each of `nights`.

    Nights that `base` has no vectors of are left out.

    Raises `SurveyError` for a damaged partition or a full disk.
    """
    summary = EmbedSummary()
    there = [night for night in nights if lake.record("embeddings", _keys(base, night))]
    for done, night in enumerate(there):
        name = f"camera={night[0]}/night={night[1]}"
        if stop.is_set():
            summary.stopped = True
            summary.remaining.append(name)
            continue
        count = _pool(lake, job, base, night)
        if count is None:
            summary.n_skipped += 1
        else:
            summary.n_partitions += 1
        if progress is not None:
            kind: Literal["skipped", "committed"] = "skipped" if count is None else "committed"
            progress(Event(kind, name, count or 0, 0, done + 1, len(there)))
    return summary


def _pool(lake: Lake, job: Job, base: str, night: Night) -> int | None:
    """Commit the pooled vectors of a night; return their number, None when they are current."""
    theirs = lake.record("embeddings", _keys(base, night))
    assert theirs is not None
    sources = ccd_sources(lake, job.releases, night)
    inputs = {
        table_reference("ccds", dict(source.keys), "places"): source.identity("places")
        for source in sources
    }
    inputs[table_reference("embeddings", _keys(base, night))] = theirs.identity()
    notes = {**job.notes, "dimension": job.dimension}
    record = Record(STAGE, job.settings(night[0]), inputs, notes, ALGORITHM)
    keys = job.keys(night)
    with lake.lock_partition("embeddings", keys):
        stored = lake.record("embeddings", keys)
        if stored is not None and not job.force and record.matches(_without_draw(stored)):
            return None
        own = read_vectors(lake, _keys(base, night))
        pooled = pool(own, neighbours(list(latest(sources, COLUMNS).values())))
        if not job.prune and is_of(stored, job, night[0]):
            pooled = {**read_vectors(lake, keys), **pooled}
        lake.write("embeddings", keys, vector_rows(pooled, job.dimension), record)
    return len(pooled)


def _without_draw(record: Record) -> Record:
    """Return a record without what version 0.1.0 noted of the draw of CCDs, which is the base's."""
    noted = {name: record.settings[name] for name in SETTINGS if name in record.settings}
    return replace(record, settings=noted)


def neighbours(ccds: Sequence[Mapping[str, Any]]) -> dict[Key, list[Key]]:
    """Return the keys of the neighbours of each CCD; rows hold expnum and a layout's columns."""
    exposures: dict[int, list[Mapping[str, Any]]] = {}
    for row in ccds:
        exposures.setdefault(row["expnum"], []).append(row)
    return {
        (expnum, ccdnum): [(expnum, other) for other in others]
        for expnum, rows in exposures.items()
        for ccdnum, others in layout(rows).neighbours().items()
    }


def pool(
    vectors: Mapping[Key, np.ndarray], neighbours: Mapping[Key, Sequence[Key]]
) -> dict[Key, np.ndarray]:
    """Return each vector (d,) joined to the mean of its neighbours', (2 d,) float16."""
    pooled = {}
    for key, own in vectors.items():
        others = [vectors[other] for other in neighbours.get(key, ()) if other in vectors]
        mean = np.mean(others or [own], axis=0, dtype=np.float32)
        pooled[key] = np.concatenate([own, mean.astype(np.float16)])
    return pooled


def _keys(embedder: str, night: Night) -> dict[str, str]:
    return {"embedder": embedder, "camera": night[0], "night": night[1]}
