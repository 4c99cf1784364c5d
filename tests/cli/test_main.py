"""The program begins and ends well, whatever its streams and arguments are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.main import run, run_arguments

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = [sys.executable, "-m", "cli.main"]


def survey_qa(*words: str | bytes, cwd: Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more.pop("environment", {})}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
    return subprocess.run([*PROGRAM, *words], cwd=cwd, env=environment, **streams)


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a line of the shell, where SURVEY_QA stands for the program."""
    line = command.replace("SURVEY_QA", " ".join(PROGRAM))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=environment, capture_output=True)


def test_an_argument_that_is_not_utf8_is_wrong_usage(tmp_path: Path) -> None:
    for words in ([b"schema", b"\xff\x80"], [b"--lake", b"\xff", b"status"], [b"\xff"]):
        ended = survey_qa(*words, cwd=tmp_path)
        assert ended.returncode == 2
        assert b"is not UTF-8" in ended.stderr and ended.stderr.count(b"\n") == 1
    ended = survey_qa("status", cwd=tmp_path, environment={"SURVEY_QA_LAKE": b"\xff"})
    assert ended.returncode == 1 and b"is not UTF-8" in ended.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("SURVEY_QA schema votes >&-", 0),
        ("SURVEY_QA schema votes 2>&-", 0),
        ("SURVEY_QA schema votes <&- >&- 2>&-", 0),
        ("SURVEY_QA schema stars >&- 2>&-", 1),
        ("SURVEY_QA schema votes --format csv >&-", 0),
    ],
)
def test_closed_streams_are_no_defect(tmp_path: Path, command: str, status: int) -> None:
    ended = shell(command, tmp_path)
    assert ended.returncode == status, ended.stderr
    assert b"internal error" not in ended.stderr and b"Exception" not in ended.stderr


@pytest.mark.parametrize("command", ["schema", "schema --format csv", "--help"])
def test_a_reader_that_has_gone_is_no_failure(tmp_path: Path, command: str) -> None:
    ended = shell(f"set -o pipefail; SURVEY_QA {command} | true", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_work_goes_on_when_nobody_hears_of_it(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("1 clouds\n")
    shell("{ sleep 1; SURVEY_QA ingest reports list.txt --source decals; } 2>&1 | true", tmp_path)
    assert (tmp_path / "survey.lake" / "reports" / "source=decals" / "part-0.parquet").exists()


def test_a_terminal_that_knows_few_characters_is_told_all_the_same(tmp_path: Path) -> None:
    ended = survey_qa("schema", cwd=tmp_path, environment={"PYTHONIOENCODING": "ascii"})
    assert ended.returncode == 0 and b"internal" not in ended.stderr


def test_a_file_that_cannot_be_used_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise PermissionError(13, "Permission denied", "a\x1b[31m.txt")

    assert run(command, verbose=False) == 1
    assert capsys.readouterr().err == "survey-qa: a\\x1b[31m.txt: Permission denied\n"


def test_what_is_done_at_the_end_is_done_and_the_status_kept(tmp_path: Path) -> None:
    code = (
        "import atexit, sys; from cli import main\n"
        "sys.argv = ['survey-qa', *sys.argv[1:]]\n"
        "main.app.command('late')(lambda: atexit.register(lambda: print('done', flush=True)))\n"
        "main.main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for words, status, said in ((["late"], 0, "done\n"), (["schema", "stars"], 1, "")):
        ended = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert (ended.returncode, ended.stdout) == (status, said)


def test_a_threads_wait_for_the_interpreter_does_not_abort_the_program(tmp_path: Path) -> None:
    # Arrow's threads let go of what Python owns when the interpreter is being taken down.
    code = """
import atexit, io, sys, time

def hold():
    sys.setswitchinterval(0.36)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        pass

from cli import main
import pyarrow as pa, pyarrow.parquet as pq

buffer = io.BytesIO()
pq.write_table(pa.table({f"c{n}": [f"{n} {row}" for row in range(400)] for n in range(60)}), buffer)

@main.app.command("late")
def late() -> None:
    atexit.register(hold)
    for _ in range(6):
        with io.BytesIO(buffer.getvalue()) as file:
            pq.ParquetFile(file).read()

sys.argv = ["survey-qa", "late"]
main.main()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(4):
        ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert (ended.returncode, ended.stderr) == (0, b"")


def test_arguments_run_in_process_as_they_do_in_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_arguments(["schema", "votes"]) == 0
    assert run_arguments(["status"]) == 1
    assert run_arguments(["no-such-command"]) == 2
