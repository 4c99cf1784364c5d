"""What a run that had nothing to write found out of a partition of vectors.

It stands beside the lake's tables and may go at any time: the next run then looks again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedders.job import Job
from embedders.sources import Source
from lake import paths
from lake.record import Record, digest
from lake.shares import Night
from lake.store import Lake, write_text_atomically

#: Questions of which a partition remembers that it answers them.
_MOST_ASKS = 8


@dataclass(frozen=True)
class Memory:
    """Questions that a partition answers, and stamps of files whose content was looked at since."""

    asked: tuple[str, ...] = ()
    stamps: Mapping[str, str] = field(default_factory=dict)


def read_memory(target: Lake, job: Job, night: Night, record: Record | None) -> Memory:
    """Return what is remembered of a partition as it stands."""
    if record is None:
        return Memory()
    try:
        memory = json.loads(_path(target, job, night).read_text(encoding="utf-8"))
        if memory["of"] == _version(record):
            return Memory(tuple(memory["asked"]), dict(memory["stamps"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Memory()


def remember(
    target: Lake,
    job: Job,
    night: Night,
    record: Record,
    asked: Sequence[str],
    sources: Mapping[str, Source],
) -> None:
    """Remember that a partition answers the questions `asked`, and its files as they are now.

    A copy of the images has other times: once their content has been looked at, times are enough.
    """
    before = read_memory(target, job, night, record)
    noted = {name: note[0] for name, note in record.notes.get("files", {}).items()}
    stamps = {
        name: source.stamp for name, source in sources.items() if noted.get(name) != source.stamp
    }
    known = (*record.notes.get("asked", ()), *before.asked)
    memory = Memory(
        tuple(add_asks(before.asked, [ask for ask in asked if ask not in known])), stamps
    )
    if memory != before:
        content = {"of": _version(record), "asked": memory.asked, "stamps": memory.stamps}
        write_text_atomically(_path(target, job, night), json.dumps(content, sort_keys=True))


def add_asks(before: Sequence[str], asked: Sequence[str]) -> list[str]:
    """Return the questions that a partition answers, the last ones of them."""
    return [*(ask for ask in before if ask not in asked), *asked][-_MOST_ASKS:]


def _path(target: Lake, job: Job, night: Night) -> Path:
    return target.root / paths.STATE / "embeddings" / job.name / night[0] / f"{night[1]}.json"


def _version(record: Record) -> str:
    return digest([record.content, record.inputs])
