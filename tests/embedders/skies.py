"""Small surveys made on the spot: files of a few CCDs, and the rows that name them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa

from lake.record import Record
from lake.store import Lake

#: Names of the CCDs of an exposure, numbered from 1.
NAMES = ("S29", "S30", "S31", "S25")


def image_name(night: str, expnum: int) -> str:
    """Return the name in the table of the file of an exposure."""
    return f"decam/CP/V4.8.2a/CP{night}/c4d_{expnum:06d}_ooi_r_ls9.fits.fz"


def write_image(
    path: Path, expnum: int, names: Sequence[str] = NAMES, shape: tuple[int, int] = (96, 64)
) -> None:
    """Write an exposure of noise and stars, an extension a CCD, Rice-compressed as DECam's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(expnum)
    y, x = np.indices(shape)
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        file.write(None)
        for name in names:
            pixels = random.normal(300, 12, shape)
            for _ in range(6):
                cy, cx = random.uniform(4, shape[0] - 4), random.uniform(4, shape[1] - 4)
                pixels += random.uniform(300, 4000) * np.exp(
                    -((y - cy) ** 2 + (x - cx) ** 2) / (2 * 1.8**2)
                )
            file.write(pixels.astype(np.float32), extname=name, compress="RICE")


def write_rows(
    lake: Lake,
    night: str,
    expnums: Iterable[int],
    release: str = "dr10",
    names: Sequence[str] = NAMES,
    **columns: str,
) -> None:
    """Write the CCD rows of a night as `survey-qa ingest ccds` would."""
    rows = [
        {
            "expnum": expnum,
            "ccdnum": number,
            "ccdname": name,
            "image_hdu": number,
            "image_filename": image_name(night, expnum),
            **columns,
        }
        for expnum in expnums
        for number, name in enumerate(names, start=1)
    ]
    keys = {"release": release, "camera": "decam", "night": night}
    record = Record("ingest", inputs={str(row["expnum"]): release for row in rows})
    lake.write("ccds", keys, pa.Table.from_pylist(rows), record)


def make(
    lake: Lake, images: Path, nights: dict[str, Sequence[int]], names: Sequence[str] = NAMES
) -> None:
    """Write images and rows of several nights."""
    for night, expnums in nights.items():
        for expnum in expnums:
            write_image(images / image_name(night, expnum), expnum, names)
        write_rows(lake, night, expnums, names=names)
