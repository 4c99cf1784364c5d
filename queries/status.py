"""What a lake holds, and what in it is out of date."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lake.freshness import Freshness
from lake.paths import PENDING
from lake.store import Lake, Partition
from lake.tables import TABLES

#: Keys that say which part of the survey a partition is of; the others say what made it.
_PLACE = ("camera", "night")


def lake_status(lake: Lake) -> pa.Table:
    """Return one row per table and maker (release, embedder, model, …): partitions, rows, bytes.

    ``stale`` counts partitions of which something that they were made from has changed, or is out
    of date itself; ``unknown`` those whose record does not name all that they were made from, as
    those of version 0.1.0: they count as current. Vectors of new settings that wait for the rest
    are a row of their own, ``embedder=NAME, pending``.
    """
    freshness = Freshness(lake)
    groups: dict[tuple[str, str], list[Partition]] = defaultdict(list)
    for name in TABLES:
        for partition in lake.partitions(name):
            groups[name, _maker(partition)].append(partition)
            freshness.add(partition)
    rows = [_row(*key, partitions, freshness) for key, partitions in groups.items()]
    for folder in sorted((lake.root / PENDING).glob("*/")):
        waiting = Lake(folder).partitions("embeddings")
        if waiting:
            maker = f"{_maker(waiting[0])}, pending"
            # Their inputs are of the lake, while they are no part of it.
            rows.append(_row("embeddings", maker, waiting, Freshness(lake)))
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _maker(partition: Partition) -> str:
    return "/".join(f"{key}={value}" for key, value in partition.keys if key not in _PLACE)


def _row(
    name: str, maker: str, partitions: Sequence[Partition], freshness: Freshness
) -> dict[str, Any]:
    nights = sorted({p["night"] for p in partitions if "night" in dict(p.keys)})
    return {
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
