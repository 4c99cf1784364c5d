"""SQL reads the visible Parquet files of tables, and nothing else that a lake holds."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.errors import SurveyError
from lake.store import Lake
from queries.engine import connect, open_sql, run_sql
from tests.queries.lakes import RECORD, fill

SECRET = "tell-nobody"


ROUND = pa.table({"camera": ["decam"], "expnum": [1], "ccdnum": [0], "place": [0]})


def verdicts(comment: str) -> pa.Table:
    rows = [{"camera": "decam", "expnum": 1, "ccdnum": 0, "verdict": "bad", "comment": comment}]
    return pa.Table.from_pylist(rows)


@pytest.fixture
def full(lake: Lake) -> Lake:
    """A lake with rounds open and closed, ledgers, and half-written and hidden files."""
    fill(lake)
    for name, comment in (("open", SECRET), ("shut", "told")):
        keys = {"round": name, "inspector": "a"}
        path = lake.write("inspections", keys, verdicts(comment), RECORD)
        (path.parent / "_verdicts.jsonl").write_text(json.dumps({"comment": SECRET}) + "\n")
        lake.write("rounds", {"round": name}, ROUND, RECORD)
    (lake.root / "inspections" / "round=shut" / "_closed.json").write_text("{}")
    (lake.root / ".inspection-secret").write_text(SECRET)
    (lake.root / "vocabulary.toml").write_text(f"# {SECRET}")
    night = lake.partitions("ccds")[0].path.parent
    (night / "notes.csv").write_text(f"a\n{SECRET}\n")
    (night / "_merged.json").write_text(json.dumps({"a": SECRET}))
    hidden = pa.table({"a": [SECRET]})
    for name in ("_hidden.parquet", ".hidden.parquet", ".part-0.parquet.host.1.ab.tmp"):
        pq.write_table(hidden, night / name)
    (night / "link.parquet").symlink_to("_hidden.parquet")
    (lake.root / "plain.parquet").symlink_to(night / "_hidden.parquet")
    pq.write_table(hidden, lake.root / "extra.parquet")
    return lake


#: What hides things, below the lake.
HIDDEN = [
    ".inspection-secret",
    "vocabulary.toml",
    "extra.parquet",
    "plain.parquet",
    "inspections/round=open/inspector=a/_verdicts.jsonl",
    "inspections/round=shut/inspector=a/_verdicts.jsonl",
    "inspections/round=open/inspector=a/part-0.parquet",
    "{night}/notes.csv",
    "{night}/_merged.json",
    "{night}/_hidden.parquet",
    "{night}/.hidden.parquet",
    "{night}/.part-0.parquet.host.1.ab.tmp",
    "{night}/link.parquet",
    "{night}/../../../../.inspection-secret",
    "models/../.inspection-secret",
    "**",
    "**/*",
    "*/*/*/*/*.parquet",
    "inspections/**/*.parquet",
    "inspections/round=*/inspector=a/part-0.parquet",
    "inspections/round=ope?/*/*",
    "inspections/round=[o]pen/*/*.parquet",
    ".*",
    "{night}/*",
    "{night}/*.parquet",
    "{night}/[_]hidden.parquet",
]
#: Ways to read a file.
READERS = [
    "from read_text('{path}')",
    "from read_blob('{path}')",
    "from read_csv('{path}', header = false, columns = {{'a': 'varchar'}}, delim = '\x01')",
    "from read_csv_auto('{path}')",
    "from sniff_csv('{path}')",
    "from read_json('{path}')",
    "from read_json_auto('{path}')",
    "from read_json_objects('{path}')",
    "from read_ndjson('{path}')",
    "from read_ndjson_objects('{path}')",
    "from read_parquet('{path}')",
    "from read_parquet(['{path}'])",
    "from parquet_scan('{path}')",
    "from parquet_metadata('{path}')",
    "from parquet_schema('{path}')",
    "from parquet_kv_metadata('{path}')",
    "from parquet_file_metadata('{path}')",
    "from read_duckdb('{path}')",
    "from glob('{path}')",
    "select filename from read_text('{path}')",
    "select filename from read_parquet('{path}', filename = true)",
    "from '{path}'",
    'from "{path}"',
    "describe '{path}'",
    "summarize from read_parquet('{path}')",
    "from READ_Text('{path}')",
    "from \"read_text\"('{path}')",
    "from system.main.read_text('{path}')",
    "from read_text('file://{path}')",
    "from read_parquet('file:{path}')",
    "from read_text('{start}' || '{end}')",
    "from read_parquet('{start}' || '{end}')",
    "from read_parquet(['{start}' || '{end}', '{seen}'])",
    "from read_parquet(list_transform(['{end}'], x -> '{start}' || x))",
    "select (select content from read_text('{path}')) as a",
    "with a as materialized (from read_text('{path}')) from a",
    "with recursive a as (from read_blob('{path}') union all from a) from a",
    "from (values ('{path}')) t(p), lateral (from read_text(p))",
    "from query('from read_text(''{path}'')')",
    "from query('from query(''from read_text(''''{path}'''')'')')",
    "from query('from read_' || 'text(''{path}'')')",
    "from query_table('{path}')",
    "from query_table(['{path}', '{seen}'])",
    "from json_execute_serialized_sql(json_serialize_sql('from read_text(''{path}'')'))",
    "select json_execute_serialized_sql(json_serialize_sql('from read_text(''{path}'')'))",
    "pivot (from read_text('{path}')) on content in ('a')",
    "from read_text('{path}') union all select 'a', 'b', 1, null",
    "select 1 where exists (from glob('{path}'))",
    "from read_parquet('{path}', union_by_name = true, hive_partitioning = false)",
    "from read_parquet('%2e%2e{path}')",
    "from read_text(chr(47) || '{path}')",
    "from parquet_bloom_probe('{path}', 'a', '" + SECRET + "')",
]


def path_of(lake: Lake, name: str) -> str:
    night = lake.partitions("ccds")[0].path.parent
    return str(lake.root.resolve() / name.format(night=night.relative_to(lake.root)))


def statement(lake: Lake, reader: str, name: str) -> str:
    path = path_of(lake, name)
    seen = str(lake.partitions("votes")[0].path.resolve())
    return reader.format(path=path, start=path[:9], end=path[9:], seen=seen)


def tells(text: str) -> bool:
    """Tell whether rows hold what is secret, or the names of files that SQL does not see."""
    hidden = (SECRET, "_verdicts.jsonl", "_hidden", ".inspection", "round=open", "notes.csv")
    return any(word in text for word in hidden)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_hidden_is_read_by_no_statement(full: Lake, reader: str) -> None:
    for name in HIDDEN:
        sql = statement(full, reader, name)
        try:
            with open_sql(full, sql) as rows:
                found = str(rows.read_all().to_pylist())
        except SurveyError:
            continue
        # `select 1 where exists …` may say nothing, and so tell nothing.
        assert found == "[]" or not tells(found), sql
        assert found == "[]" or "exists" not in reader, sql


@pytest.mark.parametrize("reader", [r for r in READERS if "json_execute" not in r])
def test_the_connection_alone_keeps_what_is_hidden(full: Lake, reader: str) -> None:
    with connect(full, ["ccds", "inspections"]) as connection:
        for name in HIDDEN:
            sql = statement(full, reader, name)
            try:
                found = str(connection.execute(sql).fetchall())
            except duckdb.Error:
                continue
            assert found == "[]" or not tells(found), sql


def test_a_refusal_does_not_tell_the_names_of_hidden_files(full: Lake) -> None:
    for reader in READERS:
        with pytest.raises(SurveyError) as error:
            run_sql(full, statement(full, reader, "inspections/**"))
        assert not tells(str(error.value))


@pytest.mark.parametrize(
    "function",
    [
        "enable_logging(storage = 'file', storage_path = '{out}')",
        "enable_profiling(save_location = '{out}')",
        "arrow_scan(1, 2, 3)",
        "python_map_function(1, 2)",
        "checkpoint()",
        "duckdb_secrets()",
        "duckdb_logs()",
    ],
)
def test_functions_that_change_something_are_refused(
    full: Lake, tmp_path: Path, function: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SurveyError, match="is refused"):
        run_sql(full, f"from {function.format(out=tmp_path / 'out')}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_function_that_there_is_not_is_told_as_such(full: Lake) -> None:
    with pytest.raises(SurveyError, match="rnage does not exist"):
        run_sql(full, "from rnage(3)")


def test_inspections_are_those_of_closed_rounds(full: Lake) -> None:
    asked = "select round, comment from inspections"
    assert run_sql(full, asked).to_pylist() == [{"round": "shut", "comment": "told"}]
    (full.root / "inspections" / "round=open" / "_closed.json").write_text("{}")
    assert run_sql(full, asked).num_rows == 2
    with connect(full, ["inspections"]) as connection:
        assert sorted(connection.execute(asked).fetchall()) == [("open", SECRET), ("shut", "told")]


def test_a_lake_whose_rounds_are_all_open_has_no_inspections(lake: Lake) -> None:
    lake.write("inspections", {"round": "r", "inspector": "a"}, verdicts("x"), RECORD)
    assert run_sql(lake, "select * from inspections").num_rows == 0


@pytest.mark.parametrize(
    "source",
    [
        "read_parquet('{file}')",
        "read_parquet(['{file}'])",
        "parquet_scan('{file}')",
        "'{file}'",
        '"{file}"',
        "read_parquet('file://{file}')",
        "read_parquet('{folder}/../{last}/part-0.parquet')",
        "read_parquet('{table}/release=dr10/*/night=20140818/part-0.parquet')",
        "read_parquet('{table}/*/*/*/part-*.parquet', hive_partitioning = true) where release = "
        "'dr10' and night = 20140818",
        "read_parquet('survey.lake/votes/model=knn/camera=decam/night=20140818/*.parquet')",
        "'linked/votes/model=knn/camera=decam/night=20140818/part-0.parquet'",
        "query('from read_parquet(''{file}'')')",
        "query_table('{file}')",
        "read_parquet(concat('{folder}', '/part-0.parquet'))",
    ],
)
def test_visible_files_of_tables_are_read_directly(
    full: Lake, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(full.root.parent)
    Path("linked").symlink_to(full.root)
    file = full.root.resolve() / "votes/model=knn/camera=decam/night=20140818/part-0.parquet"
    if "release" in source:
        file = (
            full.root.resolve()
            / "exposures/release=dr10/camera=decam/night=20140818/part-0.parquet"
        )
    named = source.format(
        file=file, folder=file.parent, last=file.parent.name, table=file.parents[3]
    )
    assert run_sql(full, f"select count(*) as n from {named}").to_pylist() == [{"n": 12}]


def test_a_pattern_that_matches_hidden_files_too_is_refused_in_one_line(full: Lake) -> None:
    pattern = path_of(full, "ccds/**/*.parquet")
    with pytest.raises(SurveyError, match="also matches files that are no table's"):
        run_sql(full, f"from read_parquet('{pattern}')")


def test_a_walk_over_the_disk_is_refused_at_once(full: Lake) -> None:
    for pattern in ("/**", "/**/*.parquet", path_of(full, "../../../../**/*.parquet"), "../**"):
        with pytest.raises(SurveyError, match="reads nothing but the lake's tables"):
            run_sql(full, f"from read_parquet('{pattern}')")


def test_rows_of_every_table_are_those_of_its_files(full: Lake) -> None:
    for name in ("ccds", "exposures", "votes", "predictions", "embeddings"):
        expected = sum(
            partition.num_rows()
            for partition in full.partitions(name)
            if "link" not in partition.path.name
        )
        assert run_sql(full, f"select count(*) as n from {name}").to_pylist() == [{"n": expected}]
