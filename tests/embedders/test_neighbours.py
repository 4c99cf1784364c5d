"""Vectors joined to their neighbours', from what is in the lake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedders import registry
from embedders.engine import run
from embedders.neighbours import pool
from embedders.registry import Options
from lake.cameras import DECAM
from lake.errors import SurveyError
from lake.store import Lake
from queries.status import lake_status
from tests.embedders import planes

NIGHT = "20140101"
NAME = "statistics.neighbours"


def vectors(lake: Lake, embedder: str) -> dict[tuple[int, int], np.ndarray]:
    keys = {"embedder": embedder, "camera": "decam", "night": NIGHT}
    rows = lake.read("embeddings", keys).to_pylist()
    return {(row["expnum"], row["ccdnum"]): np.array(row["embedding"]) for row in rows}


@pytest.fixture
def images(lake: Lake, tmp_path: Path) -> Path:
    planes.write(lake, tmp_path / "images", NIGHT, (1, 2), without=(DECAM.ccdnums["N30"],))
    return tmp_path / "images"


def test_each_ccd_is_joined_to_those_beside_it_in_its_exposure(lake: Lake, images: Path) -> None:
    summary = run(lake, NAME, images, workers=2)
    assert (summary.n_partitions, summary.n_images, summary.n_failed) == (1, 122, 2)
    own, joined = vectors(lake, "statistics"), vectors(lake, NAME)
    assert joined.keys() == own.keys()
    half = len(own[1, 1])
    for key, vector in joined.items():
        np.testing.assert_array_equal(vector[:half], own[key])
    # N30 has no vector: the mean is that of the others.
    n31, n27, n28 = (own[2, DECAM.ccdnums[name]] for name in ("N31", "N27", "N28"))
    found = joined[2, DECAM.ccdnums["N31"]][half:]
    assert found == pytest.approx((n27 + n28) / 2, rel=2e-3, abs=1e-3)
    assert found != pytest.approx(n31, rel=2e-3, abs=1e-3)
    (partition,) = lake.partitions("embeddings", embedder=NAME)
    record = partition.record()
    assert record is not None
    assert len(record.notes["features"]) == record.notes["dimension"] == 2 * half


def test_pooling_reads_no_image_and_follows_what_it_is_made_of(lake: Lake, images: Path) -> None:
    run(lake, "statistics", images, workers=2)
    before = vectors(lake, "statistics")
    first = run(lake, NAME, images, workers=2)
    assert (first.n_partitions, first.n_images) == (1, 0)
    again = run(lake, NAME, images, workers=2)
    assert (again.n_partitions, again.n_skipped, again.n_images) == (0, 1, 0)
    # Without astrometry nobody has neighbours.
    planes.write_rows(lake, NIGHT, (1, 2), cd1_2=None)
    moved = run(lake, NAME, images, workers=2)
    assert (moved.n_partitions, moved.n_images, moved.n_reused) == (1, 0, 0)
    for key, vector in vectors(lake, NAME).items():
        np.testing.assert_array_equal(vector, np.tile(before[key], 2))


def test_a_draw_of_ccds_is_pooled_among_itself(lake: Lake, images: Path) -> None:
    run(lake, NAME, images, workers=2, ccds_per_exposure=1)
    assert len(vectors(lake, NAME)) == len(vectors(lake, "statistics")) == 2
    for key, vector in vectors(lake, NAME).items():
        np.testing.assert_array_equal(vector, np.tile(vectors(lake, "statistics")[key], 2))
    run(lake, "statistics", images, workers=2, ccds_per_exposure=2)
    stale = {(row["table"], row["of"]): row["stale"] for row in lake_status(lake).to_pylist()}
    assert (
        stale["embeddings", f"embedder={NAME}"],
        stale["embeddings", "embedder=statistics"],
    ) == (1, 0)
    assert run(lake, NAME, images, workers=2, ccds_per_exposure=2).n_partitions == 1


@given(st.dictionaries(st.integers(1, 9), st.floats(-100, 100, width=16), min_size=1))
def test_the_mean_is_of_those_that_are_there(found: dict[int, float]) -> None:
    own = {(1, ccd): np.array([value], np.float16) for ccd, value in found.items()}
    around = {(1, ccd): [(1, ccd - 1), (1, ccd + 1), (2, ccd)] for ccd in range(1, 10)}
    for (_, ccd), (mine, mean) in pool(own, around).items():
        values = [found[other] for other in (ccd - 1, ccd + 1) if other in found]
        assert mine == found[ccd]
        assert mean == pytest.approx(np.mean(values or [found[ccd]]), rel=1e-3, abs=1e-3)


def test_only_vectors_of_ccds_have_neighbours() -> None:
    assert registry.embedder(Options("statistics.masked.neighbours")).name.endswith("neighbours")
    for name in ("focal-plane-statistics.neighbours", "statistics.neighbours.neighbours"):
        with pytest.raises(SurveyError, match="only vectors of CCDs"):
            registry.embedder(Options(name))
