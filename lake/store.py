"""Reading and committing partitions: the one place where the lake is written.

A partition is the unit of work, of retry and of commit. It is written beside its place under a
name that readers ignore, synced, and renamed over what was there, so that a reader sees the old
partition or the new one and a killed writer leaves nothing that a query would read. The footer of
each file says how it came to be (`Record`), which is also how a run knows what it may skip.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from lake import former, paths
from lake.errors import BadInput, Damaged, NotFound, SurveyError
from lake.record import MISSING, Record, content_digest, table_reference
from lake.tables import VECTOR, Table, table

#: Key of the record in the Parquet footer.
FOOTER = b"survey_qa"
#: Last bytes of a Parquet file, and in its footer a field of text that follows another.
_MAGIC, _TEXT_FIELD = b"PAR1", 0x18
#: Vectors in a row group of a file.
_VECTORS_A_GROUP = 16_384
#: Partitions that `Lake.write_many` has under way: a disk syncs many files in the time of one.
_AT_ONCE = 16
#: Files that the writers of a table's partitions take turns by.
_LOCKS = 64


def file_stamp(path: Path) -> str:
    """Return the size and time of change of a file: what is looked at first."""
    status = path.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True, order=True)
class Partition:
    """A partition that exists: its table, its keys in order, and its file."""

    table: str
    keys: tuple[tuple[str, str], ...]
    path: Path = field(compare=False)

    def __getitem__(self, name: str) -> str:
        return dict(self.keys)[name]

    @property
    def name(self) -> str:
        """``key=value/key=value``, as ``--partition`` takes it."""
        return "/".join(f"{key}={value}" for key, value in self.keys)

    def num_rows(self) -> int:
        """Return how many rows the footer declares."""
        return int(read_footer(self.path).num_rows)

    def record(self) -> Record | None:
        """Return the record in the footer, None for a file of another maker."""
        text = _record_text(self.path)
        return None if text is None else Record.from_json(text, dict(self.keys))

    def identity(self, facet: str = "") -> str:
        """Return what tells these rows, or a facet of them, from others."""
        record = self.record()
        if record is not None:
            return record.identity(facet)
        # A file of another maker says nothing of itself.
        return hashlib.blake2b(self.path.read_bytes(), digest_size=8).hexdigest()


def read_footer(path: Path) -> pq.FileMetaData:
    """Return the footer of a Parquet file; raises `SurveyError` naming a file that is damaged."""
    try:
        return pq.read_metadata(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Damaged(
            f"{path}: not a readable Parquet file ({error}); remove it and run its stage again"
        ) from error


def _record_text(path: Path) -> bytes | None:
    """Return the text of the record in a file's footer, None where it has none.

    A lake has ten thousands of files: looking for the text alone takes a twentieth of the time of
    reading the whole footer, which says of every column where it is.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
        if magic == _MAGIC and length <= size - 8:
            file.seek(size - 8 - length)
            text = _value_of(FOOTER, file.read(length))
            if text is not None:
                return text
    return (read_footer(path).metadata or {}).get(FOOTER)


def _value_of(key: bytes, footer: bytes) -> bytes | None:
    """Return the value of a key in a footer, by Thrift's compact form of a pair of texts."""
    at = footer.find(bytes([_TEXT_FIELD, len(key)]) + key + bytes([_TEXT_FIELD]))
    if at < 0:
        return None
    at += len(key) + 3
    length = shift = 0
    while at < len(footer):
        byte, at = footer[at], at + 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            text = footer[at : at + length]
            return text if len(text) == length else None
    return None


def identities(partitions: Iterable[Partition]) -> dict[str, str]:
    """Return the inputs that `partitions` are, as a record has them: reference -> identity."""
    return {
        table_reference(partition.table, dict(partition.keys)): partition.identity()
        for partition in partitions
    }


class Lake:
    """A folder of partitioned Parquet.

    Parameters
    ----------
    root : the folder.
    create : make it when it is missing; otherwise a missing lake is an error.

    In a ``with`` statement, a folder that was made and into which nothing came is removed again.
    """

    def __init__(self, root: Path | str, create: bool = False) -> None:
        self.root = Path(root)
        self._is_new = False
        if self.root.exists() and not self.root.is_dir():
            raise BadInput(f"lake {self.root} is a file; name a folder with --lake")
        if not self.root.exists():
            if not create:
                raise NotFound(
                    f"no lake at {self.root}; make one with `survey-qa ingest ccds`, or name "
                    "another with --lake"
                )
            with _writing(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
            self._is_new = True
        self._rename_former_tables()

    def _rename_former_tables(self) -> None:
        """Give the tables and columns of an earlier version their names.

        Each partition is written under its new name before the old one goes, so that it may be
        interrupted. A lake that cannot be written stays as it is: its old tables are not seen.
        """
        for old, (name, columns) in former.TABLES.items():
            folder = self.root / old
            if not folder.is_dir():
                continue
            for path in sorted(folder.rglob(f"{paths.PART}{paths.SUFFIX}")):
                with contextlib.suppress(OSError, SurveyError):
                    keys = paths.partition_keys(PurePosixPath(path.relative_to(self.root)).parent)
                    record = Partition(old, tuple(keys.items()), path).record()
                    rows = read_file(path)
                    rows = rows.rename_columns([columns.get(c, c) for c in rows.column_names])
                    if not self.path(name, keys).exists():
                        self.write(name, keys, rows, record or Record(name))
                    elif not self.read(name, keys).equals(table(name).conform(rows)):
                        continue  # two versions of the program work on the lake: both stay
                    path.unlink()
                    path.parent.rmdir()
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the folder that this object made, where nothing has come into it."""
        if self._is_new:
            with contextlib.suppress(OSError):  # not empty
                self.root.rmdir()

    def path(self, name: str, keys: Mapping[str, str], part: str = paths.PART) -> Path:
        """Return the file of a partition, whether or not it exists."""
        relative = paths.partition_path(name, table(name).partition, keys)
        return self.root / relative / f"{part}{paths.SUFFIX}"

    def partitions(self, name: str, **where: str) -> list[Partition]:
        """Return the partitions of table `name` whose keys equal `where`, sorted by key."""
        declared = table(name)
        levels = [
            f"{key}={quote(where[key], safe='')}" if key in where else f"{key}=*"
            for key in declared.partition
        ]
        pattern = "/".join([name, *levels, f"*{paths.SUFFIX}"])
        found = []
        for file in self.root.glob(pattern):
            if not file.name.startswith((".", "_")):
                keys = paths.partition_keys(PurePosixPath(file.relative_to(self.root)).parent)
                found.append(Partition(name, tuple(keys.items()), file))
        return sorted(found)

    def record(self, name: str, keys: Mapping[str, str], part: str = paths.PART) -> Record | None:
        """Return how a partition came to be, or None when it does not exist."""
        path = self.path(name, keys, part)
        return Partition(name, tuple(keys.items()), path).record() if path.exists() else None

    def is_current(
        self, name: str, keys: Mapping[str, str], record: Record, part: str = paths.PART
    ) -> bool:
        """Tell whether the partition exists and was made as `record` says: it may be skipped."""
        return record.matches(self.record(name, keys, part))

    def read(
        self,
        name: str,
        keys: Mapping[str, str],
        columns: list[str] | None = None,
        part: str = paths.PART,
    ) -> pa.Table:
        """Return the rows of one partition, without its partition keys."""
        return read_file(self.path(name, keys, part), columns)

    def write(
        self,
        name: str,
        keys: Mapping[str, str],
        rows: pa.Table,
        record: Record,
        part: str = paths.PART,
    ) -> Path:
        """Commit `rows` as the whole content of a partition and return its file.

        Raises `SurveyError` when the rows do not fit the schema, the folder cannot be written or
        the disk is full; the partition is then as it was.
        """
        declared = table(name)
        path = self.path(name, keys, part)
        rows = declared.conform(rows)
        facets = {
            facet: content_digest(rows.select([c for c in columns if c in rows.column_names]))
            for facet, columns in declared.facets.items()
        }
        record = replace(record, content=content_digest(rows), facets=facets)
        metadata = {**(rows.schema.metadata or {}), FOOTER: record.to_json().encode()}
        rows = rows.replace_schema_metadata(metadata)
        write_atomically(path, lambda temporary: _write_parquet(declared, rows, temporary))
        return path

    def move_in(self, name: str, keys: Mapping[str, str], file: Path) -> None:
        """Put a partition's file from elsewhere on the same disk into its place."""
        path = self.path(name, keys)
        with _writing(path):
            _make_folders(path.parent)
            file.replace(path)
            _sync_folder(path.parent)

    def write_many(
        self, name: str, parts: Iterable[tuple[Mapping[str, str], pa.Table, Record]]
    ) -> Iterator[pa.Table]:
        """Commit many small partitions, several at once, and yield the rows of each in order.

        Each is committed as `write` does it. `parts` is drawn from as partitions are committed, so
        that few are in memory; the first error ends it, and what is committed stays.
        """
        waiting: deque[tuple[pa.Table, Future[Path]]] = deque()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for keys, rows, record in parts:
                waiting.append((rows, pool.submit(self.write, name, keys, rows, record)))
                if len(waiting) > _AT_ONCE:
                    yield _committed(waiting)
            while waiting:
                yield _committed(waiting)

    def same_nights(self, name: str, nights: Iterable[Partition], **where: str) -> dict[str, str]:
        """Return the identities of the partitions of table `name` of the same cameras' nights.

        Where `where` names the other keys, those that do not exist are inputs that are missing: a
        result is out of date when they come.
        """
        places = {(night["camera"], night["night"]) for night in nights}
        found = [
            partition
            for partition in self.partitions(name, **where)
            if (partition["camera"], partition["night"]) in places
        ]
        inputs = identities(found)
        if {*where, "camera", "night"} == {*table(name).partition}:
            for camera, night in places:
                keys = {**where, "camera": camera, "night": night}
                inputs.setdefault(table_reference(name, keys), MISSING)
        return inputs

    def lock(self, name: str, busy: str = "") -> AbstractContextManager[None]:
        """Return what lets one process at a time do what `name` stands for, see `hold`."""
        return hold(self.root / paths.STATE / "locks" / f"{name}.lock", busy)

    def lock_partition(self, name: str, keys: Mapping[str, str]) -> AbstractContextManager[None]:
        """Return what lets one process at a time read a partition and put another in its place."""
        place = str(paths.partition_path(name, table(name).partition, keys))
        # A lock a partition would leave as many files as there are partitions.
        turn = int(hashlib.blake2b(place.encode(), digest_size=4).hexdigest(), 16) % _LOCKS
        return self.lock(f"{name}-{turn}")

    def remove(self, name: str, keys: Mapping[str, str], part: str = paths.PART) -> None:
        """Remove a partition; nothing happens when there is none."""
        path = self.path(name, keys, part)
        with _writing(path):
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty: another part, or a writer at work
                path.parent.rmdir()

    def write_failures(
        self, stage: str, subject: str, keys: Mapping[str, str], rows: pa.Table, record: Record
    ) -> None:
        """Commit what `stage` could not use of a partition; no rows remove an older account.

        `subject` tells apart several accounts of one stage and partition (two embedders, say):
        each has a file of its own, so that they can be written at once.
        """
        where = {"stage": stage, "camera": keys["camera"], "night": keys["night"]}
        part = paths.check_name("name", subject)
        if rows.num_rows:
            self.write("failures", where, rows, record, part)
        else:
            self.remove("failures", where, part)


def _committed(waiting: deque[tuple[pa.Table, Future[Path]]]) -> pa.Table:
    rows, commit = waiting.popleft()
    commit.result()
    return rows


def read_file(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of one Parquet file; raises `SurveyError` naming a damaged one."""
    try:
        # Through a handle: a path would have its key=value folders turned into columns. Through
        # Arrow's own: of Python's its threads let go when the program may be ending, which aborts.
        with pa.OSFile(str(path)) as source:
            return pq.ParquetFile(source).read(columns)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Damaged(
            f"{path}: not a readable Parquet file ({error}); remove it and run its stage again"
        ) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a file beside `path`, sync it, and rename it over `path`.

    Raises `SurveyError` when the folder cannot be written or the disk is full; what stood at
    `path` is then untouched and nothing is left beside it.
    """
    temporary = paths.temporary_path(path)
    with _writing(path):
        _make_folders(path.parent)
        try:
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for stray in path.parent.glob(".*.tmp"):
            if paths.is_abandoned(stray):
                stray.unlink(missing_ok=True)


@contextlib.contextmanager
def hold(path: Path, busy: str = "") -> Iterator[None]:
    """Let one process at a time hold `path`, a file of a lake that readers ignore.

    Another one waits, or is told `busy` where that is given.

    Raises `SurveyError` when it cannot be made or locked, or when it is held and `busy` is given.
    """
    with contextlib.ExitStack() as stack:
        with _writing(path):
            _make_folders(path.parent)
            handle = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            except BlockingIOError:
                raise SurveyError(busy) from None
        yield


def write_text_atomically(path: Path, text: str) -> None:
    """Put `text` at `path` as UTF-8, whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def _write_parquet(declared: Table, rows: pa.Table, path: Path) -> None:
    vectors = [column.name for column in declared.columns if column.type == VECTOR]
    dictionary = [
        name
        for name, kind in zip(rows.column_names, rows.schema.types, strict=True)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ]
    pq.write_table(
        rows,
        path,
        compression={
            # Vectors hardly compress, and are read most.
            name: "none" if name.split(".")[0] in vectors else "zstd"
            for name in _leaves(rows.schema)
        },
        compression_level={
            name: 1 for name in _leaves(rows.schema) if name.split(".")[0] not in vectors
        },
        use_dictionary=dictionary,
        write_statistics=[name for name in rows.column_names if name not in vectors],
        # The writer holds a group whole, at several times its size.
        row_group_size=_VECTORS_A_GROUP if vectors else None,
        store_schema=True,
    )


def _leaves(schema: pa.Schema) -> Iterator[str]:
    """Yield the Parquet leaf paths of a schema whose only nesting is lists."""
    for column in schema:
        nested = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
        yield f"{column.name}.list.element" if nested else column.name


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for child in reversed(missing):
        child.mkdir(exist_ok=True)
        _sync_folder(child.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SurveyError(
                f"disk full while writing {path}, which is as it was; free some space and run again"
            ) from error
        raise SurveyError(f"cannot write {path}: {error.strerror or error}") from error
