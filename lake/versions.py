"""Which version comes after which: of pipelines, of releases, and so of processings of a CCD."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"[0-9]+")
#: Digits that numbers are filled up to, or cut to.
_DIGITS = 20


def natural(version: str) -> str:
    """Return what sorts versions as people do.

    ``dr9`` comes before ``dr10`` and ``V4.8.2a`` before ``V4.10``: runs of digits are compared as
    numbers. Versions that differ have texts that differ.
    """
    filled = _NUMBER.sub(lambda number: number[0].zfill(_DIGITS)[-_DIGITS:], version)
    return f"{filled} {version}"


def in_order(versions: Iterable[str]) -> list[str]:
    """Return each of `versions` once, in their natural order."""
    return sorted(set(versions), key=natural)


def processing(procdate: str | None, plver: str | None, release: str = "") -> tuple[str, str, str]:
    """Return what sorts the processings of a CCD; the last one counts.

    By the date of the reduction (ISO 8601), then the version of the pipeline, then the release.
    What is not known comes first, and spaces at the ends do not matter.
    `queries/latest_processing.sql` says the same in SQL; a test holds both to each other.
    """
    return (procdate or "").strip(" "), natural((plver or "").strip(" ")), natural(release)
