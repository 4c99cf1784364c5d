"""A small simulated survey with made-up predictions, and rounds on it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from inspector.rounds import Round, freeze, located
from lake.ingest_ccds import ingest
from lake.ingest_reports import ingest_reports
from lake.store import Lake, Record
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
    expnum = ccds["expnum"].to_numpy()
    bad = expnum % 3 == 0
    classes = np.where(bad, "Ghost_scatter", "good")
    predictions = ccds.append_column("class", pa.array(classes)).append_column(
        "probability", pa.array(np.where(bad, 0.97, 0.99), pa.float32())
    )
    lake.write("predictions", keys | {"model": MODEL}, predictions, RECORD)
    vectors = np.random.default_rng(1).normal(size=(len(expnum), 4)).astype(np.float16)
    vectors[:, 0] += 10 * bad
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    embeddings = ccds.append_column("embedding", embedding)
    lake.write("embeddings", keys | {"embedder": "four"}, embeddings, RECORD)
    votes = [
        {
            "expnum": int(number),
            "n_ccds": 62,
            "n_bad": 62 if number % 3 == 0 else 0,
            "class": "Ghost_scatter" if number % 3 == 0 else "good",
            "probability": 0.97,
            "is_bad": bool(number % 3 == 0),
        }
        for number in np.unique(expnum)
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
            "why": "test <b>&amp;",
        }
        for vote in votes
    ]
    return freeze(lake, name, located(lake, rows), {"model": MODEL})
