"""A lake is read whole by any engine that reads Parquet, and a night is a number everywhere."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import survey_qa
from lake.tables import TABLES
from survey_qa.opened import Result
from tests.safety.command import done


@pytest.fixture
def written(folder: Path) -> list[Result]:
    """The rows of every stage that writes, run on the simulated survey."""
    lake = survey_qa.open("survey.lake")
    searched = survey_qa.ClassifierSpec("logistic", search="halving", candidates=2)
    lake.train("searched", "statistics", classifier=searched, workers=1)
    rows = [
        lake.compare("statistics", "logistic", n_seeds=1, workers=1).table(),
        lake.map("statistics", sample=200).rows,
        lake.select("knn", 2, round="looks", strategy="random", held_out_too=True).rows,
        lake.label_errors(model="knn", by="ccd", n=3).rows,
        *(answer.rows for answer in lake.evaluate("knn").answers.values()),
    ]
    Path("survey/images").rename("elsewhere")
    damaged = next(Path("elsewhere").rglob("*.fits.fz"))
    damaged.unlink()  # other tests read the file
    damaged.write_bytes(b"SIMPLE  =                    T")
    lake.embed("statistics", "elsewhere", device="cpu", workers=1, force=True)
    lake.ingest_images("elsewhere", "headers", workers=1)
    return [Result(table) for table in rows]


def test_every_table_reads_without_this_program(written: list[Result]) -> None:
    root = Path("survey.lake")
    there = [name for name in TABLES if (root / name).is_dir()]
    made = {"ccds", "embeddings", "comparisons", "projections", "rounds", "searches"}
    assert made | {"labels", "reports", "predictions", "votes", "test_sets"} <= set(there)
    for name in there:
        folder = root / name
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files and {path.suffix for path in files} == {".parquet"}, name
        assert not [path for path in files if path.name.startswith((".", "_"))], name
        n_rows = sum(pq.read_metadata(path).num_rows for path in files)
        frame = pl.scan_parquet(f"{folder}/", hive_partitioning=True)
        assert frame.select(pl.len()).collect().item() == n_rows > 0
        kinds = frame.collect_schema()
        assert set(TABLES[name].partition) <= set(kinds)
        assert kinds.get("night", pl.Int64).is_integer()
        own = survey_qa.open(root).table(name)
        assert own.collect_schema().get("night", pl.Int32) == pl.Int32


def test_a_night_is_a_number_wherever_rows_come_out(written: list[Result], folder: Path) -> None:
    with_night = [result for result in written if "night" in result.columns]
    assert len(with_night) >= 3
    assert all(pa.types.is_integer(r.rows.schema.field("night").type) for r in with_night)
    lake = survey_qa.open("survey.lake")
    for name in TABLES:
        if "night" in TABLES[name].partition:
            assert lake.sql(f"select * from {name}").rows.schema.field("night").type == pa.int32()
    keys = lake.schema().to_polars().filter(pl.col("column") == "night")
    assert set(keys["type"]) == {"int32"}
    root = folder / "survey.lake"
    for words in (
        ("sql", "select night, expnum from votes order by all"),
        ("query", "kept_exposures", "--param", "release=sim"),
        ("select", "--model", "knn", "-n", "2", "--strategy", "random", "--held-out-too",
         "--dry-run"),
    ):  # fmt: skip
        rows = json.loads(done(root, *words, "--format", "json").out)
        text = done(root, *words, "--format", "csv").out
        assert rows and all(isinstance(row["night"], int) for row in rows)
        nights = [row["night"] for row in csv.DictReader(io.StringIO(text))]
        assert nights == [str(row["night"]) for row in rows]
