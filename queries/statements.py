"""What a statement of SQL asks for, and whether it only reads.

DuckDB's kind of statement does not tell: ``with x as (copy … to …) select`` counts as a select and
writes, and so do some table functions. The parsed tree does.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lake.errors import BadInput, SurveyError, is_text
from lake.paths import SUFFIX
from lake.tables import TABLES

if TYPE_CHECKING:
    import duckdb

#: Nodes of a parsed statement that read. Statements that write can hide in a ``with`` clause.
_READING_NODES = frozenset(
    {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE", "QUERY_NODE"}
)
#: Node of ``*`` and its like: all columns of what stands after its ``from``.
_STAR = "STAR"
#: Tables whose files differ in their columns.
_VARYING = {name for name, declared in TABLES.items() if declared.keeps_source_columns}
#: Table functions that read Parquet files: those of the lake's tables, the connection sees to it.
_PARQUET_READERS = frozenset(
    {"read_parquet", "parquet_scan", "parquet_metadata", "parquet_schema", "parquet_file_metadata",
     "parquet_full_metadata", "parquet_kv_metadata", "parquet_bloom_probe"}
)  # fmt: skip
#: Table functions that read no file and change nothing, and those that tell what there is.
_HARMLESS = frozenset(
    {"range", "generate_series", "unnest", "repeat", "repeat_row", "json_each", "json_tree",
     "query", "query_table", "summary", "histogram", "histogram_values", "test_all_types",
     "icu_calendar_names", "pg_timezone_names", "pragma_collations", "pragma_show",
     "pragma_table_info", "pragma_version", "pragma_platform", "duckdb_columns",
     "duckdb_constraints", "duckdb_databases", "duckdb_extensions", "duckdb_functions",
     "duckdb_indexes", "duckdb_keywords", "duckdb_memory", "duckdb_optimizers", "duckdb_schemas",
     "duckdb_sequences", "duckdb_settings", "duckdb_tables", "duckdb_temporary_files",
     "duckdb_types", "duckdb_variables", "duckdb_views"}
)  # fmt: skip


def check_reads(sql: str) -> bool:
    """Raise `SurveyError` unless `sql` is one statement that reads.

    Returns whether it has a star over a table whose files differ in their columns.

    Nodes and functions that are not known to read are refused.
    """
    return check(sql).starred


@dataclass
class Asked:
    """What a statement asks for.

    Attributes
    ----------
    starred : whether it has a star over a table whose files differ in their columns.
    sources : whether it asks of anything at all, as ``select 1`` does not.
    files : paths and patterns by which it names files; None where it names none.
    """

    starred: bool = False
    sources: bool = False
    files: list[str] | None = None

    def add_files(self, names: Iterable[str]) -> None:
        """Count `names` among the files."""
        self.files = [*(self.files or ()), *names]


def check(sql: str) -> Asked:
    """Return what `sql` asks for; raises `SurveyError` unless it is one statement that reads."""
    import duckdb

    asked = Asked()
    with one_line(), duckdb.connect(config={"errors_as_json": True}) as parser:
        _check_statement(parser, sql, asked)
    return asked


def _check_statement(parser: duckdb.DuckDBPyConnection, sql: str, asked: Asked) -> None:
    import duckdb

    allowed = "only a single select, describe, summarize or show is allowed"
    if not is_text(sql):
        raise BadInput("SQL: it holds characters that are not UTF-8; retype them")
    with one_line(sql):
        statements = parser.extract_statements(sql)
    if len(statements) != 1:
        raise BadInput(f"SQL holds {len(statements)} statements; {allowed}")
    kind = statements[0].type
    if kind == duckdb.StatementType.MULTI:
        raise BadInput(f"SQL: {allowed}; a pivot needs its values: pivot … on column in ('a', 'b')")
    if kind != duckdb.StatementType.SELECT:
        raise BadInput(f"SQL: {kind.name.lower()} is refused; {allowed}")
    row = parser.execute("select json_serialize_sql($1)", [sql]).fetchone()
    tree = json.loads(row[0]) if row else {"error": True}
    if tree["error"]:
        raise BadInput(f"SQL: {tree.get('error_message', 'cannot be checked')}; {allowed}")
    writing = sorted({kind for kind, _ in _nodes(tree)} - _READING_NODES - {_STAR})
    if writing:
        words = ", ".join(node.split("_")[0].lower() for node in writing)
        raise BadInput(f"SQL: {words} in a with clause is refused; {allowed}")
    asked.starred |= any(
        kind == "SELECT_NODE"
        and not _VARYING.isdisjoint(_tables(node["from_table"]))
        and any(inner == _STAR for inner, _ in _nodes(node))
        for kind, node in _nodes(tree)
    )
    for reference in _references(tree):
        asked.sources = True
        if reference["type"] == "TABLE_FUNCTION":
            _check_function(parser, reference["function"], asked)
        elif reference["type"] == "SHOW_REF":
            continue
        elif "/" in reference["table_name"] or reference["table_name"].endswith(SUFFIX):
            asked.add_files([reference["table_name"]])


def _check_function(
    parser: duckdb.DuckDBPyConnection, function: dict[str, Any], asked: Asked
) -> None:
    """Refuse a table function that reads other files than the lake's, or changes something."""
    name = function["function_name"].lower()
    texts = list(_texts(function))
    if name in _PARQUET_READERS:
        asked.add_files(texts)
    elif name == "query":
        # Its text is a statement: what would be computed only later cannot be checked now.
        if len(texts) != 1 or _calls(function):
            raise BadInput("SQL: query takes its statement as one text, as it is written")
        _check_statement(parser, texts[0], asked)
    elif name == "query_table":
        asked.add_files(text for text in texts if "/" in text or text.endswith(SUFFIX))
    elif name not in _HARMLESS:
        known = "select 1 from duckdb_functions() where function_name = $1"
        if parser.execute(known, [name]).fetchone():  # else it is misspelt, and DuckDB says so
            raise BadInput(
                f"SQL: {name} is refused: SQL reads the lake's tables, as views or by read_parquet"
            )


def _references(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every table function, table by name and ``show``, wherever it stands."""
    if isinstance(tree, dict):
        kind = tree.get("type")
        if kind in ("TABLE_FUNCTION", "SHOW_REF") or (
            kind == "BASE_TABLE" and tree.get("table_name")
        ):
            yield tree
        for value in tree.values():
            yield from _references(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _references(value)


def _texts(tree: Any) -> Iterator[str]:
    """Yield the texts that stand as constants among the arguments of a function."""
    if isinstance(tree, dict):
        if tree.get("class") == "CONSTANT":
            # As DuckDB 2 writes them, and as it did before.
            constant = tree.get("literal") or tree.get("value") or {}
            text = constant.get("text") if "text" in constant else constant.get("value")
            if isinstance(text, str):
                yield text
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)


def _calls(function: dict[str, Any]) -> bool:
    """Tell whether the arguments of a function are more than constants."""
    arguments = function.get("arguments") or function.get("children") or []
    return any(
        (argument.get("expression") or argument).get("class") != "CONSTANT"
        for argument in arguments
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


@contextlib.contextmanager
def one_line(sql: str | None = None) -> Iterator[None]:
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
        message += "; SQL reads nothing but the lake's tables"
    return f"SQL: {message}{where}"
