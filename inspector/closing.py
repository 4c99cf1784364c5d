"""Ending a round: verdicts become rows, rows are merged, and what comes out feeds the lists.

A round goes from open (logs grow, everybody blind) to closed (each log a partition of
``inspections``; the merger settles disagreements) to merged (``outcomes``). What is in these two
tables is what ``reports``, ``merge-labels`` and ``bad-expid diff`` read: class, quality and comment
stay apart all the way, and nothing is read out of a comment. A round is closed, and imported, as a
whole: its verdicts are seen when all of them are there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest.inspection_tables import (
    CCDNAME,
    InspectionRow,
    InspectionTable,
    Verdict,
    read_inspection_csv,
    write_inspection_csv,
)
from inspector.judgement import Entry, Judgement
from inspector.merge import Agreement, Outcome, Rule, agreement, disagree, merge
from inspector.names import check_inspector
from inspector.rounds import Round, Subject, check_free, freeze, load, located, round_names
from lake.cameras import CAMERAS, ccd_name, ccd_number
from lake.errors import BadInput, NotFound
from lake.record import Record, digest, table_reference
from lake.store import Lake, write_text_atomically
from lake.verdicts import INSPECTION, closing
from lake.vocabulary import Vocabulary
from queries.reports import words_of

#: Version of what merging makes of the same verdicts.
ALGORITHM = 2
_IS_BAD = {"bad": True, "good": False, "unsure": None}
_VERDICT = {is_bad: verdict for verdict, is_bad in _IS_BAD.items()}
#: What a CSV holds beside verdicts, where the round knows it.
_PROPOSED = "ML_reason"
_CAMERA = "camera"


def close(round: Round, unfinished: bool = False) -> dict[str, int]:
    """Close a round: nothing more is taken, and everybody sees everything.

    Closing again repeats what an interrupted closing may have left undone.

    Returns
    -------
    Inspector -> how many they judged.

    Raises
    ------
    SurveyError : nobody has judged anything, or, without `unfinished`, somebody is not through.
    """
    if not round.is_closed:
        _check_finished(round, unfinished)
    with round.lake.lock(f"round-{round.name}"):
        mark = closing(round.lake, round.name) or {"time": time.time()}
        if not round.is_closed:
            # From now on no verdict is taken; what was being written has reached its log.
            _mark(round, mark | {"whole": False})
        judged = {}
        for who in round.inspectors():
            count = _commit_inspector(round, who)
            if count:
                judged[who] = count
        _mark(round, mark | {"whole": True})
    return judged


def _check_finished(round: Round, unfinished: bool) -> None:
    judged = {who: len(_of_round(round, round.log(who).entries())) for who in round.inspectors()}
    judged = {who: count for who, count in judged.items() if count}
    if not judged:
        raise BadInput(f"round {round.name}: nobody has judged anything yet")
    behind = [f"{who} {count:,}" for who, count in judged.items() if count < len(round.subjects)]
    if behind and not unfinished:
        raise BadInput(
            f"round {round.name} is not finished: of {len(round.subjects):,}, judged by "
            f"{', '.join(behind)}; --unfinished closes it all the same"
        )


def _commit_inspector(round: Round, who: str) -> int:
    """Commit what an inspector said, and return how many subjects they judged."""
    log = round.log(who)
    keys = {"round": round.name, "inspector": who}
    # What an earlier closing or a table brought stays; a verdict of the log is the later word.
    stored = round.lake.read("inspections", keys).to_pylist() if _exists(round, keys) else []
    rows = {(row["camera"], row["expnum"], row["ccdnum"]): row for row in stored}
    said = []
    if log.path.exists():  # what came in a table has none
        with log.held():
            said = _rows(round, _of_round(round, log.entries()))
    rows |= {(row["camera"], row["expnum"], row["ccdnum"]): row for row in said}
    _write_inspections(round, who, list(rows.values()))
    return len(rows)


def _exists(round: Round, keys: Mapping[str, str]) -> bool:
    return round.lake.path("inspections", keys).exists()


def _mark(round: Round, mark: Mapping[str, Any]) -> None:
    write_text_atomically(round.closed, json.dumps(mark, sort_keys=True))


def inspections(round: Round) -> dict[str, dict[str, Judgement]]:
    """Return inspector -> key of a subject -> judgement of a closed round.

    Raises `SurveyError` for a round that is open, since its inspectors are blind to each other, and
    for one whose closing was interrupted.
    """
    _check_closed(round)
    found: dict[str, dict[str, Judgement]] = {}
    for partition in round.lake.partitions("inspections", round=round.name):
        rows = round.lake.read("inspections", dict(partition.keys)).to_pylist()
        found[partition["inspector"]] = {
            f"{row['camera']}-{row['expnum']}-{row['ccdnum']}": Judgement(
                row["verdict"], row["class"], row["quality"], row["comment"] or ""
            )
            for row in rows
        }
    return found


def _check_closed(round: Round) -> None:
    mark = closing(round.lake, round.name)
    if mark is None:
        raise BadInput(
            f"round {round.name} is open; `survey-qa inspections close {round.name}` closes it"
        )
    if not mark.get("whole", True):
        raise BadInput(
            f"the closing of round {round.name} was interrupted; `survey-qa inspections close "
            f"{round.name}` goes on with it"
        )


def judgements_of(round: Round) -> list[tuple[Subject, dict[str, Judgement]]]:
    """Return each subject of a closed round with who said what of it; those nobody saw left out."""
    said = inspections(round)
    found = []
    for subject in round.subjects:
        each = {who: key[subject.key] for who, key in said.items() if subject.key in key}
        if each:
            found.append((subject, each))
    return found


def merge_round(round: Round, rule: Rule) -> tuple[list[tuple[Subject, Outcome]], Agreement, int]:
    """Merge a closed round into ``outcomes``.

    Returns
    -------
    The outcomes, how far the inspectors agreed, and how many disagreements nobody has settled:
    those go by the rule.
    """
    with round.lake.lock(f"round-{round.name}"):
        vocabulary = Vocabulary.of_lake(round.lake.root)
        settlements = round.settlements().entries()
        said, times = judgements_of(round), _times(round)
        outcomes, unsettled = [], 0
        for subject, judgements in said:
            entry = settlements.get(subject.key)
            settled = None
            if entry is not None and entry.judgement is not None:
                settled = entry.by, entry.judgement
            elif disagree(list(judgements.values())):
                unsettled += 1
            outcomes.append((subject, merge(judgements, rule, vocabulary.precedence, settled)))
        rows = []
        for subject, outcome in outcomes:
            spoken = [times.get((who, subject.key)) for who in outcome.inspectors]
            if outcome.settled_by is not None:
                spoken = [settlements[subject.key].time]
            rows.append(
                _key_columns(subject)
                | {
                    "verdict": outcome.verdict,
                    "class": outcome.class_name,
                    "quality": outcome.quality,
                    "comment": outcome.comment,
                    "n_looked": outcome.n_looked,
                    "n_bad": outcome.n_bad,
                    "settled_by": outcome.settled_by,
                    "inspectors": list(outcome.inspectors),
                    "time": max((at for at in spoken if at is not None), default=None),
                }
            )
        settings = {"round": round.name, "rule": rule}
        record = Record("outcomes", settings, _inputs(round), algorithm=ALGORITHM)
        table = pa.Table.from_pylist(rows) if rows else pa.table({})
        round.lake.write("outcomes", {"round": round.name}, table, record)
    return outcomes, agreement([judgements for _, judgements in said]), unsettled


def _times(round: Round) -> dict[tuple[str, str], float | None]:
    """Return when each inspector spoke of each subject."""
    return {
        (partition["inspector"], f"{row['camera']}-{row['expnum']}-{row['ccdnum']}"): row["time"]
        for partition in round.lake.partitions("inspections", round=round.name)
        for row in round.lake.read("inspections", dict(partition.keys)).to_pylist()
    }


# Tables of verdicts -----------------------------------------------------------------------------


def to_table(round: Round) -> InspectionTable:
    """Return a closed round as an inspection table: the CSV that spreadsheets and scripts read."""
    vocabulary = Vocabulary.of_lake(round.lake.root)
    said, times = inspections(round), _times(round)
    is_table = "inspectors" in round.origin
    rows = []
    for line, subject in enumerate(round.subjects, 2):
        verdicts = {}
        for who, each in said.items():
            if subject.key in each:
                judgement = each[subject.key]
                # A table's own words stay as they were typed.
                words = (
                    judgement.comment
                    if is_table
                    else words_of(judgement.class_name, judgement.comment, vocabulary)
                )
                verdicts[who] = Verdict(
                    _IS_BAD[judgement.verdict],
                    words,
                    judgement.class_name,
                    judgement.quality,
                    judgement.comment,
                    times.get((who, subject.key)),
                )
        rows.append(InspectionRow(line, subject.expnum, _cells(subject, round), verdicts))
    order: Sequence[str] = round.origin.get("inspectors") or sorted(said)
    cells = list(_cells(round.subjects[0], round))
    columns = round.origin.get("columns")
    return InspectionTable.new(order, rows, cells, columns, is_typed=not is_table)


def export(lake: Lake, name: str) -> bytes:
    """Return a round as CSV, whether it was inspected on the page or came as a CSV.

    Raises `SurveyError` for a round that is open or that the lake does not have.
    """
    return write_inspection_csv(to_table(load(lake, name)))


def import_csv(
    lake: Lake, path: Path, name: str, camera: str = "decam"
) -> tuple[Round, InspectionTable]:
    """Make a closed round of an inspection table, so that it can be merged and exported.

    A row is of the camera that its column ``camera`` names, else of `camera`. Columns that belong
    to no inspector are kept. The class of a verdict is that of its column for classes, else that of
    its words. The round is there when all of it is; an import that was interrupted can be repeated.

    Raises `SurveyError` as `read_inspection_csv`, or when the round exists.
    """
    table = read_inspection_csv(path)
    vocabulary = Vocabulary.of_lake(lake.root)
    for who in table.inspectors:
        check_inspector(who)
    cameras = [_camera(row, camera) for row in table.rows]
    ccdnums = [_ccdnum(path, row, of) for row, of in zip(table.rows, cameras, strict=True)]
    expnums = [row.expnum for row in table.rows]
    keys = set(zip(cameras, expnums, ccdnums, strict=True))
    if len(keys) < len(table.rows):
        raise BadInput(f"{path}: an exposure or CCD comes twice; a round looks at each once")
    subjects = located(
        lake,
        (
            {
                "camera": of,
                "expnum": row.expnum,
                "ccdnum": number,
                "class": vocabulary.first(
                    vocabulary.classes_of(INSPECTION, row.cells.get(_PROPOSED, ""))
                ),
                "why": f"{path.name}, line {row.line}",
                "cells": row.cells.items(),
            }
            for row, of, number in zip(table.rows, cameras, ccdnums, strict=True)
        ),
    )
    _check_classes(path, table, vocabulary)
    if not subjects:
        raise BadInput(f"{path}: no exposure in it; the round {name} would be empty")
    origin = {"file": path.name, "inspectors": table.inspectors, "columns": table.columns}
    with lake.lock(f"round-{name}"):
        if not _was_interrupted(lake, name):
            check_free(lake, name)
        # The round comes last: until it is there, nobody sees a verdict of it.
        round = Round(lake, name, tuple(subjects), origin)
        for partition in lake.partitions("inspections", round=name):
            if partition["inspector"] not in table.inspectors:
                lake.remove("inspections", dict(partition.keys))
        for inspector in table.inspectors:
            entries = {
                subject.key: Entry(1, judgement, inspector, row.verdicts[inspector].time or 0.0)
                for subject, row in zip(subjects, table.rows, strict=True)
                if inspector in row.verdicts
                for judgement in [_judgement(row.verdicts[inspector], vocabulary)]
            }
            _write_inspections(round, inspector, _rows(round, entries))
        _mark(round, {"time": time.time(), "file": path.name, "whole": True})
        round = freeze(lake, name, subjects, origin, again=True)
    return round, table


def _was_interrupted(lake: Lake, name: str) -> bool:
    """Tell whether a round is what version 0.1.0 left of an import that did not come to its end."""
    if name not in round_names(lake) or closing(lake, name) is not None:
        return False
    return "inspectors" in load(lake, name).origin


def _judgement(verdict: Verdict, vocabulary: Vocabulary) -> Judgement:
    """Return what a cell of a table says."""
    name = verdict.class_name
    if name is None and verdict.is_bad and not verdict.is_typed:
        name = vocabulary.first(vocabulary.classes_of(INSPECTION, verdict.reason))
    comment = verdict.comment if verdict.is_typed else verdict.reason
    quality = None if verdict.quality is None else int(verdict.quality)
    return Judgement(
        _VERDICT[verdict.is_bad],  # type: ignore[arg-type]
        name if verdict.is_bad else None,
        quality,
        comment or "",
    )


def _check_classes(path: Path, table: InspectionTable, vocabulary: Vocabulary) -> None:
    """Raise `SurveyError` for a class that the vocabulary does not have: it would be lost."""
    for row in table.rows:
        for who, verdict in row.verdicts.items():
            if verdict.class_name is not None and verdict.class_name not in vocabulary.classes:
                raise BadInput(
                    f"{path}, line {row.line}: {who}_class {verdict.class_name!r} is no class of "
                    "the vocabulary; add it to the lake's vocabulary.toml"
                )


def _camera(row: InspectionRow, default: str) -> str:
    named = row.cells.get(_CAMERA, "").strip().lower()
    return named if named in CAMERAS else default


def _ccdnum(path: Path, row: InspectionRow, camera: str) -> int:
    name = row.cells.get(CCDNAME, "").strip()
    number = ccd_number(camera, name) if name else 0
    if number is None:
        raise NotFound(f"{path}, line {row.line}: {camera} has no CCD {name!r}")
    return number


# Rows -------------------------------------------------------------------------------------------


def _of_round(round: Round, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {key: entry for key, entry in entries.items() if key in round.index}


def _key_columns(subject: Subject) -> dict[str, Any]:
    return {"camera": subject.camera, "expnum": subject.expnum, "ccdnum": subject.ccdnum}


def _rows(round: Round, entries: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """Return the rows of ``inspections`` that an inspector's entries make."""
    rows = []
    for subject in round.subjects:
        entry = entries.get(subject.key)
        if entry is None or entry.judgement is None:
            continue
        judgement = entry.judgement
        rows.append(
            _key_columns(subject)
            | {
                "verdict": judgement.verdict,
                "class": judgement.class_name,
                "quality": judgement.quality,
                "comment": judgement.comment,
                "time": entry.time or None,
            }
        )
    return rows


def _write_inspections(round: Round, who: str, rows: Sequence[Mapping[str, Any]]) -> None:
    record = Record("inspections", {"round": round.name, "inspector": who}, {"log": digest(rows)})
    table = pa.Table.from_pylist(list(rows)) if rows else pa.table({})
    round.lake.write("inspections", {"round": round.name, "inspector": who}, table, record)


def _inputs(round: Round) -> dict[str, str]:
    found = {
        table_reference("inspections", dict(partition.keys)): partition.identity()
        for partition in round.lake.partitions("inspections", round=round.name)
    }
    settled = sorted(
        (key, str(entry.judgement)) for key, entry in round.settlements().entries().items()
    )
    return found | {"log:settlements": digest(settled)}


def _cells(subject: Subject, round: Round) -> dict[str, str]:
    """Return the columns of a CSV beside its verdicts: a CSV's own, else what was proposed."""
    if "inspectors" in round.origin:
        return dict(subject.cells)
    name = ccd_name(subject.camera, subject.ccdnum) or "" if subject.ccdnum else ""
    return {_CAMERA: subject.camera, CCDNAME: name, _PROPOSED: subject.class_name or ""}


# History ----------------------------------------------------------------------------------------


def history(round: Round) -> pa.Table:
    """Return every word that was said in a round, in the order of time, and what became of it.

    A row has who said it (`role`: inspector or merger), of what, the verdict with class, quality
    and comment, and `became`: stands, replaced, undone; of what stands in a merged round also how
    the merged verdict is. What came in a table has no time of its own.

    Raises `SurveyError` for a round that is open: its inspectors are blind to each other.
    """
    _check_closed(round)
    merged = {
        f"{row['camera']}-{row['expnum']}-{row['ccdnum']}": row
        for partition in round.lake.partitions("outcomes", round=round.name)
        for row in round.lake.read("outcomes", dict(partition.keys)).to_pylist()
    }
    words = [word for who in round.inspectors() for word in _words_of_inspector(round, who)]
    words += [("merger", event.by, event) for event in round.settlements().history()]
    rows = []
    for role, who, event in words:
        subject = round.subject(event.subject)
        judgement = event.judgement
        became = event.became
        if became == "stands" and event.subject in merged:
            outcome = merged[event.subject]
            by = f" by {outcome['settled_by']}" if outcome["settled_by"] else ""
            became = f"stands; merged{by}: {_said(outcome['verdict'], outcome['class'])}"
        rows.append(
            {
                "time": datetime.fromtimestamp(event.time, UTC) if event.time else None,
                "role": role,
                "who": who,
                "camera": subject.camera if subject else None,
                "expnum": subject.expnum if subject else None,
                "ccdnum": subject.ccdnum if subject else None,
                "verdict": judgement.verdict if judgement else None,
                "class": judgement.class_name if judgement else None,
                "quality": judgement.quality if judgement else None,
                "comment": judgement.comment if judgement else None,
                "became": became,
            }
        )
    first = datetime.fromtimestamp(0, UTC)
    rows.sort(key=lambda row: (row["time"] or first, row["role"], row["who"] or ""))
    return pa.Table.from_pylist(rows, _HISTORY)


def _words_of_inspector(round: Round, who: str) -> Iterable[tuple[str, str, Any]]:
    """Return the words of an inspector's log and, of a table's round, of its partition."""
    from inspector.judgement import Event

    events = round.log(who).history()
    logged = {event.subject for event in events}
    words: list[tuple[str, str, Any]] = [("inspector", who, event) for event in events]
    for partition in round.lake.partitions("inspections", round=round.name, inspector=who):
        for row in round.lake.read("inspections", dict(partition.keys)).to_pylist():
            key = f"{row['camera']}-{row['expnum']}-{row['ccdnum']}"
            if key not in logged:
                judgement = Judgement(
                    row["verdict"], row["class"], row["quality"], row["comment"] or ""
                )
                event = Event(key, judgement, who, row["time"] or 0.0, "stands")
                words.append(("inspector", who, event))
    return words


def _said(verdict: str, class_name: str | None) -> str:
    return f"{verdict} {class_name}" if class_name else verdict


_HISTORY = pa.schema(
    [
        ("time", pa.timestamp("ms", "UTC")),
        ("role", pa.string()),
        ("who", pa.string()),
        ("camera", pa.string()),
        ("expnum", pa.int64()),
        ("ccdnum", pa.int16()),
        ("verdict", pa.string()),
        ("class", pa.string()),
        ("quality", pa.int16()),
        ("comment", pa.string()),
        ("became", pa.string()),
    ]
)
