"""Which partitions a command works on: patterns, and shares for array jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lake.errors import BadInput
from lake.store import Lake

#: (camera, night) of a partition.
Night = tuple[str, str]

_SHARE = re.compile(r"^(\d+)/(\d+)$")


def nights(lake: Lake, releases: Sequence[str] = ()) -> dict[Night, int]:
    """Return how many CCD rows each (camera, night) has, over the releases asked for (or all)."""
    counts: dict[Night, int] = {}
    for partition in lake.partitions("ccds"):
        if not releases or partition["release"] in releases:
            night = (partition["camera"], partition["night"])
            counts[night] = counts.get(night, 0) + partition.num_rows()
    return counts


def select(counts: dict[Night, int], patterns: Iterable[str]) -> list[Night]:
    """Return the nights that `patterns` ask for, sorted.

    Each pattern is ``night=20140818``, a pattern (``night=201408*``,
    ``camera=decam/night=2014*``), or a share ``3/16``. Names and patterns are joined with *or*;
    shares then divide what they chose. Shares are decided by the CCD table alone, so that tasks
    agree without talking: the largest partition first, to the share with the fewest rows so far.

    Raises
    ------
    SurveyError : a pattern that cannot be read, or that no partition matches.
    """
    named, shares = [], []
    for pattern in patterns:
        share = _SHARE.match(pattern.strip())
        if share:
            number, of = int(share[1]), int(share[2])
            if not 1 <= number <= of:
                raise BadInput(f"--partition {pattern}: shares count from 1/{of} to {of}/{of}")
            shares.append((number, of))
        else:
            named.append(_pattern(pattern))
    chosen = sorted(counts)
    if named:
        chosen = [
            night
            for night in chosen
            if any(
                fnmatchcase(night[0], camera) and fnmatchcase(night[1], date)
                for camera, date in named
            )
        ]
        if not chosen and counts:
            raise BadInput(
                f"--partition {' '.join(patterns)}: none of the {len(counts)} partitions match; "
                "`survey-qa status` lists them"
            )
    if shares:
        kept: set[Night] = set()
        for number, of in shares:
            kept.update(_share({night: counts[night] for night in chosen}, number, of))
        chosen = sorted(kept)
    return chosen


def _pattern(text: str) -> Night:
    wanted = {"camera": "*", "night": "*"}
    for piece in text.strip().strip("/").split("/"):
        name, equals, value = piece.partition("=")
        if not equals or name not in wanted or not value:
            raise BadInput(
                f"--partition {text!r}: expected night=20140818, camera=decam/night=2014*, or a "
                "share such as 3/16"
            )
        wanted[name] = value
    return wanted["camera"], wanted["night"]


def _share(counts: dict[Night, int], number: int, of: int) -> list[Night]:
    loads = [0] * of
    mine = []
    for night in sorted(counts, key=lambda night: (-counts[night], night)):
        share = min(range(of), key=lambda index: (loads[index], index))
        # A partition without rows still counts, else all of them would fall to one share.
        loads[share] += max(counts[night], 1)
        if share == number - 1:
            mine.append(night)
    return sorted(mine)
