"""DuckDB over a lake: every table as a view, read-only, and locked against everything else.

Two walls stand one behind the other. The parsed statement may hold only nodes that read and table
functions that are known to be harmless. And DuckDB itself opens no file but those that it is given
by name: the visible Parquet files of the tables, of inspections those of closed rounds. Hidden
files, ledgers and half-written files are none of these, by whatever name or function they are
reached.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lake.errors import BadInput, SurveyError
from lake.paths import partition_keys
from lake.store import Lake, Partition, read_footer
from lake.tables import TABLES, VECTOR, Table
from lake.versions import in_order
from queries.files import table_files
from queries.reference import REFERENCE, reference_table
from queries.reports import read_reports
from queries.spill import spill_folder
from queries.statements import check, one_line

if TYPE_CHECKING:
    import duckdb

#: Memory that one query may hold before it spills to disk.
MEMORY_LIMIT = "2GB"
#: The function `natural_order`, which every statement may use, and `release_order`.
_MACROS = Path(__file__).with_name("versions.sql")
#: The embedder whose vectors are named features, and the view that names them.
STATISTICS = "statistics"
#: The table whose words are classified, and joined by what rounds say, when it is asked.
REPORTS = "reports"
#: Views that are selects from tables, each a file of its name, and the tables and earlier views
#: that they read.
JOINED = {
    "listed_exposures": ("reports", "labels"),
    "scored_ccds": ("test_sets", "predictions"),
    "scored_probabilities": ("test_sets", "predictions", "scored_ccds"),
    "scored_ranks": ("test_sets", "predictions", "scored_ccds"),
    "scored_exposures": ("test_sets", "votes"),
}
#: Key of a partition's notes that names the elements of its vectors.
FEATURES = "features"

#: Tables that have a release's rows.
_RELEASED = tuple(name for name, table in TABLES.items() if "release" in table.partition)
#: Tables that have more columns than version 0.1.0 wrote.
_GROWN = ("labels", "outcomes")
#: Rows of a batch of a result: enough to be quick, and few enough for vectors to fit in memory.
_BATCH_ROWS = 16_384
#: What makes a path a pattern.
_PATTERN = re.compile(r"[*?\[]")
#: DuckDB 2.0 turns a sum over a window into a join with the same table read again, and reads it
#: again without the filter on partition keys: ``where model = 'a'`` then sums over all models.
_BROKEN_OPTIMIZER = "window_self_join"
_WORD = re.compile(r"\w+")
_SQL_TYPES = {
    pa.string(): "varchar",
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.list_(pa.string()): "varchar[]",
    pa.list_(pa.int64()): "bigint[]",
    pa.list_(pa.float32()): "float[]",
    VECTOR: "float[]",
}


def view_names() -> tuple[str, ...]:
    """Return every name that SQL may select from, what a view reads before it.

    Tables, `statistics`, the reference views and those of `JOINED`.
    """
    return (*TABLES, STATISTICS, *REFERENCE, *JOINED)


def connect(
    lake: Lake,
    names: Sequence[str] | None = None,
    source_columns: bool = True,
    given: Mapping[str, pa.Table] | None = None,
    files: Sequence[str] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with one view per table of `lake`.

    A view has the partition keys first (`night` an integer, the others text), then the columns; a
    table without files is an empty view of the declared columns. The connection reads the files
    behind its views and no others, and its settings are locked. It is for SQL of this program:
    text that a person typed goes through `run_sql`, which also refuses what writes.

    Parameters
    ----------
    names : views to create; all of `view_names()` by default. Creating few is faster.
    source_columns : whether views show columns that only some files have. It costs reading every
        footer: on 2,500 files of 60 columns, 0.3 s more for the view and as much for a query.
    given : rows, partition keys included, that stand for a table in place of what the lake holds.
    files : paths and patterns by which SQL names files itself. With them, those that are visible
        Parquet files of the lake's tables can be read too.
    """
    import duckdb

    connection = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(spill_folder()),
            "preserve_insertion_order": False,
            "errors_as_json": True,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }
    )
    connection.execute("set parquet_metadata_cache = true")
    known = "select 1 from duckdb_optimizers() where name = $1"
    if connection.execute(known, [_BROKEN_OPTIMIZER]).fetchone():
        connection.execute("set disabled_optimizers = $1", [_BROKEN_OPTIMIZER])
    connection.execute(_MACROS.read_text(encoding="utf-8"))
    connection.execute(_release_order(lake))
    readable: list[str] = []
    for name in view_names() if names is None else sorted(names, key=view_names().index):
        with one_line():
            if given and name in given:
                connection.register(f"{name}_rows", given[name])
                connection.execute(f"create view {name} as from {name}_rows")
            else:
                readable += _create_view(connection, lake, name, source_columns)
    if files is not None:
        every = {file for name in TABLES for file in table_files(lake, name)}
        readable += [*every, *_readable_as_named(connection, files, lake, every)]
    # A view's files are held against these as they are and as the view names them.
    allowed = dict.fromkeys(name for file in readable for name in (file, _escape(file)))
    connection.execute("set allowed_paths = $1", [list(allowed)])
    connection.execute("set enable_external_access = false")
    connection.execute("set lock_configuration = true")
    return connection


def _readable_as_named(
    connection: duckdb.DuckDBPyConnection, files: Iterable[str], lake: Lake, readable: set[str]
) -> Iterator[str]:
    """Yield the paths and patterns that reach files of `readable`, and nothing else of the lake.

    Raises `SurveyError` for a pattern that matches another file as well: its name is not told.
    """
    root = os.path.realpath(lake.root)
    for file in files:
        if not _PATTERN.search(file):
            if os.path.realpath(file) in readable:
                yield file
            continue
        # What lies outside the lake is refused where it is read, and not walked here.
        begin = os.path.realpath(_PATTERN.split(file)[0])
        if os.path.commonpath([root, begin]) != root or ".." in Path(file).parts:
            continue
        with one_line():
            matches = connection.execute("select file from glob($1)", [file]).fetchall()
        if not all(os.path.realpath(name) in readable for (name,) in matches):
            raise BadInput(
                f"SQL: {file!r} also matches files that are no table's; name them more closely, "
                "or ask the views"
            )
        yield from (file, *(name for (name,) in matches))


def run_sql(
    lake: Lake,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    given: Mapping[str, pa.Table] | None = None,
) -> pa.Table:
    """Return the rows of one statement that reads; `given` as `connect` takes it.

    Raises
    ------
    SurveyError : a statement that would write or change something, a file that is no table's, or
        whatever DuckDB finds wrong with the statement, in one line with line and column.
    """
    with open_sql(lake, sql, parameters, given) as reader:
        return reader.read_all()


@contextlib.contextmanager
def open_sql(
    lake: Lake,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    given: Mapping[str, pa.Table] | None = None,
) -> Iterator[pa.RecordBatchReader]:
    """As `run_sql`, but yield a reader of record batches, for results larger than memory.

    Reading it raises `SurveyError` for what goes wrong on the way.
    """
    import duckdb

    asked = check(sql)
    # Where no view is named one may still be asked for, as `show tables` does.
    starred, names = asked.starred, sorted(names_in(sql)) or (None if asked.sources else [])
    connection = connect(lake, names, starred, given, asked.files)
    try:
        try:
            reader = _execute(connection, sql, parameters)
        except SurveyError as error:
            unresolved = isinstance(error.__cause__, duckdb.BinderException)
            if starred or not unresolved or "ccds" not in (names or ()):
                raise
            # It may name a column that only the source has.
            connection.close()
            connection = connect(lake, names, True, given, asked.files)
            reader = _execute(connection, sql, parameters)
        with reader:
            yield pa.RecordBatchReader.from_batches(reader.schema, _batches(reader, sql))
    finally:
        connection.close()


def _batches(reader: pa.RecordBatchReader, sql: str) -> Iterator[pa.RecordBatch]:
    while True:
        try:
            with one_line(sql):
                batch = reader.read_next_batch()
        except StopIteration:
            return
        yield batch


def _execute(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None
) -> pa.RecordBatchReader:
    import duckdb

    bound = dict(parameters or {})
    with one_line(sql):
        try:
            # A relation streams its rows; an executed statement would hold them all.
            return connection.sql(sql, params=bound).to_arrow_reader(_BATCH_ROWS)
        except duckdb.Error:
            # A relation's errors lack their position; the executed statement's have it.
            connection.execute(sql, bound)
            raise


def _release_order(lake: Lake) -> str:
    """Return the statement that makes a function of a release's place among those of the lake.

    Places count from 1, in natural order; a release that the lake does not have is before them.
    """
    folders = [folder for name in _RELEASED for folder in (lake.root / name).glob("release=*")]
    releases = in_order(partition_keys(folder)["release"] for folder in folders)
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in releases)
    return (
        "create macro release_order(release) as "
        f"coalesce(list_position([{names}]::varchar[], release), 0)"
    )


def _create_view(
    connection: duckdb.DuckDBPyConnection, lake: Lake, name: str, source_columns: bool
) -> list[str]:
    """Create the view `name` and return the files that it reads itself."""
    files: list[str] = []
    if name in REFERENCE:
        connection.register(f"{name}_rows", reference_table(name, lake))
        sql = f"from {name}_rows"
    elif name in JOINED:
        sql = Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
    elif name == STATISTICS:
        sql, files = _statistics(lake)
    elif name == REPORTS:
        connection.register(f"{name}_rows", read_reports(lake))
        sql = f"from {name}_rows"
    else:
        files = table_files(lake, name)
        sql = _table(files, TABLES[name], source_columns)
    connection.execute(f"create view {name} as {sql}")
    return files


def _table(files: Sequence[str], table: Table, source_columns: bool) -> str:
    if not files:
        return f"select {_typed_nulls(table)} where false"
    keys = ", ".join(table.partition)
    if table.keeps_source_columns and source_columns:
        return f"select {keys}, * exclude ({keys}) from {_scan(files, table, union=True)}"
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    if _has_former_columns(files, table):
        nulls = f"select {_typed_nulls(table)} where false"
        rows = f"select * from {_scan(files, table, union=True)}"
        return f"select {keys}, {columns} from ({nulls} union all by name {rows})"
    return f"select {keys}, {columns} from {_scan(files, table)}"


def _has_former_columns(files: Sequence[str], table: Table) -> bool:
    """Tell whether files of a table may lack columns: those of an earlier version of this program.

    Partitions are brought up to date in their order, so that the ends tell.
    """
    if table.name not in _GROWN:
        return False
    declared = {column.name for column in table.columns}
    groups: dict[str, list[Path]] = {}
    for file in map(Path, files):
        groups.setdefault(partition_keys(file)[table.partition[0]], []).append(file)
    ends = [end for group in groups.values() for end in (group[0], group[-1])]
    return any(not declared <= set(read_footer(end).schema.to_arrow_schema().names) for end in ends)


def _statistics(lake: Lake) -> tuple[str, list[str]]:
    """Return the select that names each element of the `statistics` vectors, and its files."""
    table = TABLES["embeddings"]
    # Versions of the embedder may differ in their features; each file is read by its own names.
    files: dict[tuple[str, ...], list[Partition]] = {}
    for partition in lake.partitions(table.name, embedder=STATISTICS):
        record = partition.record()
        names = tuple(record.notes.get(FEATURES, ())) if record else ()
        files.setdefault(names, []).append(partition)
    keys = "camera, night, expnum, ccdnum"
    if not files:
        nulls = "null::varchar as camera, null::integer as night, null::bigint as expnum"
        return f"select {nulls}, null::smallint as ccdnum where false", []
    selects, every = [], []
    for names, partitions in files.items():
        paths = [os.path.realpath(partition.path) for partition in partitions]
        named = [f'embedding[{index}] as "{name}"' for index, name in enumerate(names, start=1)]
        selects.append(f"select {', '.join([keys, *named])} from {_scan(paths, table)}")
        every += paths
    return " union all by name ".join(selects), every


def _typed_nulls(table: Table) -> str:
    kinds = {**_key_types(table), **{c.name: _SQL_TYPES[c.type] for c in table.columns}}
    return ", ".join(f'null::{kind} as "{name}"' for name, kind in kinds.items())


def _key_types(table: Table) -> dict[str, str]:
    return {key: "integer" if key == "night" else "varchar" for key in table.partition}


def _scan(paths: Sequence[str], table: Table, union: bool = False) -> str:
    files = ", ".join("'" + _escape(path).replace("'", "''") + "'" for path in paths)
    types = ", ".join(f"'{key}': {kind}" for key, kind in _key_types(table).items())
    return (
        f"read_parquet([{files}], hive_partitioning = true, hive_types = {{{types}}}, "
        f"union_by_name = {str(union).lower()})"
    )


def _escape(path: str) -> str:
    """Return `path` so that DuckDB takes none of it for a pattern."""
    return re.sub(r"([\[*?])", r"[\1]", path) if _PATTERN.search(path) else path


def names_in(sql: str) -> set[str]:
    """Return the views that `sql` may name, and the tables behind them; comments do not count."""
    words = set(_WORD.findall(re.sub(r"--.*", "", sql.lower())))
    names = words & set(view_names())
    behind = {STATISTICS: ("embeddings",), **JOINED}
    return names.union(*(behind.get(name, ()) for name in names))
