"""Vectors as rows of the table ``embeddings``, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from embedders.tasks import Key
from lake.store import Lake


def vector_rows(vectors: Mapping[Key, np.ndarray], dimension: int) -> pa.Table:
    """Return float16 vectors of length `dimension` as rows, sorted by key."""
    keys = sorted(vectors)
    flat = np.concatenate([vectors[key] for key in keys]) if keys else np.empty(0, np.float16)
    return pa.table(
        {
            "expnum": pa.array([expnum for expnum, _ in keys], pa.int64()),
            "ccdnum": pa.array([ccdnum for _, ccdnum in keys], pa.int16()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), dimension),
        }
    )


def read_keys(lake: Lake, keys: Mapping[str, str]) -> list[Key]:
    """Return the keys of the vectors of a partition."""
    return row_keys(lake.read("embeddings", keys, ["expnum", "ccdnum"]))


def read_vectors(lake: Lake, keys: Mapping[str, str]) -> dict[Key, np.ndarray]:
    """Return the vectors of a partition by key, each (d,) float16."""
    table = lake.read("embeddings", keys)
    if not table.num_rows:
        return {}
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return dict(zip(row_keys(table), flat.reshape(table.num_rows, -1), strict=True))


def row_keys(table: pa.Table) -> list[Key]:
    """Return the key of each row."""
    expnums, ccdnums = (table[name].to_pylist() for name in ("expnum", "ccdnum"))
    return list(zip(expnums, ccdnums, strict=True))
