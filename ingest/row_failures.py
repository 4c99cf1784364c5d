"""Rows and files that ingest could not use, in the table `failures`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from lake.record import Record, digest
from lake.store import Lake
from lake.tables import table

#: Night of what has no date that could be read.
NO_NIGHT = "0"


@dataclass(frozen=True)
class Failure:
    """A row that could not be used, with the partition of `failures` that it goes to."""

    camera: str
    night: str
    expnum: int
    ccdnum: int
    file: str
    error: str


def failure_subject(release: str, source: str) -> str:
    """Return the name under which the failures of a file of a release are kept."""
    # A name of a release may be as long as the name of a file of failures.
    release = release if len(release) <= 100 else f"{release[:80]}-{digest(release)}"
    return f"{release}-{digest(source)}"


def commit_failures(lake: Lake, subject: str, failures: Sequence[Failure], record: Record) -> None:
    """Make `failures` all that the stage of `record` has to say of `subject`."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {
        (partition["camera"], partition["night"]): []
        for partition in lake.partitions("failures", stage=record.stage)
        if partition.path.stem == subject
    }
    for failure in failures:
        row = asdict(failure)
        groups.setdefault((row.pop("camera"), row.pop("night")), []).append(row)
    schema = table("failures").conform(pa.table({})).schema
    for (camera, night), rows in groups.items():
        failed = pa.Table.from_pylist(rows, schema=schema)
        keys = {"camera": camera, "night": night}
        lake.write_failures(record.stage, subject, keys, failed, record)
