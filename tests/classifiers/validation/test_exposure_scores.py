"""Scores against a known truth, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifiers.validation.exposure_scores import score_exposures
from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake

KEYS = {"model": "m", "camera": "decam", "night": "20140818"}


@pytest.fixture
def voted(lake: Lake) -> Lake:
    """Exposure 1 is bad as a whole, 2 by two CCDs, 3 by one CCD, the others are good."""
    lake.write(
        "votes",
        KEYS,
        pa.table(
            {
                "expnum": [1, 2, 3, 4, 5, 6],
                "n_ccds": [4] * 6,
                "n_bad": [4, 2, 1, 0, 0, 0],
                "class": ["PSF", "Noise", "Noise", "good", "good", "good"],
                "is_bad": [True, False, False, False, False, False],
            }
        ),
        Record("vote"),
    )
    chance = [[0.05, 0.95, 0.0], [0.05, 0.45, 0.5], [0.08, 0.0, 0.92], [1.0, 0.0, 0.0]]
    lake.write(
        "predictions",
        KEYS,
        pa.table(
            {
                "expnum": [1, 2, 3, 4],
                "ccdnum": [1, 1, 1, 1],
                "class": ["PSF", "Noise", "Noise", "good"],
                "probability": [0.95, 0.5, 0.92, 1.0],
                "probabilities": chance,
            }
        ),
        Record("predict"),
    )
    return lake


def _truth(folder: Path) -> Path:
    path = folder / "truth.parquet"
    strength = [10.0, 4.0, None, 2.0, 3.5, None]
    pq.write_table(
        pa.table(
            {
                "expnum": [1, 2, 3, 4, 5, 6],
                "night": ["20140818"] * 6,
                "class": ["PSF", "Ghost_scatter", "good", "PSF", "Noise", "good"],
                "strength": strength,
                "visible": [value is not None and value >= 3 for value in strength],
            }
        ),
        path,
    )
    return path


def test_counts(voted: Lake, tmp_path: Path) -> None:
    scores = score_exposures(voted, "m", _truth(tmp_path))
    assert (scores.n_exposures, scores.n_visible, scores.n_found) == (6, 3, 3)
    assert (scores.n_visible_found, scores.n_faint_found, scores.n_false) == (2, 0, 1)
    assert scores.recall == pytest.approx(2 / 3)
    assert scores.precision == scores.precision_visible == pytest.approx(2 / 3)
    by_name = {row["class"]: row for row in scores.table().to_pylist()}
    assert by_name["PSF"]["recall"] == by_name["PSF"]["precision"] == 1  # the faint one is out
    assert by_name["Noise"] == {
        "class": "Noise",
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 1,
    }
    assert by_name["Ghost_scatter"]["precision"] is None
    found = {row["from"]: (row["exposures"], row["found"]) for row in scores.strengths.to_pylist()}
    assert found[2.0] == (1, 0)
    assert found[3.0] == (2, 1)
    assert found[10.0] == (1, 1)


def test_whole_exposures_alone(voted: Lake, tmp_path: Path) -> None:
    scores = score_exposures(voted, "m", _truth(tmp_path), ccd_probability=None)
    assert (scores.n_found, scores.n_false) == (1, 0)


def test_truth_that_does_not_fit(voted: Lake, tmp_path: Path) -> None:
    truth = _truth(tmp_path)
    with pytest.raises(SurveyError, match="knows none of the nights"):
        score_exposures(voted, "m", truth, nights=["20200101"])
    with pytest.raises(SurveyError, match="no such file"):
        score_exposures(voted, "m", tmp_path / "none.parquet")
    pq.write_table(pa.table({"expnum": [1]}), truth)
    with pytest.raises(SurveyError, match="no column night, class, strength, visible"):
        score_exposures(voted, "m", truth)


def test_a_class_of_the_lake_is_scored(voted: Lake, tmp_path: Path) -> None:
    (voted.root / "vocabulary.toml").write_text('[[class]]\nname = "Streaks"\n')
    votes = voted.read("votes", KEYS).to_pylist()
    votes[0]["class"] = "Streaks"
    voted.write("votes", KEYS, pa.Table.from_pylist(votes), Record("vote"))
    found = score_exposures(voted, "m", _truth(tmp_path))
    assert found.classes[-1].name == "Streaks"
