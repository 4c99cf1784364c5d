"""What the lists say, resolved onto the CCDs of a release: the table ``labels``.

One join answers for the whole release; its rows are then cut by night and committed where they
differ from what is there. What a list or round that is gone had said stays until it is pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lake.errors import NotFound
from lake.record import REPORTS, Record, content_digest, digest, table_reference
from lake.said import (
    Merged,
    has_own_vocabulary,
    read_merged,
    said_state,
    speakers,
    write_merged,
)
from lake.store import Lake, file_stamp
from lake.tables import table
from lake.versions import in_order
from lake.vocabulary import USER_FILE, Vocabulary
from queries import engine

STAGE = "merge-labels"
#: Raise whenever the same reports give other labels.
ALGORITHM = 2
#: Commits wait for the disk: a few at once hide most of it.
_WRITERS = 4
_SQL = Path(__file__).with_suffix(".sql")

Progress = Callable[[int, int], None]
Night = tuple[str, str]


@dataclass(frozen=True)
class MergeSummary:
    """What `merge_labels` did.

    `rows` counts labels, `unmapped` those among them without a class, `own` those that only this
    program's lines say, `ccds` and `exposures` what they are about; `written`, `unchanged` and
    `removed` count partitions. `retracted` labels are no longer said; `kept` ones neither, since
    what said so is gone from the lake (`kept_since` tells what).
    """

    release: str
    rows: int = 0
    ccds: int = 0
    exposures: int = 0
    unmapped: int = 0
    own: int = 0
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    retracted: int = 0
    kept: int = 0
    kept_since: tuple[str, ...] = ()
    up_to_date: bool = False

    def text(self) -> str:
        """Return the summary in one line."""
        about = (
            f"{self.rows:,} labels of {self.ccds:,} CCDs in {self.exposures:,} exposures, "
            f"{self.unmapped:,} of them without a class"
        )
        if self.own:
            about += f", {self.own:,} of lines that this program wrote"
        if self.up_to_date:
            return f"labels of {self.release} are up to date: {about}"
        done = f"{self.written} partitions written, {self.unchanged} unchanged"
        removed = f", {self.removed} removed" if self.removed else ""
        if self.retracted:
            removed += f"; {self.retracted:,} labels are no longer said"
        if self.kept:
            removed += f"; {self.kept:,} kept: {', '.join(self.kept_since)}"
        return f"labels of {self.release}: {about}; {done}{removed}"


def merge_labels(
    lake: Lake,
    release: str,
    force: bool = False,
    prune: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> MergeSummary:
    """Resolve all reports that call something bad onto the CCDs of `release`.

    A report on a whole exposure covers all its CCDs. There is one row per CCD, class and source; a
    reason without a class gives a row with a null class, so that its words are kept. Nothing is
    read beyond file dates when neither CCDs nor reports have changed.

    A label goes where the edition of its list that counts, or its round, no longer says so. It
    stays where that list, round, CCD or the lake's own vocabulary is gone.

    Parameters
    ----------
    force : merge again, and write every partition, though nothing has changed.
    prune : remove also what would stay; `announce` is told first how much that is.
    progress : called with (partitions done, partitions in all).

    Raises
    ------
    SurveyError : the release is not in the lake.
    """
    if not lake.partitions("ccds", release=release):
        known = in_order(partition["release"] for partition in lake.partitions("ccds"))
        raise NotFound(
            f"no release {release!r} in {lake.root}; it has {', '.join(known) or 'none'}: run "
            f"`survey-qa ingest ccds FILE --release {release}` first"
        )
    merged = read_merged(lake, release)
    files = _files(lake, release, _given_files(lake, release))
    if not (force or prune) and merged is not None and merged.files == files:
        return _unchanged(release, merged)
    with lake.lock(f"labels-{release}"):
        return _Merge(lake, release, force, prune, announce, progress).run()


def _unchanged(release: str, merged: Merged) -> MergeSummary:
    counts: Any = merged.summary
    return replace(MergeSummary(release, up_to_date=True), **counts)


def _given_files(lake: Lake, release: str) -> str:
    """Return a hash of sizes and times of what decides the labels."""
    parts = [
        *lake.partitions("ccds", release=release),
        *(
            part
            for name in ("reports", "rounds", "inspections", "outcomes")
            for part in lake.partitions(name)
        ),
    ]
    files = [*(part.path for part in parts), lake.root / USER_FILE]
    return _stamps(lake, [path for path in files if path.exists()])


def _files(lake: Lake, release: str, given: str) -> str:
    """Return a hash of sizes and times of what decided the labels, and of what holds them now."""
    labels = [part.path for part in lake.partitions("labels", release=release)]
    return digest([ALGORITHM, given, _stamps(lake, labels)])


def _stamps(lake: Lake, files: Sequence[Path]) -> str:
    return digest([[str(path.relative_to(lake.root)), file_stamp(path)] for path in files])


def _tables(lake: Lake, release: str, ccds: Mapping[Night, str]) -> str:
    """Return the identity of the CCDs, of which `ccds` are the nights', and of the labels now."""
    labels = [[part.name, part.identity()] for part in lake.partitions("labels", release=release)]
    return digest([ALGORITHM, sorted([*night, names] for night, names in ccds.items()), labels])


@dataclass(frozen=True)
class _Change:
    """What becomes of a night's labels: `rows` are to be there, `n_gone` no longer are.

    `kept` are the reasons for rows that stay, each as often as it applies.
    """

    rows: pa.Table
    record: Record
    n_gone: int = 0
    kept: tuple[str, ...] = ()


class _Merge:
    """One merging of a release."""

    def __init__(
        self,
        lake: Lake,
        release: str,
        force: bool,
        prune: bool,
        announce: Callable[[str], None] | None,
        progress: Progress | None,
    ) -> None:
        self.lake, self.release = lake, release
        self.force, self.prune = force, prune
        self.announce, self.progress = announce, progress
        # Taken before anything is read: what is said meanwhile makes the labels out of date.
        self.given_files = _given_files(lake, release)
        self.said, self.speakers = said_state(lake), speakers(lake)
        self.merged = read_merged(lake, release)
        self.ccds = {
            (part["camera"], part["night"]): part
            for part in lake.partitions("ccds", release=release)
        }
        self.names = {night: part.identity("names") for night, part in self.ccds.items()}
        self.silent = self._silent()

    def run(self) -> MergeSummary:
        """Merge, and return what was done."""
        merged = self.merged
        if (
            not (self.force or self.prune)
            and merged is not None
            and (merged.said, merged.tables) == (self.said, self._tables())
        ):
            # Copied or touched files: remembered, so that the next look is at their dates alone.
            write_merged(self.lake, self.release, replace(merged, files=self._files()))
            return _unchanged(self.release, merged)
        nights = dict(_by_night(self._resolve()))
        stored = {
            (part["camera"], part["night"])
            for part in self.lake.partitions("labels", release=self.release)
        }
        changes = {}
        for night in sorted(nights.keys() | stored):
            change = self._change(night, nights.get(night), night in stored)
            if change is not None:
                changes[night] = change
        if self.prune and self.announce is not None:
            self.announce(
                f"{sum(change.n_gone for change in changes.values()):,} labels of {self.release} "
                "that nothing says any more are removed"
            )
        summary = self._commit(nights.keys() | stored, changes)
        counts = {
            name: getattr(summary, name)
            for name in ("rows", "ccds", "exposures", "unmapped", "own")
        }
        counts["unchanged"] = summary.written + summary.unchanged
        write_merged(
            self.lake,
            self.release,
            Merged(
                self.said,
                self._remembered(),
                has_own_vocabulary(self.lake),
                self._files(),
                self._tables(),
                counts,
            ),
        )
        return summary

    def _files(self) -> str:
        return _files(self.lake, self.release, self.given_files)

    def _tables(self) -> str:
        return _tables(self.lake, self.release, self.names)

    def _remembered(self) -> dict[str, list[str]]:
        """Return who has spoken, those among them who are gone and whose labels stay."""
        known = {} if self.merged is None or self.prune else self.merged.speakers
        return {
            source: sorted({*known.get(source, ()), *self.speakers.get(source, ())})
            for source in known.keys() | self.speakers.keys()
        }

    def _silent(self) -> dict[str, str]:
        """Return, by source, what of it is gone from the lake since its labels were merged."""
        known = {} if self.merged is None else self.merged.speakers
        gone = {
            source: sorted({*names} - {*self.speakers.get(source, ())})
            for source, names in known.items()
        }
        return {source: f"{source} ({', '.join(names)})" for source, names in gone.items() if names}

    def _resolve(self) -> pa.Table:
        with engine.connect(self.lake, ["ccds", "reports"], source_columns=False) as connection:
            sql = _SQL.read_text(encoding="utf-8")
            rows = connection.sql(sql, params={"release": self.release}).to_arrow_table()
            return rows.combine_chunks()

    def _change(self, night: Night, said: pa.Table | None, is_stored: bool) -> _Change | None:
        """Return what becomes of a night, None where nothing does."""
        declared = table("labels")
        rows = declared.conform(_EMPTY if said is None else said)
        keys = self._keys(night)
        old = self.lake.record("labels", keys) if is_stored else None
        record = self._record(night, rows)
        if not self.force and record.matches(old) and old is not None:
            return None
        if not is_stored:
            return _Change(rows, record)
        stored = self.lake.read("labels", keys).replace_schema_metadata(None)
        lost = _not_in(stored, rows)
        reasons = self._reasons(night, lost)
        kept = np.array([reason is not None for reason in reasons], bool)
        if self.prune:
            kept[:] = False
        if kept.any():
            staying = declared.conform(lost.filter(pa.array(kept)))
            rows = declared.conform(pa.concat_tables([rows, staying], promote_options="default"))
            record = self._record(night, rows)
            if not self.force and record.matches(old):
                return None
        why = tuple(reason for reason, stays in zip(reasons, kept, strict=True) if stays and reason)
        return _Change(rows, record, int((~kept).sum()), why)

    def _record(self, night: Night, rows: pa.Table) -> Record:
        ccds = self.ccds.get(night)
        inputs = {f"{REPORTS}:rows": content_digest(rows)}
        if ccds is not None:
            inputs[table_reference("ccds", dict(ccds.keys), "names")] = self.names[night]
        return Record(STAGE, {"release": self.release}, inputs, algorithm=ALGORITHM)

    def _reasons(self, night: Night, lost: pa.Table) -> list[str | None]:
        """Return why each of the labels that nothing says any more stays, None where it goes."""
        if not lost.num_rows:
            return []
        if night not in self.ccds:
            return ["the CCD table no longer has their night"] * lost.num_rows
        known = self.lake.read("ccds", dict(self.ccds[night].keys), ["expnum", "ccdnum"])
        ccds = set(zip(known["expnum"].to_pylist(), known["ccdnum"].to_pylist(), strict=True))
        classes = Vocabulary.of_lake(self.lake.root).classes
        words_gone = (
            self.merged is not None
            and self.merged.own_vocabulary
            and not has_own_vocabulary(self.lake)
        )
        reasons: list[str | None] = []
        for row in lost.select(["expnum", "ccdnum", "class", "source"]).to_pylist():
            source = row["source"]
            if (row["expnum"], row["ccdnum"]) not in ccds:
                reasons.append("the CCD table no longer has their CCDs")
            elif source in self.silent:
                reasons.append(f"gone from the lake are {self.silent[source]}")
            elif self.merged is None and source not in self.speakers:
                reasons.append(f"gone from the lake are all reports of {source}")
            elif words_gone and row["class"] is not None and row["class"] not in classes:
                reasons.append(f"gone from the lake is its {USER_FILE}")
            else:
                reasons.append(None)
        return reasons

    def _keys(self, night: Night) -> dict[str, str]:
        return {"release": self.release, "camera": night[0], "night": night[1]}

    def _commit(self, nights: Iterable[Night], changes: Mapping[Night, _Change]) -> MergeSummary:
        def one(night: Night) -> bool:
            change = changes[night]
            if change.rows.num_rows:
                self.lake.write("labels", self._keys(night), change.rows, change.record)
            else:
                self.lake.remove("labels", self._keys(night))
            return bool(change.rows.num_rows)

        written = 0
        with ThreadPoolExecutor(_WRITERS) as pool:
            for number, is_written in enumerate(pool.map(one, changes), start=1):
                written += is_written
                if self.progress is not None:
                    self.progress(number, len(changes))
        totals: Any = _totals(self.lake, self.release)
        kept = [reason for change in changes.values() for reason in change.kept]
        summary = MergeSummary(
            release=self.release,
            written=written,
            unchanged=len({*nights} - {*changes}),
            removed=len(changes) - written,
            retracted=sum(change.n_gone for change in changes.values()),
            kept=len(kept),
            kept_since=tuple(dict.fromkeys(kept)),
        )
        return replace(summary, **totals)


def _totals(lake: Lake, release: str) -> dict[str, int]:
    """Return how many labels a release has, and what they are about."""
    sql = _SQL.with_name("label_totals.sql").read_text(encoding="utf-8")
    with engine.connect(lake, ["labels"], source_columns=False) as connection:
        counts = connection.sql(sql, params={"release": release}).to_arrow_table().to_pylist()
    return {name: int(value or 0) for name, value in counts[0].items()}


def _not_in(stored: pa.Table, rows: pa.Table) -> pa.Table:
    """Return the stored labels whose key none of `rows` has."""
    columns = list(table("labels").key)
    keys = set(zip(*(rows[name].to_pylist() for name in columns), strict=True))
    mine = zip(*(stored[name].to_pylist() for name in columns), strict=True)
    return stored.filter(pa.array([key not in keys for key in mine], pa.bool_()))


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


_EMPTY = pa.table({})
