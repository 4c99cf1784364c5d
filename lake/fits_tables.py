"""FITS tables as Arrow columns."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa

from lake.errors import SurveyError


@contextlib.contextmanager
def open_table(path: Path, folder: Path) -> Iterator[fitsio.hdu.TableHDU]:
    """Open the first table of a FITS file; a compressed one is unpacked into `folder` first.

    cfitsio would unpack it in memory, which for a data release is more than a machine has.
    """
    plain = path
    try:
        with path.open("rb") as source:
            compressed = source.read(2) == b"\x1f\x8b"
        if compressed:
            plain = folder / "table.fits"
            with gzip.open(path) as packed, plain.open("wb") as target:
                shutil.copyfileobj(packed, target, 1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SurveyError(f"{path}: damaged or truncated gzip file ({error})") from error
    except PermissionError as error:
        raise SurveyError(f"{path}: {error.strerror}") from error
    try:
        file = fitsio.FITS(str(plain), "r")
    except (OSError, ValueError) as error:
        raise SurveyError(f"{path}: not a readable FITS file") from error
    with file:
        for hdu in file:
            if isinstance(hdu, fitsio.hdu.TableHDU):
                yield hdu
                return
        raise SurveyError(f"{path}: holds no table; expected a survey-ccds or ccds-annotated file")


def night_of_day(day: int) -> str:
    """Return the date YYYYMMDD of a modified Julian day."""
    return str(np.datetime64("1858-11-17") + np.timedelta64(day, "D")).replace("-", "")


def to_arrow(rows: np.ndarray) -> pa.Table:
    """Return a FITS record array as Arrow columns under lower-case names.

    Numbers become native; strings become dictionaries of stripped text, so that stripping and
    decoding are done once for each different string; vector columns become fixed-size lists.
    """
    columns: dict[str, pa.Array] = {}
    for name in rows.dtype.names or ():
        values = rows[name]
        if values.dtype.kind in "SU":
            columns[name.lower()] = _strings(values)
            continue
        native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
        array = pa.array(native.reshape(-1))
        if native.ndim > 1:
            width = int(np.prod(native.shape[1:]))
            array = pa.FixedSizeListArray.from_arrays(array, width)
        columns[name.lower()] = array
    return pa.table(columns)


def constant(word: str, length: int) -> pa.DictionaryArray:
    """Return `word`, `length` times."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int32)), [word])


def _strings(values: np.ndarray) -> pa.DictionaryArray:
    if values.dtype.kind == "U":
        values = np.char.encode(values, "utf-8", "replace")
    width = values.dtype.itemsize
    if width == 0:
        return constant("", len(values))
    packed = np.ascontiguousarray(values)
    encoded = pa.Array.from_buffers(
        pa.binary(width), len(packed), [None, pa.py_buffer(packed)]
    ).dictionary_encode()
    words = [
        word.split(b"\0")[0].decode("utf-8", "replace").strip()
        for word in encoded.dictionary.to_pylist()
    ]
    unique = list(dict.fromkeys(words))
    position = {word: index for index, word in enumerate(unique)}
    remap = np.array([position[word] for word in words], dtype=np.int32)
    indices = remap[encoded.indices.to_numpy(zero_copy_only=False)]
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(unique, pa.string()))


def decode_strings(rows: pa.Table) -> pa.Table:
    """Return `rows` with its dictionaries as plain strings."""
    for index, column in enumerate(rows.schema):
        if pa.types.is_dictionary(column.type):
            rows = rows.set_column(index, column.name, rows.column(index).cast(pa.string()))
    return rows
