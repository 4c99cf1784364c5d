"""What a lake holds, and what in it is out of date."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from lake.freshness import Freshness
from lake.store import Lake, Partition
from lake.tables import TABLES

#: Keys that say which part of the survey a partition is of; the others say what made it.
_PLACE = ("camera", "night")


def lake_status(lake: Lake) -> pa.Table:
    """Return one row per table and maker (release, embedder, model, …): partitions, rows, bytes.

    ``stale`` counts partitions of which something that they were made from has changed, or is out
    of date itself; ``unknown`` those whose record does not name all that they were made from, as
    those of version 0.1.0: they count as current.
    """
    freshness = Freshness(lake)
    groups: dict[tuple[str, str], list[Partition]] = defaultdict(list)
    for name in TABLES:
        for partition in lake.partitions(name):
            maker = "/".join(f"{key}={value}" for key, value in partition.keys if key not in _PLACE)
            groups[name, maker].append(partition)
            freshness.add(partition)
    rows: list[dict[str, Any]] = []
    for (name, maker), partitions in groups.items():
        nights = sorted({p["night"] for p in partitions if "night" in dict(p.keys)})
        rows.append(
            {
                "table": name,
                "of": maker,
                "partitions": len(partitions),
                "rows": sum(partition.num_rows() for partition in partitions),
                "bytes": sum(partition.path.stat().st_size for partition in partitions),
                "first_night": nights[0] if nights else None,
                "last_night": nights[-1] if nights else None,
                "stale": sum(freshness.because(partition) is not None for partition in partitions),
                "unknown": sum(not freshness.is_known(partition) for partition in partitions),
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("of", pa.string()),
        ("partitions", pa.int64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("first_night", pa.string()),
        ("last_night", pa.string()),
        ("stale", pa.int64()),
        ("unknown", pa.int64()),
    ]
)
