"""A short form of the campaign; ``python -m tests.campaign`` runs the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.campaign.checker import TABLES, Snapshot, compare

ROOT = Path(__file__).parents[2]


def test_no_kill_full_disk_or_missing_input_takes_anything_away() -> None:
    # In a process of its own, whose threads are its own: trials are forked.
    words = ["--kills", "8", "--full", "4", "--inputs", "4", "--crowds", "1", "--workers", "1"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.campaign", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "8 kills" in run.stdout and "damage: 0" in run.stdout


def test_what_is_lost_or_altered_is_found() -> None:
    before = Snapshot({name: {} for name in TABLES}, {"log": [b"a\n", b"b\n"]}, {"one"})
    before.rows["embeddings"] = {("a",): (1,), ("b",): (2,)}
    after = Snapshot({name: {} for name in TABLES}, {"log": [b"a\n", b"c\n"]})
    after.rows["embeddings"] = {("a",): (3,)}
    said = "\n".join(compare(before, after))
    assert "1 of 2 rows gone" in said and "1 of 2 rows altered" in said
    assert "log: not what was written" in said and "one: no longer closed" in said
    assert not compare(before, before)
