"""Ending a round: verdicts become rows, rows are merged, and what comes out feeds the lists.

A round goes from open (logs grow, everybody blind) to closed (each log a partition of
``inspections``; the merger settles disagreements) to merged (``outcomes``). Closing and merging
also write the round into ``reports`` by the one way that inspections take, the CSV: first each
inspector's verdicts, which ``bad-expid diff --agree`` counts; once merged, the outcomes in their
place, which ``merge-labels`` turns into labels.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from inspector.judgement import Entry, Judgement
from inspector.merge import Agreement, Outcome, Rule, agreement, disagree, merge
from inspector.rounds import Round, Subject, freeze, load, located
from lake.cameras import N_CCDS, ccd_name, ccd_number
from lake.errors import SurveyError
from lake.ingest_reports import ingest_reports
from lake.list_inspection import (
    CCDNAME,
    InspectionRow,
    InspectionTable,
    Verdict,
    read_inspection_csv,
    write_inspection_csv,
)
from lake.store import Lake, Record, digest, write_text_atomically
from lake.vocabulary import Vocabulary

_SOURCE = "inspection"
#: Who is named in `reports` once a round is merged.
MERGED = "merged"
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
    logs = {who: round.log(who) for who in round.inspectors()}
    judged = {who: len(_of_round(round, log.entries())) for who, log in logs.items()}
    judged = {who: count for who, count in judged.items() if count}
    if not round.is_closed:
        if not judged:
            raise SurveyError(f"round {round.name}: nobody has judged anything yet")
        behind = [
            f"{who} {count:,}" for who, count in judged.items() if count < len(round.subjects)
        ]
        if behind and not unfinished:
            raise SurveyError(
                f"round {round.name} is not finished: of {len(round.subjects):,}, judged by "
                f"{', '.join(behind)}; --unfinished closes it all the same"
            )
        write_text_atomically(round.closed, json.dumps({"time": time.time()}))
    # A verdict that was being written has either reached its log before the mark, or is refused.
    for who in judged:
        log = logs[who]
        with log.held():
            _write_inspections(round, who, _of_round(round, log.entries()))
    if not round.lake.path("outcomes", {"round": round.name}).exists():
        _report(round, to_table(round))
    return judged


def inspections(round: Round) -> dict[str, dict[str, Judgement]]:
    """Return inspector -> key of a subject -> judgement of a closed round.

    Raises `SurveyError` for a round that is open: its inspectors are blind to each other.
    """
    if not round.is_closed:
        raise SurveyError(
            f"round {round.name} is open; `survey-qa inspections close {round.name}` closes it"
        )
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
    """Merge a closed round into ``outcomes`` and ``reports``.

    Returns
    -------
    The outcomes, how far the inspectors agreed, and how many disagreements nobody has settled:
    those go by the rule.
    """
    vocabulary = Vocabulary.of_lake(round.lake.root)
    settlements = round.settlements().entries()
    said = judgements_of(round)
    outcomes, unsettled = [], 0
    for subject, judgements in said:
        entry = settlements.get(subject.key)
        settled = None
        if entry is not None and entry.judgement is not None:
            settled = entry.by, entry.judgement
        elif disagree(list(judgements.values())):
            unsettled += 1
        outcomes.append((subject, merge(judgements, rule, vocabulary.precedence, settled)))
    rows = pa.Table.from_pylist(
        [
            _key_columns(subject)
            | {
                "verdict": outcome.verdict,
                "class": outcome.class_name,
                "quality": outcome.quality,
                "comment": outcome.comment,
                "n_looked": outcome.n_looked,
                "n_bad": outcome.n_bad,
                "settled_by": outcome.settled_by,
            }
            for subject, outcome in outcomes
        ]
    )
    record = Record("outcomes", {"round": round.name, "rule": rule}, _inputs(round))
    round.lake.write("outcomes", {"round": round.name}, rows, record)
    _report(round, _outcome_table(outcomes, vocabulary))
    return outcomes, agreement([judgements for _, judgements in said]), unsettled


def to_table(round: Round) -> InspectionTable:
    """Return a closed round as an inspection table: the CSV that spreadsheets and scripts read."""
    vocabulary = Vocabulary.of_lake(round.lake.root)
    said = inspections(round)
    rows = []
    for line, subject in enumerate(round.subjects, 2):
        verdicts = {
            who: Verdict(_IS_BAD[each[subject.key].verdict], _words(each[subject.key], vocabulary))
            for who, each in said.items()
            if subject.key in each
        }
        rows.append(InspectionRow(line, subject.expnum, _cells(subject, round), verdicts))
    order: Sequence[str] = round.origin.get("inspectors") or sorted(said)
    return InspectionTable.new(order, rows, list(_cells(round.subjects[0], round)))


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
    to no inspector are kept. The class of a verdict is that of its words.

    Raises `SurveyError` as `read_inspection_csv`, or when the round exists.
    """
    table = read_inspection_csv(path)
    vocabulary = Vocabulary.of_lake(lake.root)
    cameras = [_camera(row, camera) for row in table.rows]
    ccdnums = [_ccdnum(path, row, of) for row, of in zip(table.rows, cameras, strict=True)]
    expnums = [row.expnum for row in table.rows]
    keys = set(zip(cameras, expnums, ccdnums, strict=True))
    if len(keys) < len(table.rows):
        raise SurveyError(f"{path}: an exposure or CCD comes twice; a round looks at each once")
    subjects = located(
        lake,
        (
            {
                "camera": of,
                "expnum": row.expnum,
                "ccdnum": number,
                "class": vocabulary.first(
                    vocabulary.classes_of(_SOURCE, row.cells.get(_PROPOSED, ""))
                ),
                "why": f"{path.name}, line {row.line}",
                "cells": row.cells.items(),
            }
            for row, of, number in zip(table.rows, cameras, ccdnums, strict=True)
        ),
    )
    who = table.inspectors
    round = freeze(lake, name, subjects, {"file": path.name, "inspectors": who})
    for inspector in who:
        entries = {}
        for subject, row in zip(round.subjects, table.rows, strict=True):
            if inspector in row.verdicts:
                verdict = row.verdicts[inspector]
                classes = vocabulary.classes_of(_SOURCE, verdict.reason)
                judgement = Judgement(
                    _VERDICT[verdict.is_bad],  # type: ignore[arg-type]
                    vocabulary.first(classes) if verdict.is_bad else None,
                    None,
                    verdict.reason,
                )
                entries[subject.key] = Entry(1, judgement, inspector)
        _write_inspections(round, inspector, entries)
    write_text_atomically(round.closed, json.dumps({"time": time.time(), "file": path.name}))
    _report(round, table)
    return round, table


def _camera(row: InspectionRow, default: str) -> str:
    named = row.cells.get(_CAMERA, "").strip().lower()
    return named if named in N_CCDS else default


def _ccdnum(path: Path, row: InspectionRow, camera: str) -> int:
    name = row.cells.get(CCDNAME, "").strip()
    number = ccd_number(camera, name) if name else 0
    if number is None:
        raise SurveyError(f"{path}, line {row.line}: {camera} has no CCD {name!r}")
    return number


def _of_round(round: Round, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    return {key: entry for key, entry in entries.items() if key in round.index}


def _key_columns(subject: Subject) -> dict[str, Any]:
    return {"camera": subject.camera, "expnum": subject.expnum, "ccdnum": subject.ccdnum}


def _write_inspections(round: Round, who: str, entries: Mapping[str, Entry]) -> None:
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
    record = Record("inspections", {"round": round.name, "inspector": who}, {"log": digest(rows)})
    table = pa.Table.from_pylist(rows) if rows else pa.table({})
    round.lake.write("inspections", {"round": round.name, "inspector": who}, table, record)


def _inputs(round: Round) -> dict[str, str]:
    found = {}
    for partition in round.lake.partitions("inspections", round=round.name):
        record = partition.record()
        found[f"inspections/{partition['inspector']}"] = record.fingerprint if record else ""
    settled = sorted(
        (key, str(entry.judgement)) for key, entry in round.settlements().entries().items()
    )
    return found | {"settlements": digest(settled)}


def _words(judgement: Judgement, vocabulary: Vocabulary) -> str:
    """Return a judgement's class and comment as one text that the vocabulary reads as that class.

    A comment that says so already stands alone, as people type it.
    """
    name, comment = judgement.class_name, judgement.comment
    if name is None or vocabulary.first(vocabulary.classes_of(_SOURCE, comment)) == name:
        return comment
    return f"{name}: {comment}" if comment else name


def _cells(subject: Subject, round: Round) -> dict[str, str]:
    """Return the columns of a CSV beside its verdicts: a CSV's own, else what was proposed."""
    if "inspectors" in round.origin:
        return dict(subject.cells)
    return {**_which(subject), _PROPOSED: subject.class_name or ""}


def _which(subject: Subject) -> dict[str, str]:
    """Return the columns that say, beside the exposure's number, what was judged."""
    name = ccd_name(subject.camera, subject.ccdnum) or "" if subject.ccdnum else ""
    return {_CAMERA: subject.camera, CCDNAME: name}


def _outcome_table(
    outcomes: Sequence[tuple[Subject, Outcome]], vocabulary: Vocabulary
) -> InspectionTable:
    rows = []
    for line, (subject, outcome) in enumerate(outcomes, 2):
        judgement = Judgement(outcome.verdict, outcome.class_name, None, outcome.comment)
        verdict = Verdict(_IS_BAD[outcome.verdict], _words(judgement, vocabulary))
        rows.append(InspectionRow(line, subject.expnum, _which(subject), {MERGED: verdict}))
    return InspectionTable.new([MERGED], rows, [_CAMERA, CCDNAME])


def _report(round: Round, table: InspectionTable) -> None:
    """Put a table in the place of the round's reports: through files, as any inspection comes.

    Exposure numbers are a camera's own, so that each camera's verdicts are a list of their own.
    """
    file = Path(round.origin.get("file") or f"{round.name}.csv")
    cameras = sorted({subject.camera for subject in round.subjects})
    with tempfile.TemporaryDirectory() as folder:
        for camera in cameras:
            only = len(cameras) == 1
            path = Path(folder) / (file.name if only else f"{file.stem}-{camera}{file.suffix}")
            rows = [row for row in table.rows if only or _camera(row, cameras[0]) == camera]
            path.write_bytes(write_inspection_csv(replace(table, rows=rows)))
            ingest_reports(round.lake, [path], _SOURCE, round=round.name, camera=camera)
