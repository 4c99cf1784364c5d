"""`map` and `label-errors` as a person types them, on a simulated survey and its lists."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import app
from embedders.engine import run as embed
from ingest.ccds import ingest
from ingest.reports import ingest_reports
from inspector.rounds import load
from lake.errors import SurveyError
from lake.store import Lake
from queries.merge_labels import merge_labels
from simulator.conditions import Settings
from simulator.survey import simulate

WORDS = {"Out_of_focus": "out of focus", "Telescope_moving": "telescope moving"}


@dataclass
class Case:
    """A lake, the exposure that its list calls by another class's name, and its true class."""

    lake: Lake
    wrong: int
    truth: str

    def __call__(self, *words: object) -> Result:
        arguments = ["--lake", str(self.lake.root), *map(str, words)]
        return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("labels")
    settings = Settings(
        n_nights=4,
        exposures_per_night=5,
        nx=64,
        ny=128,
        bands=("r",),
        bad_fraction=0.6,
        classes=tuple(WORDS),
        strength_range=(6.0, 10.0),
    )
    survey = simulate(folder / "survey", settings, seed=5, workers=2)
    rows = pq.read_table(survey.truth_exposures, columns=["expnum", "class"]).to_pylist()
    bad = {row["expnum"]: row["class"] for row in rows if row["class"] != "good"}
    wrong = min(bad)
    words = {expnum: WORDS[name] for expnum, name in bad.items()}
    words[wrong] = next(text for name, text in WORDS.items() if name != bad[wrong])
    (folder / "list.txt").write_text("".join(f"{n} {text}\n" for n, text in words.items()))
    lake = Lake(folder / "lake", create=True)
    ingest(lake, [survey.ccd_table], "sim")
    ingest_reports(lake, [folder / "list.txt"], "decals")
    merge_labels(lake, "sim")
    embed(lake, "statistics", survey.images, ccds_per_exposure=8, workers=2)
    return Case(lake, wrong, bad[wrong])


def test_a_wrong_line_of_a_list_goes_to_inspection(case: Case) -> None:
    words = ("label-errors", "--embedder", "statistics", "-n", 5)
    result = case(*words, "--round", "doubts", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    place = next(place for place, row in enumerate(rows[:3]) if row["expnum"] == case.wrong)
    row = rows[place]
    assert (row["ccdnum"], row["suggested"], row["confident"]) == (0, case.truth, True)
    assert "likely wrong" in result.stderr
    round = load(case.lake, "doubts")
    subject = round.subjects[place]
    assert (subject.expnum, subject.class_name) == (case.wrong, case.truth)
    assert subject.night is not None
    assert subject.why == row["why"]
    assert f"looks like {case.truth}" in subject.why
    assert round.origin["label_errors"] == "knn"
    again = case(*words, "--round", "doubts")
    assert isinstance(again.exception, SurveyError)
    assert "round doubts exists and is frozen" in str(again.exception)


def test_a_person_sees_the_list(case: Case) -> None:
    result = case("label-errors", "--embedder", "statistics")
    assert result.exit_code == 0, result.output
    assert str(case.wrong) in result.stdout
    assert "labels judged" in result.stderr


def test_map_shows_classes_clusters_and_pictures(case: Case, tmp_path: Path) -> None:
    words = ("map", "--embedder", "statistics", "--sample", 80)
    result = case(*words, "--output", tmp_path)
    assert result.exit_code == 0, result.output
    assert "silhouette by class" in result.stdout
    assert "clusters of more than 10" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"classes.png", "map.html"}
    again = case(*words, "--format", "json")
    assert "unchanged" in again.stderr
    classes = {row["class"]: row for row in json.loads(again.stdout)}
    assert set(classes) == {"good", *WORDS, "all"}
    rows = json.loads(case("query", "clusters", "--format", "json").stdout)
    assert sum(row["n"] for row in rows) == 80


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["label-errors"], "give --embedder, or --model"),
        (["label-errors", "--embedder", "statistics", "--model", "m"], "give --embedder, or"),
        (["label-errors", "--model", "m", "--source", "des"], "go with --embedder"),
        (["label-errors", "--model", "m"], "no model 'm'"),
        (["label-errors", "--embedder", "statistics", "--round", "a/b"], "round 'a/b'"),
        (["label-errors", "--embedder", "none"], "no embeddings of 'none'"),
        (["map", "--embedder", "none"], "no embeddings of 'none'"),
        (["map", "--embedder", "statistics", "--sample", "2"], "--sample 2"),
    ],
)
def test_what_goes_wrong_is_one_line(case: Case, words: list[str], says: str) -> None:
    result = case(*words)
    assert isinstance(result.exception, SurveyError)
    assert says in str(result.exception)
