"""SQL over a lake: what it sees, and everything it must refuse."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake
from lake.tables import TABLES
from queries.engine import connect, open_sql, run_sql, view_names
from queries.statements import check_reads
from tests.queries.lakes import CCDNUMS, NIGHTS, RECORD, RELEASES, fill


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def full(lake: Lake) -> Lake:
    fill(lake)
    return lake


def test_an_empty_lake_has_every_table_typed_and_without_rows(lake: Lake) -> None:
    for name, table in TABLES.items():
        rows = run_sql(lake, f"select * from {name}")
        assert rows.num_rows == 0
        expected = [*table.partition, *(column.name for column in table.columns)]
        assert rows.column_names == expected
        if "night" in table.partition:
            assert rows.schema.field("night").type == pa.int32()


def test_columns_of_an_empty_table_have_the_types_of_a_full_one(lake: Lake) -> None:
    before = {name: run_sql(lake, f"select * from {name}").schema for name in ("ccds", "votes")}
    fill(lake)
    for name, schema in before.items():
        assert run_sql(lake, f"select * from {name}").schema.equals(schema)


def test_partition_keys_are_columns(full: Lake) -> None:
    rows = run_sql(full, "select distinct release, camera, night from ccds order by all")
    expected = [(release, "decam", night) for release in sorted(RELEASES) for night in NIGHTS]
    assert [tuple(row.values()) for row in rows.to_pylist()] == expected


def test_hidden_and_half_written_files_are_not_read(full: Lake) -> None:
    before = run_sql(full, "select count(*) as n from ccds").to_pylist()
    folder = next(iter(full.partitions("ccds"))).path.parent
    for name in (".part-0.parquet.host.1.ab.tmp", "_extra.parquet", ".hidden.parquet"):
        (folder / name).write_bytes(b"not Parquet")
    assert run_sql(full, "select count(*) as n from ccds").to_pylist() == before


def test_columns_that_only_some_files_have_are_seen(full: Lake) -> None:
    keys = {"release": "dr11", "camera": "decam", "night": "20240101"}
    rows = pa.table({"expnum": [1], "ccdnum": [1], "co_sky": [0.25]})
    full.write("ccds", keys, rows, RECORD)
    # By name, by a star, and where the name is known only once all files are looked at.
    assert run_sql(full, "select max(co_sky) as m from ccds").to_pylist() == [{"m": 0.25}]
    assert "co_sky" in run_sql(full, "from ccds limit 1").column_names
    assert "co_sky" in run_sql(full, "select * from ccds limit 1").column_names
    assert "co_sky" in run_sql(full, "describe ccds")["column_name"].to_pylist()


def test_statistics_are_columns_by_name_whatever_their_order(lake: Lake) -> None:
    for night, names in (("20140818", ["sky", "noise"]), ("20140819", ["noise", "sky", "psf"])):
        vectors = np.arange(1, len(names) + 1, dtype=np.float16)[None, :]
        rows = pa.table(
            {
                "expnum": [int(night)],
                "ccdnum": [1],
                "embedding": pa.FixedSizeListArray.from_arrays(vectors.ravel(), len(names)),
            }
        )
        keys = {"embedder": "statistics", "camera": "decam", "night": night}
        lake.write("embeddings", keys, rows, Record("embed", notes={"features": names}))
    rows = run_sql(lake, "select night, sky, noise, psf from statistics order by night")
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (20140818, 1.0, 2.0, None),
        (20140819, 2.0, 1.0, 3.0),
    ]


def test_a_lake_whose_path_looks_like_a_pattern(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "it's [a] l*ke?", create=True)
    fill(lake)
    assert run_sql(lake, "select count(*) as n from exposures").to_pylist() == [{"n": 72}]


def test_rows_come_in_batches(full: Lake) -> None:
    with open_sql(full, "select expnum from ccds") as reader:
        assert sum(batch.num_rows for batch in reader) == 576


def test_parameters_are_bound_not_pasted(full: Lake) -> None:
    hostile = "x'; drop table ccds; --"
    rows = run_sql(full, "select $word as word, count(*) as n from ccds", {"word": hostile})
    assert rows.to_pylist() == [{"word": hostile, "n": 576}]


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("select nope from ccds", "line 1, column 8"),
        ("select expnum\nfrom ccds\nwhere nope = 1", "line 3, column 7"),
        ("select * frm ccds", "line 1, column 14"),
        ("select * from nope", "line 1, column 15"),
    ],
)
def test_errors_are_one_line_with_the_position(full: Lake, sql: str, where: str) -> None:
    with pytest.raises(SurveyError) as error:
        run_sql(full, sql)
    assert where in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_partition_is_named(full: Lake) -> None:
    path = full.partitions("ccds")[0].path
    path.write_bytes(path.read_bytes()[:100])
    for sql in ("select count(*) from ccds", "select max(ebv) from ccds", "from ccds"):
        with pytest.raises(SurveyError) as error:
            run_sql(full, sql)
        assert str(path.resolve()) in str(error.value)
        assert "column" not in str(error.value)


WRITING = [
    "copy (select 1) to '{lake}/x.csv'",
    "copy ccds to '{lake}/x.parquet'",
    "with x as (copy (select 1) to '{lake}/x.csv') select * from x",
    "with x as materialized (copy (select 1) to '{out}/x.csv') select 1",
    "select * from (with x as (copy (select 1) to '{lake}/x.csv') select * from x)",
    "from query('with x as (copy (select 1) to ''{lake}/x.csv'') select * from x')",
    "explain analyze copy (select 1) to '{lake}/x.csv'",
    "export database '{lake}/export'",
    "attach '{lake}/x.db' as x",
    "create table t as select 1",
    "create view v as select 1",
    "with x as (insert into ccds select 1) select 1",
    "with x as (delete from ccds returning *) select * from x",
    "insert into ccds values (1)",
    "drop view ccds",
    "update ccds set expnum = 1",
    "select 1; select 2",
    "select 1; copy (select 1) to '{lake}/x.csv'",
]
REACHING = [
    "select * from read_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from read_text('{lake}/../secret.txt')",
    "select * from read_blob('{out}/secret.txt')",
    "select * from glob('/etc/*')",
    "select * from read_parquet('https://example.org/x.parquet')",
    "select getenv('HOME')",
    "select * from duckdb_secrets()",
    "install httpfs",
    "load json",
    "pragma version",
    "set threads = 1",
    "set enable_external_access = true",
    "reset threads",
    "call pragma_version()",
    "use memory",
    "checkpoint",
    "begin",
    "vacuum",
    "prepare p as select 1",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("sql", [*WRITING, *REACHING])
def test_whatever_writes_or_reaches_outside_is_refused(
    full: Lake, tmp_path: Path, sql: str
) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    before = tree(tmp_path)
    with pytest.raises(SurveyError) as error:
        run_sql(full, sql.format(lake=full.root, out=tmp_path))
    assert "\n" not in str(error.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("sql", REACHING[:9])
def test_the_connection_itself_reaches_nothing_outside(
    full: Lake, tmp_path: Path, sql: str
) -> None:
    import duckdb

    (tmp_path / "secret.txt").write_text("secret")
    with connect(full) as connection, pytest.raises(duckdb.Error):
        connection.execute(sql.format(lake=full.root, out=tmp_path)).fetchall()


def test_python_variables_are_not_tables(full: Lake) -> None:
    secret = pa.table({"a": [1]})
    with pytest.raises(SurveyError, match="secret"):
        run_sql(full, "select * from secret")
    assert secret.num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "with a as (select 1 as x) select * from a",
        "with recursive a as (select 1 x union all select x + 1 from a where x < 3) from a",
        "select 1 union select 2",
        "values (1)",
        "from ccds limit 1",
        "describe ccds",
        "summarize select 1 as x",
        "show tables",
        "pivot ccds on night in (20140818) using count(*) group by release",
        "select 'copy (select 1) to x; drop table y' as words",
        'select \'"type":"COPY_QUERY_NODE"\' as words',
    ],
)
def test_whatever_reads_is_allowed(full: Lake, sql: str) -> None:
    assert run_sql(full, sql).num_columns > 0


@pytest.mark.parametrize(
    ("sql", "starred"),
    [
        ("select * from ccds", True),
        ("FROM Ccds", True),
        ("select c.* from votes join ccds c using (expnum)", True),
        ("select 1 where exists (from ccds)", True),
        ("with a as (from ccds) select expnum from a", True),
        ("describe ccds", True),
        ("show ccds", True),
        ("pivot ccds on night in (20140818) using count(*)", True),
        ("select * from query('from ccds')", True),
        ("select count(*) from ccds", False),
        ("select * from votes", False),
        ("with a as (select expnum from ccds) select * from a", False),
    ],
)
def test_a_star_over_tables_of_varying_columns_is_seen(sql: str, starred: bool) -> None:
    assert check_reads(sql) is starred


def test_reading_is_told_from_writing_without_a_lake() -> None:
    with pytest.raises(SurveyError, match="refused"):
        check_reads("delete from ccds")


def test_show_tables_names_every_view(lake: Lake) -> None:
    assert set(view_names()) <= set(run_sql(lake, "show tables")["name"].to_pylist())


def test_a_sum_over_a_window_keeps_to_the_model_asked_for(full: Lake) -> None:
    rows = run_sql(
        full,
        """
        with counted as (
            select expnum, class, count(*) as n from predictions
            where model = 'knn' group by expnum, class
        )
        select sum(n) over (partition by expnum) as total from counted
        """,
    )
    assert set(rows["total"].to_pylist()) == {len(CCDNUMS)}
