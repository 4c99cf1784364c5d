"""Training on a data release: seconds and peak memory of `survey-qa train` and `evaluate`.

    python -m bench.train FOLDER [--ccds 100000] [--classifier knn] [--search]

Makes a lake of about that many labelled CCDs with vectors of 768 dimensions, half of them good, in
the 11 bad classes else, and runs both as commands, start-up included. Without a search the default
settings are fitted, on the nights and once more on the images that the paper's split leaves. The
lake stays, to run again with another classifier.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import made


def main() -> None:
    """Run and print the times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the lake is made; kept, to run again")
    parser.add_argument("--ccds", type=int, default=100_000, help="labelled CCDs, about [100000]")
    parser.add_argument("--classifier", default="knn")
    parser.add_argument("--search", action="store_true", help="find settings first")
    options = parser.parse_args()
    lake = options.folder / f"train-{options.ccds}.lake"
    # Of some bad classes a part is drawn: 0.93 of all remain.
    n_exposures = round(options.ccds / made.DRAWN / 0.93)
    if not lake.exists():
        survey = made.Survey(n_exposures, max(n_exposures // 90, 10), 0.5, n_ccds=made.DRAWN)
        made.make_lake(lake, survey)
    model = ("--model", options.classifier)
    words = ["--embedder", made.EMBEDDER, *model, "--classifier", options.classifier]
    words += ["--good", str(options.ccds), *(["--search", "halving"] if options.search else [])]
    size = options.ccds * made.DIMENSION * 4 / 2**30
    print(f"about {options.ccds:,} x {made.DIMENSION}: {size:.2f} GiB in single precision")
    for command in (["train", *words], ["evaluate", *model]):
        seconds, gib = made.timed(lake, *command)
        print(f"{command[0]}: {seconds:.0f} s, peak memory {gib:.2f} GiB")


if __name__ == "__main__":
    main()
