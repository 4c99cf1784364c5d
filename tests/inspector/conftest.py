"""A small simulated survey with made-up predictions, and rounds on it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.ccds import ingest
from ingest.reports import ingest_reports
from inspector.rounds import Round, freeze, located
from lake.record import Record
from lake.store import Lake
from simulator.conditions import Settings
from simulator.survey import simulate

RECORD = Record("test")
MODEL = "made-up"
N_EXPOSURES = 30


@dataclass(frozen=True)
class Survey:
    """A lake and the folder of its images."""

    lake: Lake
    images: Path
    directory: Path


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Thirty exposures of small CCDs, their tables and lists, predictions and embeddings."""
    directory = tmp_path_factory.mktemp("survey")
    settings = Settings(n_nights=1, exposures_per_night=N_EXPOSURES, nx=64, ny=128)
    made = simulate(directory, settings, seed=5, workers=1)
    lake = Lake(directory / "survey.lake", create=True)
    ingest(lake, [made.ccd_table], "sim")
    ingest_reports(lake, [made.decam_list], "decals")
    [partition] = lake.partitions("ccds")
    keys = {"camera": "decam", "night": partition["night"]}
    ccds = lake.read("ccds", dict(partition.keys), ["expnum", "ccdnum"])
    truth = pq.read_table(made.truth_exposures, columns=["expnum", "class", "ccdnums"]).to_pylist()
    class_of = {row["expnum"]: row["class"] for row in truth}
    bad_ccds = {(row["expnum"], ccdnum) for row in truth for ccdnum in row["ccdnums"]}
    pairs = list(zip(ccds["expnum"].to_pylist(), ccds["ccdnum"].to_pylist(), strict=True))
    rng = np.random.default_rng(1)
    # A model that is right, but for a tenth of the CCDs, which it takes for good.
    bad = np.array([pair in bad_ccds for pair in pairs]) & (rng.random(len(pairs)) < 0.9)
    classes = [
        class_of[pair[0]] if is_bad else "good" for pair, is_bad in zip(pairs, bad, strict=True)
    ]
    predictions = ccds.append_column("class", pa.array(classes)).append_column(
        "probability", pa.array(rng.uniform(0.9, 1, len(pairs)), pa.float32())
    )
    lake.write("predictions", keys | {"model": MODEL}, predictions, RECORD)
    vectors = rng.normal(size=(len(pairs), 4)).astype(np.float16)
    vectors[:, 0] += [10 * (class_of[expnum] != "good") for expnum, _ in pairs]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    embeddings = ccds.append_column("embedding", embedding)
    lake.write("embeddings", keys | {"embedder": "four"}, embeddings, RECORD)
    votes = [
        {
            "expnum": row["expnum"],
            "n_ccds": 62,
            "n_bad": len(row["ccdnums"]),
            "class": row["class"],
            "probability": 0.97,
            "is_bad": row["class"] != "good",
        }
        for row in truth
    ]
    lake.write("votes", keys | {"model": MODEL}, pa.Table.from_pylist(votes), RECORD)
    return Survey(lake, made.images, directory)


@pytest.fixture
def survey(master: Survey, tmp_path: Path) -> Survey:
    """A copy of the lake that a test may change; the images are shared."""
    root = tmp_path / "survey.lake"
    shutil.copytree(master.lake.root, root)
    return Survey(Lake(root), master.images, tmp_path)


def make_round(lake: Lake, name: str = "first", count: int = N_EXPOSURES) -> Round:
    """Freeze a round of the first exposures of a lake, with a class proposed for some."""
    [partition] = lake.partitions("votes")
    votes = lake.read("votes", dict(partition.keys)).to_pylist()[:count]
    rows = [
        {
            "expnum": vote["expnum"],
            "class": vote["class"],
            "probability": vote["probability"],
            "why": "chosen for the test",
        }
        for vote in votes
    ]
    return freeze(lake, name, located(lake, rows), {"model": MODEL})
