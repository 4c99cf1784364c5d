"""Natural order of versions and releases, and which processing of a CCD counts: one rule each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifiers.sample.features import Features
from classifiers.sample.vectors import read_bands, read_vectors
from embedders.wanted import ccd_sources, latest
from ingest.ccd_nights import latest_processing
from inspector.facts import Facts
from inspector.neighbours import Neighbours
from inspector.rounds import freeze, located
from inspector.service import InspectionService
from lake.record import Record
from lake.store import Lake
from lake.versions import in_order, natural
from queries.engine import run_sql
from queries.named import run_query
from tests.classifiers.conftest import write_vectors

NIGHT = {"camera": "decam", "night": "20140818"}
RECORD = Record("test")


@pytest.mark.parametrize(
    "versions",
    [
        ["dr9", "dr9b", "dr10", "dr10.1", "dr11"],
        ["", "V4.8", "V4.8.2a", "V4.10", "V5"],
        ["ls9-20140818", "ls9-20150101", "ls10-20130101"],
    ],
)
def test_runs_of_digits_are_numbers(versions: list[str]) -> None:
    assert in_order(reversed([*versions, *versions])) == versions


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(versions=st.lists(st.text("V0123456789.abl- ", max_size=25), max_size=8))
def test_sql_and_python_order_alike(lake: Lake, versions: list[str]) -> None:
    texts = run_sql(lake, "select natural_order(unnest($v::varchar[])) as t", {"v": versions})
    assert texts["t"].to_pylist() == [natural(version) for version in versions]


def test_the_latest_release_counts_wherever_several_have_a_night(lake: Lake) -> None:
    """In the order of letters dr10 comes before dr9, and dr9 would be the last one."""
    for release, band, ra, value in (("dr9", "g", 10.0, 1.0), ("dr10", "r", 200.0, 2.0)):
        keys = {"release": release, **NIGHT}
        exposures = [{"expnum": n, "band": band, "ra_bore": ra, "dec_bore": 0.0} for n in (1, 2)]
        lake.write("exposures", keys, pa.Table.from_pylist(exposures), RECORD)
        ccds = [{"expnum": n, "ccdnum": 1, "ccdname": "S29", "fwhm": value} for n in (1, 2)]
        lake.write("ccds", keys, pa.Table.from_pylist(ccds), RECORD)
    votes = [{"expnum": n, "class": "good", "is_bad": False} for n in (1, 2)]
    lake.write("votes", {"model": "m", **NIGHT}, pa.Table.from_pylist(votes), RECORD)
    write_vectors(lake, NIGHT["night"], np.array([1, 2]), np.array([1, 1]), np.ones((2, 3)))

    [subject] = located(lake, [{"camera": "decam", "expnum": 1}])
    assert (subject.release, subject.night) == ("dr10", NIGHT["night"])
    [field] = run_query(lake, "consistency_fields", {"model": "m"}).to_pylist()
    assert (field["band"], field["ra"]) == ("r", 200.0)
    round = freeze(lake, "round", [subject])
    neighbours = Neighbours(lake, "toy", [subject], ())
    neighbours.start()
    assert neighbours.ready.wait(60)
    pictured = InspectionService(lake, round, Facts(lake), neighbours).pictured("decam-2-0")
    assert pictured is not None and pictured.release == "dr10"
    [vectors] = lake.partitions("embeddings")
    assert read_bands(lake, vectors, np.array([1, 2])).tolist() == [ord("r")] * 2
    features = Features(("toy",), "none", ("fwhm",), release="dr8")
    assert read_vectors(lake, vectors, features).vectors[:, -1].tolist() == [2.0, 2.0]
    ordered = run_query(lake, "ccd_cuts_by_release").column("release").to_pylist()
    assert ordered == ["dr9", "dr10"]


processings = st.lists(
    st.fixed_dictionaries(
        {
            "release": st.sampled_from(["dr8", "dr9", "dr10", "dr10b"]),
            "ccdnum": st.integers(1, 2),
            "procdate": st.sampled_from([None, "", "2019-01-01", "2019-01-01 ", "2020-01-01"]),
            "plver": st.sampled_from([None, "", "V4.8.2a", "V4.8.2a ", "V4.8", "V4.10", "V5"]),
        }
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda row: (row["release"], row["ccdnum"]),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=processings)
def test_ingest_embedding_and_sql_take_the_same_processing(
    tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    shutil.rmtree(tmp_path / "lake", ignore_errors=True)
    lake = Lake(tmp_path / "lake", create=True)
    rows = [row | {"expnum": 7, "image_filename": str(at)} for at, row in enumerate(rows)]
    for release in {str(row["release"]) for row in rows}:
        mine = [row for row in rows if row["release"] == release]
        keys = {"release": release, **NIGHT}
        table = pa.Table.from_pylist(mine, _SCHEMA)
        lake.write("ccds", keys, table.drop_columns("release"), RECORD)
        lake.write("exposures", keys, pa.table({"expnum": [7]}), RECORD)
    sources = ccd_sources(lake, (), ("decam", NIGHT["night"]))
    embedded = {key[1]: row["image_filename"] for key, row in latest(sources, _COLUMNS).items()}
    asked = run_query(lake, "latest_processing", {"repeated_only": "false"}).to_pylist()
    assert {row["ccdnum"]: row["image_filename"] for row in asked} == embedded
    # What comes in one table has no releases: of equal ones the last row counts.
    by_release = sorted(rows, key=lambda row: natural(str(row["release"])))
    taken = latest_processing(pa.Table.from_pylist(by_release, _SCHEMA)).to_pylist()
    assert {row["ccdnum"]: row["image_filename"] for row in taken} == embedded


_COLUMNS = ("image_filename",)
_SCHEMA = pa.schema(
    [
        ("release", pa.string()),
        ("expnum", pa.int64()),
        ("ccdnum", pa.int16()),
        ("procdate", pa.string()),
        ("plver", pa.string()),
        ("image_filename", pa.string()),
    ]
)
