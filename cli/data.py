"""Looking at the lake: `sql`, `query`, `queries`, `status`, `schema`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from cli.output import FormatOption, OutputOption, emit
from cli.session import say, session
from lake.errors import SurveyError

QueryDir = Annotated[
    Path | None,
    typer.Option("--query-dir", envvar="SURVEY_QA_QUERIES", help="Folder of your own queries."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    app.command()(status)
    app.command()(schema)
    app.command()(sql)
    app.command()(query)
    app.command()(queries)


def status(context: typer.Context, form: FormatOption = None, output: OutputOption = None) -> None:
    """Partitions, rows and bytes of every table, and what is stale."""
    from queries.status import lake_status

    lake = session(context).lake()
    emit(lake_status(lake), form, output, title=f"lake {lake.root}")


def schema(
    name: Annotated[str | None, typer.Argument(metavar="TABLE", help="One table only.")] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Columns of every table: type, unit, meaning."""
    import pyarrow as pa

    from lake.tables import TABLES, table

    rows = []
    for declared in [table(name)] if name else TABLES.values():
        keys = [(key, "string", "", "partition key") for key in declared.partition]
        columns = [(c.name, str(c.type), c.unit, c.meaning) for c in declared.columns]
        for column, kind, unit, meaning in keys + columns:
            key = column in declared.partition + declared.key
            rows.append((declared.name, column, kind, unit, key, meaning))
    names = ("table", "column", "type", "unit", "key", "meaning")
    columns_of_rows = list(zip(*rows, strict=True))
    emit(pa.table(dict(zip(names, map(list, columns_of_rows), strict=True))), form, output)


def sql(
    context: typer.Context,
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="A select; - reads standard input.")
    ],
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Ask the lake anything in SQL: every table is a view. Nothing can be written."""
    import sys

    from queries.engine import run_sql

    if statement == "-":
        statement = sys.stdin.read()
    emit(run_sql(session(context).lake(), statement), form, output)


def query(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the query; `survey-qa queries` lists them.")],
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter of the query.")
    ] = None,
    query_dir: QueryDir = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Run a named query."""
    from queries.named import missing_tables, run_query

    parameters = parse_parameters(param or [])
    lake = session(context).lake()
    rows = run_query(lake, name, parameters, query_dir)
    if missing := missing_tables(lake, name, query_dir):
        say(f"note: the lake has no {', '.join(missing)} yet, so those count as empty")
    emit(rows, form, output, title=name)


def parse_parameters(texts: list[str]) -> dict[str, str]:
    """Return NAME -> VALUE of texts ``NAME=VALUE``; raises `SurveyError` for another form."""
    parameters = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise SurveyError(f"--param {text!r}: expected NAME=VALUE")
        parameters[key] = value
    return parameters


def queries(
    context: typer.Context,
    query_dir: QueryDir = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """List the named queries with their parameters."""
    from queries.named import describe_queries

    home = session(context).lake_path
    emit(describe_queries(query_dir, home if os.path.isdir(home) else None), form, output)  # noqa: PTH112
