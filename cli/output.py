"""Rows for people and for programs: the options ``--format`` and ``--output``, worn by every
command that has rows to give."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli.session import session
from lake.errors import BadInput, SurveyError, escaped
from lake.outputs import OutputFile, output_file, output_folder

if TYPE_CHECKING:
    import pyarrow as pa


class Format(StrEnum):
    """How rows are written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    fits = "fits"


FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format", help="How to write the rows.", show_default="table, or by --output's end"
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        help="File to write the rows to instead of the screen: .txt, .csv, .json, .parquet, .fits.",
    ),
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
#: Ends of a file's name that say how rows are written into it.
_ENDINGS = {f".{form}": form for form in Format} | {".txt": Format.table}
#: Bytes of rows that are turned into text or into a part of a file at once, about.
_PIECE = 16 << 20
#: Rows of a group of a Parquet file, at most; and bytes of it that wait in memory, about.
_GROUP_ROWS, _GROUP_BYTES = 1 << 20, 128 << 20


def rows_output(
    context: typer.Context,
    output: Path | None,
    form: Format | None = None,
    inputs: Sequence[Path | None] = (),
) -> OutputFile | None:
    """Return the file that a command's rows go to, before it computes any; None for the screen.

    Parameters
    ----------
    inputs : files and folders that the command reads.

    Raises
    ------
    SurveyError : a name whose end says no format, and what `lake.outputs.output_file` refuses.
    """
    if output is None:
        return None
    checked = plain_output(context, output, inputs)
    if form is None and output.suffix.lower() not in _ENDINGS and not checked.is_special:
        raise SurveyError(
            f"cannot write {output}: its name ends in none of {', '.join(_ENDINGS)}; name it so, "
            "or say --format"
        )
    return checked


def plain_output(
    context: typer.Context, output: Path, inputs: Sequence[Path | None] = ()
) -> OutputFile:
    """Return a file that a command writes, where it may; raises `SurveyError` where not."""
    return output_file(output, session(context).lake_path, inputs)


def folder_output(
    context: typer.Context, folder: Path | None, inputs: Sequence[Path | None] = ()
) -> Path | None:
    """Return the folder that a command fills, where it may; raises `SurveyError` where not."""
    return folder and output_folder(folder, session(context).lake_path, inputs)


def write_bytes(content: bytes, output: OutputFile | None) -> None:
    """Write `content` to `output` or standard output; raises `SurveyError` when it cannot be."""
    with _opened(output) as file:
        file.write(content)


def emit(
    rows: pa.Table | pa.RecordBatchReader,
    form: Format | None = None,
    output: OutputFile | Path | None = None,
    title: str = "",
) -> None:
    """Write `rows` in the format asked for, to `output` or standard output, a batch at a time.

    Columns of one name, as a join can give them, are numbered: ``expnum``, ``expnum_1``.

    Raises `SurveyError` when `output` cannot be written, or for a column that no format holds.
    """
    import pyarrow as pa

    if isinstance(output, Path):
        output = output_file(output)
    if form is None:
        form = _ENDINGS.get(output.path.suffix.lower(), Format.table) if output else Format.table
    schema = _writable(rows.schema, form)
    batches = rows.to_batches() if isinstance(rows, pa.Table) else rows
    pieces = _pieces(batches, schema)
    if form is Format.table:
        _emit_table(pieces, schema, output, title)
        return
    # What fails at the first row fails before anything is written.
    first = next(pieces, None)
    pieces = itertools.chain([] if first is None else [first], pieces)
    write = {
        Format.csv: _write_csv,
        Format.json: _write_json,
        Format.parquet: _write_parquet,
        Format.fits: _write_fits,
    }[form]
    with _opened(output) as file:
        try:
            write(pieces, schema, file)
        except pa.ArrowException as error:
            raise SurveyError(
                f"the rows cannot be written as {form}: {error}; cast the column to varchar"
            ) from error


@contextlib.contextmanager
def _opened(output: OutputFile | None) -> Iterator[BinaryIO]:
    if output is not None:
        if output.is_special:
            sys.stdout.flush()  # it may be where the screen's rows go
        with output.opened() as file:
            yield file
        return
    with _standard_output():
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def _standard_output() -> Iterator[None]:
    """Turn what goes wrong with standard output into one line; a reader that has gone is not."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SurveyError(f"cannot write standard output: {error.strerror or error}") from error


def _writable(schema: pa.Schema, form: Format) -> pa.Schema:
    """Return `schema` with names that differ; raises `SurveyError` for types that `form` lacks."""
    import pyarrow as pa

    from queries.frames import with_distinct_names

    for column in schema:
        if pa.types.is_interval(column.type):
            raise BadInput(f"column {column.name} is an interval: cast it to varchar")
    schema = with_distinct_names(schema)
    if form in (Format.csv, Format.parquet):
        write = _write_csv if form is Format.csv else _write_parquet
        for column in schema:
            one = pa.schema([column])
            try:
                write(iter([pa.RecordBatch.from_pylist([], one)]), one, io.BytesIO())
            except pa.ArrowException:
                raise BadInput(
                    f"column {column.name} is of type {column.type}, which {form} does not hold: "
                    "cast it to varchar"
                ) from None
    return schema


def _pieces(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the batches under the names of `schema`, those of many bytes in several pieces."""
    import pyarrow as pa

    for batch in batches:
        named = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        step = max(1, batch.num_rows * _PIECE // max(batch.nbytes, _PIECE))
        yield from (named.slice(start, step) for start in range(0, batch.num_rows, step))


def _write_csv(pieces: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.csv

    header = True
    empty = pa.RecordBatch.from_pylist([], schema)
    for piece in itertools.chain([empty], pieces):
        rows = pa.Table.from_batches([piece])
        for index, column in enumerate(schema):
            if pa.types.is_nested(column.type):
                texts = [
                    None if value is None else json.dumps(_plain(value), default=str)
                    for value in _values(column.name, piece.column(index))
                ]
                rows = rows.set_column(index, column.name, pa.array(texts, pa.string()))
        buffer = io.BytesIO()
        options = pyarrow.csv.WriteOptions(include_header=header, quoting_style="needed")
        pyarrow.csv.write_csv(rows, buffer, options)
        file.write(buffer.getbuffer())
        header = False


def _write_json(pieces: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    file.write(b"[")
    between = b""
    for piece in pieces:
        file.write(between)
        columns = [_values(name, piece.column(name)) for name in schema.names]
        rows = [
            {name: _plain(value) for name, value in zip(schema.names, row, strict=True)}
            for row in zip(*columns, strict=True)
        ]
        file.write(json.dumps(rows, default=str)[1:-1].encode())
        between = b", "
    file.write(b"]\n")


def _write_parquet(pieces: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(_Counted(file), schema) as writer:
        for piece in pieces:
            waiting.append(piece)
            n_rows = sum(batch.num_rows for batch in waiting)
            if n_rows >= _GROUP_ROWS or sum(batch.nbytes for batch in waiting) >= _GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting.clear()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema))


def _write_fits(pieces: Iterator[pa.RecordBatch], schema: pa.Schema, file: IO[bytes]) -> None:
    from cli.fits_output import write_fits

    write_fits(pieces, schema, file, _plain)


class _Counted(io.RawIOBase):
    """A file that knows how much was written to it, as pipes do not."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._n_bytes = 0

    def writable(self) -> bool:
        """Whether bytes can be written."""
        return True

    def write(self, content: Any) -> int:
        """Write `content`, all of it."""
        self._file.write(content)
        self._n_bytes += len(content)
        return len(content)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self._n_bytes


def _values(name: str, column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column, as text where Python has none like them: a year 300,000."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        pass
    try:
        return list(column.cast(pa.string()).to_pylist())
    except (pa.ArrowException, ValueError):
        raise BadInput(
            f"column {name} holds values that cannot be shown: cast it to varchar"
        ) from None


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


def _emit_table(
    pieces: Iterator[pa.RecordBatch], schema: pa.Schema, output: OutputFile | None, title: str
) -> None:
    import pyarrow as pa
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown_rows: list[pa.RecordBatch] = []
    n_rows = 0
    for piece in pieces:
        if n_rows < SCREEN_ROWS:
            shown_rows.append(piece.slice(0, SCREEN_ROWS - n_rows))
        n_rows += piece.num_rows
    first = pa.Table.from_batches(shown_rows, schema)
    columns = [
        _Column(
            escaped(column.name),
            _is_number(column.type),
            [_cell(value) for value in _values(column.name, cells)],
        )
        for column, cells in zip(first.schema, first.columns, strict=True)
    ]
    # A pipe or a file has no edge: there every name stands in one line.
    on_screen = output is None and sys.stdout.isatty()
    width = max(PIPE_WIDTH, sum(max(len(column.name), _READABLE) + _BETWEEN for column in columns))
    console = Console(highlight=False, width=None if on_screen else width)
    edges = itertools.accumulate(column.least_width + _BETWEEN for column in columns)
    shown = columns[: max(1, sum(edge < console.width for edge in edges))]
    heading = escape(escaped(title)) or None
    drawn = Table(title=heading, box=box.SIMPLE_HEAD, title_justify="left")
    for column in shown:
        drawn.add_column(
            escape(column.name),
            justify="right" if column.is_number else "left",
            overflow="fold",
            min_width=column.least_width if on_screen else len(column.name),
        )
    for cells in zip(*(column.cells for column in shown), strict=True):
        drawn.add_row(*cells)
    hidden = n_rows - SCREEN_ROWS
    notes = [f"… {hidden:,} more rows: --format csv, json or parquet gives them all"]
    notes = notes if hidden > 0 else []
    if more := len(columns) - len(shown):
        notes.append(f"… {more} more columns: select those that matter, or --format csv")
    if output is None:
        with _standard_output():
            console.print(drawn, *notes, sep="\n")
            sys.stdout.flush()
        return
    text = io.StringIO()
    Console(file=text, highlight=False, width=console.width).print(drawn, *notes, sep="\n")
    write_bytes(text.getvalue().encode(errors="backslashreplace"), output)


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
    return escape(escaped(str(value), keep="\n"))
