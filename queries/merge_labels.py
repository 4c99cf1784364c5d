"""What the lists say, resolved onto the CCDs of a release: the table ``labels``.

One join answers for the whole release; its rows are then cut by night and committed where they
differ from what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from lake.errors import SurveyError
from lake.store import Lake, Partition, Record, digest, file_fingerprint, tool_version
from lake.store import write_text_atomically as write_text
from queries import engine

STAGE = "merge-labels"
#: File of a release's labels that says from which files they were merged; readers ignore it.
_LEDGER = "_merged.json"
#: Commits wait for the disk: a few at once hide most of it.
_WRITERS = 4
_SQL = Path(__file__).with_suffix(".sql")

Progress = Callable[[int, int], None]
Night = tuple[str, str]


@dataclass(frozen=True)
class MergeSummary:
    """What `merge_labels` did.

    `rows` counts labels, `unmapped` those among them without a class, `ccds` and `exposures` what
    they are about; `written`, `unchanged` and `removed` count partitions.
    """

    release: str
    rows: int = 0
    ccds: int = 0
    exposures: int = 0
    unmapped: int = 0
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    up_to_date: bool = False

    def text(self) -> str:
        """Return the summary in one line."""
        about = (
            f"{self.rows:,} labels of {self.ccds:,} CCDs in {self.exposures:,} exposures, "
            f"{self.unmapped:,} of them without a class"
        )
        if self.up_to_date:
            return f"labels of {self.release} are up to date: {about}"
        done = f"{self.written} partitions written, {self.unchanged} unchanged"
        removed = f", {self.removed} removed" if self.removed else ""
        return f"labels of {self.release}: {about}; {done}{removed}"


def merge_labels(
    lake: Lake, release: str, force: bool = False, progress: Progress | None = None
) -> MergeSummary:
    """Resolve all reports that call something bad onto the CCDs of `release`.

    A report on a whole exposure covers all its CCDs. There is one row per CCD, class and source; a
    reason without a class gives a row with a null class, so that its words are kept. Nothing is
    read beyond file dates when neither CCDs nor reports have changed.

    Parameters
    ----------
    force : merge again, and write every partition, though nothing has changed.
    progress : called with (partitions done, partitions in all).

    Raises
    ------
    SurveyError : the release is not in the lake.
    """
    ccds = lake.partitions("ccds", release=release)
    if not ccds:
        known = sorted({partition["release"] for partition in lake.partitions("ccds")})
        raise SurveyError(
            f"no release {release!r} in {lake.root}; it has {', '.join(known) or 'none'}: run "
            f"`survey-qa ingest ccds FILE --release {release}` first"
        )
    ledger = lake.root / "labels" / f"release={release}" / _LEDGER
    state = _state(lake, release, ccds)
    if not force and (known_summary := _unchanged(ledger, state)):
        return known_summary
    rows = _resolve(lake, release)
    summary = _commit(lake, release, rows, ccds, force, progress)
    # The labels' own files are part of the state: one that is lost is then found missing.
    state = _state(lake, release, ccds)
    text = json.dumps({"state": state, "summary": _counts(summary)}, sort_keys=True)
    write_text(ledger, text)
    return summary


def _state(lake: Lake, release: str, ccds: list[Partition]) -> str:
    """Return a hash of the files that decide the labels, and of those that hold them."""
    files = [*ccds, *lake.partitions("reports"), *lake.partitions("labels", release=release)]
    names = [[str(p.path.relative_to(lake.root)), file_fingerprint(p.path)] for p in files]
    return digest([tool_version(), _SQL.read_text(encoding="utf-8"), names])


def _unchanged(ledger: Path, state: str) -> MergeSummary | None:
    try:
        known = json.loads(ledger.read_text(encoding="utf-8"))
        if known["state"] != state:
            return None
        return MergeSummary(**known["summary"], up_to_date=True)
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or of another version
        return None


def _counts(summary: MergeSummary) -> dict[str, str | int]:
    return {
        "release": summary.release,
        "rows": summary.rows,
        "ccds": summary.ccds,
        "exposures": summary.exposures,
        "unmapped": summary.unmapped,
        "unchanged": summary.written + summary.unchanged,
    }


def _resolve(lake: Lake, release: str) -> pa.Table:
    with engine.connect(lake, ["ccds", "reports"], source_columns=False) as connection:
        sql = _SQL.read_text(encoding="utf-8")
        return connection.sql(sql, params={"release": release}).to_arrow_table().combine_chunks()


def _commit(
    lake: Lake,
    release: str,
    rows: pa.Table,
    ccds: list[Partition],
    force: bool,
    progress: Progress | None,
) -> MergeSummary:
    sources = {(partition["camera"], partition["night"]): partition for partition in ccds}
    nights = dict(_by_night(rows))
    stale = [
        partition
        for partition in lake.partitions("labels", release=release)
        if (partition["camera"], partition["night"]) not in nights
    ]

    def one(night: Night) -> bool:
        mine = nights[night]
        keys = {"release": release, "camera": night[0], "night": night[1]}
        upstream = sources[night].record()
        inputs = {
            "ccds": upstream.fingerprint if upstream else file_fingerprint(sources[night].path),
            "reports": _content(mine),
        }
        record = Record(STAGE, {"release": release}, inputs)
        if not force and lake.is_current("labels", keys, record):
            return False
        lake.write("labels", keys, mine, record)
        return True

    written = 0
    with ThreadPoolExecutor(_WRITERS) as pool:
        for number, is_written in enumerate(pool.map(one, nights), start=1):
            written += is_written
            if progress is not None:
                progress(number, len(nights))
    for partition in stale:
        lake.remove("labels", dict(partition.keys))
    distinct = rows.select(["camera", "expnum", "ccdnum"]).group_by(["camera", "expnum", "ccdnum"])
    about = distinct.aggregate([])
    return MergeSummary(
        release=release,
        rows=rows.num_rows,
        ccds=about.num_rows,
        exposures=about.group_by(["camera", "expnum"]).aggregate([]).num_rows,
        unmapped=rows["class"].null_count,
        written=written,
        unchanged=len(nights) - written,
        removed=len(stale),
    )


def _by_night(rows: pa.Table) -> Iterator[tuple[Night, pa.Table]]:
    """Cut rows that are sorted by camera and night."""
    if not rows.num_rows:
        return
    cameras = rows["camera"].combine_chunks().dictionary_encode()
    codes = cameras.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    nights = rows["night"].to_numpy().astype(np.int64)
    names = cameras.dictionary.to_pylist()
    content = rows.drop_columns(["camera", "night"])
    edges = np.flatnonzero((np.diff(codes) != 0) | (np.diff(nights) != 0)) + 1
    starts = [0, *edges.tolist()]
    for start, stop in zip(starts, [*starts[1:], rows.num_rows], strict=True):
        key = (names[codes[start]], str(nights[start]))
        yield key, content.slice(start, stop - start)


def _content(rows: pa.Table) -> str:
    """Return a hash of the values of a night's rows."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return hashlib.blake2b(sink.getvalue(), digest_size=8).hexdigest()
