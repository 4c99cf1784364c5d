"""What a lake holds, and what in it is out of date."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa

from lake.store import Lake, Partition, Record
from lake.tables import TABLES

#: Keys that say which part of the survey a partition is of; the others say what made it.
_PLACE = ("camera", "night")


def lake_status(lake: Lake) -> pa.Table:
    """Return one row per table and maker (release, embedder, model, …): partitions, rows, bytes.

    ``stale`` counts partitions whose recorded inputs are no longer what the lake holds.
    """
    records: dict[tuple[str, str], Record | None] = {}
    groups: dict[tuple[str, str], list[Partition]] = defaultdict(list)
    for name, declared in TABLES.items():
        for partition in lake.partitions(name):
            maker = "/".join(f"{key}={value}" for key, value in partition.keys if key not in _PLACE)
            groups[name, maker].append(partition)
            if declared.partition[-2:] == _PLACE:
                records[name, partition.name] = partition.record()
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
                "stale": sum(_is_stale(partition, records) for partition in partitions),
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
    ]
)


def _is_stale(partition: Partition, records: dict[tuple[str, str], Record | None]) -> bool:
    """Tell whether an input named in the record is missing or has changed since."""
    record = records.get((partition.table, partition.name))
    if record is None:
        return False
    place = "/".join(f"{key}={partition[key]}" for key in _PLACE)
    for name, fingerprint in record.inputs.items():
        source = _upstream(partition, name, place)
        if source is None:
            continue
        upstream = records.get(source)
        if upstream is None or upstream.fingerprint != fingerprint:
            return True
    return False


def _upstream(partition: Partition, name: str, place: str) -> tuple[str, str] | None:
    """Return (table, partition name) of the input `name` of a record, None when it is a file."""
    if partition.table == "embeddings" and name.startswith("ccds/"):
        return "ccds", f"release={name.removeprefix('ccds/')}/{place}"
    if partition.table in ("embeddings", "predictions") and name.startswith("embeddings/"):
        return "embeddings", f"embedder={name.removeprefix('embeddings/')}/{place}"
    if partition.table == "labels" and name == "ccds":
        return "ccds", partition.name
    if partition.table == "votes" and name == "predictions":
        return "predictions", partition.name
    return None
