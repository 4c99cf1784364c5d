"""The exposures that look most alike, by their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event, Thread

import numpy as np
from numpy.typing import NDArray

from inspector.rounds import Subject
from lake.errors import SurveyError
from lake.store import Lake, Partition, read_file

#: Exposures that are compared at most: those of the round, then listed ones, then others.
MAX_EXPOSURES = 20_000
#: Vectors read at most, in elements: what fits beside a web server.
_MAX_ELEMENTS = 400_000_000


@dataclass(frozen=True)
class Neighbour:
    """An exposure near another; `distance` in standard deviations of the embedding, per element."""

    camera: str
    expnum: int
    night: str
    distance: float


class Neighbours:
    """Nearest exposures in the space of an embedder; read in the background.

    An exposure is the mean of its CCDs' vectors, each element scaled to unit variance.
    """

    def __init__(
        self, lake: Lake, embedder: str | None, subjects: Sequence[Subject], prefer: Sequence[str]
    ) -> None:
        self.lake = lake
        self.embedder = embedder
        self.ready = Event()
        self._keys: list[tuple[str, int, str]] = []
        self._places: dict[tuple[str, int], int] = {}
        self._vectors: NDArray[np.float32] = np.zeros((0, 1), np.float32)
        needed = {(s.camera, s.night) for s in subjects if s.night is not None}
        self._thread = Thread(target=self._load, args=(needed, set(prefer)), daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def knows(self, camera: str, expnum: int) -> str | None:
        """Return the night of an exposure that may be anybody's neighbour, None for another."""
        if not self.ready.is_set() or (camera, expnum) not in self._places:
            return None
        return self._keys[self._places[camera, expnum]][2]

    def of(self, subject: Subject, count: int = 4) -> list[Neighbour]:
        """Return the `count` nearest exposures; none while reading, or for an unknown exposure."""
        place = self._places.get((subject.camera, subject.expnum))
        if not self.ready.is_set() or place is None or len(self._keys) < 2:
            return []
        difference = self._vectors - self._vectors[place]
        distances = np.sqrt(np.einsum("ij,ij->i", difference, difference) / difference.shape[1])
        distances[place] = np.inf
        count = min(count, len(distances) - 1)
        nearest = np.argpartition(distances, count - 1)[:count]
        found = []
        for index in nearest[np.argsort(distances[nearest])]:
            camera, expnum, night = self._keys[index]
            found.append(Neighbour(camera, expnum, night, float(distances[index])))
        return found

    def _load(self, needed: set[tuple[str, str]], prefer: set[str]) -> None:
        try:
            if self.embedder is not None:
                self._read(self.embedder, needed, prefer)
        finally:
            self.ready.set()

    def _read(self, embedder: str, needed: set[tuple[str, str]], prefer: set[str]) -> None:
        partitions = self.lake.partitions("embeddings", embedder=embedder)
        partitions.sort(
            key=lambda p: ((p["camera"], p["night"]) not in needed, p["night"] not in prefer, p)
        )
        means: list[NDArray[np.float32]] = []
        keys: list[tuple[str, int, str]] = []
        elements = 0
        for partition in partitions:
            if len(keys) >= MAX_EXPOSURES or elements > _MAX_ELEMENTS:
                break
            try:
                expnums, vectors, read = _exposure_means(partition)
            except (SurveyError, OSError):
                continue  # neighbours are a help: a night less is no reason to show none
            elements += read
            if means and vectors.shape[1] != means[0].shape[1]:
                continue
            means.append(vectors)
            keys += [(partition["camera"], int(e), partition["night"]) for e in expnums]
        if means:
            stacked = np.concatenate(means)
            spread = stacked.std(axis=0)
            self._vectors = (stacked - stacked.mean(axis=0)) / np.where(spread > 0, spread, 1)
        self._keys = keys
        self._places = {(camera, expnum): i for i, (camera, expnum, _) in enumerate(keys)}


def _exposure_means(
    partition: Partition,
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Return exposure numbers (n,), their mean vectors (n, d), and how many elements were read."""
    rows = read_file(partition.path, ["expnum", "embedding"]).combine_chunks()
    expnum = rows["expnum"].to_numpy()
    column = rows["embedding"].combine_chunks()
    vectors = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    vectors = vectors.reshape(len(expnum), -1) if len(expnum) else np.zeros((0, 1), np.float32)
    usable = np.isfinite(vectors)
    unique, inverse = np.unique(expnum, return_inverse=True)
    sums = np.zeros((len(unique), vectors.shape[1]), np.float32)
    counts = np.zeros_like(sums)
    np.add.at(sums, inverse, np.where(usable, vectors, 0))
    np.add.at(counts, inverse, usable)
    means = (sums / np.maximum(counts, 1)).astype(np.float32)
    return unique.astype(np.int64), means, int(vectors.size)
