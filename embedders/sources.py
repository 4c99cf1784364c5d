"""The image files that vectors were made of: as they were then, and whether they still are so.

A file is the same when its size and time are; where these differ, its content decides
(`images.identity`), so that a lake or its images may be copied and moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from embedders.tasks import FileTask, Key, MosaicTask, Task
from images.identity import file_identity
from lake.focal_plane import Layout
from lake.record import digest
from lake.store import file_stamp

#: Between the stamps of an image, its mask and its weights, and in the place of one that is not.
_BETWEEN, _NONE = "|", "-"


@dataclass(frozen=True)
class Source:
    """A file, or the files of an exposure, as they were when they were last looked at.

    Attributes
    ----------
    stamp : sizes and times.
    content : identity of what is in them; empty where version 0.1.0 did not know it.
    keys : rows, vectors and failures, that came of them.
    """

    stamp: str
    content: str
    keys: frozenset[Key]

    def to_note(self) -> list[Any]:
        """Return what the record keeps: CCDs as ranges, ``1-30,32``, by exposure."""
        numbers = {
            str(expnum): _ranges(ccdnum for _, ccdnum in group)
            for expnum, group in groupby(sorted(self.keys), key=lambda key: key[0])
        }
        return [self.stamp, self.content, numbers]

    @classmethod
    def from_note(cls, note: Iterable[Any]) -> Source:
        """Read what `to_note` gave."""
        stamp, content, numbers = note
        keys = [
            (int(expnum), ccdnum)
            for expnum, ranges in numbers.items()
            for ccdnum in _numbers(ranges)
        ]
        return cls(stamp, content, frozenset(keys))


def stamp_of(task: Task) -> str | None:
    """Return the sizes and times of a task's files now; None where one of them is missing."""
    if isinstance(task, MosaicTask):
        stamps = [stamp_of(file) for file in task.files]
        if None in stamps:
            return None
        return digest([[file.file for file in task.files], stamps, _geometry(task.layout)])
    try:
        stamps = [_NONE if path is None else file_stamp(path) for path in task.paths]
    except OSError:
        return None
    return _BETWEEN.join(str(stamp) for stamp in stamps).rstrip(_BETWEEN + _NONE)


def lacks_a_companion(task: Task, stamp: str) -> bool:
    """Tell whether a mask or weights that `stamp` tells of are no longer beside their image."""
    if isinstance(task, MosaicTask):
        return False
    before = stamp.split(_BETWEEN)
    now = [_NONE if path is None else "" for path in task.paths]
    return any(was != _NONE and is_ == _NONE for was, is_ in zip(before, now, strict=False))


def content_of(task: Task) -> str:
    """Return the identity of a task's files; empty where one cannot be read."""
    try:
        if isinstance(task, MosaicTask):
            return digest([[_content(file) for file in task.files], _geometry(task.layout)])
        return _content(task)
    except OSError:
        return ""


def _content(task: FileTask) -> str:
    parts = [_NONE if path is None else file_identity(path) for path in task.paths]
    return parts[0] if parts[1:] == [_NONE, _NONE] else digest(parts)


def _geometry(plane: Layout) -> list[list[Any]]:
    return [
        [p.ccdnum, round(p.x, 2), round(p.y, 2), p.width, p.height, str(p.turn)]
        for p in plane.places
    ]


def _ranges(numbers: Iterable[int]) -> str:
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _numbers(ranges: str) -> Iterable[int]:
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


# Version 0.1.0 ----------------------------------------------------------------------------------


def former_source(task: Task, identity: str) -> Source | None:
    """Return the source that version 0.1.0 noted as `identity`, if it still is that of `task`.

    It knew sizes and times alone: what has another time and the same size counts as the same.
    """
    stamp = stamp_of(task)
    if stamp is None or identity == _former(task):
        return Source(stamp or "", "", frozenset(task.covered))
    if isinstance(task, MosaicTask):
        return Source(stamp, "", frozenset(task.covered))
    *noted, _ = identity.split("/")
    now = [file_stamp(path) for path in task.paths if path is not None]
    same = [_size(stamp) for stamp in noted] == [_size(stamp) for stamp in now]
    return Source(stamp, "", frozenset(task.covered)) if same else None


def _size(stamp: str) -> str:
    return stamp.partition("-")[0]


def _former(task: Task) -> str:
    """Return what version 0.1.0 would note of a task."""
    if isinstance(task, MosaicTask):
        parts: list[Any] = [[file.file, _former(file)] for file in task.files]
        return digest([*parts, _geometry(task.layout)])
    versions = [_version(path) for path in task.paths if path is not None]
    ccds = [[c.expnum, c.ccdnum, c.hdu, c.name] for c in task.ccds]
    return f"{'/'.join(versions)}/{digest(ccds)}"


def _version(path: Path) -> str:
    try:
        return file_stamp(path)
    except OSError:
        return "missing"
