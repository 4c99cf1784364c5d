"""Work in processes: in order or as it comes, and none is left when its starter is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from joblib import delayed

from classifiers.estimators.processes import in_processes

ROOT = Path(__file__).resolve().parents[3]

_START = """
import os, time
from joblib import delayed
from classifiers.estimators.processes import in_processes

def tell(number):
    time.sleep(1 if number > 1 else 0)
    return os.getpid()

for pid in in_processes([delayed(tell)(n) for n in range(1000)], 2, ordered=False):
    print(pid, flush=True)
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_results_come_in_order_or_all_the_same() -> None:
    calls = [delayed(pow)(number, 2) for number in range(5)]
    assert list(in_processes(calls, 1, ordered=True)) == [0, 1, 4, 9, 16]
    assert sorted(in_processes(calls, 1, ordered=False)) == [0, 1, 4, 9, 16]
    assert list(in_processes([], None, ordered=True)) == []


def test_processes_end_with_the_one_that_started_them() -> None:
    command = [sys.executable, "-c", _START]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        pids = {int(process.stdout.readline()) for _ in range(4)}
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert process.pid not in pids
    end = time.monotonic() + 30
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.1)
