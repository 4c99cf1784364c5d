"""The exposures' verdicts at release size: `vote` and `crossmatch` as commands, start-up included.

    python -m bench.vote FOLDER [--exposures 283633] [--nights 2400] [--learned 0.1]

Makes a lake of predictions of DR11's size (283,633 exposures, 20 CCDs of each: 5.67 million rows)
with its table of exposures, and times both commands on it. Beside them stands the way of a
notebook, in the same run: of the table in memory, select the rows of one exposure, count, and go on
to the next; measured on some exposures, for all of them by proportion.

With ``--learned`` that share of the nights also gets vectors of 768 dimensions, a model that judges
exposures learns from the first of them, predicts, and `vote --rule learned` is timed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench import made
from lake.record import Record
from lake.store import Lake, read_file
from lake.vocabulary import Vocabulary

_CCDS = 20
_FIRST_NIGHT = date(2013, 1, 1)
_BAD_FRACTION = 0.02
_MODEL = "bench"
_RELEASE = "dr11"


def make_lake(root: Path, n_exposures: int, n_nights: int) -> Lake:
    """Fill a lake with predictions and exposures, as many on each night."""
    lake = Lake(root, create=True)
    classes = ("good", *(c for c in Vocabulary.load().training_classes if c != "good"))
    rng = np.random.default_rng(0)
    for number, expnum in enumerate(np.array_split(np.arange(n_exposures) + 300_000, n_nights)):
        keys = {"camera": "decam", "night": f"{_FIRST_NIGHT + timedelta(days=number):%Y%m%d}"}
        notes = {"classes": list(classes)}
        record = Record("predict", {"model": _MODEL}, {"night": str(number)}, notes)
        rows = _predictions(rng, expnum, classes)
        lake.write("predictions", {"model": _MODEL, **keys}, rows, record)
        bits = rng.choice([0, 0, 0, 0x200, 0x400], len(expnum))
        exposures = {
            "expnum": expnum,
            "band": np.full(len(expnum), "g"),
            "ccd_cuts": bits,
            "n_ccds": np.full(len(expnum), 61, np.int32),
            "n_cut": np.where(bits > 0, 61, 0).astype(np.int32),
        }
        lake.write("exposures", {"release": _RELEASE, **keys}, pa.table(exposures), record)
    return lake


def _predictions(rng: np.random.Generator, expnum: np.ndarray, classes: tuple) -> pa.Table:
    n = len(expnum) * _CCDS
    ccds = np.sort(rng.permuted(np.tile(np.arange(1, 63), (len(expnum), 1)), axis=1)[:, :_CCDS])
    chance = rng.gamma(0.05, size=(n, len(classes))).astype(np.float32)
    bad = rng.random(len(expnum)) < _BAD_FRACTION
    kind = np.where(bad, rng.integers(1, len(classes), len(expnum)), 0)
    chance[np.arange(n), np.repeat(kind, _CCDS)] += 5
    chance /= chance.sum(axis=1, keepdims=True)
    best = chance.argmax(axis=1)
    offsets = np.arange(0, chance.size + 1, len(classes), dtype=np.int32)
    return pa.table(
        {
            "expnum": np.repeat(expnum, _CCDS),
            "ccdnum": ccds.ravel().astype(np.int16),
            "class": pa.array(classes).take(pa.array(best)),
            "probability": chance[np.arange(n), best],
            "probabilities": pa.ListArray.from_arrays(offsets, pa.array(chance.ravel())),
        }
    )


def row_by_row(lake: Lake, n_exposures: int) -> float:
    """Return seconds an exposure when each one's rows are selected from the whole table."""
    columns = ["expnum", "class", "probability"]
    rows = pa.concat_tables(read_file(p.path, columns) for p in lake.partitions("predictions"))
    expnum, probability = rows["expnum"].to_numpy(), rows["probability"].to_numpy()
    is_bad = (rows["class"].to_numpy() != "good") & (probability >= np.float32(0.9))
    wanted = np.unique(expnum)[:: max(1, len(expnum) // _CCDS // n_exposures)][:n_exposures]
    start = time.perf_counter()
    verdicts = [is_bad[expnum == number].mean() >= 0.5 for number in wanted]
    return (time.perf_counter() - start) / len(verdicts)


def learned(root: Path, n_exposures: int, n_nights: int) -> None:
    """Print the time and memory of a learned vote; all but it is made and learned first."""
    survey = made.Survey(n_exposures, n_nights, 0.1, n_listed=max(n_nights // 10, 10))
    made.make_lake(root, survey)
    model = ("--model", _MODEL)
    made.timed(root, "train", "--embedder", made.EMBEDDER, *model, "--exposure-classifier")
    made.timed(root, "predict", *model)
    seconds, gib = made.timed(root, "vote", *model, "--rule", "learned", "--force")
    again, _ = made.timed(root, "vote", *model, "--rule", "learned")
    print(
        f"learned vote, {n_exposures:,} exposures on {n_nights:,} nights: {seconds:.1f} s, "
        f"unchanged {again:.1f} s, peak memory {gib:.2f} GiB"
    )


def _timed(lake: Lake, *command: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        [Path(sys.executable).with_name("survey-qa"), *command, "--lake", lake.root],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def main() -> None:
    """Run and print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the lake is made; kept, to run again")
    parser.add_argument("--exposures", type=int, default=283_633)
    parser.add_argument("--nights", type=int, default=2_400)
    parser.add_argument("--learned", type=float, default=0.0, help="share that is judged [0]")
    options = parser.parse_args()
    start = time.perf_counter()
    lake = make_lake(options.folder / "vote.lake", options.exposures, options.nights)
    print(
        f"{options.exposures:,} exposures, {options.exposures * _CCDS:,} predictions on "
        f"{options.nights:,} nights, made in {time.perf_counter() - start:.0f} s"
    )
    vote = _timed(lake, "vote", "--model", _MODEL, "--force")
    print(f"vote: {vote:.1f} s")
    print(f"vote, unchanged: {_timed(lake, 'vote', '--model', _MODEL):.1f} s")
    crossmatch = ("crossmatch", "--model", _MODEL, "--release", _RELEASE)
    print(f"crossmatch: {_timed(lake, *crossmatch):.1f} s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory of a command: {peak:.2f} GiB")
    slow = row_by_row(lake, 200) * options.exposures
    print(f"exposure by exposure: {slow:,.0f} s by proportion, {slow / vote:,.0f} times vote")
    if options.learned:
        n_exposures, n_nights = (
            round(options.learned * n) for n in (options.exposures, options.nights)
        )
        learned(options.folder / "learned.lake", n_exposures, n_nights)


if __name__ == "__main__":
    main()
