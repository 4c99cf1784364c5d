"""Every way of preparing pixels, on the real cut-outs: finite, and the same whenever it is done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedders.dinov2 import Architecture, Dinov2Embedder
from embedders.engine import run
from embedders.focal_plane import FocalPlaneEmbedder
from ingest.ccds import ingest
from lake.store import Lake
from tests.embedders import reference

SHAPE = Architecture(16, 2, 2, n_registers=4)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[Lake, list[Path]]:
    """A lake of the real CCD tables, each on its own, and the folders of their images."""
    tables = sorted((shared_data / "legacypipe" / "survey").glob("*/survey-ccds*"))
    lake = Lake(tmp_path_factory.mktemp("real") / "survey.lake", create=True)
    for table in tables:
        ingest(lake, [table], table.parent.name)
    return lake, [table.parent / "images" for table in tables]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(reference.random_weights(SHAPE.dimension, SHAPE.n_blocks, 4, 5, False, 0), file)
    return file


@pytest.mark.parametrize(
    "name",
    [
        "tiny.168x84",
        "tiny.1176x588",
        "tiny.168x84.sampled",
        "tiny.asinh.168x84",
        "tiny.background.168x84",
        "tiny.masked.168x84",
        "tiny.asinh.masked.168x84",
        "focal-plane-tiny",
    ],
)
def test_presets_on_real_images(survey: tuple[Lake, list[Path]], weights: Path, name: str) -> None:
    lake, images = survey
    plain = name.removeprefix("focal-plane-")
    model = Dinov2Embedder(plain, weights=weights, shape=SHAPE, device="cpu")
    embedder = model if plain == name else FocalPlaneEmbedder(name, model, [84])
    summary = run(lake, embedder, images, workers=1)
    assert summary.n_images >= 15 and summary.n_failed == 0
    partitions = lake.partitions("embeddings", embedder=name)
    before = [partition.path.read_bytes() for partition in partitions]
    vectors = [
        row["embedding"]
        for partition in partitions
        for row in lake.read("embeddings", dict(partition.keys)).to_pylist()
    ]
    assert np.isfinite(vectors).all() and np.std(vectors, axis=0).max() > 0
    run(lake, embedder, images, workers=2, force=True)
    assert [partition.path.read_bytes() for partition in partitions] == before
