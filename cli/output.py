"""Rows for people and for programs: the options ``--format`` and ``--output``, worn by every
command that has rows to give."""

from __future__ import annotations

import json
import math
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lake.errors import SurveyError

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """How rows are written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="How to write the rows.", show_default="table, or by --output's end"
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="File to write the rows to instead of the screen.")
]

#: Rows that a table on the screen shows at most.
SCREEN_ROWS = 500


def emit(
    rows: pa.Table, form: Format | None = None, output: Path | None = None, title: str = ""
) -> None:
    """Write `rows` in the format asked for, to `output` or standard output.

    Raises `SurveyError` when `output` cannot be written.
    """
    if form is None:
        suffix = output.suffix.lstrip(".").lower() if output else ""
        form = Format(suffix) if suffix in set(Format) else Format.table
    if form is Format.table:
        _emit_table(rows, output, title)
        return
    data = _encode(rows, form)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise SurveyError(f"cannot write {output}: {error.strerror or error}") from error


def _encode(rows: pa.Table, form: Format) -> bytes:
    import io

    import pyarrow as pa

    if form is Format.json:
        return (json.dumps([_plain(row) for row in rows.to_pylist()], default=str) + "\n").encode()
    buffer = io.BytesIO()
    if form is Format.parquet:
        import pyarrow.parquet as pq

        pq.write_table(rows, buffer)
        return buffer.getvalue()
    import pyarrow.csv

    for index, column in enumerate(rows.schema):
        if pa.types.is_nested(column.type):
            texts = [
                None if value is None else json.dumps(_plain(value), default=str)
                for value in rows.column(index).to_pylist()
            ]
            rows = rows.set_column(index, column.name, pa.array(texts, pa.string()))
    pyarrow.csv.write_csv(rows, buffer, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: NaN and infinity become null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _emit_table(rows: pa.Table, output: Path | None, title: str) -> None:
    import pyarrow as pa
    from rich import box
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in rows.schema:
        number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        drawn.add_column(column.name, justify="right" if number else "left", overflow="fold")
    for row in rows.slice(0, SCREEN_ROWS).to_pylist():
        drawn.add_row(*(_cell(value) for value in row.values()))
    if output is None:
        # Wider than a terminal's 80 columns where there is none: a pipe has no edge.
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
        console.print(drawn)
        hidden = rows.num_rows - SCREEN_ROWS
        if hidden > 0:
            console.print(f"… {hidden:,} more rows: --format csv, json or parquet gives them all")
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            Console(file=file, highlight=False, width=200).print(drawn)
    except OSError as error:
        raise SurveyError(f"cannot write {output}: {error.strerror or error}") from error


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.6f}"
    if isinstance(value, list):
        shown = ", ".join(_cell(inner) for inner in value[:6])
        return f"[{shown}{', …' if len(value) > 6 else ''}]".replace("[", r"\[")
    return escape(str(value))
