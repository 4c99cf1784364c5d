"""A survey small enough to be copied for each test, with all that commands make of it."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulator.conditions import Settings
from simulator.survey import simulate
from tests.safety.command import done

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "lake-0.1.0.tar.xz"
RELEASE = "dr10"


@dataclass(frozen=True)
class World:
    """A folder with a survey and its lake: what a test does to one of them no other test sees."""

    folder: Path

    @property
    def lake(self) -> Path:
        """The lake."""
        return self.folder / "lake"

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self.folder / "survey" / "images"

    @property
    def table(self) -> Path:
        """The CCD table."""
        return self.folder / "survey" / "survey-ccds-sim.fits.gz"

    @property
    def bad_list(self) -> Path:
        """The list of bad exposures."""
        return self.folder / "survey" / "decam-bad_expid.txt"


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Six exposures of two nights: their CCDs, lists, vectors."""
    world = World(tmp_path_factory.mktemp("world"))
    settings = Settings(n_nights=2, exposures_per_night=3, nx=64, ny=64, bad_fraction=0.5)
    simulate(world.folder / "survey", settings, seed=8, workers=1)
    lines = [f"{expnum} PSF trailed" for expnum in range(1000, 1040)]
    text = world.bad_list.read_text()
    world.bad_list.write_text(text + "".join(f"{line}\n" for line in lines))
    done(world.lake, "ingest", "ccds", world.table, "--release", RELEASE)
    done(world.lake, "ingest", "reports", world.bad_list, "--source", "decals")
    done(world.lake, "merge-labels", "--release", RELEASE)
    done(world.lake, "embed", "--embedder", "statistics", "--images", world.images)
    return world


@pytest.fixture
def world(master: World, tmp_path: Path) -> World:
    """A copy of the survey and its lake, times and all."""
    shutil.copytree(master.folder, tmp_path / "world", copy_function=shutil.copy2)
    return World(tmp_path / "world")


@pytest.fixture(scope="session")
def golden_master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What version 0.1.0 left: a lake with every table, its inputs, and three images."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def golden(golden_master: Path, tmp_path: Path) -> Path:
    """A copy of the folder of version 0.1.0: ``lake``, lists, a CCD table, ``images``."""
    shutil.copytree(golden_master, tmp_path / "golden")
    return tmp_path / "golden"
