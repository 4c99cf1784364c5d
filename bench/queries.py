"""How long labels, bits and cross-match take at the size of a data release.

    python -m bench.queries FOLDER [--scale 0.05] [--lists FOLDER] [--keep]

Makes a CCD table (`bench.make_release`) and a lake in FOLDER and prints a table: seconds, rows and
peak resident memory of every step, and whether it meets its target, which is set for the full
size. Each step runs in a process of its own, whose imports are part of its time. Beside it the
row-by-row way: one look-up in the CCD table per list entry, on a slice of the entries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.make_release import write_release

RELEASE = "dr10"
MODEL = "bench"
#: Peak resident memory that no step may pass.
MEMORY_GIB = 4.0
#: Entries looked up one by one; the time of all follows from theirs.
SLICE = 50
LIST_LINES = 16_000
NEEDED = {"bits": "badexp_file,seeing_bad", "model": MODEL, "other": MODEL}


@dataclass(frozen=True)
class Step:
    """A measured step: `rows` it was about, `seconds`, peak memory, and its target, if any."""

    name: str
    rows: int
    seconds: float
    gib: float
    target: str = ""
    met: bool = True


def measured(work: Callable[..., int], arguments: tuple[Any, ...]) -> tuple[int, float, float]:
    """Run in a fresh process: return rows, seconds and GiB of the process and its children."""
    start = time.perf_counter()
    rows = work(*arguments)
    seconds = time.perf_counter() - start
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return rows, seconds, peak / 2**20


class Bench:
    """Runs steps and keeps what they took."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def run(
        self,
        name: str,
        work: Callable[..., int],
        *arguments: Any,
        seconds: float | None = None,
        rate: float | None = None,
    ) -> Step:
        """Measure ``work(*arguments)``, which returns a number of rows, against its target."""
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            rows, took, gib = pool.submit(measured, work, arguments).result()
        target, met = "", True
        if seconds is not None:
            target, met = f"< {seconds:g} s", took < seconds
        if rate is not None:
            target, met = f">= {rate:,.0f} rows/s", rows / took >= rate
        step = Step(name, rows, took, gib, target, met and gib < MEMORY_GIB)
        self.steps.append(step)
        print(f"{name}: {took:.2f} s, {rows:,} rows, {gib:.2f} GiB", flush=True)
        return step


# Steps: each returns the number of rows that it is about ------------------------------------------


def make_table(table: Path, scale: float, lists: Path) -> int:
    """Write the CCD table."""
    return write_release(table, scale, lists)


def ingest_ccds(root: Path, table: Path) -> int:
    """Ingest a CCD table."""
    from ingest.ccds import ingest
    from lake.store import Lake

    summary = ingest(Lake(root, create=True), [table], RELEASE)
    return summary.rows or summary.unchanged_files


def ingest_lists(root: Path, lists: Path) -> int:
    """Ingest all real lists."""
    from ingest.reports import ingest_reports
    from lake.store import Lake

    lake = Lake(root)
    newest = sorted(lists.rglob("*bad_expid*.txt"))[-1:]
    done = ingest_reports(lake, newest, "decals").entries
    done += ingest_reports(lake, [lists / "delve"], "delve").entries
    return done + ingest_reports(lake, sorted(lists.rglob("*.csv")), "inspection").entries


def merge(root: Path) -> int:
    """Merge all reports into the release."""
    from lake.store import Lake
    from queries.merge_labels import merge_labels

    return merge_labels(Lake(root), RELEASE).rows


def write_votes(root: Path) -> int:
    """Write stand-in votes for every exposure: one in a hundred is bad."""
    import numpy as np
    import pyarrow as pa

    from lake.record import Record
    from lake.store import Lake

    lake = Lake(root)
    total = 0
    for partition in lake.partitions("exposures", release=RELEASE):
        keys = {"model": MODEL, "camera": partition["camera"], "night": partition["night"]}
        expnum = lake.read("exposures", dict(partition.keys), ["expnum"])["expnum"].to_numpy()
        bad = expnum % 100 == 0
        rows = {
            "expnum": expnum,
            "n_ccds": np.full(len(expnum), 20),
            "n_bad": np.where(bad, 15, 0),
            "class": np.where(bad, "Clouds_transparency", "good"),
            "probability": np.full(len(expnum), 0.95),
            "is_bad": bad,
        }
        lake.write("votes", keys, pa.table(rows), Record("bench"))
        total += len(expnum)
    return total


def query(root: Path, name: str) -> int:
    """Run a named query with its defaults."""
    from lake.store import Lake
    from queries.named import find_query, run_query

    lake = Lake(root)
    parameters = find_query(lake, name).parameters
    needed = {p.name: NEEDED[p.name] for p in parameters if p.default is None}
    return run_query(lake, name, needed).num_rows


def sql(root: Path, text: str) -> int:
    """Run SQL that a person might type."""
    from lake.store import Lake
    from queries.engine import run_sql

    return run_sql(Lake(root), text).num_rows


def command(root: Path, *arguments: str) -> int:
    """Run a command as a person does, start-up included."""
    program = [sys.executable, "-m", "cli.main", "--lake", str(root), *arguments]
    done = subprocess.run(program, check=True, capture_output=True)
    return len(done.stdout.splitlines())


def row_by_row(table: Path, entries: list[tuple[int, str | None]]) -> int:
    """Look up every entry in the CCD table: what a loop over a list does."""
    import fitsio

    ccds = fitsio.read(str(table), columns=["expnum", "ccdname", "image_hdu"], ext=1)
    labels = []
    for expnum, ccdname in entries:
        found = ccds[ccds["expnum"] == expnum]
        if ccdname is not None:
            found = found[found["ccdname"] == ccdname]
        labels += [(row["expnum"], row["ccdname"], row["image_hdu"]) for row in found]
    return len(labels)


# Inputs -------------------------------------------------------------------------------------------


def list_entries(root: Path) -> list[tuple[int, str | None]]:
    """Return the (expnum, ccdname) of every report, in an order without meaning."""
    from lake.store import Lake
    from queries.engine import run_sql

    rows = run_sql(Lake(root), "select expnum, ccdname from reports order by hash(expnum, line)")
    return list(zip(rows["expnum"].to_pylist(), rows["ccdname"].to_pylist(), strict=True))


def write_list(path: Path, lists: Path) -> None:
    """Write a bad list of `LIST_LINES` lines: the newest real one, and single CCDs after it."""
    newest = sorted(lists.rglob("*bad_expid*.txt"))[-1]
    lines = newest.read_text(encoding="utf-8").splitlines()
    more = LIST_LINES - len(lines)
    lines += [f"{2_000_000 + number}-N{number % 31 + 1} noise" for number in range(more)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_night(path: Path) -> int:
    """Write a CCD table of one further night: 120 exposures, numbered after all others."""
    import fitsio
    import numpy as np

    from bench.make_release import make_exposures, make_rows

    exposures = make_exposures(120 / 256_701, np.zeros(0, np.int64), seed=99)
    rows = make_rows(exposures, 0, len(exposures.expnum), seed=99)
    rows["expnum"] += 5_000_000
    rows["mjd_obs"] = 61_000.7
    fitsio.write(str(path), rows, extname="CCDS", clobber=True)
    return len(rows)


# The table ----------------------------------------------------------------------------------------


def report(bench: Bench, rows: int, lines: list[str]) -> str:
    """Return the steps as a Markdown table."""
    cpu = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = [
        f"{rows:,} CCD rows; {cpu}",
        "",
        "| step | rows | seconds | rows/s | peak GiB | target | |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for step in bench.steps:
        rate = f"{step.rows / step.seconds:,.0f}" if step.rows > 1 else ""
        met = ("met" if step.met else "missed") if step.target else ""
        text.append(
            f"| {step.name} | {step.rows:,} | {step.seconds:.2f} | {rate} | {step.gib:.2f} | "
            f"{step.target} | {met} |"
        )
    return "\n".join([*text, "", *lines])


def measure(folder: Path, scale: float, lists: Path) -> str:
    """Run all steps in `folder` and return the report."""
    from queries.named import list_queries

    table, root, night = folder / "survey-ccds.fits", folder / "survey.lake", folder / "night.fits"
    if root.exists():
        shutil.rmtree(root)
    write_list(folder / "bad_expid.txt", lists)
    bench = Bench()
    rows = bench.run("make the table (fitsio)", make_table, table, scale, lists).rows
    bench.run("make one more night", write_night, night)
    bench.run("ingest ccds", ingest_ccds, root, table, rate=150_000)
    bench.run("ingest ccds, unchanged", ingest_ccds, root, table, seconds=2)
    bench.run("ingest reports", ingest_lists, root, lists)
    merged = bench.run("merge-labels", merge, root, seconds=10)
    bench.run("merge-labels, unchanged", merge, root, seconds=2)
    bench.run("votes (stand-in)", write_votes, root)
    for named in list_queries():
        bench.run(f"query {named.name}", query, root, named.name, seconds=5)
    bench.run(
        "sql: median seeing by band and night",
        sql,
        root,
        "select night, filter, median(fwhm) from ccds group by all",
        seconds=5,
    )
    against = str(folder / "bad_expid.txt")
    diff = ("bad-expid", "diff", "--against", against, "--reports", "delve", "--output")
    bench.run("bad-expid diff", command, root, *diff, str(folder / "patch"), seconds=2)
    bench.run("ingest one more night", ingest_ccds, root, night)
    bench.run("merge-labels, one more night", merge, root, seconds=10)
    entries = list_entries(root)
    slow = bench.run(f"row by row, {SLICE} entries", row_by_row, table, entries[:SLICE])
    empty = bench.run("row by row, reading the table alone", row_by_row, table, [])
    each = (slow.seconds - empty.seconds) / SLICE
    whole = empty.seconds + each * len(entries)
    ratio = whole / merged.seconds
    note = (
        f"Row by row: {each * 1000:.0f} ms an entry, so {whole:,.0f} s for the {len(entries):,} "
        f"entries of the lists; merge-labels took {merged.seconds:.2f} s, {ratio:,.0f} times less."
    )
    return report(bench, rows, [note])


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is DR10 [default: 1]")
    parser.add_argument("--lists", type=Path, required=True, help="folder of real lists")
    parser.add_argument("--keep", action="store_true", help="keep table and lake")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(measure(options.folder, options.scale, options.lists))
    if not options.keep:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
