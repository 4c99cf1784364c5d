"""What a killed query has spilled goes at the next run; what belongs to others stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lake.paths import host_name
from queries.spill import remove_abandoned

ROOT = Path(__file__).resolve().parent.parent.parent
_SORT = """
import sys
from queries import engine
from lake.store import Lake

engine.MEMORY_LIMIT = "60MB"
lake = Lake(sys.argv[1], create=True)
engine.run_sql(lake, sys.argv[2])
"""
LARGE = "select range, hash(range) as h from range(40_000_000) order by h"


def run(lake: Path, sql: str, temporary: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", _SORT, str(lake), sql], env=environment)


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_a_killed_run_has_spilled_goes_at_the_next(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    killed = run(tmp_path / "survey.lake", LARGE, temporary)
    deadline = time.monotonic() + 120
    while size(temporary) < 10_000_000 and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.02)
    # Another run, at the same time, leaves it what it has.
    assert run(tmp_path / "survey.lake", "select 1", temporary).wait() == 0
    assert size(temporary) > 10_000_000
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    [left] = temporary.iterdir()
    assert host_name() in left.name and str(killed.pid) in left.name
    assert run(tmp_path / "survey.lake", "select 1", temporary).wait() == 0
    assert list(temporary.iterdir()) == []


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    assert run(tmp_path / "survey.lake", "select nope", tmp_path).wait() == 1
    assert not list(tmp_path.glob("survey-qa-*"))


def test_only_what_is_surely_abandoned_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stay = [
        f"survey-qa-elsewhere.{gone.pid}.a",
        f"survey-qa-{host_name()}.{os.getpid()}.a",
        f"survey-qa-{host_name()}.x.a",
        "survey-qa-abcdefgh",
        "others",
    ]
    for name in (*stay, f"survey-qa-{host_name()}.{gone.pid}.a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text("spilled")
    kept = tmp_path / "precious"
    kept.mkdir()
    link = tmp_path / f"survey-qa-{host_name()}.{gone.pid}.b"
    link.symlink_to(kept)
    assert remove_abandoned() == 1
    assert {path.name for path in tmp_path.iterdir()} == {*stay, "precious", link.name}


def test_a_folder_that_is_still_open_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As of a process in another container, whose number says nothing here.
    import fcntl

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / f"survey-qa-{host_name()}.{gone.pid}.a"
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert remove_abandoned() == 0
    os.close(handle)
    assert remove_abandoned() == 1
