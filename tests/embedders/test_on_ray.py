"""Ray writes what one process and what shares started together do, also when an actor dies."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from embedders.engine import Event, run
from lake.errors import SurveyError
from lake.store import Lake
from tests.embedders.doubles import Mean, embed_share
from tests.embedders.skies import image_name, make

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of two workers on this machine that can import the tests."""
    root = Path(__file__).parents[2]
    patch = pytest.MonkeyPatch()
    # Without a token of its own Ray leaves one in the home of whoever runs the tests.
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(secrets.token_hex(32))
    patch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    ray.init(
        num_cpus=2,
        num_gpus=0,
        object_store_memory=100_000_000,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
    )
    yield
    ray.shutdown()
    patch.undo()


@pytest.fixture
def images(lake: Lake, tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    make(lake, folder, {f"2014010{n}": (n, n + 10) for n in range(1, 6)})
    return folder


def content(lake: Lake) -> dict[str, bytes]:
    """Vectors and failures, byte for byte."""
    tables = ("embeddings", "failures")
    return {p.name: p.path.read_bytes() for table in tables for p in lake.partitions(table)}


def copy(lake: Lake, name: str) -> Lake:
    """A lake with the same CCD rows and nothing else."""
    root = lake.root.with_name(name)
    shutil.copytree(lake.root / "ccds", root / "ccds")
    return Lake(root)


class Assassin(Mean):
    """Kills the actor whose images it reads, once: while the mark exists."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        if self.mark.exists():
            self.mark.unlink()
            os.kill(os.getppid(), signal.SIGKILL)
        return super().embed(images)


def test_one_process_shares_and_ray_with_an_actor_killed(
    lake: Lake, images: Path, tmp_path: Path
) -> None:
    (images / image_name("20140102", 12)).write_bytes(b"not a FITS file")
    alone, shared = copy(lake, "alone"), copy(lake, "shared")
    assert run(alone, Mean(), images, workers=1).n_failed == 4

    context = multiprocessing.get_context("spawn")
    shares = [
        context.Process(target=embed_share, args=(shared.root, images, f"{n}/3")) for n in (1, 2, 3)
    ]
    for share in shares:
        share.start()
    for share in shares:
        share.join(60)
    assert [share.exitcode for share in shares] == [0, 0, 0]

    mark = tmp_path / "mark"
    mark.touch()
    events: list[Event] = []
    summary = run(lake, Assassin(mark), images, engine="ray", progress=events.append)
    assert not mark.exists()  # an actor did die
    assert summary.n_partitions + summary.n_skipped == 5 and not summary.remaining
    assert [event.n_partitions for event in events] == [1, 2, 3, 4, 5]

    assert len(content(alone)) > 5
    assert content(shared) == content(alone)
    assert content(lake) == content(alone)
    assert run(lake, Mean(), images, engine="ray").n_skipped == 5


def test_errors_of_an_actor_are_said(lake: Lake, images: Path) -> None:
    damaged = lake.path("ccds", {"release": "dr10", "camera": "decam", "night": "20140103"})
    whole = damaged.read_bytes()
    mean = Mean()
    mean.settings = {"version": 1}
    run(lake, mean, images, engine="ray", partitions=["night=20140101"])
    damaged.write_bytes(whole[:100] + b"\0" * 200 + whole[300:])  # the footer is as it was
    with pytest.raises(SurveyError, match="20140103"):
        run(lake, mean, images, engine="ray")
