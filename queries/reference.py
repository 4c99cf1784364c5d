"""Small tables that SQL joins with: the bits of `ccd_cuts` and the classes of the vocabulary."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

import pyarrow as pa

from lake.store import Lake
from lake.vocabulary import Vocabulary

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


def classes(lake: Lake) -> pa.Table:
    """Return the classes of the lake's vocabulary, their place in training and how they balance.

    `precedence` ranks the classes for a CCD that has several: the lowest trains.
    """
    vocabulary = Vocabulary.of_lake(lake.root)
    entries = vocabulary.table
    return pa.table(
        {
            "number": pa.array([entry.number for entry in entries], pa.int16()),
            "name": pa.array([entry.name for entry in entries], pa.string()),
            "meaning": pa.array([entry.meaning for entry in entries], pa.string()),
            "training": pa.array([entry.training for entry in entries], pa.bool_()),
            "keep": pa.array([entry.keep for entry in entries], pa.float64()),
            "weight": pa.array([entry.weight for entry in entries], pa.float64()),
            "precedence": pa.array(
                [vocabulary.precedence.index(entry.name) for entry in entries], pa.int16()
            ),
        }
    )


#: Views that every connection has beside the tables of the lake.
REFERENCE = ("cut_bits", "classes")


def reference_table(name: str, lake: Lake) -> pa.Table:
    """Return the rows of a reference view."""
    return cut_bits() if name == "cut_bits" else classes(lake)
