"""The command of the campaign."""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_IMPORTED = (
    "duckdb",
    "sklearn.ensemble",
    "torch",
    "classifiers.train",
    "cli.main",
    "embedders.engine",
    "inspector.closing",
)


def campaign(arguments: Sequence[str]) -> int:
    """Run a campaign; return 1 where anything was damaged."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="kills that must reach a command")
    parser.add_argument("--full", type=int, default=None, help="full disks; a third of the kills")
    parser.add_argument("--inputs", type=int, default=None, help="changed inputs; a fifth of them")
    parser.add_argument("--crowds", type=int, default=None, help="many at once; a thirtieth")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args(arguments)
    counts = {
        "full disk": asked.kills // 3 if asked.full is None else asked.full,
        "inputs": asked.kills // 5 if asked.inputs is None else asked.inputs,
        "crowd": asked.kills // 30 if asked.crowds is None else asked.crowds,
    }
    _load()
    from tests.campaign.campaign import Campaign, Tally, run_trials, summary

    began, total = time.monotonic(), Tally()
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        made = Campaign(Path(folder))
        _tell(f"{len(made.stages)} commands, prepared in {time.monotonic() - began:.0f} s")
        first = asked.first
        for kind, count in counts.items():
            trials = [(kind, first + number) for number in range(count)]
            total.add(run_trials(made, trials, asked.workers, _tell))
        # Some end before they are killed: as many more are tried.
        numbers = itertools.count(first)
        while (missing := asked.kills - total.counts["kills"]) > 0:
            trials = [("interrupted", next(numbers)) for _ in range(missing)]
            total.add(run_trials(made, trials, asked.workers, _tell))
    _tell(f"{summary(total)}; {time.monotonic() - began:.0f} s")
    for one in total.damage:
        _tell(f"DAMAGE {one}")
    return bool(total.damage)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _load() -> None:
    """Import what commands import, so that a process of a trial begins with its work."""
    for name in _IMPORTED:
        importlib.import_module(name)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
