"""Rows as a binary table of a FITS file.

FITS has no nulls of text and truth values, and no text beyond ASCII. A null integer, or a null
truth value, is the least number of its column (``TNULLn`` names it), a null number NaN, a null text
empty. Other characters are escaped (``é`` is ``\\xe9``). Times are texts, as are lists whose length
varies, written as JSON.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are written at once.
_ROWS = 1 << 16


@dataclass
class _Column:
    """What is known of a column when all rows have come: whether it has nulls, its longest text."""

    name: str
    kind: pa.DataType
    has_nulls: bool = False
    width: int = 1

    @property
    def is_text(self) -> bool:
        """Whether FITS has no type for its values."""
        import pyarrow as pa

        of, kind = pa.types, self.kind
        if of.is_fixed_size_list(kind):
            kind = kind.value_type
            return not (of.is_integer(kind) or of.is_floating(kind))
        is_number = of.is_integer(kind) or of.is_floating(kind) or of.is_decimal(kind)
        return not (is_number or of.is_boolean(kind))

    @property
    def dtype(self) -> tuple[Any, ...]:
        """The field of a structured array."""
        import pyarrow as pa

        of, kind = pa.types, self.kind
        if self.is_text:
            return (self.name, f"S{self.width}")
        if of.is_fixed_size_list(kind):
            return (self.name, _number(kind.value_type), (kind.list_size,))
        if of.is_boolean(kind):
            return (self.name, "i2" if self.has_nulls else "?")
        return (self.name, _number(kind))

    @property
    def null(self) -> int | None:
        """The number that stands for a null, where the column has any and can hold one."""
        kind = np.dtype(self.dtype[1])
        is_scalar = len(self.dtype) == 2
        return (
            int(np.iinfo(kind).min) if self.has_nulls and is_scalar and kind.kind == "i" else None
        )


def _number(kind: pa.DataType) -> str:
    """Return numpy's name of the FITS type that holds a number of a type of Arrow's."""
    import pyarrow as pa

    of = pa.types
    if of.is_decimal(kind) or of.is_float64(kind):
        return "f8"
    if of.is_floating(kind):
        return "f4"
    width = kind.bit_width // 8 * (2 if of.is_unsigned_integer(kind) else 1)
    return f"i{min(max(width, 2), 8)}"


def write_fits(
    pieces: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    file: IO[bytes],
    plain: Callable[[Any], Any],
) -> None:
    """Write rows to `file`; `plain` turns what is nested into what JSON holds.

    Rows wait on disk until all have come: the width of a column of text is that of its longest.
    """
    import fitsio
    import pyarrow as pa

    columns = [_Column(field.name, field.type) for field in schema]
    with tempfile.TemporaryDirectory(prefix="survey-qa-") as folder:
        waiting, table = Path(folder) / "rows.arrow", Path(folder) / "rows.fits"
        texts = pa.schema(
            [pa.field(c.name, pa.binary()) if c.is_text else schema.field(c.name) for c in columns]
        )
        with pa.OSFile(str(waiting), "wb") as sink, pa.ipc.new_file(sink, texts) as stream:
            for piece in pieces:
                stream.write_batch(_noted(piece, columns, texts, plain))
        with fitsio.FITS(str(table), "rw", clobber=True) as fits:
            fits.create_table_hdu(np.zeros(0, [c.dtype for c in columns]), extname="ROWS")
            hdu = fits[-1]
            for number, column in enumerate(columns, start=1):
                if column.null is not None:
                    hdu.write_key(f"TNULL{number}", column.null)
            with pa.OSFile(str(waiting)) as source:
                reader = pa.ipc.open_file(source)
                for index in range(reader.num_record_batches):
                    batch = reader.get_batch(index)
                    for start in range(0, batch.num_rows, _ROWS):
                        hdu.append(_array(batch.slice(start, _ROWS), columns))
        with table.open("rb") as written:
            shutil.copyfileobj(written, file)


def _noted(
    piece: pa.RecordBatch,
    columns: list[_Column],
    schema: pa.Schema,
    plain: Callable[[Any], Any],
) -> pa.RecordBatch:
    """Return a batch whose texts are bytes, having taken note of nulls and widths."""
    import pyarrow as pa

    arrays = []
    for column, values in zip(columns, piece.columns, strict=True):
        column.has_nulls |= values.null_count > 0
        if column.is_text:
            texts = [_text(value, plain) for value in values.to_pylist()]
            column.width = max(column.width, *map(len, texts), 1)
            values = pa.array(texts, pa.binary())
        arrays.append(values)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _text(value: Any, plain: Callable[[Any], Any]) -> bytes:
    if value is None:
        return b""
    if isinstance(value, (list, dict)):
        value = json.dumps(plain(value), default=str)
    return str(value).encode("ascii", "backslashreplace")


def _array(batch: pa.RecordBatch, columns: list[_Column]) -> np.ndarray:
    """Return rows as a structured array (n,)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows = np.zeros(batch.num_rows, [column.dtype for column in columns])
    for column, values in zip(columns, batch.columns, strict=True):
        if pa.types.is_fixed_size_list(column.kind):
            given = values.is_valid().to_numpy(zero_copy_only=False)
            numbers = values.drop_null().flatten().cast(_arrow(column.dtype[1]), safe=False)
            rows[column.name][given] = numbers.to_numpy(zero_copy_only=False).reshape(
                -1, column.kind.list_size
            )
            if rows[column.name].dtype.kind == "f":
                rows[column.name][~given] = np.nan
        elif column.is_text:
            rows[column.name] = values.to_pylist()
        else:
            if column.null is not None:
                values = pc.fill_null(values.cast(_arrow(column.dtype[1])), column.null)
            rows[column.name] = values.to_numpy(zero_copy_only=False)
    return rows


def _arrow(name: str) -> pa.DataType:
    """Return Arrow's type of a type of numpy's."""
    import pyarrow as pa

    return pa.from_numpy_dtype(np.dtype(name))
