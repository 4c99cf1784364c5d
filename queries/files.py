"""The files of the lake's tables that SQL sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lake.errors import BadInput
from lake.paths import SUFFIX, partition_keys
from lake.store import Lake
from lake.tables import TABLES, Table
from lake.verdicts import closed_rounds

#: Beginnings of names that readers of a Hive layout leave out: files that are not there.
_HIDDEN = (".", "_")
#: The table of verdicts.
_INSPECTIONS = "inspections"


def table_files(lake: Lake, name: str) -> list[str]:
    """Return the visible files of table `name`, sorted: those that its view reads.

    Of inspections they are those of closed rounds: the inspectors of an open one are blind to each
    other.
    """
    folder = f"{os.path.realpath(lake.root)}/{name}"
    files = sorted(_walk(folder, TABLES[name], 0))
    if name != _INSPECTIONS or not files:
        return files
    closed = set(closed_rounds(lake))
    return [file for file in files if partition_keys(Path(file))["round"] in closed]


def _walk(folder: str, table: Table, level: int) -> Iterator[str]:
    """Yield the files below a folder that lies at a level of the partition keys of `table`."""
    try:
        with os.scandir(folder) as entries:
            names = [(entry.name, entry) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read: {error.strerror}") from error
    for name, entry in names:
        if level < len(table.partition):
            if name.startswith(f"{table.partition[level]}="):
                yield from _walk(entry.path, table, level + 1)
        elif name.endswith(SUFFIX) and not name.startswith(_HIDDEN) and _leads_to_visible(entry):
            yield entry.path


def _leads_to_visible(entry: os.DirEntry[str]) -> bool:
    """Tell whether a file is itself, or a link to one that is not hidden either."""
    if not entry.is_symlink():
        return True
    name = Path(entry.path).resolve().name
    return name.endswith(SUFFIX) and not name.startswith(_HIDDEN)


def has_files(lake: Lake, name: str) -> bool:
    """Tell whether table `name` has any partition that SQL sees."""
    if name == _INSPECTIONS:
        return bool(table_files(lake, name))
    folder = f"{os.path.realpath(lake.root)}/{name}"
    return next(_walk(folder, TABLES[name], 0), None) is not None
