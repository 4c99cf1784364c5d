"""DuckDB over a lake: every table as a view, read-only, and locked against everything else."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lake.errors import SurveyError
from lake.paths import SUFFIX
from lake.store import Lake, Partition, read_footer
from lake.tables import TABLES, VECTOR, Table
from queries.reference import REFERENCE, reference_table
from queries.reports import read_reports

if TYPE_CHECKING:
    import duckdb

#: Memory that one query may hold before it spills to disk.
MEMORY_LIMIT = "2GB"
#: The embedder whose vectors are named features, and the view that names them.
STATISTICS = "statistics"
#: The table whose words are classified, and joined by what rounds say, when it is asked.
REPORTS = "reports"
#: Views that are selects from tables, each a file of its name, and the tables and earlier views
#: that they read.
JOINED = {
    "scored_ccds": ("holdouts", "predictions"),
    "scored_chances": ("holdouts", "predictions", "scored_ccds"),
    "scored_ranks": ("holdouts", "predictions", "scored_ccds"),
    "scored_exposures": ("holdouts", "votes"),
}
#: Key of a partition's notes that names the elements of its vectors.
FEATURES = "features"

#: Names that readers of a Hive layout take; a leading ``.`` or ``_`` marks a file as not there.
_VISIBLE = f"[!._]*{SUFFIX}"
#: Nodes of a parsed statement that read. Statements that write can hide in a ``with`` clause.
_READING_NODES = frozenset(
    {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "QUERY_NODE"}
)
#: Node of ``*`` and its like: all columns of what stands after its ``from``.
_STAR = "STAR"
#: Tables whose files differ in their columns.
_VARYING = {name for name, declared in TABLES.items() if declared.keeps_source_columns}
#: Tables that have more columns than version 0.1.0 wrote.
_GROWN = ("labels", "outcomes")
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
) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with one view per table of `lake`.

    A view has the partition keys first (`night` an integer, the others text), then the columns; a
    table without files is an empty view of the declared columns. The connection can read inside
    the lake and nowhere else, and its settings are locked. It is for SQL of this program: text that
    a person typed goes through `run_sql`, which also refuses what writes.

    Parameters
    ----------
    names : views to create; all of `view_names()` by default. Creating few is faster.
    source_columns : whether views show columns that only some files have. It costs reading every
        footer: on 2,500 files of 60 columns, 0.3 s more for the view and as much for a query.
    given : rows, partition keys included, that stand for a table in place of what the lake holds.
    """
    import duckdb

    connection = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": _spill_folder(),
            "preserve_insertion_order": False,
            "errors_as_json": True,
            "python_enable_replacements": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_community_extensions": False,
        }
    )
    # A pattern is held against these as it is written, the files that it finds as they are.
    root = str(lake.root.resolve())
    connection.execute("set allowed_directories = [$1, $2]", [root, _escape(root)])
    connection.execute("set enable_external_access = false")
    connection.execute("set parquet_metadata_cache = true")
    known = "select 1 from duckdb_optimizers() where name = $1"
    if connection.execute(known, [_BROKEN_OPTIMIZER]).fetchone():
        connection.execute("set disabled_optimizers = $1", [_BROKEN_OPTIMIZER])
    for name in view_names() if names is None else sorted(names, key=view_names().index):
        with _one_line():
            if given and name in given:
                connection.register(f"{name}_rows", given[name])
                connection.execute(f"create view {name} as from {name}_rows")
            else:
                _create_view(connection, lake, name, source_columns)
    connection.execute("set lock_configuration = true")
    return connection


def run_sql(
    lake: Lake,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    given: Mapping[str, pa.Table] | None = None,
) -> pa.Table:
    """Return the rows of one statement that reads; `given` as `connect` takes it.

    Raises
    ------
    SurveyError : a statement that would write or change something, a file outside the lake, or
        whatever DuckDB finds wrong with the statement, in one line with line and column.
    """
    with open_sql(lake, sql, parameters, given) as reader, _one_line(sql):
        return reader.read_all()


@contextlib.contextmanager
def open_sql(
    lake: Lake,
    sql: str,
    parameters: Mapping[str, Any] | None = None,
    given: Mapping[str, pa.Table] | None = None,
) -> Iterator[pa.RecordBatchReader]:
    """As `run_sql`, but yield a reader of record batches, for results larger than memory."""
    import duckdb

    starred = check_reads(sql)
    names = sorted(names_in(sql)) or None
    connection = connect(lake, names, source_columns=starred, given=given)
    try:
        try:
            reader = _execute(connection, sql, parameters)
        except SurveyError as error:
            unresolved = isinstance(error.__cause__, duckdb.BinderException)
            if starred or not unresolved or "ccds" not in (names or ()):
                raise
            # It may name a column that only the source has.
            connection.close()
            connection = connect(lake, names, source_columns=True, given=given)
            reader = _execute(connection, sql, parameters)
        yield reader
    finally:
        connection.close()


def check_reads(sql: str) -> bool:
    """Raise `SurveyError` unless `sql` is one statement that reads.

    Returns whether it has a star over a table whose files differ in their columns.

    DuckDB's kind of statement does not tell: ``with x as (copy … to …) select`` counts as a select
    and writes. The parsed tree does; nodes that are not known to read are refused.
    """
    import duckdb

    allowed = "only a single select, describe, summarize or show is allowed"
    with duckdb.connect(config={"errors_as_json": True}) as parser:
        with _one_line(sql):
            statements = parser.extract_statements(sql)
        if len(statements) != 1:
            raise SurveyError(f"SQL holds {len(statements)} statements; {allowed}")
        kind = statements[0].type
        if kind == duckdb.StatementType.MULTI:
            raise SurveyError(
                f"SQL: {allowed}; a pivot needs its values: pivot … on column in ('a', 'b')"
            )
        if kind != duckdb.StatementType.SELECT:
            raise SurveyError(f"SQL: {kind.name.lower()} is refused; {allowed}")
        row = parser.execute("select json_serialize_sql($1)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise SurveyError(f"SQL: {tree.get('error_message', 'cannot be checked')}; {allowed}")
    writing = sorted({kind for kind, _ in _nodes(tree)} - _READING_NODES - {_STAR})
    if writing:
        words = ", ".join(node.split("_")[0].lower() for node in writing)
        raise SurveyError(f"SQL: {words} in a with clause is refused; {allowed}")
    return any(
        kind == "SELECT_NODE"
        and not _VARYING.isdisjoint(_tables(node["from_table"]))
        and any(inner == _STAR for inner, _ in _nodes(node))
        for kind, node in _nodes(tree)
    )


def _tables(tree: Any) -> Iterator[str]:
    """Yield the names of tables in a ``from``; a function in it may read any."""
    if isinstance(tree, dict):
        if tree.get("type") == "TABLE_FUNCTION":
            yield from _VARYING
        if tree.get("table_name"):
            yield tree["table_name"].lower()
        for value in tree.values():
            yield from _tables(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _tables(value)


def _nodes(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        kind = tree.get("type")
        if isinstance(kind, str) and (kind.endswith("_NODE") or kind == _STAR):
            yield kind, tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _execute(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, Any] | None
) -> pa.RecordBatchReader:
    import duckdb

    bound = dict(parameters or {})
    with _one_line(sql):
        try:
            # A relation streams its rows; an executed statement would hold them all.
            return connection.sql(sql, params=bound).to_arrow_reader()
        except duckdb.Error:
            # A relation's errors lack their position; the executed statement's have it.
            connection.execute(sql, bound)
            raise


@contextlib.contextmanager
def _one_line(sql: str | None = None) -> Iterator[None]:
    """Turn DuckDB's errors into one line that says at which line and column of `sql`."""
    import duckdb

    try:
        yield
    except (duckdb.Error, pa.ArrowException) as error:
        raise SurveyError(_message(str(error), sql)) from error


def _message(text: str, sql: str | None) -> str:
    start = text.find("{")
    try:
        details = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        details = {}
    if "exception_message" not in details:
        return f"SQL: {text}"
    where = ""
    if sql is not None and "position" in details:
        before = sql.encode()[: int(details["position"])].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        where = f" (line {line}, column {column})"
    message = details["exception_message"]
    if details["exception_type"] == "Permission":
        message += "; SQL reads nothing but the lake"
    return f"SQL: {message}{where}"


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="survey-qa-", ignore_cleanup_errors=True)


def _spill_folder() -> str:
    """Return this process's folder for what does not fit in memory; it goes when it exits."""
    return _temporary().name


def _create_view(
    connection: duckdb.DuckDBPyConnection, lake: Lake, name: str, source_columns: bool
) -> None:
    if name in REFERENCE:
        connection.register(f"{name}_rows", reference_table(name, lake))
        connection.execute(f"create view {name} as from {name}_rows")
    elif name in JOINED:
        sql = Path(__file__).with_name(f"{name}.sql").read_text(encoding="utf-8")
        connection.execute(f"create view {name} as {sql}")
    elif name == STATISTICS:
        connection.execute(f"create view {name} as {_statistics(lake)}")
    elif name == REPORTS:
        connection.register(f"{name}_rows", read_reports(lake))
        connection.execute(f"create view {name} as from {name}_rows")
    else:
        connection.execute(f"create view {name} as {_table(lake, TABLES[name], source_columns)}")


def _table(lake: Lake, table: Table, source_columns: bool) -> str:
    if not has_files(lake, table.name):
        return f"select {_typed_nulls(table)} where false"
    keys = ", ".join(table.partition)
    pattern = _pattern(lake, table)
    if table.keeps_source_columns and source_columns:
        return f"select {keys}, * exclude ({keys}) from {_scan([pattern], table, union=True)}"
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    if _has_former_columns(lake, table):
        nulls = f"select {_typed_nulls(table)} where false"
        rows = f"select * from {_scan([pattern], table, union=True)}"
        return f"select {keys}, {columns} from ({nulls} union all by name {rows})"
    return f"select {keys}, {columns} from {_scan([pattern], table)}"


def _has_former_columns(lake: Lake, table: Table) -> bool:
    """Tell whether files of a table may lack columns: those of an earlier version of this program.

    Partitions are brought up to date in their order, so that the ends tell.
    """
    if table.name not in _GROWN:
        return False
    declared = {column.name for column in table.columns}
    partitions = lake.partitions(table.name)
    groups: dict[tuple[tuple[str, str], ...], list[Partition]] = {}
    for partition in partitions:
        groups.setdefault(partition.keys[:1], []).append(partition)
    ends = [end for group in groups.values() for end in (group[0], group[-1])]
    return any(
        not declared <= set(read_footer(end.path).schema.to_arrow_schema().names) for end in ends
    )


def _statistics(lake: Lake) -> str:
    """Return the select that gives each element of the `statistics` vectors its name."""
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
        return f"select {nulls}, null::smallint as ccdnum where false"
    pattern = _pattern(lake, table, embedder=STATISTICS)
    selects = []
    for names, partitions in files.items():
        paths = [_escape(str(partition.path.resolve())) for partition in partitions]
        scan = _scan([pattern] if len(files) == 1 else paths, table)
        named = [f'embedding[{index}] as "{name}"' for index, name in enumerate(names, start=1)]
        selects.append(f"select {', '.join([keys, *named])} from {scan}")
    return " union all by name ".join(selects)


def _typed_nulls(table: Table) -> str:
    kinds = {**_key_types(table), **{c.name: _SQL_TYPES[c.type] for c in table.columns}}
    return ", ".join(f'null::{kind} as "{name}"' for name, kind in kinds.items())


def _key_types(table: Table) -> dict[str, str]:
    return {key: "integer" if key == "night" else "varchar" for key in table.partition}


def _scan(patterns: Sequence[str], table: Table, union: bool = False) -> str:
    files = ", ".join("'" + pattern.replace("'", "''") + "'" for pattern in patterns)
    types = ", ".join(f"'{key}': {kind}" for key, kind in _key_types(table).items())
    return (
        f"read_parquet([{files}], hive_partitioning = true, hive_types = {{{types}}}, "
        f"union_by_name = {str(union).lower()})"
    )


def _pattern(lake: Lake, table: Table, **where: str) -> str:
    levels = [f"{key}={where.get(key, '*')}" for key in table.partition]
    return "/".join([_escape(str(lake.root.resolve())), table.name, *levels, _VISIBLE])


def _escape(path: str) -> str:
    """Return `path` so that DuckDB takes none of it for a pattern."""
    return re.sub(r"([\[*?])", r"[\1]", path)


def has_files(lake: Lake, name: str) -> bool:
    """Tell whether table `name` has any partition."""
    levels = [f"{key}=*" for key in TABLES[name].partition]
    pattern = "/".join([name, *levels, f"*{SUFFIX}"])
    return any(not file.name.startswith((".", "_")) for file in lake.root.glob(pattern))


def names_in(sql: str) -> set[str]:
    """Return the views that `sql` may name, and the tables behind them; comments do not count."""
    words = set(_WORD.findall(re.sub(r"--.*", "", sql.lower())))
    names = words & set(view_names())
    behind = {STATISTICS: ("embeddings",), **JOINED}
    return names.union(*(behind.get(name, ()) for name in names))
