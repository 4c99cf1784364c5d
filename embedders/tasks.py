"""What the reading processes are given: files, and the CCDs that are wanted from each.

Apart from the rest so that a reading process need not import what it does not use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: (expnum, ccdnum): the key of a CCD image within a partition.
Key = tuple[int, int]


@dataclass(frozen=True)
class Ccd:
    """A CCD image and where it is in its file."""

    expnum: int
    ccdnum: int
    hdu: int | None
    name: str | None

    @property
    def key(self) -> Key:
        """The row's key."""
        return self.expnum, self.ccdnum


@dataclass(frozen=True)
class FileTask:
    """All CCDs that are wanted from one file, which is opened once; the unit of reading.

    `file` is its name in the CCD table, `path` where it is.
    """

    file: str
    path: Path
    ccds: tuple[Ccd, ...]
