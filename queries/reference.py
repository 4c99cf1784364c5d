"""Small tables that SQL joins with: the bits of `ccd_cuts` and the classes of the vocabulary."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from lake.errors import SurveyError

_BITS_FILE = Path(__file__).with_name("ccd_cuts_bits.csv")


@functools.cache
def cut_bits() -> pa.Table:
    """Return legacypipe's bits of `ccd_cuts`: `bit` (0-19), `value` (2^bit), `name`, `meaning`."""
    with _BITS_FILE.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return pa.table(
        {
            "bit": pa.array([int(row["bit"]) for row in rows], pa.int16()),
            "value": pa.array([int(row["value"]) for row in rows], pa.int64()),
            "name": pa.array([row["name"] for row in rows], pa.string()),
            "meaning": pa.array([row["meaning"] for row in rows], pa.string()),
        }
    )


def bit_names() -> list[str]:
    """Return the names of the bits in their order."""
    return [str(name) for name in cut_bits().column("name").to_pylist()]


def bit_mask(names: list[str]) -> int:
    """Return the sum of the named bits; raises `SurveyError` naming the valid ones."""
    known = bit_names()
    mask = 0
    for name in names:
        if name not in known:
            raise SurveyError(f"no bit {name!r} in ccd_cuts; the bits are {', '.join(known)}")
        mask |= 1 << known.index(name)
    return mask


#: Views that every connection has beside the tables of the lake.
REFERENCE: dict[str, Callable[[], pa.Table]] = {"cut_bits": cut_bits}


def reference_table(name: str) -> pa.Table:
    """Return the rows of a reference view."""
    return REFERENCE[name]()
