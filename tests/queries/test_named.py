"""The named queries: contracts kept on empty, partly filled and full lakes; answers checked."""

from __future__ import annotations

import random
import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake
from queries.engine import run_sql
from queries.merge_labels import merge_labels
from queries.named import (
    contract_breaches,
    describe_queries,
    filled_sql,
    find_query,
    list_queries,
    missing_tables,
    run_query,
)
from queries.reference import bit_names, cut_bits
from tests.queries.lakes import EMBEDDED, EMBEDDER, MODEL, OTHER_MODEL, RELEASES, fill

NAMES = [query.name for query in list_queries()]
NEEDED = {"bits": "badexp_file,seeing_bad", "model": MODEL, "other": OTHER_MODEL}


def needed(name: str, lake: Lake) -> dict[str, str]:
    parameters = find_query(lake, name).parameters
    return {p.name: NEEDED[p.name] for p in parameters if p.default is None}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("queries") / "survey.lake", create=True)
    fill(lake)
    for release in RELEASES:
        merge_labels(lake, release)
    return lake


def frame(lake: Lake, sql: str) -> pl.DataFrame:
    converted = pl.from_arrow(run_sql(lake, sql))
    assert isinstance(converted, pl.DataFrame)
    return converted


@pytest.mark.parametrize("name", NAMES)
def test_on_an_empty_lake_a_query_gives_its_columns(lake: Lake, name: str) -> None:
    rows = run_query(lake, name, needed(name, lake))
    assert rows.num_rows == 0
    assert contract_breaches(find_query(lake, name), rows) == []
    assert missing_tables(lake, name) != []


@pytest.mark.parametrize("name", NAMES)
def test_on_a_full_lake_a_query_keeps_its_contract(full: Lake, name: str) -> None:
    rows = run_query(full, name, needed(name, full))
    assert rows.num_rows > 0
    assert contract_breaches(find_query(full, name), rows) == []
    assert missing_tables(full, name) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_filled_text_gives_the_same_rows(full: Lake, name: str) -> None:
    text = filled_sql(full, name, needed(name, full))
    assert "$" not in text
    assert run_sql(full, text).equals(run_query(full, name, needed(name, full)))


@pytest.mark.parametrize("name", NAMES)
def test_a_contract_is_complete(name: str) -> None:
    query = next(query for query in list_queries() if query.name == name)
    assert query.answers
    assert query.columns
    assert all(parameter.meaning for parameter in query.parameters)
    assert all(column.meaning for column in query.columns)
    assert query.sql.startswith("--")
    for parameter in query.parameters:
        assert f"${parameter.name}" in query.sql


@pytest.mark.parametrize("table", ["ccds", "exposures", "reports"])
def test_a_missing_table_is_named_and_counts_as_empty(lake: Lake, table: str) -> None:
    fill(lake)
    merge_labels(lake, "dr10")
    for partition in lake.partitions(table):
        partition.path.unlink()
    for name in NAMES:
        query = find_query(lake, name)
        assert contract_breaches(query, run_query(lake, name, needed(name, lake))) == []
        # The view of what is listed reads them for the query.
        names = f"{table}|listed_exposures" if table == "reports" else table
        reads_it = re.search(rf"(from|join)\s+({names})\b", query.sql) is not None
        assert missing_tables(lake, name) == ([table] if reads_it else [])


@pytest.mark.parametrize("max_ebv", ["", "0.04"])
@pytest.mark.parametrize("release", ["dr10", ""])
def test_label_counts_equal_an_independent_count(full: Lake, release: str, max_ebv: str) -> None:
    labels = frame(full, "select release, expnum, ccdnum, class, source from labels")
    ccds = frame(full, "select release, expnum, ccdnum, ebv from ccds")
    if max_ebv:
        ccds = ccds.filter(pl.col("ebv") < pl.lit(float(max_ebv), pl.Float32))
    images: dict[tuple[str, str], dict[tuple[int, int], set[str]]] = {}
    wanted = set(ccds.select("release", "expnum", "ccdnum").iter_rows())
    for of, expnum, ccdnum, name, source in labels.iter_rows():
        if name is not None and (of, expnum, ccdnum) in wanted and release in ("", of):
            images.setdefault((of, name), {}).setdefault((expnum, ccdnum), set()).add(source)
    expected = {}
    for key, sources in images.items():
        first = sum("decals" in s and not s & {"des", "delve"} for s in sources.values())
        both = sum("decals" in s and bool(s & {"des", "delve"}) for s in sources.values())
        second = sum("decals" not in s and bool(s & {"des", "delve"}) for s in sources.values())
        if first + second + both:
            expected[key] = (first, second, both, first + second + both)
    rows = run_query(full, "label_counts", {"release": release, "max_ebv": max_ebv})
    found = {(row["release"], row["class"]): tuple(row.values())[2:] for row in rows.to_pylist()}
    assert found == expected


def test_good_candidates_are_in_no_list_and_uncut(full: Lake) -> None:
    found = run_query(full, "good_candidates", {"release": "dr10", "max_ebv": "0.04"})
    reports = frame(full, "select expnum, is_bad, source from reports")
    listed = set(
        reports.filter(pl.col("is_bad") | (pl.col("source") != "inspection"))["expnum"].to_list()
    )
    ccds = frame(full, "select expnum, ccd_cuts from ccds where release = 'dr10'")
    cut = set(ccds.filter(pl.col("ccd_cuts") != 0)["expnum"].to_list())
    low = frame(full, "select expnum from exposures where release = 'dr10' and ebv < 0.04")
    expected = sorted(set(low["expnum"].to_list()) - listed - cut)
    assert expected
    assert found["expnum"].to_pylist() == expected


def test_the_training_sample_is_deterministic_and_changes_with_the_seed(full: Lake) -> None:
    first = run_query(full, "training_sample", {"release": "dr10", "n_good": 20})
    assert first.equals(run_query(full, "training_sample", {"release": "dr10", "n_good": "20"}))
    other = run_query(full, "training_sample", {"release": "dr10", "n_good": 20, "seed": 1})
    assert not first.equals(other)
    classes = first["class"].to_pylist()
    assert classes.count("good") <= 20
    assert set(classes) > {"good"}


def test_the_training_sample_balances_without_touching_other_classes(full: Lake) -> None:
    rows = run_query(full, "training_sample", {"release": "dr10", "max_ebv": ""}).to_pylist()
    labels = frame(full, "select expnum, ccdnum, class from labels where release = 'dr10'")
    precedence = frame(full, "select name as class, precedence, keep, weight from classes")
    first = (
        labels.join(precedence, on="class")
        .sort("precedence")
        .group_by("expnum", "ccdnum", maintain_order=True)
        .first()
    )
    expected = {row[:2]: row[2] for row in first.iter_rows()}
    drawn = {(r["expnum"], r["ccdnum"]): r["class"] for r in rows if r["class"] != "good"}
    assert all(expected[key] == name for key, name in drawn.items())
    whole = first.filter(pl.col("keep") >= 1)
    assert sum(name in set(whole["class"]) for name in drawn.values()) == whole.height
    weights = {row["class"]: row["weight"] for row in rows}
    assert weights["Ghost_scatter"] == 2.0
    assert weights["good"] == 1.0


def test_good_ccds_are_drawn_from_those_with_a_vector(full: Lake) -> None:
    wanted = {"max_ebv": "", "n_good": 5}
    every = run_query(full, "training_sample", wanted).to_pylist()
    rows = run_query(full, "training_sample", {**wanted, "embedder": EMBEDDER}).to_pylist()
    good, bad = ([r for r in rows if (r["class"] == "good") is of] for of in (True, False))
    assert len(good) == 5 == sum(row["class"] == "good" for row in every)
    assert {row["ccdnum"] for row in good} <= set(EMBEDDED) < {row["ccdnum"] for row in every}
    assert bad == [row for row in every if row["class"] != "good"]
    none = run_query(full, "training_sample", {**wanted, "embedder": "absent"}).to_pylist()
    assert none == bad


def test_the_training_sample_takes_one_source(full: Lake) -> None:
    rows = run_query(full, "training_sample", {"sources": "des"}).to_pylist()
    assert {row["sources"] for row in rows} == {"", "des"}


@pytest.mark.parametrize("match", ["any", "all"])
def test_ccds_with_bits_decodes_as_bit_arithmetic_does(full: Lake, match: str) -> None:
    names = random.Random(1).sample(["badexp_file", "seeing_bad", "zpt_small", "depth_cut"], 2)
    mask = sum(1 << bit_names().index(name) for name in names)
    rows = run_query(full, "ccds_with_bits", {"bits": ",".join(names), "match": match})
    ccds = frame(full, "select release, expnum, ccdnum, ccd_cuts from ccds")
    expected = {
        (release, expnum, ccdnum)
        for release, expnum, ccdnum, cuts in ccds.iter_rows()
        if (cuts & mask == mask if match == "all" else cuts & mask != 0)
    }
    found = {(row["release"], row["expnum"], row["ccdnum"]) for row in rows.to_pylist()}
    assert found == expected
    for row in rows.to_pylist():
        decoded = sum(1 << bit_names().index(name) for name in row["bits"].split(","))
        assert decoded == row["ccd_cuts"]


def test_bits_are_legacypipes() -> None:
    names = [
        "err_legacyzpts", "not_griz", "not_third_pix", "exptime", "ccdnmatch", "zpt_diff_avg",
        "zpt_small", "zpt_large", "sky_is_bright", "badexp_file", "phrms", "radecrms", "seeing_bad",
        "early_decam", "depth_cut", "too_many_bad_ccds", "flagged_in_des", "phrms_s7",
        "depth_cut_2", "plver",
    ]  # fmt: skip
    bits = cut_bits().to_pylist()
    assert [(bit["name"], bit["value"]) for bit in bits] == [
        (name, 1 << place) for place, name in enumerate(names)
    ]
    assert {bit["name"]: bit["value"] for bit in bits}["plver"] == 0x80000


def test_bits_count_as_they_are_set(full: Lake) -> None:
    ccds = frame(full, "select release, ccd_cuts from ccds")
    for row in run_query(full, "ccd_cuts_by_bit").to_pylist():
        cuts = ccds.filter(pl.col("release") == row["release"])["ccd_cuts"].to_list()
        assert row["n_ccds"] == sum(bool(cut >> row["bit"] & 1) for cut in cuts)


def test_kept_ccds_are_labelled_and_uncut(full: Lake) -> None:
    labels = frame(full, "select release, expnum, ccdnum from labels").unique()
    uncut = frame(full, "select release, expnum, ccdnum from ccds where ccd_cuts = 0")
    expected = sorted(labels.join(uncut, on=["release", "expnum", "ccdnum"]).iter_rows())
    rows = run_query(full, "kept_ccds").to_pylist()
    assert sorted((r["release"], r["expnum"], r["ccdnum"]) for r in rows) == expected
    kept = run_query(full, "kept_exposures").to_pylist()
    assert sum(row["n_kept"] for row in kept) == len(expected)


def test_galactic_latitude_is_astronomys(full: Lake) -> None:
    rows = run_query(full, "galactic_plane", {"max_latitude": 91, "min_ebv": ""}).to_pylist()
    assert len(rows) == 72
    coordinates = pytest.importorskip("astropy.coordinates")
    sky = coordinates.SkyCoord(
        [row["ra_bore"] for row in rows], [row["dec_bore"] for row in rows], unit="deg"
    )
    latitudes = sky.galactic.b.deg
    for row, latitude in zip(rows, latitudes, strict=True):
        assert row["galactic_latitude"] == pytest.approx(latitude, abs=1e-4)


def test_orphans_are_what_no_table_knows(full: Lake) -> None:
    known = set(frame(full, "select distinct expnum, ccdnum from ccds").iter_rows())
    exposures = {expnum for expnum, _ in known}
    reports = frame(full, "select source, line, expnum, ccdnum from reports")
    expected = {
        (source, line)
        for source, line, expnum, ccdnum in reports.iter_rows()
        if expnum not in exposures or (ccdnum is not None and (expnum, ccdnum) not in known)
    }
    rows = run_query(full, "orphans").to_pylist()
    assert {(row["source"], row["line"]) for row in rows} == expected


def test_latest_processing_prefers_the_date_then_the_version(full: Lake) -> None:
    ccds = frame(full, "select release, expnum, ccdnum, procdate, plver from ccds")
    version = {"V4.8.2a": 0, "V4.10": 1}
    best = {
        (row["expnum"], row["ccdnum"]): row["release"]
        for row in sorted(
            ccds.iter_rows(named=True), key=lambda r: (r["procdate"], version[r["plver"]])
        )
    }
    rows = run_query(full, "latest_processing").to_pylist()
    assert {(row["expnum"], row["ccdnum"]): row["release"] for row in rows} == best


def test_rates_add_up_over_nights(full: Lake) -> None:
    nights = run_query(full, "class_rates", {"release": "dr10"}).to_pylist()
    years = run_query(full, "class_rates", {"release": "dr10", "period": "year"}).to_pylist()
    assert sum(row["n_bad"] for row in nights) == sum(row["n_bad"] for row in years)
    votes = run_query(full, "class_rates", {"model": MODEL, "period": "year"}).to_pylist()
    bad = frame(full, "select count(*) as n from votes where is_bad")["n"][0]
    assert sum(row["n_bad"] for row in votes) == bad


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("nope", {}, "no query 'nope'; the queries are .*label_counts"),
        ("label_counts", {"nope": "1"}, "no parameter 'nope'; its parameters are: release"),
        ("label_counts", {"release": "dr8"}, "no 'dr8'; valid are dr9, dr10"),
        ("training_sample", {"n_good": "many"}, "n_good='many': expected an integer"),
        ("good_candidates", {"max_ebv": "low"}, "max_ebv='low': expected a number"),
        ("ccds_with_bits", {}, "parameter bits is needed"),
        ("ccds_with_bits", {"bits": "bad"}, "no 'bad'; valid are err_legacyzpts, .*plver"),
        ("ccds_with_bits", {"bits": "plver", "match": "none"}, "valid are any, all"),
    ],
)
def test_a_wrong_parameter_is_told_with_the_valid_ones(
    full: Lake, name: str, parameters: dict[str, str], message: str
) -> None:
    with pytest.raises(SurveyError, match=message):
        run_query(full, name, parameters)


def test_a_folder_of_ones_own(full: Lake, tmp_path: Path) -> None:
    (tmp_path / "deep.sql").write_text("-- How deep\nselect max($depth::integer) as depth\n")
    (tmp_path / "deep.toml").write_text(
        'answers = "How deep"\nkey = ["depth"]\n[parameters.depth]\nkind = "integer"\n'
        'meaning = "m"\ndefault = "3"\n[columns]\ndepth = ["int32", "m", "depth"]\n'
    )
    (tmp_path / "plain.sql").write_text("-- How many\nselect count(*) as n from ccds\n")
    assert run_query(full, "deep", {"depth": "7"}, tmp_path).to_pylist() == [{"depth": 7}]
    assert run_query(full, "plain", {}, tmp_path).to_pylist() == [{"n": 576}]
    listed = {row["name"]: row for row in describe_queries(tmp_path).to_pylist()}
    assert listed["plain"]["answers"] == "How many"
    assert listed["deep"]["parameters"] == "depth=3"


def test_queries_kept_in_the_lake_are_found(lake: Lake) -> None:
    (lake.root / "queries").mkdir()
    (lake.root / "queries" / "mine.sql").write_text("select 1 as x")
    assert run_query(lake, "mine").to_pylist() == [{"x": 1}]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"label_counts.sql": "select 1"}, "there is a query label_counts already"),
        ({"a.sql": "select 1", "a.toml": "answers = "}, "a.toml"),
        ({"a.sql": "select 1", "a.toml": "key = []"}, "not a contract"),
        (
            {
                "a.sql": "select 1",
                "a.toml": 'answers = "a"\n[parameters.x]\nkind = "date"\nmeaning = "m"',
            },
            "kind is one of",
        ),
    ],
)
def test_a_query_that_cannot_be_used_is_told(
    lake: Lake, tmp_path: Path, files: dict[str, str], message: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(SurveyError, match=message):
        run_query(lake, "label_counts", {}, folder)
    with pytest.raises(SurveyError, match="no such folder"):
        list_queries(tmp_path / "nowhere")


def test_a_query_of_ones_own_cannot_write(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "evil.sql").write_text(f"copy (select 1) to '{tmp_path}/x.csv'")
    with pytest.raises(SurveyError, match="refused"):
        run_query(lake, "evil", {}, tmp_path)
    assert not (tmp_path / "x.csv").exists()


def test_breaches_of_a_contract_are_found(full: Lake) -> None:
    query = find_query(full, "label_counts")
    rows = run_query(full, "label_counts")
    assert contract_breaches(query, rows.drop_columns(["total"]))
    doubled = rows.take([0, 0])
    assert contract_breaches(query, doubled) == ['key ("release", "class") is not unique']
    wrong = rows.set_column(5, "total", rows["first_only"])
    assert any("adds_up" in breach for breach in contract_breaches(query, wrong))


def test_what_is_listed_is_no_good_candidate_and_trains_as_none(lake: Lake) -> None:
    """One rule for both: unsure is listed, good by an inspector is not, own lines where trusted."""
    expnums = {"free": 1, "good": 2, "unsure": 3, "own": 4, "bad": 5, "gone": 6}
    exposures = [{"expnum": n, "n_ccds": 1, "ccd_cuts": 0} for n in expnums.values()]
    ccds = [{"expnum": n, "ccdnum": 1, "ccd_cuts": 0} for n in expnums.values()]
    keys = {"release": "dr10", "camera": "decam", "night": "20140818"}
    lake.write("exposures", keys, pa.Table.from_pylist(exposures), Record("test"))
    lake.write("ccds", keys, pa.Table.from_pylist(ccds), Record("test"))
    schema = pa.schema(
        [("expnum", pa.int64()), ("is_bad", pa.bool_()), ("origin", pa.string()),
         ("is_current", pa.bool_()), ("camera", pa.string()), ("line", pa.int32())]
    )  # fmt: skip
    inspected = [(2, False, None), (3, None, None)]
    listed = [(4, True, "model m"), (5, True, None), (6, True, None)]
    for source, said in (("inspection", inspected), ("decals", listed)):
        lines = [
            dict(zip(schema.names, (*row, row[0] != 6, "decam", row[0]), strict=True))
            for row in said
        ]
        rows = pa.Table.from_pylist(lines, schema)
        lake.write("reports", {"source": source}, rows, Record("test"))

    def good(name: str, **parameters: str) -> list[int]:
        found = run_query(lake, name, {"max_ebv": "", **parameters})
        return sorted(set(found["expnum"].to_pylist()))

    assert good("good_candidates") == [1, 2, 6]
    assert good("training_sample", own_lines="true") == [1, 2, 6]
    assert good("training_sample") == [1, 2, 4, 6]
