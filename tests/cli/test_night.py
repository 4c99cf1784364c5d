"""A night's images go in one go from their headers to a verdict, and only what is new does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from classifiers.estimators.spec import ClassifierSpec
from classifiers.sample.features import Features
from classifiers.train import train
from classifiers.validation.splits import SplitSpec
from cli.main import app, run
from cli.night import _alone, _options
from embedders.engine import run as embed
from embedders.registry import Options
from ingest.ccds import ingest
from ingest.reports import ingest_reports
from lake.errors import SurveyError
from lake.record import digest
from lake.store import Lake, Partition
from queries.merge_labels import merge_labels
from simulator.conditions import Settings
from simulator.survey import SimulatedSurvey, simulate
from tests.embedders.doubles import MeanOnDevice

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Observatory:
    """A lake with a model of the first night, and the second night's files still to come."""

    lake: Lake
    survey: SimulatedSurvey
    files: list[Path]
    bad: set[int]

    def arrive(self, folder: Path, *files: Path) -> Path:
        folder.mkdir(exist_ok=True)
        for file in files:
            shutil.copy(file, folder)
        return folder

    def night(self, folder: Path, *options: object) -> Result:
        words = ["--lake", self.lake.root, "night", folder, "--model", "m", *options]
        return CliRunner().invoke(app, [str(word) for word in words])

    def versions(self) -> dict[str, tuple[int, int]]:
        """What tells each partition from another writing of it."""
        files = sorted(self.lake.root.glob("**/*.parquet"))
        return {str(file): (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Observatory:
    folder = tmp_path_factory.mktemp("observatory")
    settings = Settings(
        n_nights=2,
        exposures_per_night=3,
        nx=64,
        ny=128,
        bands=("r",),
        bad_fraction=0.34,
        classes=("Out_of_focus",),
        strength_range=(3.0, 3.5),
    )
    survey = simulate(folder / "survey", settings, seed=4, workers=1)
    ccds = fitsio.read(str(survey.ccd_table))
    day = np.floor(ccds["mjd_obs"] - 0.5)
    first = ccds[day == day.min()]
    fitsio.write(str(folder / "first.fits"), first)
    truth = pq.read_table(survey.truth_exposures).to_pylist()
    bad = {row["expnum"] for row in truth if row["class"] != "good"}
    (folder / "list.txt").write_text(
        "".join(f"{number} out of focus\n" for number in sorted(bad & set(first["expnum"])))
    )
    lake = Lake(folder / "lake", create=True)
    ingest(lake, [folder / "first.fits"], "sim")
    ingest_reports(lake, [folder / "list.txt"], "decals")
    merge_labels(lake, "sim")
    embed(lake, "statistics", survey.images, workers=2)
    train(lake, "statistics", "m", split=SplitSpec("image"))
    names = sorted(set(ccds[day == day.max()]["image_filename"]))
    return Observatory(lake, survey, [survey.images / name.strip() for name in names], bad)


@pytest.fixture
def observatory(trained: Observatory, tmp_path: Path) -> Observatory:
    root = tmp_path / "lake"
    shutil.copytree(trained.lake.root, root)
    return Observatory(Lake(root), trained.survey, trained.files, trained.bad)


EASY = ("--min-probability", 0.5, "--format", "json")


def test_a_night_is_judged_and_only_what_is_new_is_embedded(
    observatory: Observatory, tmp_path: Path
) -> None:
    *early, late = observatory.files
    incoming = observatory.arrive(tmp_path / "incoming", *early)
    first = observatory.night(incoming, *EASY)
    assert first.exit_code == 0, first.stderr
    assert "2 files, 2 new or changed; 124 images embedded, 0 kept" in first.stderr
    assert "0 of 2 exposures are bad" in first.stderr

    before = observatory.versions()
    again = observatory.night(incoming, *EASY)
    assert "2 files, 0 new or changed; 0 images embedded, 0 kept" in again.stderr
    assert observatory.versions() == before, "nothing is written where nothing is new"

    observatory.arrive(incoming, late)
    third = observatory.night(incoming, *EASY)
    assert "3 files, 1 new or changed; 62 images embedded, 124 kept" in third.stderr
    assert "1 of 3 exposures are bad, 1 of them new" in third.stderr
    [found] = json.loads(third.stdout)
    assert found["is_new"] is True
    assert found["expnum"] in observatory.bad
    assert found["class"] == "Out_of_focus"
    assert found["n_ccds"] == 62 >= found["n_bad"] >= 31
    assert found["image_filename"] == late.name
    [seen_before] = json.loads(observatory.night(incoming, *EASY).stdout)
    assert seen_before == found | {"is_new": False}
    lines = observatory.night(incoming, *EASY[:2]).stdout.splitlines()
    assert "is_new" in lines[2] and "camera" not in lines[2]


def test_a_folder_that_nothing_has_come_into_yet_is_no_error(
    observatory: Observatory, tmp_path: Path
) -> None:
    incoming = observatory.arrive(tmp_path / "incoming")
    (incoming / ".c4d_ooi_r.fits.fz.XyZ").write_bytes(b"on its way")
    before = observatory.versions()
    result = observatory.night(incoming)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no file yet" in result.stderr
    assert observatory.versions() == before
    (incoming / "bias.fits").write_bytes(b"")
    assert "no file in it matches" in str(observatory.night(incoming).exception)


def test_a_second_run_on_the_same_folder_does_not_begin(
    observatory: Observatory, tmp_path: Path
) -> None:
    incoming = observatory.arrive(tmp_path / "incoming", observatory.files[0])
    with _alone(observatory.lake, incoming, "m"):
        assert "another run is judging" in str(observatory.night(incoming).exception)
        with _alone(observatory.lake, incoming, "other"):
            pass
    assert observatory.night(incoming).exit_code == 0


def test_a_file_that_is_cut_is_told_and_whole_on_the_next_run(
    observatory: Observatory, tmp_path: Path
) -> None:
    whole = observatory.files[0].read_bytes()
    incoming = observatory.arrive(tmp_path / "incoming")
    (incoming / "c4d_ooi_r.fits.fz").write_bytes(whole[: len(whole) // 2])
    cut = observatory.night(incoming)
    assert "unusable: the file ends within this CCD: 1" in cut.stderr
    (incoming / "c4d_ooi_r.fits.fz").write_bytes(whole)
    result = observatory.night(incoming, "--strict")
    assert result.exit_code == 0, result.stderr
    assert "1 files, 1 new or changed" in result.stderr
    assert observatory.lake.partitions("failures") == []
    [(_, night)] = {(p["camera"], p["night"]) for p in observatory.lake.partitions("votes")}
    [vote] = observatory.lake.read(
        "votes", {"model": "m", "camera": "decam", "night": night}
    ).to_pylist()
    assert vote["n_ccds"] == 62


def test_the_verdicts_are_those_of_the_commands_one_by_one(
    observatory: Observatory, tmp_path: Path
) -> None:
    incoming = observatory.arrive(tmp_path / "incoming", *observatory.files)
    shutil.copytree(observatory.lake.root, tmp_path / "other")
    observatory.night(incoming)
    other = Lake(tmp_path / "other")
    for words in (
        ["ingest", "images", incoming, "--release", "night"],
        ["embed", "--embedder", "statistics", "--images", incoming, "--release", "night"],
        ["predict", "--model", "m"],
        ["vote", "--model", "m"],
    ):
        command = [str(word) for word in ["--lake", other.root, *words]]
        assert CliRunner().invoke(app, command).exit_code == 0
    for name in ("ccds", "embeddings", "predictions", "votes"):
        [partition] = [p for p in other.partitions(name) if p["night"] == "20140822"]
        keys = dict(partition.keys)
        assert other.read(name, keys).equals(observatory.lake.read(name, keys)), name


def test_images_that_came_by_another_folder_keep_their_vectors(
    observatory: Observatory, tmp_path: Path
) -> None:
    *early, late = observatory.files
    observatory.night(observatory.arrive(tmp_path / "evening", *early))
    result = observatory.night(observatory.arrive(tmp_path / "morning", late))
    assert "1 files, 1 new or changed; 62 images embedded, 124 kept" in result.stderr
    assert "of 3 exposures" in result.stderr


def test_a_night_that_a_ccd_table_covers_keeps_its_vectors_too(
    observatory: Observatory, tmp_path: Path
) -> None:
    ingest(observatory.lake, [observatory.survey.ccd_table], "sim")
    embed(observatory.lake, "statistics", observatory.survey.images, workers=1)
    incoming = observatory.arrive(tmp_path / "incoming", observatory.files[0])
    before = {
        p: observatory.lake.read("embeddings", dict(p.keys)) for p in all_vectors(observatory)
    }
    # The images of the table are elsewhere; its vectors are not of this release, and stay.
    result = observatory.night(incoming)
    assert result.exit_code == 0, result.exception
    assert "0 failed" in result.stderr
    after = {p: observatory.lake.read("embeddings", dict(p.keys)) for p in all_vectors(observatory)}
    for partition, rows in before.items():
        assert after[partition].select(rows.column_names).equals(rows)


def all_vectors(observatory: Observatory) -> list[Partition]:
    return observatory.lake.partitions("embeddings")


def test_a_broken_image_is_counted_and_the_others_are_judged(
    observatory: Observatory, tmp_path: Path
) -> None:
    incoming = observatory.arrive(tmp_path / "incoming", observatory.files[0])
    (incoming / "x_ooi.fits.fz").write_bytes(b"SIMPLE" + bytes(3000))
    result = observatory.night(incoming, "--strict")
    assert result.exit_code == 1
    assert "62 images embedded" in result.stderr
    assert "1 input(s) could not be used" in result.stderr
    (incoming / observatory.files[0].name).unlink()
    alone = observatory.arrive(tmp_path / "alone")
    shutil.move(incoming / "x_ooi.fits.fz", alone)
    result = observatory.night(alone)
    assert result.exit_code == 0
    assert "no CCD image among them" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "none"], "no model 'none'"),
        (["--precision", "float32"], "statistics has no weights and no precision"),
        (["--weights", "w.pth"], "statistics has no weights and no precision"),
        (["--ccds-per-exposure", "0"], "--ccds-per-exposure '0'"),
        (["--pattern", "*.png"], "no file in it matches *.png"),
        (["--images", "nowhere"], "--images nowhere: no such folder"),
        (["--rule", "learned"], "model m cannot classify exposures"),
    ],
)
def test_bad_input_is_told_in_one_line(
    observatory: Observatory,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    says: str,
) -> None:
    incoming = observatory.arrive(tmp_path / "incoming", observatory.files[0])
    words = ["--lake", str(observatory.lake.root), "night", str(incoming), "--model", "m", *options]
    assert run(lambda: app(words, standalone_mode=False), verbose=False) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert says in last


def test_a_rule_that_was_not_learned_is_refused_before_any_image_is_read(
    observatory: Observatory, tmp_path: Path
) -> None:
    before = observatory.versions()
    incoming = observatory.arrive(tmp_path / "incoming", observatory.files[0])
    assert observatory.night(incoming, "--rule", "learned").exit_code == 1
    assert observatory.night(incoming, "--min-probability", 2).exit_code == 2
    assert observatory.versions() == before


def test_vectors_of_other_settings_are_refused_before_any_image_is_read(
    observatory: Observatory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedders.statistics import StatisticsEmbedder

    settings: dict[str, Any] = {"version": "another"}
    monkeypatch.setattr(StatisticsEmbedder, "settings", settings)
    before = observatory.versions()
    result = observatory.night(observatory.arrive(tmp_path / "incoming", observatory.files[0]))
    assert "made with other settings" in str(result.exception)
    assert observatory.versions() == before


def test_every_embedder_of_the_model_embeds(observatory: Observatory, tmp_path: Path) -> None:
    lake = observatory.lake
    embed(lake, "focal-plane-statistics", observatory.survey.images, workers=2)
    embedders = ["statistics", "focal-plane-statistics"]
    train(
        lake,
        Features(tuple(embedders), columns=("fwhm",)),
        "m",
        split=SplitSpec("image"),
        classifier=ClassifierSpec("logistic"),
        force=True,
    )
    incoming = observatory.arrive(tmp_path / "incoming", observatory.files[0])
    result = observatory.night(incoming)
    assert result.exit_code == 0, result.stderr
    assert "63 images embedded" in result.stderr  # 62 CCDs and the exposure
    (night,) = {p["night"] for p in lake.partitions("ccds", release="night")}
    found = lake.partitions("embeddings", night=night)
    assert sorted(partition["embedder"] for partition in found) == sorted(embedders)
    (predicted,) = lake.partitions("predictions", night=night)
    assert predicted.num_rows() == 62
    again = observatory.night(incoming)
    assert "0 images embedded" in again.stderr


class Precise(MeanOnDevice):
    """An embedder whose vectors depend on weights and precision."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        weights = options.weights.read_text() if options.weights else None
        self.settings = {"weights": weights, "precision": options.precision or "bfloat16"}


@pytest.mark.parametrize("trained_at", ["bfloat16", "float32"])
def test_the_precision_is_the_one_that_the_model_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained_at: str
) -> None:
    monkeypatch.setattr("embedders.registry.embedder", Precise)
    weights, others = tmp_path / "w", tmp_path / "others"
    weights.write_text("ours")
    others.write_text("others")
    settings = digest({"weights": "ours", "precision": trained_at})
    card = {"embedders": [{"name": "precise", "settings": settings}]}
    (chosen,) = _options(card, "m", [weights], "auto", None)
    assert Precise(chosen).settings == {
        "weights": "ours",
        "precision": trained_at,
    }
    for wrong in (([others], None), ([], None), ([weights], "float16")):
        with pytest.raises(SurveyError, match="other settings"):
            _options(card, "m", wrong[0], "auto", wrong[1])
    with pytest.raises(SurveyError, match="no embedder of model m was run with them"):
        _options(card, "m", [others, weights], "auto", None)


@pytest.mark.parametrize("marker", ["ccds/release=night", "predictions"])
def test_sigterm_ends_it_well_and_the_next_run_goes_on(
    observatory: Observatory, tmp_path: Path, marker: str
) -> None:
    incoming = observatory.arrive(tmp_path / "incoming", *observatory.files)
    command = [sys.executable, "-m", "cli.main", "--lake", str(observatory.lake.root), "night"]
    process = subprocess.Popen(
        [*command, str(incoming), "--model", "m"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in _until(lambda: (observatory.lake.root / marker).exists()):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 0, messages
    assert "Traceback" not in messages
    assert not list(observatory.lake.root.glob("**/.*.tmp"))
    after = observatory.night(incoming)
    assert after.exit_code == 0
    assert "of 3 exposures are bad" in after.stderr
    if marker == "predictions":
        assert "0 images embedded" in after.stderr


def _until(condition: Callable[[], bool]) -> Iterator[None]:
    """Wait for `condition`, a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never happened"
        yield
        time.sleep(0.01)
