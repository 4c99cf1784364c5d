"""A program that has read partitions ends as it should, however late Arrow's threads are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from lake.store import Lake, Record

ROOT = Path(__file__).resolve().parent.parent.parent

#: Reads the files that it is given, and is taken down while threads of Arrow may still wait for the
#: lock of the interpreter: it is held for longer than a busy machine would hold it.
_READ_AND_END = """
import atexit, sys, time
from pathlib import Path

HELD = 0.3

def hold():
    sys.setswitchinterval(1.2 * HELD)
    end = time.monotonic() + HELD
    while time.monotonic() < end:
        pass

atexit.register(hold)
from lake.store import read_file
for path in sys.argv[1:]:
    read_file(Path(path))
"""


def test_reading_partitions_last_does_not_abort_the_program(lake: Lake) -> None:
    rows = pa.table(
        {
            "expnum": range(400),
            "ccdnum": pa.array(np.ones(400), pa.int16()),
            **{f"c{number}": np.random.default_rng(number).random(400) for number in range(50)},
            **{f"t{number}": [f"{number} {row}" for row in range(400)] for number in range(10)},
        }
    )
    nights = [str(20140801 + number) for number in range(6)]
    files = [
        str(lake.write("ccds", {"release": "r", "camera": "c", "night": n}, rows, Record("test")))
        for n in nights
    ]
    for _ in range(6):
        command = [sys.executable, "-c", _READ_AND_END, *files]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
