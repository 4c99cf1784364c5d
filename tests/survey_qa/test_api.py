"""The public Python API: cheap to import, tables with their keys, results that show themselves."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import survey_qa
from lake.errors import SurveyError
from survey_qa.opened import Result

ROOT = Path(__file__).resolve().parent.parent.parent


def test_import_brings_no_library() -> None:
    heavy = {"torch", "sklearn", "duckdb", "polars", "pyarrow", "numpy", "transformers", "rich"}
    code = f"import sys, survey_qa; print(sorted({heavy!r} & set(sys.modules)))"
    run = [sys.executable, "-c", code]
    start = time.monotonic()
    found = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
    assert time.monotonic() - start < 5  # of which the interpreter itself takes nearly all
    assert set(dir(survey_qa)) == set(survey_qa.__all__)


def test_what_is_not_there_is_one_line(folder: Path) -> None:
    lake = survey_qa.open("survey.lake")
    for wrong, says in (
        (lambda: survey_qa.open("nowhere"), "no lake at nowhere"),
        (lambda: lake.table("vote"), "no table 'vote'; the tables are"),
        (
            lambda: lake.table("votes", band="g"),
            "has no partition key 'band'; it has model",
        ),
        (lambda: lake.vectors("dino"), "no embeddings of 'dino'"),
        (lambda: lake.vectors("statistics", release="dr99"), "no release 'dr99'"),
        (lambda: lake.focal_plane(1, "survey/images"), "no CCD table of the lake knows exposure 1"),
        (lambda: lake.focal_plane(349001, "elsewhere"), "exposure 349001 cannot be drawn"),
        (lambda: lake.model("dino"), "no model 'dino'"),
        (lambda: lake.bad_expid_diff("survey/decam-bad_expid.txt"), "name a model, a round"),
        (lambda: lake.label_errors(), "name embedders to judge by, or a model"),
    ):
        with pytest.raises(SurveyError, match=says) as caught:
            wrong()
        assert "\n" not in str(caught.value)
    assert not Path("nowhere").exists()
    with pytest.raises(AttributeError, match="no attribute 'pandas'"):
        _ = survey_qa.pandas


def test_tables_are_those_of_sql(folder: Path) -> None:
    lake = survey_qa.open("survey.lake")
    for name in ("ccds", "exposures", "labels", "reports", "predictions", "votes", "test_sets"):
        frame = lake.table(name).collect()
        rows = lake.sql(f"select * from {name}").to_polars()
        assert frame.columns == rows.columns
        assert len(frame) == len(rows) > 0
        if "night" in frame.columns:
            assert frame.schema["night"] == rows.schema["night"] == pl.Int32
        plain = [c for c, kind in frame.schema.items() if not kind.is_nested()]
        ours, theirs = frame.select(plain).sort(plain), rows.select(plain).sort(plain)
        assert ours.equals(theirs.cast(dict(ours.schema))), name
    assert lake.table("failures").collect().is_empty()
    assert lake.table("failures").collect_schema()["night"] == pl.Int32


def test_what_is_not_asked_for_is_not_read(folder: Path) -> None:
    frame = survey_qa.open("survey.lake").table("ccds", release="sim")
    night = frame.select(pl.col("night").min()).collect().item()
    asked = frame.filter(pl.col("night") == night, pl.col("fwhm") > 0).select("expnum", "fwhm")
    plan = asked.explain()
    width = len(frame.collect_schema())
    assert f"/{width - 3} COLUMNS" in plan or f"/{width} COLUMNS" in plan
    assert "PROJECT" in plan and "SELECTION" in plan
    assert "FILTER" not in plan
    # Other nights' files may even be gone.
    for path in Path("survey.lake/votes").rglob("*.parquet"):
        if str(night) not in str(path):
            path.write_bytes(b"")
    assert len(survey_qa.open("survey.lake").table("votes", night=night).collect()) == 4


def test_columns_of_a_source_are_there_whichever_release_has_them(folder: Path) -> None:
    import fitsio
    from numpy.lib.recfunctions import append_fields

    rows = fitsio.read("survey/survey-ccds-sim.fits.gz", 1)
    more = append_fields(rows, "moon", np.ones(len(rows), "f4"), usemask=False)
    fitsio.write("more.fits", more)
    lake = survey_qa.open("survey.lake")
    lake.ingest_ccds("more.fits", "sim2")
    moon = lake.table("ccds").group_by("release").agg(pl.col("moon").count()).sort("release")
    assert moon.collect().rows() == [("sim", 0), ("sim2", len(rows))]
    assert "moon" in lake.table("ccds").collect_schema()


def test_results_show_themselves() -> None:
    result = Result(pa.table({"expnum": [1, 2], "name": ["a", "<b>"]}))
    assert "│ 1      ┆ a" in repr(result)
    html = result._repr_html_()
    assert "<table" in html and "&lt;b&gt;" in html
    assert pl.DataFrame(result).equals(result.to_polars())
    assert pa.table(result).equals(result.to_arrow())
    twice = Result(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"]))
    assert twice.to_polars().columns == ["n", "n_1"]


def test_vectors_are_those_of_the_table(folder: Path) -> None:
    lake = survey_qa.open("survey.lake")
    keys, matrix = lake.vectors("statistics")
    table = lake.table("embeddings", embedder="statistics").collect()
    assert matrix.shape == (1240, table["embedding"].dtype.size) and matrix.dtype == np.float32
    first = table.row(by_predicate=_is(keys.row(3, named=True)), named=True)
    np.testing.assert_array_equal(matrix[3], np.array(first["embedding"], np.float32))
    night = keys["night"].max()
    few, part = lake.vectors("statistics", release="sim", nights=[f"night={night}"])
    assert set(few["night"]) == {night} and len(part) == len(few) == 4 * 62


def _is(keys: dict[str, object]) -> pl.Expr:
    return pl.all_horizontal(pl.col(name) == value for name, value in keys.items())


def test_rounds_can_be_made(folder: Path) -> None:
    lake = survey_qa.open("survey.lake")
    lake.select("knn", 2, round="looks", strategy="random", held_out_too=True)
    assert len(lake.table("rounds", round="looks").collect()) == 2
    suspects = lake.label_errors(model="knn", round="doubts", n=3, by="ccd")
    rounds = lake.table("rounds", round="doubts").sort("place").collect()
    assert rounds["class"].to_list() == suspects.rows["suggested"].to_pylist()
    with pytest.raises(SurveyError, match="round looks exists and is frozen"):
        lake.select("knn", 2, round="looks")


def test_the_notebook_runs(folder: Path) -> None:
    cells = runpy.run_path(str(ROOT / "docs" / "notebook.py"))
    assert len(cells["counts"]) > 1 and set(cells["bands"].to_polars()["band"]) == {"g", "r"}
    assert cells["trained"].model.name == "notebook"
    assert cells["votes"].height == 20 and cells["votes"].schema["night"] == pl.Int32
    assert cells["vectors"].shape[0] == len(cells["keys"])
    levels = np.asarray(cells["worst"])
    assert levels.std() > 0 and max(levels.shape) > 300
    assert cells["change"].patch.startswith(b"--- ")
