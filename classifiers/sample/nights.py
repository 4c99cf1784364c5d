"""Rows by the nights that they are of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa


def by_night(rows: pa.Table) -> dict[tuple[str, str], slice]:
    """Return which rows each (camera, night) has, spelled as partition keys are.

    `rows` are sorted by their columns camera and night.
    """
    camera, night = (rows[name].to_numpy(zero_copy_only=False) for name in ("camera", "night"))
    is_first = (camera[1:] != camera[:-1]) | (night[1:] != night[:-1])
    starts = [0, *(np.flatnonzero(is_first) + 1).tolist()] if len(rows) else []
    return {
        (camera[start], str(night[start])): slice(start, end)
        for start, end in pairwise([*starts, len(rows)])
    }
