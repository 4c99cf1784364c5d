"""The pipeline: embeds nights one after the other, with every stage at work at once.

Files are read ahead by processes (`embedders.readers`), an embedder that needs a device works on
it in threads of its own, and partitions are committed one at a time while the next is being
read. Every stage hands on a bounded number of images, so that memory does not grow with the size
of a partition; what is kept until the commit is its vectors.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from embedders.commit import Made, commit, settle
from embedders.device import Device
from embedders.job import Job
from embedders.kinds import Attended, DeviceEmbedder, Embedder
from embedders.plan import Plan, plan
from embedders.progress import EmbedSummary, Event, Progress, Stop
from embedders.readers import Read, Readers, cores
from embedders.tasks import Ccd, Key, Task
from embedders.wanted import failure, flaw_failure
from lake.shares import Night
from lake.store import Lake

#: Seconds after which the pipeline looks around when nothing happens.
_TICK = 0.1
_FLOAT16 = float(np.finfo(np.float16).max)


def embed_nights(
    lake: Lake,
    job: Job,
    embedder: Embedder | DeviceEmbedder,
    nights: Sequence[Night],
    workers: int | None,
    progress: Progress | None,
    stop: Stop,
) -> EmbedSummary:
    """Embed `nights` with one embedder and `workers` reading processes; see `engine.run`."""
    return _Run(lake, job, embedder, nights, progress, stop).run(workers)


@dataclass
class _Open:
    """A partition whose images are under way; `flawed` pictures lack CCDs that they once had."""

    plan: Plan
    n_open: int
    made: Made = field(default_factory=Made)
    flawed: set[Key] = field(default_factory=set)
    n_reused: int = 0
    n_vectors: int = 0
    n_failed: int = 0


#: A CCD image on its way through the device.
_Image = tuple[_Open, Task, Ccd]


class _Run:
    """One pass over the nights; see the module's head for how the stages hang together."""

    def __init__(
        self,
        lake: Lake,
        job: Job,
        embedder: Embedder | DeviceEmbedder,
        nights: Sequence[Night],
        progress: Progress | None,
        stop: Stop,
    ) -> None:
        self._lake, self._job, self._embedder = lake, job, embedder
        self._chosen, self._progress, self._stop = list(nights), progress, stop
        self._summary = EmbedSummary()
        self._settled: set[Night] = set()
        self._commits: list[tuple[_Open, Future[None]]] = []

    def run(self, workers: int | None) -> EmbedSummary:
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            self._writer = stack.enter_context(ThreadPoolExecutor(1))
            measure, self._device, workers = None, None, workers or cores()
            if isinstance(self._embedder, DeviceEmbedder):
                if isinstance(self._embedder, Attended):
                    stack.enter_context(self._embedder.at_work())
                n_threads = 1 if self._embedder.has_memory else workers
                device = Device[_Image](self._embedder, self._stop, n_threads)
                self._device = stack.enter_context(device)
            else:
                measure = self._embedder
            self._readers = stack.enter_context(Readers[_Open](workers, measure))
            self._pump()
            for _, commit in self._commits:
                commit.result()
            self._report_commits()
        summary = self._summary
        summary.seconds = time.monotonic() - began
        summary.stopped = self._stop.is_set()
        summary.remaining = [
            f"camera={night[0]}/night={night[1]}"
            for night in self._chosen
            if night not in self._settled
        ]
        return summary

    def _pump(self) -> None:
        """Keep every stage fed until all is done or the run is stopped."""
        tasks = self._tasks()
        exhausted = False
        while not self._stop.is_set():
            while not exhausted and self._readers.hungry and not self._stop.is_set():
                following = next(tasks, None)
                if following is None:
                    exhausted = True
                else:
                    self._readers.submit(*following)
            for read in self._readers.poll(_TICK if self._readers.busy else 0):
                self._take(read)
            if self._device is not None:
                if exhausted and not self._readers.busy:
                    self._device.flush()
                for image, vector in self._device.results(0 if self._readers.busy else _TICK):
                    self._vector(*image, vector)
            self._report_commits()
            if exhausted and not self._readers.busy and not (self._device and self._device.busy):
                return

    def _tasks(self) -> Iterator[tuple[_Open, Task]]:
        """Plan the nights one after the other, only as far as the readers can follow."""
        for night in self._chosen:
            planned = plan(self._lake, self._job, night)
            if planned.is_current:
                settle(self._lake, self._job, planned)
                self._settled.add(night)
                self._summary.n_skipped += 1
                self._summary.kept += planned.kept
                self._tell("skipped", planned.name, 0, 0)
                continue
            n_open = sum(len(task.ccds) for task in planned.tasks)
            opened = _Open(planned, n_open, n_reused=planned.n_reused)
            if not n_open:
                self._commit(opened)
            for task in planned.tasks:
                yield opened, task

    def _take(self, read: Read[_Open]) -> None:
        if read.content is not None:
            self._content(read.owner, read.task, read.content)
            return
        assert read.ccd is not None
        if read.flaws:
            read.owner.made.failures += [flaw_failure(flaw) for flaw in read.flaws]
            pictured = read.owner.plan.pictured.get(read.task.input, frozenset())
            if any(flaw.ccd.key in pictured for flaw in read.flaws):
                read.owner.flawed.add(read.ccd.key)
            self._tell("images", read.owner.plan.name, 0, len(read.flaws))
        if read.error is not None:
            self._fail(read.owner, read.task, read.ccd, read.error)
        elif read.vector is not None:
            self._vector(read.owner, read.task, read.ccd, read.vector)
        elif read.pixels is not None and self._device is not None:
            self._device.put((read.owner, read.task, read.ccd), read.pixels)
            read.release()

    def _content(self, opened: _Open, task: Task, content: str) -> None:
        """Take note of what is in a file; where that is known, nothing else comes of it."""
        opened.made.contents[task.input] = content
        if content and content == task.known:
            opened.made.verified.add(task.input)
            opened.n_reused += sum(ccd.key in opened.plan.there for ccd in task.ccds)
            opened.n_open -= len(task.ccds)
            if not opened.n_open:
                self._commit(opened)

    def _vector(self, opened: _Open, task: Task, ccd: Ccd, vector: np.ndarray) -> None:
        if not np.isfinite(vector).all():
            self._fail(opened, task, ccd, "the embedder gave a vector that is not finite")
            return
        if ccd.key in opened.flawed and ccd.key in opened.plan.there:
            opened.made.kept.add(ccd.key)
        else:
            opened.made.vectors[ccd.key] = vector.clip(-_FLOAT16, _FLOAT16).astype(np.float16)
        self._one_less(opened, 0)

    def _fail(self, opened: _Open, task: Task, ccd: Ccd, error: str) -> None:
        opened.made.failures.append(failure(task, ccd, error))
        if ccd.key in opened.plan.there:
            opened.made.kept.add(ccd.key)
        self._one_less(opened, 1)

    def _one_less(self, opened: _Open, n_failed: int) -> None:
        opened.n_open -= 1
        self._tell("images", opened.plan.name, 1 - n_failed, n_failed)
        if not opened.n_open:
            self._commit(opened)

    def _commit(self, opened: _Open) -> None:
        self._commits.append((opened, self._writer.submit(self._write, opened)))

    def _write(self, opened: _Open) -> None:
        counts = commit(self._lake, self._job, opened.plan, opened.made)
        opened.n_vectors, opened.n_failed = counts

    def _report_commits(self) -> None:
        while self._commits and self._commits[0][1].done():
            opened, commit = self._commits.pop(0)
            commit.result()
            self._settled.add(opened.plan.night)
            self._summary.n_partitions += 1
            self._summary.n_images += len(opened.made.vectors)
            self._summary.n_reused += opened.n_reused
            self._summary.n_failed += opened.n_failed
            self._summary.n_unmasked += opened.plan.n_unmasked
            self._summary.kept += opened.plan.kept
            if opened.made.kept:
                self._summary.kept["their images cannot be used any more"] += len(opened.made.kept)
            self._summary.n_pruned += len(opened.plan.pruned - opened.made.vectors.keys())
            self._tell("committed", opened.plan.name, opened.n_vectors, opened.n_failed)

    def _tell(
        self,
        kind: Literal["skipped", "images", "committed"],
        partition: str,
        n_images: int,
        n_failed: int,
    ) -> None:
        if self._progress is not None:
            done, of = len(self._settled), len(self._chosen)
            self._progress(Event(kind, partition, n_images, n_failed, done, of))
