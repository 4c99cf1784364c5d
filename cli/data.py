"""Looking at the lake: `sql`, `query`, `queries`, `status`, `schema`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import FormatOption, OutputOption, emit, rows_output
from cli.session import say, session
from lake.errors import BadInput

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

    target = rows_output(context, output, form)
    lake = session(context).lake()
    emit(lake_status(lake), form, target, title=f"lake {lake.root}")


def schema(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="TABLE", help="One table only.")] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Columns of every table: type, unit, meaning."""
    from lake.tables import describe_columns

    emit(describe_columns(name), form, rows_output(context, output, form))


def sql(
    context: typer.Context,
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help="A select; - reads standard input.")
    ],
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """Ask the lake anything in SQL: every table is a view. Nothing can be written.

    Rows are written as they come, so that a result may be larger than memory.
    """
    import sys

    from queries.engine import open_sql

    target = rows_output(context, output, form)
    lake = session(context).lake()
    if statement == "-":
        try:
            statement = sys.stdin.read()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the SQL on standard input cannot be read: {error}") from error
    with open_sql(lake, statement) as rows:
        emit(rows, form, target)


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
    """Run a named query. Rows are written as they come."""
    from queries.named import missing_tables, open_query

    target = rows_output(context, output, form, query_files(query_dir))
    parameters = parse_parameters(param or [])
    lake = session(context).lake()
    with open_query(lake, name, parameters, query_dir) as rows:
        if missing := missing_tables(lake, name, query_dir):
            say(f"note: the lake has no {', '.join(missing)} yet, so those count as empty")
        emit(rows, form, target, title=name)


def query_files(folder: Path | None) -> list[Path]:
    """Return the queries and contracts of a folder; results may lie beside them."""
    if folder is None or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.suffix in (".sql", ".toml")]


def parse_parameters(texts: list[str]) -> dict[str, str]:
    """Return NAME -> VALUE of texts ``NAME=VALUE``; raises `SurveyError` for another form."""
    parameters = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"--param {text!r}: expected NAME=VALUE")
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

    target = rows_output(context, output, form, query_files(query_dir))
    home = session(context).lake_path
    emit(describe_queries(query_dir, home if home.is_dir() else None), form, target)
