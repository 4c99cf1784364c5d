"""The view ``reports``: what each line of each list says, and what people say in closed rounds.

Words are classified here, by the lake's vocabulary as it is today: a vocabulary that is edited
needs no list to be read again. Verdicts are typed from the page on: their comments are nobody's
words for a class, and are not read as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lake.cameras import ccd_name
from lake.report_words import STAGE, classified, with_column
from lake.store import Lake, Partition
from lake.tables import table
from lake.verdicts import INSPECTION, MERGED, closed_rounds
from lake.vocabulary import Vocabulary

_IS_BAD = {"bad": True, "good": False, "unsure": None}
_COLUMNS = ("source", *(column.name for column in table("reports").columns))


def read_reports(lake: Lake, merged: bool = True) -> pa.Table:
    """Return all rows of ``reports``, its partition key first.

    Every edition of every list is there; what counts is marked ``is_current``. Verdicts of closed
    rounds are rows of the source ``inspection``: the merged ones where a round was merged and
    `merged` says so, else each inspector's.
    """
    vocabulary = Vocabulary.of_lake(lake.root)
    parts = [_of_lists(lake, part, vocabulary) for part in lake.partitions("reports")]
    parts += [_of_round(lake, name, vocabulary, merged) for name in closed_rounds(lake)]
    return pa.concat_tables([_EMPTY, *(_typed(part) for part in parts)]).combine_chunks()


def _of_lists(lake: Lake, part: Partition, vocabulary: Vocabulary) -> pa.Table:
    """Return the rows of the lists of a source."""
    source, record = part["source"], part.record()
    rows = lake.read("reports", dict(part.keys)).replace_schema_metadata(None)
    if source == INSPECTION:
        rows = _without_rounds(lake, rows)
    rows = with_column(rows, "source", pa.array([source] * rows.num_rows, pa.string()))
    # Version 0.1.0 kept one edition of a list.
    every = pa.array([True] * rows.num_rows, pa.bool_())
    marks = rows["is_current"].fill_null(True) if "is_current" in rows.column_names else every
    rows = with_column(rows, "is_current", marks)
    if record is None or record.stage != STAGE:
        return rows  # somebody else has classified them
    forms: dict[str, list[str]] = {}
    for edition in record.notes.get("editions", []):
        forms.setdefault(edition["form"], []).append(edition["id"])
    if list(forms) in ([], [source]):
        return classified(rows, source, source, vocabulary)
    parts = [
        classified(
            rows.filter(pc.is_in(rows["edition"], pa.array(editions, pa.string()))),
            source,
            form,
            vocabulary,
        )
        for form, editions in forms.items()
    ]
    return pa.concat_tables(parts)


def _without_rounds(lake: Lake, rows: pa.Table) -> pa.Table:
    """Return rows without those that version 0.1.0 put there for rounds of the lake."""
    files: dict[str, str] = {}
    for partition in lake.partitions("rounds"):
        record = partition.record()
        file = record.settings.get("file") if record is not None else None
        files[partition["round"]] = str(file or f"{partition['round']}.csv")
    if not files:
        return rows

    def is_of_round(row: dict[str, str]) -> bool:
        stem, _, ending = files.get(row["round"], "\0").rpartition(".")
        return row["file"] in (f"{stem}.{ending}", f"{stem}-{row['camera']}.{ending}")

    lists = rows.group_by(["round", "file", "camera"]).aggregate([]).to_pylist()
    doomed = [row for row in lists if is_of_round(row)]
    for row in doomed:
        same = [pc.equal(rows[name], value) for name, value in row.items()]
        rows = rows.filter(pc.invert(pc.and_(pc.and_(same[0], same[1]), same[2])))
    return rows


def _of_round(lake: Lake, name: str, vocabulary: Vocabulary, merged: bool) -> pa.Table:
    """Return what a closed round says, each exposure or CCD a row, or one an inspector."""
    record = lake.record("rounds", {"round": name})
    file = (record.settings.get("file") if record is not None else None) or f"{name}.csv"
    lines = {
        (row["camera"], row["expnum"], row["ccdnum"]): row["place"] + 2
        for row in lake.read("rounds", {"round": name}).to_pylist()
    }
    outcomes = lake.partitions("outcomes", round=name) if merged else []
    rows = []
    for partition in outcomes or lake.partitions("inspections", round=name):
        who = MERGED if outcomes else partition["inspector"]
        for said in lake.read(partition.table, dict(partition.keys)).to_pylist():
            key = said["camera"], said["expnum"], said["ccdnum"]
            rows.append(_of_verdict(said, who, vocabulary) | {"line": lines.get(key)})
    for row in rows:
        row |= {"source": INSPECTION, "round": name, "file": str(file), "is_current": True}
    return pa.Table.from_pylist(rows, _EMPTY.schema)


def _of_verdict(said: Mapping[str, Any], who: str, vocabulary: Vocabulary) -> dict[str, Any]:
    is_bad, ccdnum = _IS_BAD[said["verdict"]], said["ccdnum"] or None
    name = said["class"] if is_bad else None
    return {
        "camera": said["camera"],
        "expnum": said["expnum"],
        "ccdnum": ccdnum,
        "ccdname": ccd_name(said["camera"], ccdnum) if ccdnum else None,
        "reason": words_of(name, said["comment"], vocabulary),
        "classes": [name] if name else [],
        "is_bad": is_bad,
        "analyst": who,
        "inspector": said.get("settled_by") or ", ".join(said.get("inspectors") or ()) or who,
        "quality": said["quality"],
        "comment": said["comment"] or "",
        "time": said.get("time"),
    }


def words_of(class_name: str | None, comment: str | None, vocabulary: Vocabulary) -> str:
    """Return a class and a comment as people read them: nobody takes them apart again.

    A comment that says so already stands alone.
    """
    if class_name is None or not comment:
        return class_name or comment or ""
    says_so = vocabulary.first(vocabulary.classes_of(INSPECTION, comment)) == class_name
    return comment if says_so else f"{class_name}: {comment}"


def _typed(rows: pa.Table) -> pa.Table:
    """Return `rows` with all columns of the view, in their order and types."""
    arrays = [
        rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
        for field in _EMPTY.schema
    ]
    return pa.Table.from_arrays(arrays, schema=_EMPTY.schema)


_EMPTY = pa.schema(
    [("source", pa.string()), *((column.name, column.type) for column in table("reports").columns)]
).empty_table()
