"""What is known of a suspect label: who gave it, and the CCDs on other nights that look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa

from classifiers.estimators.neighbours import WeightedNeighbours
from classifiers.maps.maps import neighbour_space
from classifiers.sample.sample import Sample
from lake.cameras import ccd_name
from lake.store import Lake
from queries.engine import connect

#: Nearest labelled CCDs of other nights that are shown for each CCD.
NEIGHBOURS = 10


@dataclass(frozen=True)
class Units:
    """What is judged: `member` (n_ccds,) says to which unit each CCD of the sample belongs.

    `first` is a CCD of each unit, `whole` whether the unit stands for an exposure (a list names it
    as a whole, or several of its CCDs), `given` (n, classes) which classes some list gives it;
    `words` are the lists and their words.
    """

    member: np.ndarray
    first: np.ndarray
    whole: np.ndarray
    given: np.ndarray
    words: list[tuple[str | None, str | None]]


@dataclass(frozen=True)
class Found:
    """By unit: the class that it looks like, probabilities, and whether its label is suspect."""

    suggested: np.ndarray
    p_label: np.ndarray
    p_suggested: np.ndarray
    confident: np.ndarray
    suspect: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """What is left of the label when its rival is taken off, -1 to 1."""
        return self.p_label - self.p_suggested


def read_units(lake: Lake, sample: Sample, sources: Sequence[str], by: str) -> Units:
    """Group the CCDs of the sample by what is judged at once (`queries/label_evidence.sql`)."""
    camera = [sample.nights[index].partition("/")[0] for index in sample.night]
    asked = pa.table(
        {
            "camera": camera,
            "expnum": sample.expnum,
            "ccdnum": sample.ccdnum,
            "class": [sample.classes[label] for label in sample.labels],
            "row": np.arange(len(sample)),
        }
    )
    sql = files("queries").joinpath("label_evidence.sql").read_text(encoding="utf-8")
    with connect(lake, ["labels", "reports"]) as connection:
        connection.register("asked", asked)
        given = {"release": sample.release, "sources": list(sources)}
        said = connection.sql(sql, params=given).to_arrow_table().to_pylist()
    keys = [
        (sample.night[row], one["expnum"], one["ccdnum"] if by == "ccd" else 0, sample.labels[row])
        for row, one in enumerate(said)
    ]
    names = {name: index for index, name in enumerate(sample.classes)}
    index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    member = np.array([index_of[key] for key in keys])
    first = np.unique(member, return_index=True)[1]
    given_classes = np.zeros((len(index_of), len(names)), bool)
    given_classes[member, sample.labels] = True
    for unit, one in zip(member, said, strict=True):
        for name in one["classes"]:
            if name in names:
                given_classes[unit, names[name]] = True
    whole = np.array([said[row]["is_whole"] for row in first]) | (np.bincount(member) > 1)
    return Units(
        member=member,
        first=first,
        whole=whole & (by != "ccd"),
        given=given_classes,
        words=[(said[row]["sources"], said[row]["reasons"]) for row in first],
    )


def describe(
    sample: Sample,
    units: Units,
    found: Found,
    n_of_unit: np.ndarray,
    chosen: np.ndarray,
    seed: int,
) -> pa.Table:
    """Return a row for each of the `chosen` units, in their order; columns as `rank` says.

    `n_of_unit` counts the CCDs that were judged together.
    """
    nearest = _nearest(sample, units, chosen, seed)
    rows = []
    for unit, (ccds, distances) in zip(chosen, nearest, strict=True):
        ccd = units.first[unit]
        camera, night = sample.nights[sample.night[ccd]].split("/")
        label, suggested = sample.labels[ccd], found.suggested[unit]
        classes = sample.labels[ccds]
        by_distance = np.lexsort((ccds, distances))
        shown = list(dict.fromkeys(ccds[by_distance].tolist()))[:NEIGHBOURS]
        row = {
            "camera": camera,
            "night": int(night),
            "expnum": int(sample.expnum[ccd]),
            "ccdnum": 0 if units.whole[unit] else int(sample.ccdnum[ccd]),
            "label": sample.classes[label],
            "suggested": sample.classes[suggested],
            "p_label": found.p_label[unit],
            "p_suggested": found.p_suggested[unit],
            "margin": found.margin[unit],
            "confident": bool(found.confident[unit]),
            "kind": _kind(label, suggested),
            "n_ccds": int(n_of_unit[unit]),
            "agree": float((classes == suggested).mean()),
            "agree_label": float((classes == label).mean()),
            "nearest": [_name(sample, neighbour) for neighbour in shown],
            "sources": units.words[unit][0],
            "reasons": units.words[unit][1],
        }
        rows.append({**row, "why": _why(row)})
    return pa.Table.from_pylist(rows, schema=_ROWS)


_ROWS = pa.schema(
    [
        ("camera", pa.string()),
        ("night", pa.int32()),
        ("expnum", pa.int64()),
        ("ccdnum", pa.int16()),
        ("label", pa.string()),
        ("suggested", pa.string()),
        ("p_label", pa.float32()),
        ("p_suggested", pa.float32()),
        ("margin", pa.float32()),
        ("confident", pa.bool_()),
        ("kind", pa.string()),
        ("n_ccds", pa.int32()),
        ("agree", pa.float32()),
        ("agree_label", pa.float32()),
        ("nearest", pa.list_(pa.string())),
        ("sources", pa.string()),
        ("reasons", pa.string()),
        ("why", pa.string()),
    ]
)


def _nearest(
    sample: Sample, units: Units, chosen: np.ndarray, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows and distances of the nearest CCDs of other nights, for each chosen unit.

    For every CCD of the unit its own `NEIGHBOURS`, one after the other.
    """
    if not len(chosen):
        return []
    space = neighbour_space(sample.vectors, sample.layout, seed, sample.labels)
    asked = np.flatnonzero(np.isin(units.member, chosen))
    ccds: dict[int, list[np.ndarray]] = {unit: [] for unit in chosen.tolist()}
    distances: dict[int, list[np.ndarray]] = {unit: [] for unit in chosen.tolist()}
    for night in np.unique(sample.night[asked]):
        others = np.flatnonzero(sample.night != night)
        mine = asked[sample.night[asked] == night]
        finder = WeightedNeighbours(NEIGHBOURS, p=1).fit(space[others], sample.labels[others])
        far, found = finder.kneighbors(space[mine])
        for row, at, distance in zip(mine, found, far, strict=True):
            ccds[units.member[row]].append(others[at])
            distances[units.member[row]].append(distance)
    return [
        (np.concatenate(ccds[unit]), np.concatenate(distances[unit])) for unit in chosen.tolist()
    ]


def _kind(label: int, suggested: int) -> str:
    # Good is the first class.
    if label == 0:
        return "good that looks bad"
    return "bad that looks good" if suggested == 0 else "another class"


def _name(sample: Sample, row: int) -> str:
    camera = sample.nights[sample.night[row]].partition("/")[0]
    ccdnum = int(sample.ccdnum[row])
    ccd = ccd_name(camera, ccdnum) or str(ccdnum)
    return f"{sample.expnum[row]}-{ccd} {sample.classes[sample.labels[row]]}"


def _why(row: Mapping[str, Any]) -> str:
    said = (
        f"{row['sources']} says {row['label']} ({row['reasons']})"
        if row["sources"]
        else "in no list"
    )
    of = "" if row["n_ccds"] == 1 else f" over {row['n_ccds']} CCDs"
    return (
        f"{said}, looks like {row['suggested']}: probability {row['p_suggested']:.2f}{of}, "
        f"{row['agree']:.0%} of its neighbours on other nights"
    )
