"""A partition is the old one or the new one, whatever happens to its writer."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lake import paths
from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake
from lake.tables import TABLES

KEYS = {"model": "m", "camera": "decam", "night": "20140818"}


def votes(n: int, value: int) -> pa.Table:
    """`n` exposures that all carry `value`."""
    return pa.table({"expnum": pa.array(range(n)), "n_ccds": pa.array([value] * n, pa.int32())})


def test_a_written_partition_reads_back_with_its_record(lake: Lake) -> None:
    record = Record("vote", {"min_probability": 0.9}, {"predictions": "abc"}, {"k": [1]})
    lake.write("votes", KEYS, votes(3, 7), record)
    assert lake.read("votes", KEYS)["n_ccds"].to_pylist() == [7, 7, 7]
    [partition] = lake.partitions("votes")
    stored = partition.record()
    assert stored is not None and stored.content
    assert replace(stored, content="") == record
    assert partition.num_rows() == 3
    assert partition.name == "model=m/camera=decam/night=20140818"
    assert partition["night"] == "20140818"


@pytest.mark.parametrize(
    "other",
    [
        Record("vote", {"min_probability": 0.8}, {"predictions": "abc"}),
        Record("vote", {"min_probability": 0.9}, {"predictions": "abd"}),
        Record("predict", {"min_probability": 0.9}, {"predictions": "abc"}),
        Record("vote", {"min_probability": 0.9}, {"predictions": "abc"}, algorithm=2),
    ],
)
def test_only_the_same_algorithm_settings_and_inputs_are_current(lake: Lake, other: Record) -> None:
    record = Record("vote", {"min_probability": 0.9}, {"predictions": "abc"})
    lake.write("votes", KEYS, votes(3, 7), record)
    assert lake.is_current("votes", KEYS, record)
    assert lake.is_current("votes", KEYS, replace(record, version="999"))
    assert not lake.is_current("votes", KEYS, other)
    assert not lake.is_current("votes", {**KEYS, "night": "20140819"}, record)


def test_equal_work_gives_equal_bytes(tmp_path: Path) -> None:
    record = Record("vote", {"a": 1}, {"b": "c"})
    files = []
    for name in ("one", "two"):
        files.append(Lake(tmp_path / name, create=True).write("votes", KEYS, votes(9, 1), record))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_rows_are_sorted_and_a_repeated_key_is_refused(lake: Lake) -> None:
    record = Record("vote")
    shuffled = votes(5, 1).take(pa.array([3, 0, 4, 1, 2]))
    lake.write("votes", KEYS, shuffled, record)
    assert lake.read("votes", KEYS)["expnum"].to_pylist() == [0, 1, 2, 3, 4]
    with pytest.raises(SurveyError, match="2 rows repeat the key"):
        lake.write("votes", KEYS, pa.concat_tables([shuffled, shuffled.slice(0, 2)]), record)
    assert lake.read("votes", KEYS).num_rows == 5


def test_many_partitions_come_back_in_order_and_few_are_drawn_ahead(lake: Lake) -> None:
    drawn = []

    def parts(n: int):  # type: ignore[no-untyped-def]
        for number in range(n):
            drawn.append(number)
            keys = {**KEYS, "night": str(20140101 + number)}
            yield keys, votes(2, number), Record("vote", {}, {"night": str(number)})

    seen = []
    for rows in lake.write_many("votes", parts(60)):
        seen.append(rows["n_ccds"][0].as_py())
        assert len(drawn) - len(seen) <= 32
    assert seen == list(range(60))
    assert [p.record().inputs["night"] for p in lake.partitions("votes")] == [
        str(number) for number in range(60)
    ]


def test_an_error_among_many_partitions_ends_it_and_keeps_what_is_committed(lake: Lake) -> None:
    good = [({**KEYS, "night": str(night)}, votes(2, 1), Record("vote")) for night in range(40)]
    good[30] = (good[30][0], pa.table({"expnum": [1, 1]}), Record("vote"))
    with pytest.raises(SurveyError, match="repeat the key"):
        list(lake.write_many("votes", good))
    nights = {int(partition["night"]) for partition in lake.partitions("votes")}
    assert nights >= set(range(30)) and 30 not in nights
    assert not list(lake.root.rglob("*.tmp"))


def test_a_column_that_no_schema_declares_is_refused(lake: Lake) -> None:
    with pytest.raises(SurveyError, match="no such column: colour"):
        lake.write("votes", KEYS, pa.table({"expnum": [1], "colour": ["red"]}), Record("vote"))
    assert not list(lake.root.rglob("*.parquet"))


def test_values_that_do_not_fit_their_column_are_refused(lake: Lake) -> None:
    with pytest.raises(SurveyError, match="column expnum"):
        lake.write("votes", KEYS, pa.table({"expnum": ["twelve"]}), Record("vote"))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_written_empty_and_read_by_another_engine(lake: Lake, name: str) -> None:
    keys = dict.fromkeys(TABLES[name].partition, "x")
    path = lake.write(name, keys, pa.table({}), Record("test"))
    found = duckdb.sql(f"describe select * from read_parquet('{path}', hive_partitioning = true)")
    columns = {row[0] for row in found.fetchall()}
    assert {c.name for c in TABLES[name].columns} | set(keys) <= columns


def test_partition_values_survive_the_path() -> None:
    keys = {"round": "dr11 / final", "inspector": "a=b"}
    path = paths.partition_path("inspections", ("round", "inspector"), keys)
    assert len(path.parts) == 3
    assert paths.partition_keys(path) == keys


WRITER = """
import sys
import pyarrow as pa
from lake.record import Record
from lake.store import Lake
lake = Lake(sys.argv[1])
keys = {"model": "m", "camera": "decam", "night": sys.argv[2]}
n = int(sys.argv[3])
value = 0
print("ready", flush=True)
while True:
    value += 1
    rows = pa.table({"expnum": range(n), "n_ccds": pa.array([value] * n, pa.int32())})
    lake.write("votes", keys, rows, Record("vote", {"value": value}))
"""


def start_writer(lake: Lake, night: str, rows: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(lake.root), night, str(rows)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def whole_state(lake: Lake) -> list[tuple[int, int, int, int]]:
    """(night, rows, least, greatest value) as an engine that knows nothing of us sees them."""
    return duckdb.sql(
        f"select night, count(*), min(n_ccds), max(n_ccds) "
        f"from read_parquet('{lake.root}/votes/**/*.parquet', hive_partitioning = true) "
        "group by 1 order by 1"
    ).fetchall()


def test_a_writer_killed_at_any_moment_leaves_a_whole_partition(lake: Lake) -> None:
    rows = 20_000
    lake.write("votes", KEYS, votes(rows, 0), Record("vote"))
    chance = random.Random(1)
    for _ in range(12):
        writer = start_writer(lake, KEYS["night"], rows)
        time.sleep(chance.uniform(0.0, 0.08))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        [(_, count, least, greatest)] = whole_state(lake)
        assert count == rows
        assert least == greatest
        [partition] = lake.partitions("votes")
        record = partition.record()
        assert record is not None
        assert record.settings.get("value", 0) == least
    lake.write("votes", KEYS, votes(rows, 0), Record("vote"))
    left = [path.name for path in lake.root.rglob("*") if path.is_file()]
    assert left == ["part-0.parquet"], "what killed writers left is swept by the next one"


def test_two_writers_and_a_reader_see_no_half_state(lake: Lake) -> None:
    rows = 2_000
    for night in ("20140818", "20140819"):
        lake.write("votes", {**KEYS, "night": night}, votes(rows, 0), Record("vote"))
    writers = [start_writer(lake, night, rows) for night in ("20140818", "20140819")]
    try:
        end = time.monotonic() + 3
        values = set()
        while time.monotonic() < end:
            state = whole_state(lake)
            assert [(night, count) for night, count, _, _ in state] == [
                (20140818, rows),
                (20140819, rows),
            ]
            assert all(least == greatest for _, _, least, greatest in state)
            values.add(state[0][2])
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert len(values) > 3, "the reader saw the writers at work"


def test_a_full_disk_is_one_line_and_leaves_the_lake_as_it_was(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write("votes", KEYS, votes(10, 1), Record("vote"))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SurveyError, match="disk full while writing .*part-0.parquet"):
        lake.write("votes", KEYS, votes(10, 2), Record("vote", {"value": 2}))
    monkeypatch.undo()
    assert lake.read("votes", KEYS)["n_ccds"].to_pylist() == [1] * 10
    assert [path.name for path in lake.root.rglob("*") if path.is_file()] == ["part-0.parquet"]


def test_a_damaged_partition_is_named(lake: Lake) -> None:
    path = lake.write("votes", KEYS, votes(10, 1), Record("vote"))
    path.write_bytes(path.read_bytes()[:50])
    [partition] = lake.partitions("votes")
    with pytest.raises(SurveyError, match=f"{path}: not a readable Parquet file"):
        partition.record()
    with pytest.raises(SurveyError, match=f"{path}: not a readable Parquet file"):
        lake.read("votes", KEYS)


def test_a_lake_that_is_a_file_or_missing_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(SurveyError, match="is a file; name a folder with --lake"):
        Lake(file, create=True)
    with pytest.raises(SurveyError, match="no lake at"):
        Lake(tmp_path / "missing")
    with pytest.raises(SurveyError, match="cannot write"):
        Lake(file / "below", create=True)


def test_failures_of_two_embedders_stand_beside_each_other_and_go_when_mended(lake: Lake) -> None:
    keys = {"camera": "decam", "night": "20140818"}
    row = pa.table({"expnum": [1], "ccdnum": [2], "file": ["a.fits[N4]"], "error": ["damaged"]})
    for embedder in ("statistics", "dinov2-vits14"):
        lake.write_failures("embed", embedder, keys, row, Record("embed"))
    assert len(lake.partitions("failures", stage="embed")) == 2
    lake.write_failures("embed", "statistics", keys, row.slice(0, 0), Record("embed"))
    [left] = lake.partitions("failures", stage="embed")
    assert left.path.stem == "dinov2-vits14"
