"""Every command that writes a file or folder a person named goes the one safe way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cli.main import run_arguments
from cli.output import SCREEN_ROWS
from lake.store import Lake
from tests.cli.test_hostile import COMMANDS, ROOT, is_argument, needed, option
from tests.queries.lakes import fill

#: Options, and arguments of commands without one, that name what a command writes.
WRITTEN = {"output", "plot"}
WRITTEN_ARGUMENTS = {"simulate": "directory", "demo": "directory"}
#: What a command reads, but for folders of queries: results may lie beside those.
READ = {"against", "file", "files", "images", "weights", "directory", "sfd_dir"}


def writers() -> list[tuple[str, Any]]:
    """Return (command, parameter) of everything that is written where a person says."""
    return [
        (name, parameter)
        for name, command in sorted(COMMANDS.items())
        for parameter in command.params
        if parameter.name in WRITTEN or WRITTEN_ARGUMENTS.get(name) == parameter.name
    ]


WRITERS = [pytest.param(*each, id=f"{each[0]} {each[1].name}") for each in writers()]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fill(Lake(tmp_path / "survey.lake", create=True))
    (tmp_path / "folder").mkdir()
    (tmp_path / "list.txt").write_text("1 clouds\n")
    (tmp_path / "link").symlink_to("survey.lake/ccds")
    return tmp_path


def words(name: str, parameter: Any, value: str) -> list[str]:
    extra = ["--retract", "1"] if name == "bad-expid diff" else []
    rest = [*extra, *needed(COMMANDS[name], parameter)]
    if is_argument(parameter):
        return [*name.split(), *rest, value]
    return [*name.split(), f"{option(parameter)}={value}", *rest]


def tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_walk_finds_what_is_written() -> None:
    found = {f"{name} {parameter.name}" for name, parameter in writers()}
    assert {"sql output", "bad-expid diff output", "rounds plot", "evaluate output"} <= found
    assert {"map output", "inspections export output", "simulate directory"} <= found
    assert len(found) > 15


def test_every_path_of_a_command_is_known_as_read_or_written() -> None:
    known = READ | WRITTEN | {"query_dir"}
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if "Path" in str(parameter.type_descriptor.annotation):
                assert parameter.name in known, f"{name} {parameter.name}: read or written?"


@pytest.mark.parametrize(("name", "parameter"), WRITERS)
@pytest.mark.parametrize("place", ["survey.lake/new.csv", "link/new.csv", "survey.lake"])
def test_nothing_is_written_into_the_lake(
    home: Path, name: str, parameter: Any, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(home)
    assert run_arguments(words(name, parameter, place)) == 1
    said = capfd.readouterr()
    # Said alone, so before anything was computed.
    assert said.err.count("\n") == 1 and said.out == "", said.err
    # A plot into a name without a picture's ending is refused for that.
    assert "lies in the lake" in said.err or parameter.name == "plot"
    assert tree(home) == before


@pytest.mark.parametrize(("name", "parameter"), WRITERS)
def test_nothing_is_written_over_what_is_read(
    home: Path, name: str, parameter: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    for read in COMMANDS[name].params:
        if read.name not in READ or read is parameter:
            continue
        target = "list.txt" if read.name in ("against", "file", "files") else "folder/new.csv"
        source = [] if read.required else [f"{option(read)}=folder"]
        before = tree(home)
        assert run_arguments([*words(name, parameter, target), *source]) == 1
        said = capfd.readouterr().err
        assert "this command reads" in said and said.count("\n") == 1
        assert tree(home) == before


@pytest.mark.parametrize(
    ("name", "parameter"), [p for p in WRITERS if "format" in str(COMMANDS[p.values[0]].params)]
)
def test_an_ending_that_says_no_format_is_refused(
    home: Path, name: str, parameter: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    has_rows = any(p.name == "form" for p in COMMANDS[name].params)
    if not has_rows or parameter.help is None or "older" in parameter.help:
        return
    for place in ("rows.xlsx", "rows", "rows.csv.gz"):
        assert run_arguments(words(name, parameter, place)) == 1
        said = capfd.readouterr().err
        assert "its name ends in none of" in said and said.count("\n") == 1
        assert not (home / place).exists()


def survey_qa(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.run(command, cwd=cwd, env=environment, text=True, **streams)


def test_rows_go_into_any_file_when_the_format_is_said(home: Path) -> None:
    for form in ("table", "csv", "json", "parquet"):
        words = ["sql", "select 1 as x", "--format", form, "--output", f"rows.{form}.old"]
        assert run_arguments(words) == 0
    assert (home / "rows.csv.old").read_text() == '"x"\n1\n'
    assert json.loads((home / "rows.json.old").read_text()) == [{"x": 1}]
    assert pq.read_table(home / "rows.parquet.old").to_pylist() == [{"x": 1}]
    assert run_arguments(["sql", "select 1 as x", "--output", "rows.TXT"]) == 0
    assert "x" in (home / "rows.TXT").read_text()


def test_a_patch_never_takes_the_place_of_its_list(home: Path) -> None:
    for place in ("list.txt", "./list.txt", str(home / "list.txt")):
        asked = ["bad-expid", "diff", "--against", "list.txt", "--retract", "1", "--output", place]
        assert run_arguments(asked) == 1
        assert (home / "list.txt").read_text() == "1 clouds\n"
    asked[-1] = "change.patch"
    assert run_arguments(asked) == 0
    assert "-1 clouds" in (home / "change.patch").read_text()


def test_a_statement_that_fails_half_way_leaves_nothing(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    late = "select if(range = 3_000_000, error('too far'), 'x') as x from range(3_000_001)"
    (home / "old.csv").write_text("before")
    for name in ("old.csv", "new.csv", "new.json", "new.parquet", "new.txt"):
        assert run_arguments(["sql", late, "--output", name]) == 1
        assert "too far" in capfd.readouterr().err
    assert (home / "old.csv").read_text() == "before"
    assert not [path for path in home.iterdir() if "new" in path.name]
    assert not list(home.glob(".*"))


def test_a_reader_that_has_enough_is_no_failure(home: Path) -> None:
    many = "select range as x from range(2_000_000)"
    for form in ("csv", "json", "parquet"):
        ours = [sys.executable, "-m", "cli.main", "sql", many, "--format", form]
        process = subprocess.Popen(
            ours, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == b""
        process.stderr.close()


def test_a_full_standard_output_is_told_in_one_line(home: Path) -> None:
    for form in ("csv", "table"):
        with Path("/dev/full").open("w") as full:
            ended = survey_qa(
                "sql", "select range from range(9)", "--format", form, cwd=home, stdout=full
            )
        assert ended.returncode == 1
        assert ended.stderr.count("\n") == 1
        assert "cannot write standard output: No space left" in ended.stderr


def test_the_screen_shows_the_first_rows_and_counts_the_others(home: Path) -> None:
    shown = survey_qa("sql", f"select range from range({SCREEN_ROWS + 1_000_000})", cwd=home)
    assert "… 1,000,000 more rows" in shown.stdout
    assert len(shown.stdout.splitlines()) < SCREEN_ROWS + 10


_PEAK = """
import resource, sys
from cli.main import run_arguments
import pyarrow.csv, pyarrow.parquet, queries.engine, duckdb
run_arguments(["sql", "select 1", "--output", "/dev/null"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert run_arguments(["sql", sys.argv[1], "--format", sys.argv[2], "--output", sys.argv[3]]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("form", "n_rows"),
    [("csv", 20_000_000), ("parquet", 20_000_000), ("table", 20_000_000), ("json", 1_500_000)],
)
def test_a_result_larger_than_memory_is_written_as_it_comes(
    home: Path, form: str, n_rows: int
) -> None:
    many = f"select range as a, range * 1.5::double as b, 'n' || range as c from range({n_rows})"
    command = [sys.executable, "-c", _PEAK, many, form, "/dev/null"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    # The rows are some 500 MB; JSON's as many as objects of Python.
    assert int(ended.stdout.split()[-1]) < 300_000, "kB more than at the start"


def test_a_result_of_many_batches_comes_out_whole(home: Path) -> None:
    asked = "select range as a, [range, null] as b from range(300_000) order by a"
    for name in ("rows.csv", "rows.json", "rows.parquet"):
        assert run_arguments(["sql", asked, "--output", name]) == 0
    rows = pq.read_table(home / "rows.parquet").to_pylist()
    assert len(rows) == 300_000 and rows[-1] == {"a": 299_999, "b": [299_999, None]}
    assert json.loads((home / "rows.json").read_text()) == rows
    lines = (home / "rows.csv").read_text().splitlines()
    assert lines[0] == '"a","b"' and lines[-1] == '299999,"[299999, null]"'
    assert len(lines) == 300_001


def test_every_type_is_written_or_refused_in_one_line(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import duckdb

    with duckdb.connect() as connection:
        types = [row[0] for row in connection.execute("describe from test_all_types()").fetchall()]
    for name in types:
        for form in ("csv", "json", "parquet", "table"):
            asked = ["sql", f'select "{name}" from test_all_types()', "--format", form]
            status = run_arguments([*asked, "--output", f"rows.{form}"])
            said = capfd.readouterr().err
            assert status in (0, 1) and "internal" not in said, (name, form, said)
            assert status == 0 or said.count("\n") == 1
