"""What belongs on the bad-exposure list, by what the lake holds; and what is wrong with a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from badlist.decisions import CONFIRMS
from badlist.diff import Addition, ListDiff, make_diff
from badlist.format import (
    NO_REASON,
    Key,
    ListLine,
    duplicates,
    fits_expnum,
    format_key,
    read_bad_list,
)
from lake import cameras
from lake.cameras import ccd_name, ccd_number
from lake.errors import BadInput, NotFound
from lake.freshness import check_fresh
from lake.own_lines import OwnLine, join_classes
from lake.report_words import meaning
from lake.store import Lake
from lake.verdicts import AGREE, Agree, Verdict, agreed, closing
from lake.vocabulary import Vocabulary, fold
from queries.engine import connect
from queries.files import has_files
from queries.reports import read_reports


def propose(
    lake: Lake | None,
    against: Path,
    *,
    model: str | None = None,
    inspections: str | None = None,
    reports: str | None = None,
    agree: Agree | None = None,
    reasons: Sequence[str] = (),
    collapse: bool = False,
    ccd_probability: float | None = None,
    retract_good: bool = False,
    retract: Sequence[str] = (),
    heading: str | None = None,
    camera: str = "decam",
    stale_ok: bool = False,
) -> ListDiff:
    """Return the change to a list by what a model, a round or a list says; writes nothing.

    Parameters
    ----------
    lake : None where nothing but `retract` is asked for.
    against : the list as it stands.
    model, inspections, reports : what adds to it, one of them at most, see `additions_from_votes`,
        `additions_from_inspections` and `additions_from_reports`.
    retract_good : comment out the lines of what the inspectors call good.
    retract : lines to comment out, ``EXPNUM`` or ``EXPNUM-CCD``.
    heading : comment above the additions; None for date and origin.

    Raises
    ------
    SurveyError : no source and nothing to retract, several sources, a list that cannot be read, or
        as the functions above.
    """
    sources = [name for name in (model, inspections, reports) if name is not None]
    if len(sources) > 1 or not (sources or retract):
        raise BadInput("name a model, a round of inspection or a list, or a line to retract")
    cameras.camera(camera)
    bad_list = read_bad_list(against)
    additions: list[Addition] = []
    good: list[Key] = []
    origin = ""
    if sources:
        assert lake is not None
        if model is not None:
            additions = additions_from_votes(lake, model, ccd_probability, camera, stale_ok)
            origin = f"model {model}"
        elif inspections is not None:
            additions = additions_from_inspections(lake, inspections, agree, camera)
            merged_by = merging_rule(lake, inspections)
            counted = f"bad by {agree or 'any'} of the inspectors"
            said = f"merged by {merged_by}" if merged_by and agree is None else counted
            origin = f"inspections of {inspections}, {said}"
            if retract_good:
                good = good_by_inspections(lake, inspections, agree, camera)
        elif reports is not None:
            additions = additions_from_reports(lake, reports, reasons, collapse, camera)
            origin = f"{reports} list" + (f": {', '.join(reasons)}" if reasons else "")
    return make_diff(bad_list, against, additions, retract, good, heading, origin, camera)


def additions_from_inspections(
    lake: Lake, round: str, agree: Agree | None = None, camera: str = "decam"
) -> list[Addition]:
    """Return the exposures and CCDs that the inspectors of a round call bad.

    With `agree` the inspectors' verdicts are counted by that rule (`lake.verdicts.agreed`), those
    of a merged round too. Without it a merged round says what it was merged to (``outcomes``), and
    of another one any inspector counts.

    Raises `SurveyError` when the lake has no such round, naming those it has.
    """
    return [
        Addition(row.expnum, row.ccdname, _of_round(round, row).text())
        for row in _looks(lake, round, agree, camera)
        if row.verdict == "bad"
    ]


def good_by_inspections(
    lake: Lake, round: str, agree: Agree | None = None, camera: str = "decam"
) -> list[Key]:
    """Return the exposures and CCDs that the inspectors of a round call good.

    `agree` is, and what is raised, as in `additions_from_inspections`.
    """
    looks = _looks(lake, round, agree, camera)
    return [(row.expnum, row.ccdname) for row in looks if row.verdict == "good"]


def merging_rule(lake: Lake, round: str) -> str | None:
    """Return the rule by which a round was merged; None for one that was not, or not told."""
    record = lake.record("outcomes", {"round": round})
    return None if record is None else record.settings.get("rule")


@dataclass(frozen=True)
class _Look:
    """What a round says of an exposure or CCD."""

    expnum: int
    ccdname: str | None
    verdict: Verdict
    classes: list[str]
    details: list[str]


def _of_round(round: str, row: _Look) -> OwnLine:
    return OwnLine(join_classes(row.classes), "round", round, "; ".join(row.details))


def _looks(lake: Lake, round: str, agree: Agree | None, camera: str) -> list[_Look]:
    if agree is not None and agree not in AGREE:
        raise BadInput(f"--agree {agree}: choose {', '.join(AGREE)}")
    reports = read_reports(lake, merged=agree is None)
    sql = files("queries").joinpath("bad_expid_inspections.sql").read_text(encoding="utf-8")
    with connect(lake, ["reports"], given={"reports": reports}) as connection:
        rows = connection.execute(sql, {"round": round, "camera": camera}).fetchall()
    if not rows:
        known = [
            name
            for (name,) in _select(
                lake,
                "select distinct round from reports where source = 'inspection' order by 1",
                ["reports"],
            )
        ]
        if (mark := closing(lake, round)) is not None and not mark.get("whole", True):
            raise BadInput(
                f"the closing of round {round} was interrupted; `survey-qa inspections close "
                f"{round}` goes on with it"
            )
        raise NotFound(
            f"no inspections of round {round!r} and camera {camera} in the lake; "
            + (f"it has {', '.join(known)}" if known else "`survey-qa ingest reports` brings them")
        )
    # What a round was merged to is the one verdict of a row: any rule gives it back.
    return [
        _Look(expnum, ccdname, agreed(agree or "any", looked, bad, good), classes, details)
        for expnum, ccdname, looked, bad, good, classes, details in rows
    ]


def additions_from_reports(
    lake: Lake,
    source: str,
    reasons: Sequence[str] = (),
    collapse: bool = False,
    camera: str = "decam",
) -> list[Addition]:
    """Return the exposures and CCDs that a source calls bad.

    Parameters
    ----------
    reasons : keep reports whose words, or one of whose classes, is one of these; case, spaces at
        the ends, and ``_`` for a space do not matter. Of words like ``streak: Airplane`` either
        part may be named.
    collapse : make one line of an exposure all of whose CCDs are called bad: those that the CCD
        tables know, or every CCD of the camera where they do not know the exposure.

    Raises
    ------
    SurveyError : the lake has no reports of this source, or a reason is none of its.
    """
    rows = _rows(lake, "bad_expid_reports", ["reports"], source=source, camera=camera)
    if not rows:
        raise NotFound(
            f"no report of source {source} and camera {camera} in the lake calls anything bad; "
            "`survey-qa ingest reports` brings them"
        )
    wanted = {_loose(reason): reason for reason in reasons}
    seen: set[str] = set()
    found: dict[Key, list[str]] = {}
    for expnum, ccdname, _, reason, classes in rows:
        if wanted:
            names = {_loose(name) for name in (reason, *reason.split(": ", 1), *classes)}
            if not names & wanted.keys():
                continue
            seen |= names & wanted.keys()
        found.setdefault((expnum, ccdname), []).append(reason)
    absent = [reason for key, reason in wanted.items() if key not in seen]
    if absent:
        common = Counter(reason for *_, reason, _ in rows).most_common(8)
        raise BadInput(
            f"--reason {absent[0]!r}: no report of {source} says so; it says "
            f"{', '.join(repr(reason) for reason, _ in common)} …"
        )
    additions = [
        Addition(expnum, ccdname, _join(words)) for (expnum, ccdname), words in found.items()
    ]
    additions = _collapse(lake, additions, camera) if collapse else additions
    return [
        Addition(one.expnum, one.ccdname, OwnLine(one.reason, "list", source).text())
        for one in additions
    ]


def additions_from_votes(
    lake: Lake,
    model: str,
    ccd_probability: float | None = None,
    camera: str = "decam",
    stale_ok: bool = False,
) -> list[Addition]:
    """Return the exposures that a model votes bad.

    With `ccd_probability`, also the CCDs that it calls bad with at least this probability on
    exposures that are not bad as a whole.

    Raises `SurveyError` when the model has not voted, on any exposure, and when its votes are out
    of date, unless `stale_ok`.
    """
    if not lake.partitions("votes", model=model, camera=camera):
        raise NotFound(
            f"model {model!r} has no votes in the lake; run `survey-qa vote --model {model}`"
        )
    check_fresh(lake, "votes", stale_ok, model=model, camera=camera)
    if not any(part.num_rows() for part in lake.partitions("votes", model=model, camera=camera)):
        raise BadInput(
            f"the votes of model {model!r} are of no exposure at all; run `survey-qa predict "
            f"--model {model}` and `survey-qa vote --model {model}` once there are vectors"
        )
    additions = [
        Addition(expnum, None, OwnLine(name, "model", model, f"{n_bad} of {n_ccds} CCDs").text())
        for expnum, name, n_bad, n_ccds in _rows(
            lake, "bad_expid_votes", ["votes"], model=model, camera=camera
        )
    ]
    if ccd_probability is not None:
        for expnum, ccdnum, ccdname, name, probability in _rows(
            lake,
            "bad_expid_ccds",
            ["ccds", "votes", "predictions"],
            model=model,
            camera=camera,
            min_probability=ccd_probability,
            confirms=CONFIRMS,
        ):
            ccdname = ccdname or ccd_name(camera, ccdnum) or str(ccdnum)
            line = OwnLine(name, "model", model, f"probability {probability:.2f}")
            additions.append(Addition(expnum, ccdname, line.text()))
    return additions


@dataclass
class CheckReport:
    """What a bad-exposure list says, and what is wrong with it.

    Attributes
    ----------
    lines, entries, comments, blank : counts of lines.
    exposures, ccds : keys of whole exposures and of single CCDs.
    classes : keys of each class of the vocabulary; those without class under ``None``.
    own : keys whose lines this program wrote, by origin (``model two-step``).
    duplicates : keys that several lines have, with the lines' numbers; the last one counts.
    whole_and_ccd : keys of CCDs whose exposure is also listed whole, with both lines' numbers.
    skipped : (line, text, why) of lines that the reader skips.
    unknown_names : (line, key) of CCDs that the camera does not have: no CCD is cut by them.
    unknown_keys : (line, key) of those that no CCD table of the lake knows; None where there is
        no table to ask.
    """

    path: Path
    lines: int = 0
    entries: int = 0
    comments: int = 0
    blank: int = 0
    exposures: int = 0
    ccds: int = 0
    classes: dict[str | None, int] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)
    duplicates: list[tuple[Key, list[int]]] = field(default_factory=list)
    whole_and_ccd: list[tuple[Key, int, int]] = field(default_factory=list)
    skipped: list[tuple[int, str, str]] = field(default_factory=list)
    unknown_names: list[tuple[int, Key]] = field(default_factory=list)
    unknown_keys: list[tuple[int, Key]] | None = None

    def findings(self) -> pa.Table:
        """Return a row for everything to look at: line, key, finding."""
        rows: list[tuple[int, str, str]] = []
        rows += [
            (number, text.strip(), f"skipped by the reader: {why}")
            for number, text, why in self.skipped
        ]
        for key, lines in self.duplicates:
            others = ", ".join(str(line) for line in lines[:-1])
            rows.append((lines[-1], format_key(key), f"listed before on line {others}"))
        for key, line, whole in self.whole_and_ccd:
            rows.append((line, format_key(key), f"its exposure is listed whole on line {whole}"))
        for line, key in self.unknown_names:
            rows.append((line, format_key(key), "the camera has no such CCD"))
        for line, key in self.unknown_keys or ():
            rows.append((line, format_key(key), "no CCD table knows it"))
        schema = pa.schema([("line", pa.int64()), ("key", pa.string()), ("finding", pa.string())])
        return pa.Table.from_pylist(
            [dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema
        )


def check(
    path: Path,
    lake: Lake | None = None,
    camera: str = "decam",
    vocabulary: Vocabulary | None = None,
) -> CheckReport:
    """Return what legacypipe makes of a list, and what in it is likely a mistake.

    Raises `SurveyError` when the file is missing or binary, or for an unknown camera.
    """
    cameras.camera(camera)
    if vocabulary is None:
        vocabulary = Vocabulary.load() if lake is None else Vocabulary.of_lake(lake.root)
    bad_list = read_bad_list(path)
    kinds = Counter(line.kind for line in bad_list.lines)
    keys = bad_list.keys()
    last: dict[Key, ListLine] = {line.key: line for line in bad_list.entries if line.key}
    classes: Counter[str | None] = Counter()
    own: Counter[str] = Counter()
    for reason in keys.values():
        names, _, origin = meaning("decals", "decals", reason, vocabulary)
        said: list[str | None] = [*names]
        classes.update(said or [None])
        if origin is not None:
            own[origin] += 1
    order: list[str | None] = [*vocabulary.classes, None]
    return CheckReport(
        path,
        len(bad_list.lines),
        kinds["entry"],
        kinds["comment"],
        kinds["blank"],
        sum(ccdname is None for _, ccdname in keys),
        sum(ccdname is not None for _, ccdname in keys),
        {name: classes[name] for name in order if classes[name]},
        dict(own.most_common()),
        [(key, [line.number for line in same]) for key, same in duplicates(bad_list.entries)],
        [
            (key, last[key].number, last[key[0], None].number)
            for key in keys
            if key[1] is not None and (key[0], None) in keys
        ],
        [
            (line.number, line.text.rstrip("\r\n"), line.why)
            for line in bad_list.lines
            if line.kind == "skipped"
        ],
        [
            (line.number, key)
            for key, line in last.items()
            if key[1] is not None and not _has_ccd(camera, key[1])
        ],
        _unknown_keys(lake, last, camera),
    )


def _has_ccd(camera: str, ccdname: str) -> bool:
    # legacypipe compares names as they are: n4 is not N4.
    number = ccd_number(camera, ccdname)
    return number is not None and ccd_name(camera, number) in (ccdname, ccdname.lower())


def _unknown_keys(
    lake: Lake | None, last: Mapping[Key, ListLine], camera: str
) -> list[tuple[int, Key]] | None:
    if lake is None or not has_files(lake, "ccds"):
        return None
    askable = [key for key in last if fits_expnum(key[0])]
    unknown = _rows(
        lake,
        "bad_expid_unknown",
        ["ccds"],
        expnums=[expnum for expnum, _ in askable],
        ccdnames=[ccdname for _, ccdname in askable],
        camera=camera,
    )
    keys = {(expnum, ccdname) for expnum, ccdname in unknown} | (last.keys() - {*askable})
    return sorted((last[key].number, key) for key in keys)


def _collapse(lake: Lake, additions: list[Addition], camera: str) -> list[Addition]:
    """Return `additions` with one line for each exposure all of whose CCDs are among them."""
    by_expnum: dict[int, list[Addition]] = {}
    for addition in additions:
        if addition.ccdname is not None:
            by_expnum.setdefault(addition.expnum, []).append(addition)
    planes = dict(
        _rows(lake, "bad_expid_focal_planes", ["ccds"], expnums=list(by_expnum), camera=camera)
    )
    every = [ccd.name for ccd in cameras.camera(camera).ccds]
    full = {
        expnum
        for expnum, ccds in by_expnum.items()
        if {ccd.ccdname for ccd in ccds} >= set(planes.get(expnum, every))
    }
    kept = [item for item in additions if item.ccdname is None or item.expnum not in full]
    kept += [
        Addition(expnum, None, _join([ccd.reason for ccd in by_expnum[expnum]]))
        for expnum in sorted(full)
    ]
    return kept


def _join(reasons: Iterable[str]) -> str:
    return ", ".join(reason for reason in dict.fromkeys(reasons) if reason and reason != NO_REASON)


def _loose(words: str) -> str:
    return " ".join(fold(words).replace("_", " ").split())


def _rows(lake: Lake, query: str, tables: Sequence[str], **parameters: Any) -> list[Any]:
    sql = files("queries").joinpath(f"{query}.sql").read_text(encoding="utf-8")
    return _select(lake, sql, tables, **parameters)


def _select(lake: Lake, sql: str, tables: Sequence[str], **parameters: Any) -> list[Any]:
    with connect(lake, tables, source_columns=False) as connection:
        return connection.execute(sql, parameters).fetchall()
