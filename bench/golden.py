"""Time a lake's daily commands with nothing to do, beside another version of this program.

``python -m bench.golden FOLDER --before CHECKOUT [--nights 440]``: one survey is ingested,
embedded, labelled, trained on and predicted by each version into a lake of its own, six partitions
a night; then ``embed``, ``status`` and ``merge-labels`` with nothing to do run by turns. Whole
processes are timed, since that is what a user waits for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from simulator.conditions import Settings
from simulator.survey import simulate

HERE = Path(__file__).parents[1]
_CALL = "from cli.main import main; main()"
_MADE = (
    "ingest ccds {survey}/survey-ccds-sim.fits.gz --release made",
    "ingest reports {survey}/decam-bad_expid.txt --source decals",
    "merge-labels --release made",
    "embed --embedder statistics --images {survey}/images",
    "train --embedder statistics --model knn --release made --test-fraction 0.3 --good 500",
    "predict --model knn",
    "vote --model knn",
)
TIMED = (
    "embed --embedder statistics --images {survey}/images",
    "status",
    "merge-labels --release made",
)


def run(checkout: Path, lake: Path, words: str, survey: Path) -> float:
    """Run a command of the version in `checkout` and return its seconds."""
    arguments = [word.format(survey=survey) for word in words.split()]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _CALL, "--lake", str(lake), *arguments],
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - began


def main() -> None:
    """Make both lakes, time the commands by turns, and print seconds and ratios."""
    parser = argparse.ArgumentParser(prog="python -m bench.golden", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="checkout of another version")
    parser.add_argument("--nights", type=int, default=440)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    survey = asked.folder / "survey"
    if not survey.exists():
        settings = Settings(n_nights=asked.nights, exposures_per_night=1, nx=32, ny=32)
        simulate(survey, settings, seed=1)
    versions = {"before": asked.before.resolve(), "now": HERE}
    for name, checkout in versions.items():
        lake = asked.folder / f"{name}.lake"
        if not lake.exists():
            for words in _MADE:
                run(checkout, lake, words, survey)
        print(f"{name}: {sum(1 for _ in lake.rglob('part-*.parquet')):,} partitions")
    # A lake of the version before, as this one opens it.
    if not (asked.folder / "opened.lake").exists():
        shutil.copytree(asked.folder / "before.lake", asked.folder / "opened.lake")
    versions_of_lakes = [("before", "before"), ("now", "now"), ("now", "opened")]
    for words in TIMED:
        seconds: dict[tuple[str, str], list[float]] = {one: [] for one in versions_of_lakes}
        for _ in range(asked.runs):
            for one in versions_of_lakes:
                checkout, lake = versions[one[0]], asked.folder / f"{one[1]}.lake"
                seconds[one].append(run(checkout, lake, words, survey))
        base = seconds["before", "before"]
        for (version, lake), mine in seconds.items():
            ratios = [one / other for one, other in zip(mine, base, strict=True)]
            print(
                f"{words.split()[0]:13s} version {version:6s} lake of {lake:6s} "
                f"median {statistics.median(mine):6.2f} s  "
                f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
