"""Votes against legacypipe's cuts, counted again in plain Python."""

from __future__ import annotations

import functools
import operator

import pyarrow as pa
import pytest

from lake.errors import SurveyError
from lake.freshness import Freshness
from lake.store import Lake
from queries.crossmatch import COUNTS, crossmatch
from queries.engine import run_sql
from queries.reference import bit_names
from tests.queries.lakes import MODEL, NIGHTS, RECORD, fill

DEPTH_CUTS = 0x4000 | 0x40000


@pytest.fixture
def full(lake: Lake) -> Lake:
    fill(lake)
    return lake


def expected(lake: Lake, release: str, min_fraction: float) -> dict[tuple[str, str], list[int]]:
    rows = run_sql(
        lake,
        "select v.class, v.is_bad, list(c.ccd_cuts) as cuts from votes v "
        "join ccds c using (camera, night, expnum) where release = $r "
        "group by camera, night, expnum, v.class, v.is_bad",
        {"r": release},
    ).to_pylist()
    counts: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        of_ccds = [(cuts or 0) & ~DEPTH_CUTS for cuts in row["cuts"]]
        cuts = functools.reduce(operator.or_, of_ccds)
        n_cut = sum(cut != 0 for cut in of_ccds)
        theirs = cuts != 0 and n_cut >= min_fraction * len(of_ccds)
        slices = [("all", "all"), ("class", row["class"])]
        slices += [("bit", name) for bit, name in enumerate(bit_names()) if cuts >> bit & 1]
        for key in slices:
            cells = counts.setdefault(key, [0] * len(COUNTS))
            place = {(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3}[row["is_bad"], theirs]
            cells[place] += 1
            cells[-1] += 1
    return counts


@pytest.mark.parametrize("min_fraction", [0.0, 0.5, 1.0])
def test_one_release_is_counted_as_by_hand(full: Lake, min_fraction: float) -> None:
    rows = crossmatch(full, MODEL, ["dr10"], min_fraction)
    assert rows.column_names == ["part", "name", *COUNTS]
    found = {
        (row["part"], row["name"]): [row[count] for count in COUNTS] for row in rows.to_pylist()
    }
    assert found == expected(full, "dr10", min_fraction)


def test_two_releases_stand_side_by_side(full: Lake) -> None:
    rows = crossmatch(full, MODEL, ["dr9", "dr10"]).to_pylist()
    for release in ("dr9", "dr10"):
        alone = {(r["part"], r["name"]): r for r in crossmatch(full, MODEL, [release]).to_pylist()}
        for row in rows:
            single = alone.get((row["part"], row["name"]), dict.fromkeys(COUNTS, 0))
            assert [row[f"{release} {c}"] for c in COUNTS] == [single[c] for c in COUNTS]
    assert [row["part"] for row in rows] == sorted(
        (row["part"] for row in rows), key=["all", "class", "bit"].index
    )


def test_what_cannot_be_compared_is_told(full: Lake) -> None:
    with pytest.raises(SurveyError, match="no votes of model 'svm'"):
        crossmatch(full, "svm", ["dr10"])
    with pytest.raises(SurveyError, match="no 'dr8'; valid are dr9, dr10"):
        crossmatch(full, MODEL, ["dr8"])
    with pytest.raises(SurveyError, match="name a release"):
        crossmatch(full, MODEL, [])


def test_the_counts_are_a_table_that_is_out_of_date_when_votes_change(full: Lake) -> None:
    printed = crossmatch(full, MODEL, ["dr10"]).to_pylist()
    stored = run_sql(full, "from crossmatches order by rank").to_pylist()
    assert [{name: row[name] for name in printed[0]} for row in stored] == printed
    assert {(row["release"], row["model"]) for row in stored} == {("dr10", MODEL)}
    [partition] = full.partitions("crossmatches")
    written = partition.path.stat().st_mtime_ns
    assert crossmatch(full, MODEL, ["dr10"]).to_pylist() == printed
    assert partition.path.stat().st_mtime_ns == written

    assert Freshness(full).because(partition) is None
    votes = full.partitions("votes", model=MODEL)[0]
    good = [
        row | {"class": "good", "is_bad": False}
        for row in full.read("votes", dict(votes.keys)).to_pylist()
    ]
    full.write("votes", dict(votes.keys), pa.Table.from_pylist(good), RECORD)
    assert Freshness(full).because(partition) == f"votes/{votes.name} has changed"
    assert crossmatch(full, MODEL, ["dr10"]).to_pylist() != printed
    assert Freshness(full).because(partition) is None
    new = {"release": "dr10", "camera": "decam", "night": str(NIGHTS[0])}
    full.remove("exposures", new)
    assert "is gone" in str(Freshness(full).because(partition))
