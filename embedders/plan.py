"""What a partition of vectors needs: which CCDs, from which files, and what can be kept.

Nothing that was computed before goes: what this run does not ask for, and what it cannot read, is
kept, unless it is to be pruned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embedders.job import STAGE, Job, is_of
from embedders.remembered import Memory, read_memory
from embedders.sources import Source, former_source, lacks_a_companion, stamp_of
from embedders.tasks import Ccd, FileTask, Key, MosaicTask, Task
from embedders.vectors import read_keys
from embedders.wanted import count_unmasked, failure, latest, locate, row_key, tasks_of
from lake.errors import Conflict
from lake.focal_plane import COLUMNS
from lake.record import Record, digest, file_reference, table_reference
from lake.shares import Night
from lake.store import Lake, Partition, file_stamp

#: What is wrong with an image whose file is not there.
NO_FILE = "no such file"

_COLUMNS = ("ccdname", "image_filename", "image_hdu")
_IMAGE = ("image_filename",)


@dataclass
class Plan:
    """The work that one partition needs.

    Attributes
    ----------
    inputs : identities of the CCD rows, by reference.
    asked : hash of what the run asks of this night.
    tasks : the files (or exposures) to read.
    there : keys of the vectors that the lake has.
    sources : the files that vectors and failures came of, as far as they need no reading.
    failures : what is known to be wrong without reading.
    pruned : keys of vectors that are to go, unless they are made anew.
    kept : why vectors that the run does not make stay, and how many.
    stamps : sizes and times of the files asked for; `n_missing` of them are not there.
    pictured : of exposures, the CCDs that their pictures were made of.
    n_reused : vectors that the run asks for and that need no reading.
    n_unmasked : CCD images that should be masked and have no mask.
    is_current : whether there is nothing to write.
    """

    night: Night
    inputs: dict[str, str]
    asked: str
    tasks: list[Task] = field(default_factory=list)
    there: frozenset[Key] = frozenset()
    sources: dict[str, Source] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    pruned: frozenset[Key] = frozenset()
    kept: Counter[str] = field(default_factory=Counter)
    stamps: dict[str, str] = field(default_factory=dict)
    pictured: dict[str, frozenset[Key]] = field(default_factory=dict)
    n_missing: int = 0
    n_reused: int = 0
    n_unmasked: int = 0
    is_current: bool = False

    @property
    def name(self) -> str:
        """``camera=…/night=…``, as ``--partition`` takes it."""
        return f"camera={self.night[0]}/night={self.night[1]}"


def plan(lake: Lake, job: Job, night: Night) -> Plan:
    """Return what the partition of `night` needs.

    Raises `SurveyError` when a partition of CCD rows or vectors is damaged.
    """
    parts = lake.partitions("ccds", camera=night[0], night=night[1])
    ours = [part for part in parts if not job.releases or part["release"] in job.releases]
    inputs = {_reference(part, job.facet): part.identity(job.facet) for part in ours}
    draw_of = None if job.ccds_per_exposure is None else [job.ccds_per_exposure, job.seed]
    ask = [sorted(inputs.items()), sorted(job.releases), draw_of]
    planned = Plan(night, inputs, digest(ask))
    target, keys = job.target(lake, night), job.keys(night)
    record = target.record("embeddings", keys)
    if record is not None and not is_of(record, job, night[0]):
        raise Conflict(
            f"{target.path('embeddings', keys)}: its vectors were made with other settings; make "
            "all of them anew with --force"
        )
    memory = read_memory(target, job, night, record)
    if not (job.force or job.prune) and _is_as_remembered(job, planned, record, memory):
        planned.is_current = True
        return planned

    mosaic = job.view.mosaic
    rows = list(latest(ours, _COLUMNS + (COLUMNS if mosaic else ())).values())
    tasks, nameless = tasks_of(job, night[0], rows, job.ccds_per_exposure, job.seed)
    if job.view.masked:
        planned.n_unmasked = count_unmasked(tasks)
    past = _Past()
    if record is not None:
        past = _read_past(target, job, night, record, memory, rows)
    planned.there, planned.sources = past.vectors, dict(past.sources)
    # What is asked for by name, or anew, is made of what was asked for.
    is_open = mosaic or job.force or job.prune
    newer = frozenset() if is_open else _newer(parts, ours, past)
    _settle(job, planned, past, tasks, nameless, newer)
    unasked = past.vectors - {ccd.key for task in tasks for ccd in task.ccds}
    if job.prune:
        planned.pruned |= unasked
    elif unasked:
        planned.kept["not asked for by this run"] += len(unasked)
    planned.is_current = (
        record is not None
        and not job.force
        and not planned.tasks
        and not planned.pruned
        and all(past.failures.get(row_key(row)) == row for row in planned.failures)
        and all(_names(record, part, job.facet) for part in ours)
    )
    return planned


def _names(record: Record, part: Partition, facet: str) -> bool:
    """Tell whether a record names CCD rows as they are now."""
    # Version 0.1.0 knew partitions as a whole alone.
    facet = facet if record.format > 1 else ""
    return record.inputs.get(_reference(part, facet)) == part.identity(facet)


def _reference(part: Partition, facet: str) -> str:
    return table_reference("ccds", dict(part.keys), facet)


@dataclass(frozen=True)
class _Past:
    """What earlier runs left of a partition: keys of vectors, failures by key, and sources."""

    vectors: frozenset[Key] = frozenset()
    failures: Mapping[Key, dict[str, Any]] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)


def _read_past(
    target: Lake,
    job: Job,
    night: Night,
    record: Record,
    memory: Memory,
    rows: list[dict[str, Any]],
) -> _Past:
    sources = {}
    if record.format == 1:
        # It noted what was drawn then.
        drawn = record.settings.get("ccds_per_exposure"), record.settings.get("seed") or 0
        for task in tasks_of(job, night[0], rows, *drawn)[0]:
            noted = record.inputs.get(file_reference(task.input))
            source = None if noted is None else former_source(task, noted)
            if source is not None:
                sources[task.input] = source
    else:
        for name, note in record.notes["files"].items():
            source = Source.from_note(note)
            sources[name] = replace(source, stamp=memory.stamps.get(name, source.stamp))
    failures = {row_key(row): row for row in read_failures(target, job, night)}
    return _Past(frozenset(read_keys(target, job.keys(night))), failures, sources)


def _settle(
    job: Job,
    planned: Plan,
    past: _Past,
    tasks: Sequence[Task],
    nameless: Sequence[dict[str, Any]],
    newer: frozenset[Key],
) -> None:
    """Tell for each task what is settled, what is missing, and what there is to read."""
    planned.failures = [row for row in nameless if row_key(row) not in past.vectors]
    for task in tasks:
        source, stamp = past.sources.get(task.input), stamp_of(task)
        planned.stamps[task.input] = stamp or ""
        if stamp is None or (source is not None and lacks_a_companion(task, source.stamp)):
            _settle_missing(job, planned, past, task, stamp is None)
            continue
        kept = [ccd.key for ccd in task.ccds if ccd.key in newer]
        if kept:
            planned.kept["they were made from a later processing"] += len(kept)
        left = [ccd for ccd in task.ccds if ccd.key not in newer]
        if source is not None and not job.force:
            left, task = _unsettled(planned, past, task, left, source, stamp)
        if left:
            planned.tasks.append(replace(task, ccds=tuple(left)))


def _settle_missing(
    job: Job, planned: Plan, past: _Past, task: Task, is_image_missing: bool
) -> None:
    """Keep the vectors of an image, or of a mask, that is no longer there."""
    planned.n_missing += 1
    there = [ccd.key for ccd in task.ccds if ccd.key in past.vectors]
    if job.prune:
        planned.pruned |= {*there}
    elif there:
        folders = ", ".join(str(folder) for folder in job.images)
        planned.kept[f"their images are not under {folders}"] += len(there)
    if isinstance(task, FileTask) and is_image_missing:
        planned.failures += [
            failure(task, ccd, NO_FILE)
            for ccd in task.ccds
            if job.prune or ccd.key not in past.vectors
        ]
    elif job.prune or not there:
        planned.tasks.append(task)  # what there is of it still makes a vector


def _unsettled(
    planned: Plan, past: _Past, task: Task, left: list[Ccd], source: Source, stamp: str
) -> tuple[list[Ccd], Task]:
    """Return what is to be read of a file that was read before."""
    done = [
        ccd
        for ccd in left
        if ccd.key in source.keys and (ccd.key in past.vectors or ccd.key in past.failures)
    ]
    is_whole = len(done) == len(left)
    if isinstance(task, MosaicTask):
        good = source.keys - past.failures.keys()
        planned.pictured[task.input] = good
        # A picture of more CCDs than are asked for is no less than theirs.
        if is_whole and {*task.covered} < good:
            return [], task
        is_whole &= {*task.covered} <= source.keys
    if source.stamp != stamp:
        # Read again, unless what is in it is what was in it.
        return left, replace(task, known=source.content if is_whole else "")
    if isinstance(task, MosaicTask) and not is_whole:
        return left, task
    planned.n_reused += sum(ccd.key in past.vectors for ccd in done)
    return [ccd for ccd in left if ccd not in done], task


def _newer(parts: Sequence[Partition], ours: Sequence[Partition], past: _Past) -> frozenset[Key]:
    """Return keys whose vectors are of a later processing than that of the releases asked for."""
    if len(parts) == len(ours):
        return frozenset()
    owner = {key: name for name, source in past.sources.items() for key in source.keys}
    last, mine = (
        {key: (row["image_filename"] or "").strip() for key, row in latest(some, _IMAGE).items()}
        for some in (parts, ours)
    )
    return frozenset(
        key
        for key in past.vectors & mine.keys()
        if mine[key] != last[key] and owner.get(key) == last[key]
    )


def _is_as_remembered(job: Job, planned: Plan, record: Record | None, memory: Memory) -> bool:
    """Tell without reading a table that a partition answers the question, its files unchanged."""
    if record is None or job.view.mosaic or job.view.masked:
        return False  # pictures and masks have stamps of several files, which the table tells
    if planned.asked not in (*record.notes.get("asked", ()), *memory.asked):
        return False
    stamps = {name: note[0] for name, note in record.notes.get("files", {}).items()}
    stamps |= memory.stamps
    try:
        return all(file_stamp(locate(job.images, name)) == stamp for name, stamp in stamps.items())
    except OSError:
        return False


def read_failures(target: Lake, job: Job, night: Night) -> list[dict[str, Any]]:
    """Return the rows of ``failures`` that belong to a partition of vectors."""
    where = {"stage": STAGE, "camera": night[0], "night": night[1]}
    if not target.path("failures", where, job.name).exists():
        return []
    return target.read("failures", where, part=job.name).to_pylist()
