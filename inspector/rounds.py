"""A round of inspection: a frozen list of exposures or CCDs, with why each is in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from inspector.judgement import LOG, VerdictLog
from lake import paths
from lake.cameras import ccd_name
from lake.errors import BadInput, Conflict, NotFound
from lake.record import Record
from lake.said import list_names
from lake.store import Lake
from lake.verdicts import CLOSED, round_folder
from lake.versions import in_order

#: What the merger says, in ``inspections/round=…/``.
SETTLEMENTS = "_settlements.jsonl"
_KEY = re.compile(r"^([a-z0-9]{1,20})-(\d{1,18})-(\d{1,4})$")


@dataclass(frozen=True, slots=True)
class Subject:
    """An exposure (`ccdnum` 0) or a CCD, where its images are, and what is proposed for it.

    `night` is None for an exposure that no CCD table of the lake knows: it has no image. `cells`
    are further columns of a table that the round was read from.
    """

    camera: str
    expnum: int
    ccdnum: int = 0
    release: str | None = None
    night: str | None = None
    why: str = ""
    class_name: str | None = None
    probability: float | None = None
    cells: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """``camera-expnum-ccdnum``: what names it in logs and requests."""
        return f"{self.camera}-{self.expnum}-{self.ccdnum}"

    @property
    def name(self) -> str:
        """What people call it: ``229696`` or ``229696-N4``."""
        if not self.ccdnum:
            return str(self.expnum)
        return f"{self.expnum}-{ccd_name(self.camera, self.ccdnum) or self.ccdnum}"


def parse_key(key: str) -> tuple[str, int, int] | None:
    """Return (camera, expnum, ccdnum) of a key; None for text that is none."""
    match = _KEY.match(key)
    if match is None:
        return None
    return match[1], int(match[2]), int(match[3])


@dataclass(frozen=True)
class Round:
    """A frozen round.

    Attributes
    ----------
    subjects : in the order of the round.
    origin : where the round came from: its record's settings (model, query, file).
    """

    lake: Lake
    name: str
    subjects: tuple[Subject, ...]
    origin: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def index(self) -> dict[str, int]:
        """Key of a subject -> its place."""
        return {subject.key: place for place, subject in enumerate(self.subjects)}

    @property
    def folder(self) -> Path:
        """Where the round's logs are."""
        return round_folder(self.lake, self.name)

    @property
    def closed(self) -> Path:
        """The file that marks the round as closed."""
        return self.folder / CLOSED

    @property
    def is_closed(self) -> bool:
        """Whether inspectors have finished and may see each other's verdicts."""
        return self.closed.exists()

    def subject(self, key: str) -> Subject | None:
        """Return the subject of a key, None where the round has none such."""
        place = self.index.get(key)
        return None if place is None else self.subjects[place]

    def log(self, inspector: str) -> VerdictLog:
        """Open the log of an inspector; raises `SurveyError` for a name that cannot stand."""
        paths.check_name("inspector", inspector)
        folder = self.lake.path("inspections", {"round": self.name, "inspector": inspector}).parent
        return VerdictLog(folder / LOG, self.closed)

    def inspectors(self) -> list[str]:
        """Return who has a log or a committed partition in this round."""
        names = {
            paths.partition_keys(path.parent)["inspector"]
            for pattern in (LOG, f"*{paths.SUFFIX}")
            for path in self.folder.glob(f"inspector=*/{pattern}")
        }
        return sorted(names)

    def settlements(self) -> VerdictLog:
        """Open what the merger has settled."""
        return VerdictLog(self.folder / SETTLEMENTS)


def count_judged(round: Round, inspector: str) -> int:
    """Return how many subjects of the round an inspector has judged."""
    entries = round.log(inspector).entries()
    if entries:
        return sum(key in round.index for key in entries)
    keys = {"round": round.name, "inspector": inspector}
    partitions = round.lake.partitions("inspections", **keys)
    return sum(partition.num_rows() for partition in partitions)


def check_free(lake: Lake, name: str) -> None:
    """Raise `SurveyError` unless a new round may have this name: no round and no list has it."""
    paths.check_name("round", name)
    if lake.path("rounds", {"round": name}).exists():
        raise Conflict(
            f"round {name} exists and is frozen: `survey-qa inspect --round {name}` opens it; give "
            "a new round another name"
        )
    if name in list_names(lake):
        raise BadInput(
            f"{name} is the name of a list in `reports`, whose words a round would mix with; give "
            "the round another name"
        )


def freeze(
    lake: Lake,
    name: str,
    subjects: Sequence[Subject],
    origin: dict[str, Any] | None = None,
    again: bool = False,
) -> Round:
    """Write a new round; its order is that of `subjects`.

    `again`: what stands there under the name is what an interrupted import has left.

    Raises
    ------
    SurveyError : the name cannot stand, the round exists, is empty, or names a subject twice.
    """
    if not again:
        check_free(lake, name)
    keys = {"round": name}
    if not subjects:
        raise BadInput(f"round {name} would be empty: nothing was selected")
    extra = list(dict.fromkeys(cell for subject in subjects for cell, _ in subject.cells))
    rows = pa.table(
        {
            "camera": [s.camera for s in subjects],
            "expnum": pa.array([s.expnum for s in subjects], pa.int64()),
            "ccdnum": pa.array([s.ccdnum for s in subjects], pa.int16()),
            "place": pa.array(range(len(subjects)), pa.int32()),
            "release": pa.array([s.release for s in subjects], pa.string()),
            "observed": pa.array(
                [None if s.night is None else int(s.night) for s in subjects], pa.int32()
            ),
            "why": [s.why for s in subjects],
            "class": pa.array([s.class_name for s in subjects], pa.string()),
            "probability": pa.array([s.probability for s in subjects], pa.float32()),
            **{
                column: pa.array([dict(s.cells).get(column) for s in subjects], pa.string())
                for column in extra
            },
        }
    )
    lake.write("rounds", keys, rows, Record("rounds", {**(origin or {}), "cells": extra}))
    return load(lake, name)


def freeze_rows(
    lake: Lake, name: str, rows: Iterable[dict[str, Any]], origin: Mapping[str, Any]
) -> Round:
    """Write a new round of `rows`, as `located` takes them, each found in ``origin["release"]``.

    Raises `SurveyError` as `freeze` and `located`.
    """
    return freeze(lake, name, located(lake, rows, origin["release"]), dict(origin))


def load(lake: Lake, name: str) -> Round:
    """Open a round; raises `SurveyError` naming those that the lake has."""
    keys = {"round": paths.check_name("round", name)}
    record = lake.record("rounds", keys)
    if record is None:
        known = ", ".join(round_names(lake)) or "none yet"
        raise NotFound(
            f"no round {name!r} in the lake ({known}); make it with `survey-qa inspect --round "
            f"{name} --model M` or `--query NAME`"
        )
    cells = record.settings.get("cells", [])
    rows = sorted(lake.read("rounds", keys).to_pylist(), key=lambda row: row["place"])
    subjects = tuple(
        Subject(
            row["camera"],
            row["expnum"],
            row["ccdnum"],
            row["release"],
            None if row["observed"] is None else str(row["observed"]),
            row["why"] or "",
            row["class"],
            row["probability"],
            tuple((cell, row[cell]) for cell in cells if row[cell] is not None),
        )
        for row in rows
    )
    origin = {key: value for key, value in record.settings.items() if key != "cells"}
    return Round(lake, name, subjects, origin)


def round_names(lake: Lake) -> list[str]:
    """Return the names of the rounds of a lake."""
    return [partition["round"] for partition in lake.partitions("rounds")]


def subjects_from_votes(lake: Lake, model: str, release: str | None = None) -> list[Subject]:
    """Return the exposures that a model votes bad, the most certain first.

    Raises `SurveyError` when the model has not voted.
    """
    if not lake.partitions("votes", model=model):
        raise NotFound(
            f"model {model!r} has no votes in the lake; run `survey-qa vote --model {model}`"
        )
    from queries.engine import run_sql

    rows = run_sql(
        lake,
        """
        select camera, expnum, class, probability, 'voted bad by ' || $model as why
        from votes where model = $model and is_bad
        order by probability desc, camera, expnum
        """,
        {"model": model},
    )
    return located(lake, rows.to_pylist(), release)


def subjects_from_query(
    lake: Lake,
    name: str,
    parameters: dict[str, Any] | None = None,
    query_dir: Path | None = None,
    release: str | None = None,
) -> list[Subject]:
    """Return what a named query selects, in its order.

    Its rows need `expnum`; `camera` (decam), `ccdnum` (0), `class`, `probability` and `why` are
    used where it has them. A subject that comes again is taken once.
    """
    from queries.named import run_query

    rows = run_query(lake, name, parameters, query_dir)
    if "expnum" not in rows.column_names:
        raise BadInput(f"query {name} gives {', '.join(rows.column_names)}: a round needs expnum")
    wanted = ("camera", "expnum", "ccdnum", "class", "probability", "why")
    rows = rows.select([column for column in wanted if column in rows.column_names])
    return located(lake, ({"why": f"query {name}"} | row for row in rows.to_pylist()), release)


def located(
    lake: Lake, rows: Iterable[dict[str, Any]], release: str | None = None
) -> list[Subject]:
    """Return subjects of `rows` (camera, expnum, ccdnum, class, probability, why, cells).

    Each is found in the CCD tables of `release`, by default in the last release that has it.

    Raises `SurveyError` for a release that the lake does not have.
    """
    from queries.engine import connect

    releases = {partition["release"] for partition in lake.partitions("exposures")}
    if release is not None and release not in releases:
        known = ", ".join(in_order(releases)) or "none"
        raise NotFound(f"--release {release}: the lake has no such release ({known})")
    unique: dict[tuple[str, int, int], dict[str, Any]] = {}
    for row in rows:
        key = (row.get("camera") or "decam", int(row["expnum"]), int(row.get("ccdnum") or 0))
        unique.setdefault(key, row)
    with connect(lake, ["exposures"]) as connection:
        connection.register(
            "wanted",
            pa.table(
                {
                    "camera": pa.array([key[0] for key in unique], pa.string()),
                    "expnum": pa.array([key[1] for key in unique], pa.int64()),
                }
            ),
        )
        found = connection.execute(
            """
            select
                camera,
                expnum,
                arg_max(release, release_order(release)),
                arg_max(night, release_order(release))
            from exposures semi join wanted using (camera, expnum)
            where $release::varchar is null or release = $release
            group by camera, expnum
            """,
            {"release": release},
        ).fetchall()
    places: dict[tuple[str, int], tuple[str | None, str | None]] = {
        (camera, expnum): (where, str(night)) for camera, expnum, where, night in found
    }
    subjects = []
    for (camera, expnum, ccdnum), row in unique.items():
        where, night = places.get((camera, expnum), (None, None))
        subject = Subject(
            camera,
            expnum,
            ccdnum,
            where,
            night,
            why=str(row.get("why") or ""),
            class_name=row.get("class"),
            probability=row.get("probability"),
            cells=tuple(row.get("cells") or ()),
        )
        subjects.append(subject)
    return subjects
