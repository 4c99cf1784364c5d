"""Galactic reddening from the SFD dust maps, where a CCD table does not bring its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from lake.errors import BadInput
from lake.extras import import_extra

_MAPS = ("SFD_dust_4096_ngp.fits", "SFD_dust_4096_sgp.fits")


def fill_ebv(rows: pa.Table, folder: Path) -> pa.Table:
    """Return `rows` (ra, dec in degrees) with ``ebv`` (mag) read from the SFD maps in `folder`.

    Raises `SurveyError` when the maps or the library that reads them (extra ``sfd``) are missing.
    """
    if absent := [name for name in ("ra", "dec") if name not in rows.column_names]:
        raise BadInput(f"--sfd-dir needs the positions of CCDs; the table lacks {absent[0]}")
    if missing := [name for name in _MAPS if not (folder / name).is_file()]:
        raise BadInput(f"--sfd-dir {folder}: lacks {' and '.join(missing)}")
    sfdmap = import_extra("sfdmap2.sfdmap", "sfd", "--sfd-dir")
    ra, dec = (np.asarray(rows[name], dtype=np.float64) for name in ("ra", "dec"))
    # scaling=1: the reddening of Schlegel, Finkbeiner & Davis (1998), as legacypipe uses it.
    ebv = sfdmap.SFDMap(str(folder), scaling=1.0).ebv(ra, dec)
    return rows.append_column("ebv", pa.array(np.asarray(ebv, dtype=np.float32)))
