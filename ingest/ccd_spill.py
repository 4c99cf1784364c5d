"""A CCD table on its way into the lake: cut by night, chunk by chunk, and put aside on disk.

What does not fit the lake is found here, while nothing is committed yet.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ingest.ccd_nights import LATEST_MJD, Key
from ingest.fits_tables import TableFile, constant, decode_strings, night_of_day, to_arrow
from ingest.row_failures import NO_NIGHT, Failure
from lake import paths
from lake.cameras import ccd_number
from lake.errors import BadInput, SurveyError
from lake.store import Lake
from lake.tables import table

#: Rows read at a time: about 100 MB of a DR10 table.
CHUNK_ROWS = 262_144
#: Columns without which a row has no place in the lake.
NEEDED = ("expnum", "ccdname", "mjd_obs", "image_filename")
DAYS = 1_000_000

Progress = Callable[[int, int], None]

#: The type of each column that a table may bring and this program knows.
_TYPES = {"camera": pa.string(), **{column.name: column.type for column in table("ccds").columns}}


@contextlib.contextmanager
def spill_folder(lake: Lake) -> Iterator[Path]:
    """Make a folder that readers ignore; remove it at the end, and those of killed runs now."""
    for stray in lake.root.glob(".spill*.tmp"):
        if paths.is_abandoned(stray):
            shutil.rmtree(stray, ignore_errors=True)
    folder = paths.temporary_path(lake.root / "spill")
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        reason = "disk full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        raise SurveyError(f"cannot write in lake {lake.root}: {reason}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _whole(values: pa.ChunkedArray) -> pa.Array:
    """Return floating numbers as integers, -1 for what is no whole number."""
    numbers = values.to_numpy()
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**63)
    return pa.array(np.where(whole, numbers, -1).astype(np.int64))


class Spill:
    """Chunks of a table on disk, cut by (camera, night)."""

    def __init__(self, folder: Path, path: Path, camera: str | None) -> None:
        self.folder = folder
        self.path = path
        self.camera = camera
        self.rows_read = 0
        self.failures: list[Failure] = []
        self._batches: dict[Key, list[tuple[int, int]]] = {}
        self._hashes: dict[Key, Any] = {}
        self._counts: Counter[Key] = Counter()
        self._chunks = 0

    def read(self, source: TableFile, progress: Progress | None) -> None:
        """Read all rows; raises `SurveyError` naming the rows that cannot be read."""
        needed = {*NEEDED, *(() if self.camera else ("camera",))}
        if missing := sorted(needed - set(source.names)):
            hint = "; name the camera with --camera" if missing == ["camera"] else ""
            raise BadInput(f"{self.path}: lacks the column(s) {', '.join(missing)}{hint}")
        total = source.num_rows
        starts = range(0, total, CHUNK_ROWS)
        # The next chunk is read while this one is cut, and never more than one.
        with ThreadPoolExecutor(1) as reader:
            pending = [reader.submit(source.read, 0, min(CHUNK_ROWS, total))] if total else []
            for start in starts:
                rows = pending.pop().result()
                following = start + CHUNK_ROWS
                if following < total:
                    stop = min(following + CHUNK_ROWS, total)
                    pending.append(reader.submit(source.read, following, stop))
                chunk = self._typed(to_arrow(rows, source.nulls), start)
                self._cut(chunk, rows, start)
                if progress:
                    progress(start + len(rows), total)

    def _typed(self, chunk: pa.Table, start: int) -> pa.Table:
        """Return a chunk with its declared columns in their types, texts as dictionaries.

        What does not fit is an error here, while nothing is committed yet.
        """
        for index, name in enumerate(chunk.column_names):
            values, kind = chunk.column(index), _TYPES.get(name)
            if kind is None:
                continue
            if name == "expnum" and pa.types.is_floating(values.type):
                values = _whole(values)
            try:
                if pa.types.is_nested(values.type):
                    raise pa.ArrowTypeError(f"it holds a {values.type} a row")
                if not pa.types.is_dictionary(values.type) or kind != pa.string():
                    values = values.cast(kind)
                if values.type == pa.string():
                    values = values.dictionary_encode()
            except pa.ArrowException as error:
                raise BadInput(
                    f"{self.path}, rows {start + 1}-{start + chunk.num_rows}: column {name} cannot "
                    f"be read as {kind} ({error}); nothing of the file was ingested"
                ) from error
            chunk = chunk.set_column(index, name, values)
        return chunk

    def _cut(self, chunk: pa.Table, rows: np.ndarray, start: int) -> None:
        """Sort a chunk's rows into nights and write those that can be used."""
        expnums = chunk["expnum"].fill_null(-1).to_numpy()
        mjd = chunk["mjd_obs"].fill_null(np.nan).to_numpy()
        dated = np.isfinite(mjd) & (mjd > 0) & (mjd < LATEST_MJD)
        days = np.floor(np.where(dated, mjd, 0.5) - 0.5).astype(np.int64)
        words = (
            chunk["camera"].combine_chunks()
            if "camera" in chunk.column_names
            else constant(self.camera or "", len(rows))
        )
        codes = words.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        cameras = [
            word.lower() or self.camera or "unknown" for word in words.dictionary.to_pylist()
        ]
        if self.camera and (others := sorted({*cameras} - {self.camera})):
            raise BadInput(
                f"{self.path}: --camera {self.camera}, but its column camera says "
                f"{', '.join(others)}; leave --camera out"
            )
        numbers = self._ccd_numbers(chunk, codes, cameras)
        reasons = np.select(
            [expnums == 0, expnums < 0, ~dated, numbers <= 0],
            ["exposure number 0", "no exposure number", "no observing date", "unknown CCD name"],
            default="",
        )
        self.rows_read += len(rows)
        for index in np.flatnonzero(reasons != "").tolist():
            self.failures.append(
                Failure(
                    camera=cameras[codes[index]],
                    night=night_of_day(int(days[index])) if dated[index] else NO_NIGHT,
                    expnum=int(expnums[index]),
                    ccdnum=int(numbers[index]),
                    file=f"{self.path}, row {start + index + 1}",
                    error=f"{reasons[index]} (CCD {chunk['ccdname'][index].as_py()!r})",
                )
            )
        derived = {"camera", "ccdnum", "table_file"}
        chunk = chunk.drop_columns([name for name in chunk.column_names if name in derived])
        chunk = chunk.append_column("ccdnum", pa.array(numbers))
        groups = codes * DAYS + days
        order = np.flatnonzero(reasons == "")
        order = order[np.argsort(groups[order], kind="stable")]
        if order.size:
            if order.size != len(rows) or np.any(np.diff(order) != 1):
                chunk, rows = chunk.take(pa.array(order)), rows[order]
            self._write(chunk, rows, groups[order], cameras)

    def _ccd_numbers(
        self, chunk: pa.Table, codes: np.ndarray, camera_names: list[str]
    ) -> np.ndarray:
        """Return the CCD number of each row, from its name; 0 where the camera has none such."""
        names = chunk.column("ccdname").combine_chunks()
        words = names.dictionary.to_pylist()
        lookup = np.array(
            [[ccd_number(camera, word) or 0 for word in words] for camera in camera_names],
            dtype=np.int16,
        ).reshape(len(camera_names), len(words))
        return lookup[codes, names.indices.to_numpy(zero_copy_only=False)]

    def _write(
        self, chunk: pa.Table, rows: np.ndarray, groups: np.ndarray, cameras: list[str]
    ) -> None:
        edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
        chunk = chunk.combine_chunks()
        with pa.ipc.new_file(self._file(self._chunks), chunk.schema) as writer:
            for number, (low, high) in enumerate(pairwise(edges)):
                code, day = divmod(int(groups[low]), DAYS)
                key = (cameras[code], night_of_day(day))
                writer.write_table(chunk.slice(low, high - low))
                self._batches.setdefault(key, []).append((self._chunks, number))
                self._counts[key] += high - low
                hasher = self._hashes.setdefault(key, hashlib.blake2b(digest_size=12))
                hasher.update(np.ascontiguousarray(rows[low:high]).view(np.uint8).data)
        self._chunks += 1

    def _file(self, chunk: int) -> str:
        return str(self.folder / f"chunk-{chunk}.arrow")

    @property
    def nights(self) -> list[Key]:
        """The (camera, night) pairs of the table, sorted."""
        return sorted(self._batches)

    def fingerprint(self, key: Key) -> str:
        """Return the hash of a night's rows as they stand in the file."""
        return str(self._hashes[key].hexdigest())

    def num_rows(self, key: Key) -> int:
        """Return how many rows of the file a night has."""
        return self._counts[key]

    def rows(self, key: Key) -> pa.Table:
        """Return a night's rows, strings decoded."""
        batches = []
        for chunk, number in self._batches[key]:
            with pa.OSFile(self._file(chunk)) as source:
                batches.append(pa.ipc.open_file(source).get_batch(number))
        parts = [decode_strings(pa.Table.from_batches([batch])) for batch in batches]
        return pa.concat_tables(parts, promote_options="permissive").combine_chunks()
