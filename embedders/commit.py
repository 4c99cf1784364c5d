"""Committing a partition of vectors: what was made is added to what stands there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from embedders.job import ALGORITHM, STAGE, Job, is_of
from embedders.plan import Plan, read_failures
from embedders.remembered import add_asks, remember
from embedders.sources import Source
from embedders.tasks import Key
from embedders.vectors import read_vectors, vector_rows
from embedders.wanted import row_key
from lake.errors import Conflict
from lake.record import TABLE, Record, file_reference, split_reference
from lake.store import Lake
from lake.tables import table


@dataclass
class Made:
    """What came of the tasks of a plan.

    Attributes
    ----------
    vectors : by key, each (d,) float16.
    failures : rows of ``failures``.
    contents : identity of each file that was read; of those in `verified` it was the known one.
    kept : keys of vectors that stay since their images can no longer be used.
    """

    vectors: dict[Key, np.ndarray] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    verified: set[str] = field(default_factory=set)
    kept: set[Key] = field(default_factory=set)


def commit(lake: Lake, job: Job, planned: Plan, made: Made) -> tuple[int, int]:
    """Put what was made beside what the partition has.

    Other runs may have added to it since the plan was made: what they did stays.

    Returns
    -------
    How many vectors the partition has now, and how many failures.

    Raises `SurveyError` when the partition was made anew with other settings meanwhile, or cannot
    be written.
    """
    keys = job.keys(planned.night)
    with job.replacing(lake):
        target = job.target(lake, planned.night)
        with target.lock_partition("embeddings", keys):
            return _commit(target, job, planned, made)


def _commit(target: Lake, job: Job, planned: Plan, made: Made) -> tuple[int, int]:
    keys = job.keys(planned.night)
    record = target.record("embeddings", keys)
    if record is not None and not is_of(record, job, planned.night[0]):
        raise Conflict(
            f"{target.path('embeddings', keys)}: made with other settings by another run "
            "meanwhile; run again"
        )
    vectors = {} if record is None else read_vectors(target, keys)
    gone = planned.pruned - made.vectors.keys()
    vectors = {key: vector for key, vector in vectors.items() if key not in gone}
    vectors |= made.vectors
    failures = _failures(read_failures(target, job, planned.night), planned, made)
    sources = _sources(record, planned, made, gone)
    asked = [] if planned.n_missing else [planned.asked]
    if record is not None and _is_only_seen(record, planned, made):
        remember(target, job, planned.night, record, asked, sources)
        return len(vectors), len(failures)
    # Of other CCD rows the questions were other ones.
    told = () if record is None or planned.pruned else record.notes.get("asked", ())
    if record is not None and not record.inputs.items() >= planned.inputs.items():
        told = ()
    notes = {
        **job.notes,
        "dimension": job.dimension,
        "files": {name: source.to_note() for name, source in sorted(sources.items())},
        "asked": add_asks(told, asked),
    }
    if job.view.masked:
        notes["n_unmasked"] = planned.n_unmasked
    inputs = _inputs(target, record, planned, sources)
    new = Record(STAGE, job.settings(planned.night[0]), inputs, notes, ALGORITHM)
    # The vectors come last: they are what tells the next run that all is there.
    rows = pa.Table.from_pylist(sorted(failures, key=row_key), _FAILURES)
    target.write_failures(STAGE, job.name, keys, rows, new)
    target.write("embeddings", keys, vector_rows(vectors, job.dimension), new)
    return len(vectors), len(failures)


def settle(lake: Lake, job: Job, planned: Plan) -> None:
    """Remember of a partition that is current what was found out of it."""
    target = job.target(lake, planned.night)
    record = target.record("embeddings", job.keys(planned.night))
    if record is not None and planned.sources and not planned.n_missing:
        remember(target, job, planned.night, record, [planned.asked], planned.sources)


def _is_only_seen(record: Record, planned: Plan, made: Made) -> bool:
    """Tell whether a run has done no more than look at files that are what they were."""
    tasks = {task.input for task in planned.tasks}
    return (
        bool(tasks)
        and tasks == made.verified
        and not (made.failures or planned.failures or planned.pruned)
        and record.format > 1
        and all(record.inputs.get(name) == value for name, value in planned.inputs.items())
    )


def _failures(before: list[dict[str, Any]], planned: Plan, made: Made) -> list[dict[str, Any]]:
    """Return the failures that there are now: those of what was not tried again stay."""
    tried = {
        key for task in planned.tasks if task.input not in made.verified for key in task.covered
    }
    tried |= {row_key(row) for row in planned.failures}
    tried |= made.vectors.keys()
    stay = [row for row in before if row_key(row) not in tried]
    new = {(row_key(row), row["error"]): row for row in (*planned.failures, *made.failures)}
    return [*stay, *new.values()]


def _sources(
    record: Record | None, planned: Plan, made: Made, gone: frozenset[Key]
) -> dict[str, Source]:
    """Return the files that the rows are of now."""
    sources = dict(planned.sources)
    if record is not None and record.format > 1:
        noted = {name: Source.from_note(note) for name, note in record.notes["files"].items()}
        # Another run may know more; this one may have seen later times.
        sources = {**sources, **noted} | {
            name: replace(noted[name], stamp=source.stamp)
            for name, source in planned.sources.items()
            if name in noted and noted[name].content == source.content
        }
    for task in planned.tasks:
        before, name = sources.get(task.input), task.input
        content, stamp = made.contents.get(name, ""), planned.stamps[name]
        if name in made.verified and before is not None:
            sources[name] = replace(before, stamp=stamp, content=content)
            continue
        keys = frozenset(task.covered)
        if before is not None and content and before.content == content:
            keys |= before.keys
        sources = {other: _without(source, keys) for other, source in sources.items()}
        sources[name] = Source(stamp, content, keys)
    sources = {name: _without(source, gone) for name, source in sources.items()}
    return {name: source for name, source in sources.items() if source.keys}


def _without(source: Source, keys: frozenset[Key]) -> Source:
    return replace(source, keys=source.keys - keys) if source.keys & keys else source


def _inputs(
    target: Lake, record: Record | None, planned: Plan, sources: Mapping[str, Source]
) -> dict[str, str]:
    """Return the references of the partition: CCD rows of all releases asked for, and files."""
    inputs = dict(planned.inputs)
    if record is not None and record.format > 1:
        for reference, identity in record.inputs.items():
            kind, name, _ = split_reference(reference)
            if kind == TABLE and reference not in inputs and (target.root / name).is_dir():
                inputs[reference] = identity
    return inputs | {file_reference(name): source.content for name, source in sources.items()}


_FAILURES = pa.schema([(column.name, column.type) for column in table("failures").columns])
