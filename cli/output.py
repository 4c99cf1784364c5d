"""Rows for people and for programs: the options ``--format`` and ``--output``, worn by every
command that has rows to give."""

from __future__ import annotations

import itertools
import json
import math
import sys
from dataclasses import dataclass
from decimal import Decimal
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
#: Characters in a line of a table that goes into a file or a pipe, at least.
PIPE_WIDTH = 200
#: Characters between two columns of a table.
_BETWEEN = 3
#: Fewest characters in a line of a column of text, on a screen and elsewhere.
_NARROWEST = 4
_READABLE = 12


def emit(
    rows: pa.Table, form: Format | None = None, output: Path | None = None, title: str = ""
) -> None:
    """Write `rows` in the format asked for, to `output` or standard output.

    Columns of one name, as a join can give them, are numbered: ``expnum``, ``expnum_1``.

    Raises `SurveyError` when `output` cannot be written, or for a column that no format holds.
    """
    rows = _writable(rows)
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


def _writable(rows: pa.Table) -> pa.Table:
    """Return `rows` with names that differ and types that every format holds."""
    import pyarrow as pa

    for column in rows.schema:
        if pa.types.is_interval(column.type):
            raise SurveyError(f"column {column.name} is an interval: cast it to varchar")
    names: list[str] = []
    for name in rows.column_names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        names.append(name if name not in names else next(n for n in numbered if n not in names))
    return rows.rename_columns(names)


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
    """Return `value` as JSON can hold it: NaN and infinity become null.

    DuckDB's sums of integers, and numbers such as 1.5 in its SQL, are decimals: numbers in JSON.
    """
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Decimal):
        return float(value) if value.as_tuple().exponent else int(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _emit_table(rows: pa.Table, output: Path | None, title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    first = rows.slice(0, SCREEN_ROWS)
    columns = [
        _Column(column.name, _is_number(column.type), [_cell(value) for value in cells.to_pylist()])
        for column, cells in zip(first.schema, first.columns, strict=True)
    ]
    # A pipe or a file has no edge: there every name stands in one line.
    on_screen = output is None and sys.stdout.isatty()
    width = max(PIPE_WIDTH, sum(max(len(column.name), _READABLE) + _BETWEEN for column in columns))
    console = Console(highlight=False, width=None if on_screen else width)
    edges = itertools.accumulate(column.least_width + _BETWEEN for column in columns)
    shown = columns[: max(1, sum(edge < console.width for edge in edges))]
    drawn = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for column in shown:
        drawn.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            overflow="fold",
            min_width=column.least_width if on_screen else len(column.name),
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        drawn.add_row(*cells)
    hidden = rows.num_rows - SCREEN_ROWS
    notes = [f"… {hidden:,} more rows: --format csv, json or parquet gives them all"]
    notes = notes if hidden > 0 else []
    if more := len(columns) - len(shown):
        notes.append(f"… {more} more columns: select those that matter, or --format csv")
    if output is None:
        console.print(drawn, *notes, sep="\n")
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            Console(file=file, highlight=False, width=console.width).print(drawn, *notes, sep="\n")
    except OSError as error:
        raise SurveyError(f"cannot write {output}: {error.strerror or error}") from error


@dataclass(frozen=True)
class _Column:
    """A column of a table for people."""

    name: str
    is_number: bool
    cells: list[str]

    @property
    def least_width(self) -> int:
        """Characters that it needs on a screen: names and texts may break, numbers may not."""
        longest = max(map(len, self.cells), default=0)
        return max(min(len(self.name), _NARROWEST), longest if self.is_number else 0)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    of = pa.types
    return bool(of.is_integer(kind) or of.is_floating(kind) or of.is_decimal(kind))


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
