"""Keeping what a run does not make again: rows whose inputs are gone stay beside the new ones."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from lake.store import Lake
from lake.tables import table


def with_kept(
    lake: Lake, name: str, keys: Mapping[str, str], rows: pa.Table, may_mix: bool
) -> tuple[pa.Table | None, int]:
    """Return `rows` with the stored ones of their partition that they lack, and how many those are.

    Where stored rows are lacking that may not stand beside new ones, as those of another version
    of a model, there is no table: the partition is to stay as it is.
    """
    path = lake.path(name, keys)
    if not path.exists():
        return rows, 0
    columns = list(table(name).key)
    have = lake.read(name, keys, columns)
    new = set(zip(*(rows[column].to_pylist() for column in columns), strict=True))
    stored = zip(*(have[column].to_pylist() for column in columns), strict=True)
    lacking = pa.array([key not in new for key in stored], pa.bool_())
    n_lacking = lacking.true_count
    if not n_lacking:
        return rows, 0
    if not may_mix:
        return None, n_lacking
    kept = lake.read(name, keys).replace_schema_metadata(None).filter(lacking)
    conformed = table(name).conform(rows).replace_schema_metadata(None)
    return pa.concat_tables([conformed, kept], promote_options="default"), n_lacking
