"""CCD rows straight from the headers of images, for nights that no CCD table covers yet.

The record of each night names the files that it was made from, with their size and time of
change; a file that is named so is not opened again. Files are read some hundreds at a time, and
each lot is committed, so that an interrupted run goes on where it was. What a file gave before
stays where it can no longer be read or no longer has it, until it is pruned.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from images.headers import ImageHeaders, read_headers
from ingest.ccd_nights import LATEST_MJD, Key, exposures_of, latest_processing, locked
from ingest.fits_tables import night_of_day
from ingest.row_failures import NO_NIGHT, Failure, commit_failures, failure_subject
from lake import paths
from lake.errors import BadInput, NotFound, SurveyError
from lake.record import Record, file_reference, split_reference
from lake.store import Lake, file_stamp
from lake.tables import table

STAGE = "ingest-images"
#: Science images as the community pipeline names them; ``ood`` and ``oow`` are masks and weights.
PATTERN = "**/*ooi*.fits*"
#: Files that are read before their nights are committed.
LOT = 500
#: Files up to which no processes are started to read them.
FEW = 8
#: Header cards that a row keeps beside the declared columns of ``ccds``.
_KEPT = (
    ("scampflg", pa.float32()),
    ("magzpt", pa.float32()),
    ("avsky", pa.float32()),
    ("avsig", pa.float32()),
)

Progress = Callable[[int, int], None]


@dataclass
class ImageSummary:
    """What `ingest_images` did.

    The CCD images of the files that are new or have changed = ccds + superseded + failed; a file
    that cannot be read at all counts as one failure. `kept` CCDs are those that a file once gave
    and does not give now, `pruned` those of them that went since that was asked. `nights` are those
    of all the files found, unchanged ones included.
    """

    files: int = 0
    unchanged_files: int = 0
    ccds: int = 0
    superseded: int = 0
    kept: int = 0
    pruned: int = 0
    partitions: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    nights: set[Key] = field(default_factory=set)

    @property
    def failed(self) -> int:
        """CCD images and files that could not be used; each is in the table `failures`."""
        return sum(self.unusable.values())


def ingest_images(
    lake: Lake,
    folder: Path,
    release: str,
    *,
    pattern: str = PATTERN,
    camera: str | None = None,
    workers: int | None = None,
    force: bool = False,
    prune: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> ImageSummary:
    """Read the headers of the images in `folder` into ``ccds`` and ``exposures`` of `release`.

    Only headers are read, so what is measured on pixels or catalogues (zeropoint, sky, E(B-V),
    ``ccd_cuts``) stays null. Of several processings of a CCD the latest wins, as for CCD tables;
    between equal ones the row of a CCD table does, since it knows more.

    Parameters
    ----------
    folder : what ``image_filename`` is relative to.
    pattern : which files below it are images of CCDs; hidden ones never are.
    camera : camera of images whose ``INSTRUME`` does not name it.
    workers : processes that read headers, by default one a core.
    force : read files again that have not changed.
    prune : remove the CCDs that a file once gave and does not give any more, and those of files
        that are gone from the folder; `announce` is told first how many these are. Files that
        `pattern` leaves out, or that cannot be read, keep theirs.
    progress : called with (files read, files to read).

    Raises
    ------
    SurveyError : no such folder, no image in it, or a lake that cannot be written.
    """
    paths.check_name("release", release)
    if camera is not None:
        paths.check_name("camera", camera)
    if workers is not None and workers < 1:
        raise BadInput(f"--workers {workers}: expected 1 or more")
    files = _find(folder, pattern)
    settings = {"release": release, "camera": camera}
    known = _known(lake, release, settings, files)
    outlived = set() if force or prune else _outlived(lake, release, files, known)
    changed = [
        file
        for file in files
        if force
        or prune
        or file.name in outlived
        or known.get(file.name, _Known()).versions != {file.version}
    ]
    summary = ImageSummary(len(files), len(files) - len(changed))
    done = 0
    given: dict[str, set[tuple[int, int]]] = {}
    with _reader(workers, len(changed), camera) as read:
        for start in range(0, len(changed), LOT):
            lot = []
            files_of_lot = changed[start : start + LOT]
            headers = read([file.path for file in files_of_lot])
            for file, header in zip(files_of_lot, headers, strict=True):
                lot.append(_account(file, header))
                done += 1
                if progress:
                    progress(done, len(changed))
            with locked(lake, release):
                _commit(lake, settings, lot, known, summary)
            for account in lot:
                if account.is_whole:
                    pairs = {(row["expnum"], row["ccdnum"]) for row in account.rows}
                    given[account.file.source] = pairs
    for file in files:
        summary.nights |= known[file.name].nights
    if prune:
        with locked(lake, release):
            _prune(lake, release, folder, given, summary, announce)
    return summary


# Which files ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _File:
    """An image file: where it is, its name in table and records, its whole path, its version."""

    path: Path
    name: str
    source: str
    version: str


@dataclass
class _Known:
    """What the lake holds of a file: versions of it, and nights with rows of it."""

    versions: set[str] = field(default_factory=set)
    nights: set[Key] = field(default_factory=set)


def _find(folder: Path, pattern: str) -> list[_File]:
    """Return the image files of `folder`, sorted by name."""
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder")
    asked = PurePath(pattern)
    wrong = any(
        ".." in part or "\0" in part or ("**" in part and part != "**") for part in asked.parts
    )
    if wrong or not asked.parts or asked.is_absolute():
        raise BadInput(f"--pattern {pattern!r}: expected a pattern below the folder, as {PATTERN}")
    found = sorted(path for path in folder.glob(str(asked)) if not path.is_dir())
    names = [path.relative_to(folder) for path in found]
    files = [
        _File(folder / name, name.as_posix(), str(folder.resolve() / name), _version(folder / name))
        for name in names
        if not any(part.startswith(".") for part in name.parts)
    ]
    if not files:
        raise BadInput(f"{folder}: no file in it matches {pattern}; name others with --pattern")
    return files


def _version(path: Path) -> str:
    try:
        return file_stamp(path)
    except OSError:
        return "missing"


def _known(
    lake: Lake, release: str, settings: dict[str, Any], files: Sequence[_File]
) -> dict[str, _Known]:
    """Return what the lake holds of each file that it was made from, by its name in the table."""
    # Version 0.1.0 named files by their whole path.
    names = {file.source: file.name for file in files}
    known: dict[str, _Known] = {}
    for partition in lake.partitions("ccds", release=release):
        keys = {"release": release, "camera": partition["camera"], "night": partition["night"]}
        record = partition.record()
        if record is not None and lake.path("exposures", keys).exists():
            for reference, version in record.inputs.items():
                name = split_reference(reference)[1]
                entry = known.setdefault(names.get(name, name), _Known())
                entry.versions.add(version)
                entry.nights.add((partition["camera"], partition["night"]))
    for partition in lake.partitions("failures", stage=STAGE):
        record = partition.record()
        # What else a file holds is in `ccds`; until it is there the file is not known.
        if record is not None and record.settings == settings and not record.notes["ccds"]:
            for reference, version in record.inputs.items():
                name = split_reference(reference)[1]
                known.setdefault(names.get(name, name), _Known()).versions.add(version)
    return known


def _outlived(
    lake: Lake, release: str, files: Sequence[_File], known: Mapping[str, _Known]
) -> set[str]:
    """Return the files without a row whose night has rows of a file that is not there any more.

    A file that was renamed and has its name again gives its rows once more.
    """
    nights: dict[Key, list[_File]] = {}
    for file in files:
        for night in known.get(file.name, _Known()).nights:
            nights.setdefault(night, []).append(file)
    found = set()
    for night, here in nights.items():
        try:
            rows = lake.read("ccds", _keys(release, night), ["table_file", "image_filename"])
        except FileNotFoundError:  # another process has just removed the night
            continue
        # What a CCD table says better needs no image, wherever the table is now.
        sources = set(rows.filter(from_images(rows))["table_file"].to_pylist())
        silent = {file.name for file in here if file.source not in sources}
        if silent and not all(Path(source).exists() for source in sources):
            found |= silent
    return found


# Reading ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _reader(
    workers: int | None, n_files: int, camera: str | None
) -> Iterator[Callable[[Sequence[Path]], Iterator[ImageHeaders]]]:
    """Give a function that reads the headers of files, in their order and side by side."""
    read = partial(read_headers, camera=camera)
    workers = min(workers or len(os.sched_getaffinity(0)), n_files)
    if n_files <= FEW or workers < 2:
        yield partial(map, read)
        return
    # Spawned: forking a process that has run threads (torch, duckdb) can hang it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_ignore_interrupts)
    try:
        yield partial(pool.map, read, chunksize=4)
    except BrokenProcessPool as error:
        raise SurveyError(
            "a process that reads headers was killed; run again to go on, with fewer --workers if "
            "memory was short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class _Read:
    """What was read of a file: its night, the rows it gives, and what could not be used."""

    file: _File
    night: Key
    rows: list[dict[str, Any]]
    failures: list[Failure]
    is_whole: bool


def _account(file: _File, headers: ImageHeaders) -> _Read:
    """Tell the CCDs of a file that have a place in the lake from those that have none."""
    mjd, expnum = headers.mjd_obs or 0.0, max(headers.expnum or 0, 0)
    dated = 0 < mjd < LATEST_MJD
    night = night_of_day(math.floor(mjd - 0.5)) if dated else NO_NIGHT
    camera = headers.camera or "unknown"
    rows, failures = [], []
    for hdu, error in headers.errors:
        where = str(file.path) if hdu is None else f"{file.path}[{hdu}]"
        failures.append(Failure(camera, night, expnum, 0, where, error))
    for ccd in headers.ccds:
        name, number = ccd["ccdname"], ccd["ccdnum"]
        if expnum and dated and number:
            place = {"expnum": expnum, "mjd_obs": mjd, "image_filename": file.name}
            rows.append({**ccd, **place, "table_file": file.source})
            continue
        reason = "unknown CCD name" if dated else "no observing date"
        reason = reason if expnum else "exposure number 0"
        where = f"{file.path}[{name or ccd['image_hdu']}]"
        failures.append(Failure(camera, night, expnum, number, where, f"{reason} (CCD {name!r})"))
    return _Read(file, (camera, night), rows, failures, not headers.errors)


# Committing -------------------------------------------------------------------------------------


def _commit(
    lake: Lake,
    settings: dict[str, Any],
    lot: Sequence[_Read],
    known: dict[str, _Known],
    summary: ImageSummary,
) -> None:
    """Commit what was read of some files, beside what they gave before and do not give now."""
    release = settings["release"]
    failed_before = {partition.path.stem for partition in lake.partitions("failures", stage=STAGE)}
    nights: dict[Key, list[_Read]] = {}
    for read in lot:
        file = read.file
        subject = failure_subject(release, file.source)
        if read.failures or subject in failed_before:
            # Before the rows: the file is known once these are there.
            notes = {"ccds": len(read.rows)}
            record = Record(STAGE, settings, {file_reference(file.name): file.version}, notes)
            commit_failures(lake, subject, read.failures, record)
        for failure in read.failures:
            summary.unusable[failure.error.split(" (")[0].removeprefix(f"{file.path}: ")] += 1
        night = {read.night} if read.rows else set()
        before = known.get(file.name, _Known()).nights
        for key in before | night:
            nights.setdefault(key, []).append(read)
        known[file.name] = _Known({file.version}, before | night)
    for key, reads in sorted(nights.items()):
        _commit_night(lake, release, key, reads, summary)


def _commit_night(
    lake: Lake, release: str, key: Key, reads: Sequence[_Read], summary: ImageSummary
) -> None:
    keys = _keys(release, key)
    before = lake.record("ccds", keys)
    inputs = dict(before.inputs) if before else {}
    for read in reads:
        for name in (read.file.source, read.file.name):
            inputs.pop(file_reference(name), None)
        inputs[file_reference(read.file.name)] = read.file.version
    here = [read for read in reads if read.night == key and read.rows]
    rows = pa.Table.from_pylist([row for read in here for row in read.rows], _SCHEMA)
    n_read = rows.num_rows
    given = {(row["expnum"], row["ccdnum"]) for read in here for row in read.rows}
    if before is not None:
        kept = lake.read("ccds", keys)
        # What a file gives another night now is no longer of this one.
        moved = {
            (row["expnum"], row["ccdnum"])
            for read in reads
            if read.night != key
            for row in read.rows
        }
        kept = kept.filter(pa.array([pair not in moved for pair in _pairs(kept)], pa.bool_()))
        # The last of equal processings counts.
        images = from_images(kept)
        parts = [kept.filter(images), rows, kept.filter(pc.invert(images))]
        rows = pa.concat_tables(parts, promote_options="permissive")
        mine = pa.array([read.file.source for read in reads], pa.string())
        stale = kept.filter(pc.is_in(kept["table_file"], mine))
        summary.kept += sum(pair not in given for pair in _pairs(stale))
    latest = table("ccds").conform(latest_processing(rows))
    record = Record(STAGE, {"release": release}, inputs)
    if latest.num_rows:
        lake.write("exposures", keys, exposures_of(latest), record)
        lake.write("ccds", keys, latest, record)
    else:
        lake.remove("exposures", keys)
        lake.remove("ccds", keys)
    sources = pa.array([read.file.source for read in here], pa.string())
    ours = latest.filter(pc.is_in(latest["table_file"], sources))
    used = sum(pair in given for pair in _pairs(ours))
    summary.ccds += used
    summary.superseded += n_read - used
    summary.partitions += 1


def _prune(
    lake: Lake,
    release: str,
    folder: Path,
    given: Mapping[str, set[tuple[int, int]]],
    summary: ImageSummary,
    announce: Callable[[str], None] | None,
) -> None:
    """Take the CCDs out of a release that came of images in `folder` and that none gives now.

    `given` are the CCDs of each file that was read as a whole, by its path; of another file that
    is there nothing is known, and its CCDs stay.
    """
    is_there: dict[str, bool] = {}

    def is_lost(source: str, pair: tuple[int, int]) -> bool:
        if source in given:
            return pair not in given[source]
        if source not in is_there:
            is_there[source] = os.path.lexists(source)
        return not is_there[source]

    doomed: dict[Key, pa.Array] = {}
    for partition in lake.partitions("ccds", release=release):
        key = partition["camera"], partition["night"]
        rows = lake.read("ccds", _keys(release, key))
        under = pc.starts_with(rows["table_file"], f"{folder.resolve()}/")
        mine = pc.and_(under, from_images(rows)).to_pylist()
        cells = zip(mine, rows["table_file"].to_pylist(), _pairs(rows), strict=True)
        lost = [is_mine and is_lost(source, pair) for is_mine, source, pair in cells]
        if any(lost):
            doomed[key] = pa.array(lost, pa.bool_())
    n_doomed = sum(int(pc.sum(lost).as_py()) for lost in doomed.values())
    if announce is not None:
        announce(f"{n_doomed:,} CCDs of {len(doomed):,} nights that no image gives are removed")
    for key, lost in doomed.items():
        keys = _keys(release, key)
        before = lake.read("ccds", keys)
        rows = before.filter(pc.invert(lost))
        record = lake.record("ccds", keys)
        assert record is not None
        if rows.num_rows:
            # A file whose rows are gone is new when it comes back.
            gone = set(before.filter(lost)["image_filename"].to_pylist())
            gone -= set(rows["image_filename"].to_pylist())
            gone -= {name for name in gone if str(folder.resolve() / name) in given}
            references = {file_reference(name) for name in gone}
            inputs = {name: id for name, id in record.inputs.items() if name not in references}
            record = Record(STAGE, record.settings, inputs)
            lake.write("exposures", keys, exposures_of(rows), record)
            lake.write("ccds", keys, rows, record)
        else:
            lake.remove("exposures", keys)
            lake.remove("ccds", keys)
    summary.pruned += n_doomed


def _keys(release: str, key: Key) -> dict[str, str]:
    return {"release": release, "camera": key[0], "night": key[1]}


def _pairs(rows: pa.Table) -> list[tuple[int, int]]:
    return list(zip(rows["expnum"].to_pylist(), rows["ccdnum"].to_pylist(), strict=True))


def from_images(ccds: pa.Table) -> pa.ChunkedArray:
    """Tell which rows of ``ccds`` were read from their image and not from a CCD table."""
    names = pl.DataFrame(pl.from_arrow(ccds.select(["table_file", "image_filename"])))
    ends = names.select(pl.col("table_file").str.ends_with(pl.col("image_filename")))
    return pa.chunked_array([ends.to_series().fill_null(False).to_arrow()])


_SCHEMA = pa.schema([*((column.name, column.type) for column in table("ccds").columns), *_KEPT])
