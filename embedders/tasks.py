"""What the reading processes are given: files, and the CCDs that are wanted from each.

Apart from the rest so that a reading process need not import what it does not use.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lake.focal_plane import Layout

#: (expnum, ccdnum): the key of a CCD image within a partition.
Key = tuple[int, int]


@dataclass(frozen=True)
class View:
    """What an embedder is shown; by default one CCD after the other, as it is.

    Attributes
    ----------
    mosaic : pixels of the longer side of the whole focal plane (see `mosaic.Mosaic`), of which an
        exposure then gives one image; None: CCD by CCD.
    masked : whether pixels that the mask (``ood``) or the weights (``oow``) beside the image call
        bad come as NaN.
    height : rows that a CCD comes with, each between the two of its own that are nearest; no
        others are decoded (see `images.pixels.read_ccd`). None: the rows it has.
    """

    mosaic: int | None = None
    masked: bool = False
    height: int | None = None


CCD_BY_CCD = View()


@dataclass(frozen=True)
class Ccd:
    """A CCD image and where it is in its file; `ccdnum` 0 is the whole exposure."""

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

    `file` is its name in the CCD table, `path` where it is; `camera` is named where its constants
    decide the vectors; `mask` and `weight` are the files
    beside it whose bad pixels are to be left out; `height` is that of `View`. Where its content is
    `known`, nothing is read of it.
    """

    file: str
    path: Path
    ccds: tuple[Ccd, ...]
    mask: Path | None = None
    weight: Path | None = None
    height: int | None = None
    known: str = ""
    camera: str | None = None

    @property
    def input(self) -> str:
        """What the file is called among the inputs of a partition."""
        return self.file

    @property
    def paths(self) -> tuple[Path | None, ...]:
        """The image and, where they are asked for, its mask and its weights; None for none."""
        return self.path, self.mask, self.weight

    @property
    def covered(self) -> tuple[Key, ...]:
        """The keys that vectors and failures of this task may have."""
        return tuple(ccd.key for ccd in self.ccds)

    def where(self, ccd: Ccd) -> str:
        """Name a CCD's image."""
        return f"{self.file}[{ccd.name if ccd.name is not None else ccd.hdu}]"


@dataclass(frozen=True)
class MosaicTask:
    """The focal plane of one exposure, from one file or several.

    `ccds` is the one image that is wanted: the exposure; `size` pixels long. Where the content of
    its files is `known`, nothing is read of them.
    """

    files: tuple[FileTask, ...]
    layout: Layout
    size: int
    ccds: tuple[Ccd, ...]
    known: str = ""

    @property
    def input(self) -> str:
        """What the exposure is called among the inputs of a partition."""
        return f"exposure/{self.ccds[0].expnum}"

    @property
    def covered(self) -> tuple[Key, ...]:
        """The keys that vectors and failures of this task may have."""
        own = tuple(ccd.key for ccd in self.ccds)
        return own + tuple(key for file in self.files for key in file.covered)

    def where(self, ccd: Ccd) -> str:
        """Name the exposure's first file."""
        return self.files[0].file


Task = FileTask | MosaicTask


@dataclass(frozen=True)
class Flaw:
    """A CCD that a mosaic had to do without."""

    ccd: Ccd
    file: str
    error: str
