"""The tables of a lake as lazy frames, for people who write polars rather than SQL."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

from lake.errors import BadInput, NotFound
from lake.paths import partition_keys
from lake.store import Lake, read_footer
from lake.tables import VECTOR, Table, key_type
from lake.tables import table as declaration
from queries.files import table_files
from queries.reports import read_reports

#: The table whose words are classified when it is read, and which is therefore read whole.
_REPORTS = "reports"


def scan_table(lake: Lake, name: str, **where: str | int) -> pl.LazyFrame:
    """Return table `name` as a lazy frame: partition keys first (`night` Int32), then columns.

    Its rows are those of the SQL view. Columns that a query does not name are not read, nor are
    row groups that its filters rule out.

    Parameters
    ----------
    where : partition keys and their values: only files of those partitions are opened.

    Raises
    ------
    SurveyError : no such table or partition key, or vectors of several lengths.
    """
    declared = declaration(name)
    if unknown := [key for key in where if key not in declared.partition]:
        raise NotFound(
            f"table {name} has no partition key {unknown[0]!r}; it has "
            f"{', '.join(declared.partition)}: filter other columns of the frame"
        )
    wanted = {key: str(value) for key, value in where.items()}
    if name == _REPORTS:
        rows = _frame(read_reports(lake))
        return rows.lazy().filter(*(pl.col(key) == value for key, value in wanted.items()))
    files = []
    for file in table_files(lake, name):
        keys = partition_keys(Path(file))
        if all(keys[key] == value for key, value in wanted.items()):
            files.append(file)
    keys_schema = pl.Schema(_frame(_keys(declared).empty_table()).schema)
    columns = _frame(_columns(declared, files).empty_table()).schema
    if not files:
        return pl.LazyFrame(schema=pl.Schema({**keys_schema, **columns}))
    frame = pl.scan_parquet(
        files,
        glob=False,
        hive_schema=keys_schema,
        schema=columns,
        missing_columns="insert",
        extra_columns="ignore",
        cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
    )
    return frame.select([*keys_schema, *columns])


def with_distinct_names(schema: pa.Schema) -> pa.Schema:
    """Return `schema` with columns of one name, as a join can give them, numbered: ``expnum_1``."""
    names: list[str] = []
    for name in schema.names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        names.append(name if name not in names else next(n for n in numbered if n not in names))
    return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])


def _keys(declared: Table) -> pa.Schema:
    return pa.schema([(key, key_type(key)) for key in declared.partition])


def _columns(declared: Table, files: Sequence[str]) -> pa.Schema:
    """Return the columns of a table's files: the declared ones, and those of the source."""
    plain = [(column.name, column.type) for column in declared.columns if column.type != VECTOR]
    if declared.keeps_source_columns:
        schemas = [read_footer(Path(file)).schema.to_arrow_schema() for file in files]
        schemas = [schema.remove_metadata() for schema in schemas]
        return pa.unify_schemas([pa.schema(plain), *schemas], promote_options="permissive")
    if len(plain) == len(declared.columns):
        return pa.schema(plain)
    # Every maker's vectors have their own length.
    first: dict[str, str] = {}
    for file in files:
        first.setdefault(partition_keys(Path(file))[declared.partition[0]], file)
    lengths = {
        maker: read_footer(Path(file)).schema.to_arrow_schema() for maker, file in first.items()
    }
    schemas = list(dict.fromkeys(schema.remove_metadata() for schema in lengths.values()))
    if len(schemas) > 1:
        raise BadInput(
            f"vectors of {', '.join(lengths)} differ in length; name one by "
            f"{declared.partition[0]}=…"
        )
    return schemas[0] if schemas else pa.schema([(c.name, c.type) for c in declared.columns])


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
