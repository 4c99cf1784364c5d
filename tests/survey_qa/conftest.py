"""A small simulated survey, and a lake of it in which every stage has run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import survey_qa
from simulator.survey import SimulatedSurvey


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSurvey:
    """Five nights of four exposures of tiny CCDs."""
    return survey_qa.simulate(
        tmp_path_factory.mktemp("simulated") / "survey",
        nights=5,
        exposures_per_night=4,
        ccd_size=(32, 64),
        bands=["g", "r"],
    )


@pytest.fixture(scope="session")
def prepared(survey: SimulatedSurvey) -> Path:
    """The folder of `survey`, with ``survey.lake`` from its tables to the votes of ``knn``."""
    folder = survey.directory.parent
    lake = survey_qa.create(folder / "survey.lake")
    lake.ingest_ccds(survey.ccd_table, "sim")
    lake.ingest_reports(survey.decam_list, "decals")
    lake.ingest_reports(survey.delve_lists, "delve")
    lake.merge_labels("sim")
    lake.embed("statistics", survey.images, device="cpu", workers=2)
    lake.train("knn", "statistics")
    lake.predict("knn")
    lake.vote("knn", min_probability=0.5)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, a copy of `prepared` whose images are the same files."""
    for path in prepared.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name, copy_function=_linked_if_image)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _linked_if_image(source: str, target: str) -> None:
    if source.endswith(".fits.fz"):
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)
