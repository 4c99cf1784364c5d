"""What models a lake has: `models`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import FormatOption, OutputOption, emit, rows_output
from cli.session import say, session


def register(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command()(models)


def models(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Show this one's whole card.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
) -> None:
    """The models of the lake with their scores, or the card of one.

    Scores are of the CCDs that each model held out; `leak` is what a split by image would add.
    """
    from classifiers.registry.catalog import list_models, read_entries

    target = rows_output(context, output, form)
    lake = session(context).lake()
    if name is not None:
        emit(read_entries(lake, name), form, target, title=f"model {name}")
        return
    rows = list_models(lake)
    if form is None and output is None:
        # A screen has no room for all; a column of nothing tells nothing.
        empty = [column for column in rows.column_names if rows[column].null_count == len(rows)]
        rows = rows.drop_columns([*empty, *({"release", "classes", "n_test"} - {*empty})])
    emit(rows, form, target, title="models; scores of what each has not seen" if len(rows) else "")
    if not len(rows):
        say("no models yet: survey-qa train makes one")
