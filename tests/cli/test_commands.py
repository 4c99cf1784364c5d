"""Every command has help and documentation, answers at once, and fails in one clear line."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.main import get_command

from cli.main import app, run

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = [sys.executable, "-m", "cli.main"]


def survey_qa(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would."""
    command = [*PROGRAM, *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)


def commands() -> Iterator[tuple[str, object]]:
    """Yield (name, command) of every command, groups walked."""
    stack = [((), get_command(app))]
    while stack:
        path, command = stack.pop()
        children = getattr(command, "commands", None)
        if children is None:
            yield " ".join(path), command
        else:
            stack += [((*path, name), child) for name, child in children.items()]


NAMES = sorted(name for name, _ in commands())


def test_the_walk_finds_the_commands() -> None:
    assert {"ingest ccds", "embed", "bad-expid diff", "sql", "demo"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_and_option_has_help(name: str) -> None:
    command = dict(commands())[name]
    assert command.help, f"{name} has no help"
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


def test_help_is_instant_and_imports_nothing_heavy(tmp_path: Path) -> None:
    # Time of the processor, which a busy machine does not stretch as it does the clock's.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(5):
        assert survey_qa("--help", cwd=tmp_path).returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert used / 5 < 0.5
    heavy = "torch|transformers|sklearn|duckdb|polars|pyarrow|galsim|matplotlib|fitsio|numpy"
    code = (
        "import sys, cli.main;"
        f"print([name for name in {heavy.split('|')!r} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["status"], 1, "no lake at survey.lake"),
        (["--lake", "file", "status"], 1, "lake file is a file; name a folder with --lake"),
        (["status", "--lake", "elsewhere"], 1, "no lake at elsewhere"),
        (["schema", "stars"], 1, "no table 'stars'; the tables are ccds,"),
        (["ingest", "ccds", "none.fits", "--release", "dr9"], 1, "none.fits: no such file"),
        (["ingest", "ccds", "file", "--release", "dr9"], 1, "file: not a readable FITS file"),
        (["ingest", "ccds", "file", "--release", "a/b"], 1, "release 'a/b': use letters"),
        (["ingest", "ccds", "file"], 2, "--release"),
        (["bad-expid", "check", "none.txt"], 1, "none.txt"),
        (["bad-expid", "diff", "--against", "file"], 2, "--model, --inspections, --reports"),
        (["simulate", "d", "--ccd-size", "big"], 1, "expected width x height"),
        (["no-such-command"], 2, "No such command"),
    ],
)
def test_what_goes_wrong_is_one_line(
    tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    (tmp_path / "file").write_text("not a table\n")
    result = survey_qa(*arguments, cwd=tmp_path)
    assert result.returncode == status
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    if status == 1:
        assert len(result.stderr.splitlines()) == 1


def test_a_traceback_is_there_for_the_asking(tmp_path: Path) -> None:
    assert "Traceback" in survey_qa("status", "--verbose", cwd=tmp_path).stderr


def test_a_person_who_interrupts_is_told_what_stays(capsys: pytest.CaptureFixture[str]) -> None:
    small = typer.Typer()

    @small.command()
    def command(usage: bool = False) -> None:
        if usage:
            raise typer.Exit(2)
        raise KeyboardInterrupt

    assert run(lambda: small([]), verbose=False) == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "what was committed stays" in said
    with pytest.raises(SystemExit) as ended:
        run(lambda: small(["--usage"]), verbose=False)
    assert ended.value.code == 2 and capsys.readouterr().err == ""


def test_rows_come_out_in_every_format(tmp_path: Path) -> None:
    plain = survey_qa("schema", "votes", "--format", "json", cwd=tmp_path)
    rows = json.loads(plain.stdout)
    assert {"table", "column", "type", "unit", "key", "meaning"} == set(rows[0])
    csv = survey_qa("schema", "votes", "--format", "csv", cwd=tmp_path).stdout
    assert len(csv.splitlines()) == len(rows) + 1
    survey_qa("schema", "votes", "--output", "rows.parquet", cwd=tmp_path)
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == rows
    assert "expnum" in survey_qa("schema", "votes", cwd=tmp_path).stdout
    failed = survey_qa("schema", "--output", "no/such/rows.csv", cwd=tmp_path)
    assert failed.returncode == 1
    assert "cannot write no/such/rows.csv" in failed.stderr


def test_no_dependency_ships_a_module_of_our_names() -> None:
    ours = {"cli", "lake", "embedders", "classifiers", "queries", "inspector", "simulator"}
    assert ours & set(distribution("survey-qa").read_text("top_level.txt").split()) == ours
    for name in ours | {"bench", "tests"}:
        owners = set(packages_distributions().get(name, ())) - {"survey-qa", "survey_qa"}
        assert not owners, f"{name} is also a module of {owners}"
