"""What earlier versions called otherwise: their lakes get today's names when they are opened."""

from __future__ import annotations

import contextlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lake import paths
from lake.record import Record

if TYPE_CHECKING:
    from lake.store import Lake

#: Former tables: today's name, and today's names of columns by the former ones.
TABLES = {"holdouts": ("test_sets", {"place": "class_index"})}


def rename_tables(lake: Lake) -> None:
    """Give the tables and columns of an earlier version their names.

    Each partition is written under its new name before the old one goes, so that it may be
    interrupted. A lake that cannot be written stays as it is: its old tables are not seen.
    """
    from lake.store import Partition, read_file

    for former, (name, columns) in TABLES.items():
        folder = lake.root / former
        if not folder.is_dir():
            continue
        with contextlib.suppress(OSError):
            for path in sorted(folder.rglob(f"{paths.PART}{paths.SUFFIX}")):
                keys = paths.partition_keys(PurePosixPath(path.relative_to(lake.root)).parent)
                record = Partition(former, tuple(keys.items()), path).record()
                rows = read_file(path)
                rows = rows.rename_columns([columns.get(old, old) for old in rows.column_names])
                lake.write(name, keys, rows, record or Record(name))
                path.unlink()
                path.parent.rmdir()
            folder.rmdir()
