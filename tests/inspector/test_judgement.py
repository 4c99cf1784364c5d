"""A verdict that was acknowledged is never lost, and never overwritten unseen."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspector.judgement import Closed, Conflict, Judgement, VerdictLog
from lake.errors import SurveyError

ROOT = Path(__file__).resolve().parent.parent.parent
BAD = Judgement("bad", "PSF", 3, "trailed")
GOOD = Judgement("good")

judgements = st.builds(
    Judgement,
    st.sampled_from(["good", "bad", "unsure"]),
    st.none() | st.sampled_from(["PSF", "Noise"]),
    st.none() | st.integers(0, 4),
    st.text(max_size=20),
)
steps = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), judgements | st.none()), max_size=12)


def play(log: VerdictLog, moves: list[tuple[str, Judgement | None]]) -> list[dict[str, Judgement]]:
    """Judge, or undo where there is no judgement; return the state after each acknowledged step."""
    states = [state(log)]
    for subject, judgement in moves:
        before = log.sequence
        if judgement is None:
            log.undo(log.sequence)
        else:
            log.judge(subject, log.entry(subject).version, judgement)
        if log.sequence > before:
            states.append(state(log))
    return states


def state(log: VerdictLog) -> dict[str, Judgement]:
    return {key: entry.judgement for key, entry in log.entries().items() if entry.judgement}


@settings(max_examples=40, deadline=None)
@given(moves=steps, share=st.floats(0, 1))
def test_a_log_cut_anywhere_holds_every_whole_line_and_goes_on(
    moves: list[tuple[str, Judgement | None]], share: float
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        states = play(VerdictLog(path), moves)
        content = path.read_bytes() if path.exists() else b""
        assert state(VerdictLog(path)) == states[-1]
        cut = round(share * len(content))
        path.write_bytes(content[:cut])
        again = VerdictLog(path)
        assert state(again) == states[content[:cut].count(b"\n")]
        again.judge("a", again.entry("a").version, BAD)
        assert VerdictLog(path).entry("a").judgement == BAD


@settings(max_examples=40, deadline=None)
@given(moves=steps)
def test_undoing_everything_leaves_nothing(moves: list[tuple[str, Judgement | None]]) -> None:
    with TemporaryDirectory() as folder:
        log = VerdictLog(Path(folder) / "log")
        play(log, moves)
        while log.undo(log.sequence) is not None:
            pass
        assert log.entries() == {}


WRITER = """
import sys
from pathlib import Path
from inspector.judgement import Judgement, VerdictLog
log = VerdictLog(Path(sys.argv[1]))
for number in range(100_000):
    log.judge(f"s{number}", 0, Judgement("bad", "PSF", number % 5, "x" * (number % 97)))
    print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "log"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.0, 0.3))
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged = [int(line) for line in (first + writer.stdout.read()).split()]
    writer.stdout.close()
    writer.wait()
    log = VerdictLog(path)
    assert len(acknowledged) > 0
    for number in acknowledged:
        judgement = log.entry(f"s{number}").judgement
        assert judgement is not None
        assert judgement.comment == "x" * (number % 97)
    log.judge("s0", 1, GOOD)
    assert len(VerdictLog(path).entries()) >= len(acknowledged)


def test_two_tabs_do_not_overwrite_each_other(tmp_path: Path) -> None:
    here, there = VerdictLog(tmp_path / "log"), VerdictLog(tmp_path / "log")
    assert here.judge("a", 0, BAD).version == 1
    with pytest.raises(Conflict) as conflict:
        there.judge("a", 0, GOOD)
    assert conflict.value.entry.judgement == BAD
    assert there.judge("a", 1, GOOD).version == 2
    with pytest.raises(Conflict):
        here.undo(1)
    here.refresh()
    assert here.entry("a").judgement == GOOD


def test_a_repeated_request_is_the_same_request(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path / "log")
    log.judge("a", 0, BAD)
    assert log.judge("a", 0, BAD).version == 1
    assert log.sequence == 1


def test_a_closed_round_takes_nothing(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path / "log", tmp_path / "closed")
    log.judge("a", 0, BAD)
    (tmp_path / "closed").touch()
    with pytest.raises(Closed):
        log.judge("b", 0, BAD)
    with pytest.raises(Closed):
        log.undo(1)
    assert log.entry("b").version == 0


def test_damage_before_the_end_is_named(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path / "log")
    for subject in "abc":
        log.judge(subject, 0, BAD)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(lines[0] + lines[1].replace(b"PSF", b"XXX") + lines[2])
    with pytest.raises(SurveyError, match="line 2: damaged"):
        VerdictLog(log.path)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    log = VerdictLog(tmp_path / "log")
    (tmp_path / "log").mkdir()
    with pytest.raises(SurveyError, match="the verdict is not saved"):
        log.judge("a", 0, BAD)
