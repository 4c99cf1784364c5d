"""CCD tables (survey-ccds, ccds-annotated) into `ccds` and `exposures`.

A table is read once, in chunks of rows. Each chunk is cut by (camera, night) and spilled beside
the lake's tables; when the whole file has been read without fault, each night is gathered, joined
with what other files said of it, and committed. A file that turns out truncated therefore leaves
the lake as it was, and memory does not depend on the size of the table.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lake import paths
from lake.cameras import ccd_number
from lake.errors import SurveyError
from lake.fits_tables import (
    TableFile,
    constant,
    decode_strings,
    night_of_day,
    open_table,
    to_arrow,
)
from lake.sfd import fill_ebv
from lake.store import Lake, Record, digest, file_fingerprint, hold, write_text_atomically
from lake.tables import table

#: Rows read at a time: about 100 MB of a DR10 table.
CHUNK_ROWS = 262_144
STAGE = "ingest-ccds"
#: Columns without which a row has no place in the lake.
NEEDED = ("expnum", "ccdname", "mjd_obs", "image_filename")
#: Night of rows whose date is not known.
NO_NIGHT = "0"
#: Dates after this one (in the year 2406) are taken for damage.
LATEST_MJD = 200_000.0
DAYS = 1_000_000

Progress = Callable[[int, int], None]
Key = tuple[str, str]


@dataclass
class CcdSummary:
    """What `ingest` did: rows = ccds + superseded + failed.

    `withdrawn_partitions` are those that lost rows of a table which no longer has their night.
    """

    files: int = 0
    unchanged_files: int = 0
    rows: int = 0
    ccds: int = 0
    partitions: int = 0
    unchanged_partitions: int = 0
    withdrawn_partitions: int = 0
    superseded: int = 0
    unusable: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Rows that could not be used; each is in the table `failures`."""
        return sum(self.unusable.values())


def ingest(
    lake: Lake,
    files: Sequence[Path],
    release: str,
    *,
    camera: str | None = None,
    sfd_dir: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> CcdSummary:
    """Read CCD tables into the release `release`.

    A row's night is the UTC date of ``mjd_obs - 0.5`` days. Where a CCD comes in several
    processings, within a file or across files, the latest wins (by ``procdate``, then ``plver``);
    the others are counted as superseded. Rows with exposure number 0, without a date or with a CCD
    name the camera does not have go to `failures`.

    Parameters
    ----------
    camera : camera of tables that have no such column, or of rows where it is blank.
    sfd_dir : folder of the SFD dust maps, for tables without ``ebv``.
    force : read files that did not change since they were last ingested.
    progress : called with (rows read, rows in all) of the file at hand.

    Raises
    ------
    SurveyError : a file that is missing, not FITS, truncated, lacks a needed column, holds values
        that do not fit theirs, or is of another camera. Files before it in `files` are then
        ingested, it and those after it are not.
    """
    paths.check_name("release", release)
    camera = camera.lower() if camera else None
    summary = CcdSummary()
    settings = {"release": release, "camera": camera, "sfd": sfd_dir is not None}
    for path in files:
        if not path.is_file():
            what = "not a plain file" if path.exists() else "no such file"
            raise SurveyError(f"{path}: {what}; name the CCD tables")
    for path in files:
        ledger = _ledger(lake, release, path)
        known = _read_ledger(ledger)
        state = {
            "fingerprint": file_fingerprint(path),
            "run": Record(STAGE, settings).run,
        }
        summary.files += 1
        if not force and _is_ingested(lake, release, known, state):
            summary.unchanged_files += 1
            continue
        with _spill_folder(lake) as folder, open_table(path, folder, NEEDED[0]) as rows:
            spill = _Spill(folder, path, camera)
            spill.read(rows, progress)
            with locked(lake, release):
                nights = spill.keys()
                gone = sorted({(camera, night) for camera, night in known["nights"]} - {*nights})
                # Should this run be killed, the next one still knows of all these nights.
                _write_ledger(ledger, {"nights": [*nights, *gone]})
                _commit(lake, release, path, spill, settings, sfd_dir, force, summary)
                _withdraw(lake, release, str(path.resolve()), gone, summary)
                _write_ledger(ledger, {**state, "nights": nights})
    return summary


# What was ingested before ----------------------------------------------------------------------


def _ledger(lake: Lake, release: str, path: Path) -> Path:
    name = f"{path.name}-{digest(str(path.resolve()))}.json"
    return lake.root / "ccds" / f"release={release}" / "_files" / name


def _read_ledger(ledger: Path) -> dict[str, Any]:
    """Return what a ledger says: the nights that the lake may hold of a table, and its state."""
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"nights": []}
    return known if isinstance(known, dict) and "nights" in known else {"nights": []}


def _write_ledger(ledger: Path, known: dict[str, Any]) -> None:
    write_text_atomically(ledger, json.dumps(known, sort_keys=True))


def _is_ingested(lake: Lake, release: str, known: dict[str, Any], state: dict[str, str]) -> bool:
    return all(known.get(name) == value for name, value in state.items()) and all(
        lake.path(name, {"release": release, "camera": camera, "night": night}).exists()
        for camera, night in known["nights"]
        for name in ("ccds", "exposures")
    )


def locked(lake: Lake, release: str) -> AbstractContextManager[None]:
    """Let one process at a time change the nights of a release: files may share a night."""
    return hold(lake.root / "ccds" / f"release={release}" / "_lock")


@contextlib.contextmanager
def _spill_folder(lake: Lake) -> Iterator[Path]:
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


# Reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failure:
    """A row that could not be used, with the partition of `failures` that it goes to."""

    camera: str
    night: str
    expnum: int
    ccdnum: int
    file: str
    error: str


#: The type of each column that a table may bring and this program knows.
_TYPES = {"camera": pa.string(), **{column.name: column.type for column in table("ccds").columns}}


def _whole(values: pa.ChunkedArray) -> pa.Array:
    """Return floating numbers as integers, -1 for what is no whole number."""
    numbers = values.to_numpy()
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**63)
    return pa.array(np.where(whole, numbers, -1).astype(np.int64))


class _Spill:
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
            raise SurveyError(f"{self.path}: lacks the column(s) {', '.join(missing)}{hint}")
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
                raise SurveyError(
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
            raise SurveyError(
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

    def keys(self) -> list[Key]:
        """Return the (camera, night) pairs of the table, sorted."""
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


# Committing ------------------------------------------------------------------------------------


def _commit(
    lake: Lake,
    release: str,
    path: Path,
    spill: _Spill,
    settings: dict[str, Any],
    sfd_dir: Path | None,
    force: bool,
    summary: CcdSummary,
) -> None:
    """Commit every night of a file."""
    source = str(path.resolve())

    def one(key: Key) -> tuple[int, int, bool]:
        keys = {"release": release, "camera": key[0], "night": key[1]}
        before = lake.record("ccds", keys)
        inputs = {**(before.inputs if before else {}), source: spill.fingerprint(key)}
        record = Record(STAGE, settings, inputs)
        if not force and record.matches(before) and lake.path("exposures", keys).exists():
            kept = lake.read("ccds", keys, ["table_file"])["table_file"]
            used = int(pc.sum(pc.equal(kept, source)).as_py() or 0)
            return spill.num_rows(key), used, False
        rows = spill.rows(key)
        if sfd_dir is not None and "ebv" not in rows.column_names:
            rows = fill_ebv(rows, sfd_dir)
        rows = rows.append_column("table_file", constant(source, rows.num_rows).cast(pa.string()))
        if before is not None:
            kept = lake.read("ccds", keys)
            others = kept.filter(pc.not_equal(kept["table_file"], source))
            try:
                rows = pa.concat_tables([others, rows], promote_options="permissive")
            except pa.ArrowException as error:
                raise SurveyError(
                    f"{path}: a column is of another kind than in the tables that release "
                    f"{release} has of night {key[1]} already ({error}); mend the table or name "
                    "another release"
                ) from error
        latest = table("ccds").conform(latest_processing(rows))
        lake.write("exposures", keys, exposures_of(latest), record)
        lake.write("ccds", keys, latest, record)
        used = int(pc.sum(pc.equal(latest["table_file"], source)).as_py() or 0)
        return spill.num_rows(key), used, True

    with ThreadPoolExecutor(2) as pool:
        for n_rows, used, written in pool.map(one, spill.keys()):
            summary.ccds += used
            summary.superseded += n_rows - used
            summary.partitions += written
            summary.unchanged_partitions += not written
    summary.rows += spill.rows_read
    for failure in spill.failures:
        summary.unusable[failure.error.split(" (")[0]] += 1
    rows = [asdict(failure) for failure in spill.failures]
    record = Record(STAGE, {"release": release}, {source: digest(rows)})
    commit_failures(lake, failure_subject(release, source), spill.failures, record)


def _withdraw(
    lake: Lake, release: str, source: str, nights: Sequence[Key], summary: CcdSummary
) -> None:
    """Take the rows of a table out of the nights that it no longer has."""
    for camera, night in nights:
        keys = {"release": release, "camera": camera, "night": night}
        before = lake.record("ccds", keys)
        if before is None or source not in before.inputs:
            continue
        kept = lake.read("ccds", keys)
        kept = kept.filter(pc.not_equal(kept["table_file"], source))
        if kept.num_rows:
            inputs = {name: value for name, value in before.inputs.items() if name != source}
            record = Record(before.stage, before.settings, inputs)
            lake.write("exposures", keys, exposures_of(kept), record)
            lake.write("ccds", keys, kept, record)
        else:
            lake.remove("exposures", keys)
            lake.remove("ccds", keys)
        summary.withdrawn_partitions += 1


def failure_subject(release: str, source: str) -> str:
    """Return the name under which the failures of a file of a release are kept."""
    return f"{release}-{digest(source)}"


def commit_failures(lake: Lake, subject: str, failures: Sequence[Failure], record: Record) -> None:
    """Make `failures` all that the stage of `record` has to say of `subject`."""
    groups: dict[Key, list[dict[str, Any]]] = {
        (partition["camera"], partition["night"]): []
        for partition in lake.partitions("failures", stage=record.stage)
        if partition.path.stem == subject
    }
    for failure in failures:
        row = asdict(failure)
        groups.setdefault((row.pop("camera"), row.pop("night")), []).append(row)
    schema = table("failures").conform(pa.table({})).schema
    for (camera, night), rows in groups.items():
        failed = pa.Table.from_pylist(rows, schema=schema)
        keys = {"camera": camera, "night": night}
        lake.write_failures(record.stage, subject, keys, failed, record)


def latest_processing(rows: pa.Table) -> pa.Table:
    """Return one row per (expnum, ccdnum): the last by ``procdate``, then ``plver``, then order."""
    keys = pl.DataFrame(
        {
            "expnum": rows["expnum"].to_numpy(),
            "ccdnum": rows["ccdnum"].to_numpy(),
        }
    )
    if keys.n_unique() == rows.num_rows:
        return rows
    blank = pl.Series([""] * rows.num_rows)
    for name in ("procdate", "plver"):
        column = blank
        if name in rows.column_names:
            column = pl.Series(pl.from_arrow(rows[name])).cast(pl.String).fill_null("")
        keys = keys.with_columns(column.alias(name))
    keys = keys.with_columns(
        # V4.10 comes after V4.8.2a: compare runs of digits as numbers.
        pl.col("plver").map_elements(_natural, return_dtype=pl.String),
        pl.int_range(pl.len()).alias("position"),
    )
    chosen = (
        keys.sort("procdate", "plver", "position")
        .group_by("expnum", "ccdnum", maintain_order=True)
        .last()["position"]
        .sort()
    )
    return rows.take(chosen.to_arrow())


def _natural(version: str) -> str:
    pieces = "".join(c if c.isdigit() else f" {c} " for c in version).split()
    return " ".join(piece.zfill(8) if piece.isdigit() else piece for piece in pieces)


def exposures_of(ccds: pa.Table) -> pa.Table:
    """Return the exposures of a night's CCDs: one row per expnum, medians over its CCDs."""
    frame = pl.DataFrame(pl.from_arrow(ccds.select(_EXPOSURE_SOURCES)))

    def median(name: str) -> pl.Expr:
        return pl.col(name).fill_nan(None).median()

    exposures = frame.group_by("expnum", maintain_order=True).agg(
        pl.col("mjd_obs").first(),
        pl.col("filter").first().str.split(" ").list.first().alias("band"),
        *(
            pl.col(name).first()
            for name in (
                "exptime",
                "airmass",
                "ra_bore",
                "dec_bore",
                "propid",
                "object",
                "plver",
            )
        ),
        pl.len().cast(pl.Int32).alias("n_ccds"),
        median("fwhm"),
        median("ccdzpt").alias("zpt"),
        median("ccdskysb").alias("skysb"),
        median("ebv"),
        pl.when(pl.col("ccd_cuts").is_null().all())
        .then(None)
        .otherwise(pl.col("ccd_cuts").fill_null(0).bitwise_or())
        .alias("ccd_cuts"),
        pl.when(pl.col("ccd_cuts").is_null().all())
        .then(None)
        .otherwise((pl.col("ccd_cuts") != 0).sum())
        .cast(pl.Int32)
        .alias("n_cut"),
        pl.col("image_filename").first(),
    )
    return exposures.to_arrow(compat_level=pl.CompatLevel.oldest())


_EXPOSURE_SOURCES = [
    "expnum", "mjd_obs", "filter", "exptime", "airmass", "ra_bore", "dec_bore", "propid",
    "object", "plver", "fwhm", "ccdzpt", "ccdskysb", "ebv", "ccd_cuts", "image_filename",
]  # fmt: skip
