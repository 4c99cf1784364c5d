"""What people have said that labels are made of: lists, closed rounds, and the vocabulary.

A release remembers from what its labels were merged, so that a list or round that is gone since is
told from one that no longer says something.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lake import paths
from lake.record import digest
from lake.store import Lake, Partition, write_text_atomically
from lake.verdicts import INSPECTION, closed_rounds
from lake.vocabulary import USER_FILE, Vocabulary


@dataclass(frozen=True)
class Merged:
    """What the labels of a release were merged from.

    Attributes
    ----------
    said : identity of all that was said, and of the vocabulary.
    speakers : source -> the lists' editions and rounds that were there.
    own_vocabulary : whether the lake had a vocabulary of its own.
    files : sizes and times of the files that labels depend on, and of their own.
    tables : identities of the release's CCDs and labels.
    summary : counts, for a later run that has nothing to do.
    """

    said: str
    speakers: dict[str, list[str]] = field(default_factory=dict)
    own_vocabulary: bool = False
    files: str = ""
    tables: str = ""
    summary: dict[str, int] = field(default_factory=dict)


def said_state(lake: Lake) -> str:
    """Return the identity of what has been said, and of what words mean."""
    parts = {
        f"{part.table}/{part.name}": part.identity()
        for part in (*lake.partitions("reports"), *_verdicts(lake))
    }
    return digest([parts, Vocabulary.of_lake(lake.root).to_json()])


def speakers(lake: Lake) -> dict[str, list[str]]:
    """Return, by source, the editions of lists and the closed rounds that the lake has."""
    found: dict[str, list[str]] = {}
    for part in lake.partitions("reports"):
        record = part.record()
        editions = record.notes.get("editions", []) if record is not None else []
        names = [f"edition {edition['id']}" for edition in editions]
        found.setdefault(part["source"], []).extend(names or ["lists"])
    for name in closed_rounds(lake):
        found.setdefault(INSPECTION, []).append(f"round {name}")
    return found


def list_names(lake: Lake) -> set[str]:
    """Return the names (``round``) of the lists in ``reports``, of all their editions."""
    rounds = {partition["round"] for partition in lake.partitions("rounds")}
    names: set[str] = set()
    for part in lake.partitions("reports"):
        record = part.record()
        if record is None:
            continue
        names |= {edition["round"] for edition in record.notes.get("editions", [])}
        if record.format == 1:  # version 0.1.0 put rounds there too
            names |= {note["round"] for note in record.notes.values()} - rounds
    return names


def has_own_vocabulary(lake: Lake) -> bool:
    """Tell whether the lake has a vocabulary of its own."""
    return (lake.root / USER_FILE).exists()


def read_merged(lake: Lake, release: str) -> Merged | None:
    """Return what a release remembers; None where it was merged by version 0.1.0, or never."""
    try:
        return Merged(**json.loads(_path(lake, release).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # it may go at any time: labels are then merged again
        return None


def write_merged(lake: Lake, release: str, merged: Merged) -> None:
    """Remember what the labels of a release were merged from."""
    write_text_atomically(_path(lake, release), json.dumps(asdict(merged), sort_keys=True))


def _path(lake: Lake, release: str) -> Path:
    return lake.root / paths.STATE / "labels" / f"{release}.json"


def _verdicts(lake: Lake) -> Iterator[Partition]:
    for name in closed_rounds(lake):
        merged = lake.partitions("outcomes", round=name)
        yield from merged or lake.partitions("inspections", round=name)
