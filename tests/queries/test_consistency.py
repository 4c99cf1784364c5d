"""Entropy where the truth is not known: fields found as by hand, entropies as computed by hand."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from math import log2

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli.main import app
from lake.errors import SurveyError
from lake.freshness import Freshness
from lake.store import Lake
from queries.consistency import BETWEEN, consistency
from queries.engine import run_sql
from queries.named import run_query
from tests.queries.lakes import MODEL, OTHER_MODEL, RECORD, fill


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("consistency") / "survey.lake", create=True)
    fill(lake)
    return lake


def bits(classes: list[str]) -> float:
    return -sum(n / len(classes) * log2(n / len(classes)) for n in Counter(classes).values())


def put(lake: Lake, pointings: list[tuple[float, float, str, str]]) -> None:
    """Write exposures (ra, dec, band, class voted) of one night, numbered from 1."""
    rows = [
        {"expnum": number, "ra_bore": ra, "dec_bore": dec, "band": band, "class": name}
        for number, (ra, dec, band, name) in enumerate(pointings, 1)
    ]
    table = pa.Table.from_pylist(rows)
    keys = {"camera": "decam", "night": "20140818"}
    lake.write("exposures", keys | {"release": "dr10"}, table.drop_columns("class"), RECORD)
    lake.write("votes", keys | {"model": "m"}, table.select(["expnum", "class"]), RECORD)


def test_entropy_over_ccds_is_that_by_hand(full: Lake) -> None:
    sql = f"select expnum, class from predictions where model = '{MODEL}'"
    said = defaultdict(list)
    for row in run_sql(full, sql).to_pylist():
        said[row["expnum"]].append(row["class"])
    found = run_query(full, "consistency_exposures", {"model": MODEL}).to_pylist()
    assert {row["expnum"] for row in found} == set(said)
    for row in found:
        assert row["entropy"] == pytest.approx(bits(said[row["expnum"]]), abs=1e-9)
        counts = Counter(said[row["expnum"]])
        assert counts[row["class"]] == max(counts.values())
        assert row["agreement"] == pytest.approx(max(counts.values()) / row["n_ccds"])


def test_what_two_models_differ_in_is_counted(full: Lake) -> None:
    said = {
        model: {
            (row["expnum"], row["ccdnum"]): row["class"]
            for row in run_sql(
                full, f"select * from predictions where model = '{model}'"
            ).to_pylist()
        }
        for model in (MODEL, OTHER_MODEL)
    }
    differ = Counter(key[0] for key, name in said[MODEL].items() if said[OTHER_MODEL][key] != name)
    pair = {"model": MODEL, "other": OTHER_MODEL}
    found = run_query(full, "consistency_models", pair).to_pylist()
    assert {row["expnum"]: row["n_differ"] for row in found if row["n_differ"]} == differ
    swapped = run_query(full, "consistency_models", {"model": OTHER_MODEL, "other": MODEL})
    assert [row["entropy"] for row in swapped.to_pylist()] == [row["entropy"] for row in found]
    same = run_query(full, "consistency_models", {"model": MODEL, "other": MODEL}).to_pylist()
    assert not any(row["entropy"] for row in same)


def test_a_field_is_one_pointing_in_one_band(lake: Lake) -> None:
    arcsec = 1 / 3600
    put(
        lake,
        [
            (10.0, -30.0, "g", "good"),
            (10.0 + 30 * arcsec, -30.0, "g", "PSF"),  # 26 arcsec away
            (10.0, -30.0, "r", "PSF"),  # another band, alone
            (10.0, -30.0 + 70 * arcsec, "g", "Noise"),  # beyond an arcminute
            (359.9999, 5.0, "z", "good"),
            (0.0001, 5.0, "z", "good"),  # across the origin of right ascension
            (200.0, 89.99, "i", "good"),
            (20.0, 89.995, "i", "PSF"),  # across the pole, 0.9 arcmin away
        ],
    )
    found = run_query(lake, "consistency_fields", {"model": "m"}).to_pylist()
    assert {row["field"]: (row["n_exposures"], row["entropy"]) for row in found} == {
        1: (2, 1.0),
        5: (2, 0.0),
        7: (2, 1.0),
    }
    wide = run_query(lake, "consistency_fields", {"model": "m", "radius": 2}).to_pylist()
    assert {row["field"]: row["n_exposures"] for row in wide} == {1: 3, 5: 2, 7: 2}


@pytest.mark.parametrize("radius", [0.7, 1.0, 3.0])
def test_fields_are_those_found_without_cells(lake: Lake, radius: float) -> None:
    """Clumps of repeats anywhere on the sky, in numbers that fall on all edges of cells."""
    rng = np.random.default_rng(int(10 * radius))
    n = 250
    centres = np.column_stack(
        [rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))]
    )
    pointings = []
    for ra, dec in centres:
        for _ in range(3):
            offset = rng.uniform(-0.45, 0.45, 2) * radius / 60 / np.sqrt(2)
            pointings.append(
                ((ra + offset[0] / np.cos(np.radians(dec))) % 360, dec + offset[1], "g", "good")
            )
    order = rng.permutation(len(pointings))
    put(lake, [pointings[index] for index in order])
    found = run_query(lake, "consistency_fields", {"model": "m", "radius": radius}).to_pylist()
    of = order // 3
    expected = Counter()
    for clump in range(n):
        expected[int(np.flatnonzero(of == clump).min()) + 1] = 3
    assert {row["field"]: row["n_exposures"] for row in found} == expected


def test_the_summary_is_over_classes_and_models(full: Lake) -> None:
    with pytest.raises(SurveyError, match="'other' has no votes in the lake; run `survey-qa vote"):
        consistency(full, MODEL, OTHER_MODEL)
    for partition in full.partitions("votes", model=MODEL):
        rows = full.read("votes", dict(partition.keys))
        full.write("votes", {**dict(partition.keys), "model": OTHER_MODEL}, rows, RECORD)
    found = consistency(full, MODEL, OTHER_MODEL)
    rows = found.summary.to_pylist()
    totals = {(row["compared"], row["model"]): row for row in rows if row["class"] == "all"}
    assert set(totals) == {
        ("CCDs of an exposure", MODEL),
        ("exposures of a field", MODEL),
        ("CCDs of an exposure", OTHER_MODEL),
        ("exposures of a field", OTHER_MODEL),
        (BETWEEN, f"{MODEL}, {OTHER_MODEL}"),
    }
    for key, total in totals.items():
        mine = [row for row in rows if (row["compared"], row["model"]) == key]
        parts = [row for row in mine if row["class"] != "all"]
        assert sum(row["n"] for row in parts) == total["n"] > 0
        mean = sum(row["n"] * row["mean"] for row in parts) / total["n"]
        assert mean == pytest.approx(total["mean"])
        assert 0 <= total["median"] <= total["p90"] <= total["max"]
    assert found.groups["CCDs of an exposure", MODEL].num_rows == 36
    # What was compared with another model stays when one is asked for alone, and the other way.
    kept = {part: part.identity() for part in full.partitions("consistency")}
    assert {(part["model"], part["other"]) for part in kept} == {
        (MODEL, MODEL),
        (OTHER_MODEL, OTHER_MODEL),
        (MODEL, OTHER_MODEL),
    }
    consistency(full, MODEL)
    consistency(full, OTHER_MODEL)
    assert {part: part.identity() for part in full.partitions("consistency")} == kept


def test_the_worst_are_shown_for_each_model(full: Lake) -> None:
    words = ["--lake", str(full.root), "consistency", "--model", MODEL, "--worst", "2"]
    rows = json.loads(CliRunner().invoke(app, [*words, "--format", "json"]).stdout)
    assert [row["compared"] for row in rows] == 2 * ["CCDs of an exposure"] + 2 * [
        "exposures of a field"
    ]
    worst = run_query(full, "consistency_fields", {"model": MODEL}).to_pylist()[:2]
    assert [row["field"] for row in rows[2:]] == [row["field"] for row in worst]
    shown = CliRunner().invoke(app, words).stdout
    assert all(str(row["field"]) in shown for row in worst)


def test_wrong_settings_are_told(full: Lake) -> None:
    with pytest.raises(SurveyError, match="--radius 0"):
        consistency(full, MODEL, radius=0)
    with pytest.raises(SurveyError, match="name another model"):
        consistency(full, MODEL, MODEL)
    with pytest.raises(SurveyError, match="'none' has no predictions"):
        consistency(full, "none")


def test_a_field_seen_once_leaves_nothing_to_compare(lake: Lake) -> None:
    put(lake, [(10.0, 0.0, "g", "good")])
    ccd = pa.Table.from_pylist([{"expnum": 1, "ccdnum": 1, "class": "good"}])
    keys = {"model": "m", "camera": "decam", "night": "20140818"}
    lake.write("predictions", keys, ccd, RECORD)
    found = consistency(lake, "m").summary.to_pylist()
    [fields] = [row for row in found if row["compared"] == "exposures of a field"]
    assert (fields["n"], fields["alike"], fields["mean"]) == (0, None, None)


def test_the_groups_are_a_table_that_is_out_of_date_when_predictions_change(full: Lake) -> None:
    found = consistency(full, MODEL)
    for what, name in (("CCDs of an exposure", "exposures"), ("exposures of a field", "fields")):
        asked = run_query(full, f"consistency_{name}", {"model": MODEL})
        assert found.groups[what, MODEL].replace_schema_metadata(None).equals(asked)
    mine = f"from consistency where model = '{MODEL}' and other = model group by 1"
    counts = run_sql(full, f"select compared, count(*) as n {mine}").to_pylist()
    assert {row["compared"]: row["n"] for row in counts} == {
        what: rows.num_rows for (what, _), rows in found.groups.items()
    }
    [partition] = full.partitions("consistency", model=MODEL, other=MODEL)
    written = partition.path.stat().st_mtime_ns
    assert consistency(full, MODEL).summary.equals(found.summary)
    assert partition.path.stat().st_mtime_ns == written
    assert Freshness(full).because(partition) is None
    predictions = full.partitions("predictions", model=MODEL)[0]
    before = full.read("predictions", dict(predictions.keys)).replace_schema_metadata(None)
    full.write("predictions", dict(predictions.keys), before.slice(1), RECORD)
    try:
        assert Freshness(full).because(partition) == f"predictions/{predictions.name} has changed"
    finally:
        full.write("predictions", dict(predictions.keys), before, RECORD)
