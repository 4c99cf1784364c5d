"""Vectors made with other settings: they wait beside the old ones until all have theirs.

Vectors of different settings never mix, and a model works on with the old ones meanwhile. The new
ones are a lake of their own in the folder ``pending``; when they are as many as the old ones, their
partitions are moved into the place of these.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

from embedders.job import STAGE, Job, check_settings, is_of, of_other_settings
from embedders.vectors import read_keys
from lake.store import Lake, Partition


def apart(lake: Lake, job: Job) -> Job:
    """Return the job as it is to be done where the lake has vectors of other settings.

    Raises `SurveyError` where it has, unless they are to be made anew or this was begun before.
    """
    if not of_other_settings(lake, job):
        return job
    if not job.force and not (lake.root / job.pending).is_dir():
        check_settings(lake, job)
    return replace(job, is_apart=True)


def promote(lake: Lake, job: Job, announce: Callable[[str], None] | None = None) -> tuple[int, int]:
    """Move the new vectors into the place of the old ones, once all of these have one.

    With `Job.prune` they are moved as many as they are, and `announce` is told before how many of
    the old ones have no new one. A run that is killed while it moves leaves the rest waiting, and
    the next one goes on.

    Returns
    -------
    How many new vectors go on waiting, and how many old ones have no new one; 0 and 0 when done.
    """
    with job.replacing(lake):
        waiting = Lake(lake.root / job.pending, create=True)
        old = of_other_settings(lake, job)
        behind = {partition.name: _behind(lake, waiting, job, partition) for partition in old}
        n_behind = sum(behind.values())
        new = waiting.partitions("embeddings", embedder=job.name)
        if n_behind and not job.prune:
            return sum(partition.num_rows() for partition in new), n_behind
        if n_behind and announce is not None:
            announce(f"{n_behind:,} vectors of the former settings are removed: none takes theirs")
        for partition in new:
            _move(waiting, lake, job, partition)
        moved = {partition.name for partition in new}
        for partition in old:
            if partition.name not in moved:
                lake.remove("embeddings", dict(partition.keys))
        # Other tasks of an array job may still add to it: then there is a lake again.
        shutil.rmtree(waiting.root, ignore_errors=True)
    return 0, 0


def _behind(lake: Lake, waiting: Lake, job: Job, partition: Partition) -> int:
    """Return how many vectors of an old partition have no new one."""
    keys = dict(partition.keys)
    old = {*read_keys(lake, keys)}
    record = waiting.record("embeddings", keys)
    new = {*read_keys(waiting, keys)} if is_of(record, job, keys["camera"]) else set()
    return len(old - new)


def _move(waiting: Lake, lake: Lake, job: Job, partition: Partition) -> None:
    """Put a partition of new vectors, and what failed of it, into the lake."""
    keys = dict(partition.keys)
    where = {"stage": STAGE, "camera": keys["camera"], "night": keys["night"]}
    with lake.lock_partition("embeddings", keys):
        record = partition.record()
        assert record is not None
        failed = waiting.path("failures", where, job.name)
        if failed.exists():
            rows = waiting.read("failures", where, part=job.name)
            lake.write("failures", where, rows, record, job.name)
        lake.move_in("embeddings", keys, partition.path)
