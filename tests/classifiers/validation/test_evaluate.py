"""Evaluation repeats what training reported, and from the same rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from classifiers.predict import predict
from classifiers.sample.features import Features
from classifiers.train import train
from classifiers.validation.evaluate import evaluate
from classifiers.validation.splits import SplitSpec
from classifiers.validation.tables import ALL, score_table
from lake.errors import SurveyError
from queries.engine import run_sql
from tests.classifiers.conftest import MakeSurvey


@pytest.mark.parametrize("split", ["night", "exposure", "image"])
def test_repeats_the_scores_of_training(make_survey: MakeSurvey, split: str) -> None:
    survey = make_survey(signal=1.0)
    summary = train(survey.lake, Features(("toy",), "exposure"), "m", split=SplitSpec(split))
    result = evaluate(survey.lake, "m")
    for cut in (0.0, 0.9):
        np.testing.assert_array_equal(result.scores[cut].confusion, summary.scores[cut].confusion)
        assert result.scores[cut].to_dict() == summary.scores[cut].to_dict()
    assert result.calibration["n"].to_pylist()
    assert sum(result.calibration["n"].to_pylist()) == summary.n_test


def test_scores_can_be_counted_from_the_predictions(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    train(survey.lake, "toy", "m")
    predict(survey.lake, "m")
    result = evaluate(survey.lake, "m")
    nights = ", ".join(name.split("/")[1] for name in result.held_out)
    counted = run_sql(
        survey.lake,
        f"""select count(*) as n from predictions join labels using (camera, night, expnum, ccdnum)
        where model = 'm' and predictions.class = 'Noise' and labels.class = 'Noise'
        and night in ({nights})""",
    )
    index = result.model.classes.index("Noise")
    assert counted["n"].to_pylist() == [int(result.scores[0.0].confusion[index, index])]


def test_tables_and_files(make_survey: MakeSurvey, tmp_path: Path) -> None:
    survey = make_survey(signal=1.0)
    summary = train(survey.lake, "toy", "m")
    rows = score_table(summary).to_pylist()
    assert {(row["split"], row["min_probability"]) for row in rows} == {
        (split, cut) for split in ("night", "image") for cut in (0.0, 0.9)
    }
    overall = [row for row in rows if row["class"] == ALL and row["split"] == "night"]
    assert overall[0]["support"] == summary.n_test
    assert overall[1]["support"] == pytest.approx(overall[1]["coverage"] * summary.n_test)
    result = evaluate(survey.lake, "m", tmp_path / "report")
    written = json.loads((tmp_path / "report/scores.json").read_text())
    for picture in ("confusion.png", "confusion-0.9.png", "calibration.png"):
        assert (tmp_path / "report" / picture).read_bytes().startswith(b"\x89PNG")
    assert written["scores"]["0.0"] == result.scores[0.0].to_dict()
    assert len((tmp_path / "report/scores.csv").read_text().splitlines()) == 11
    assert 0 < result.brier < 1


def test_other_labels_than_were_divided(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    train(survey.lake, "toy", "by_night")
    train(survey.lake, "toy", "by_image", split=SplitSpec("image"))
    partition = survey.lake.partitions("labels")[0]
    keys, record = dict(partition.keys), partition.record()
    assert record is not None
    survey.lake.write("labels", keys, survey.lake.read("labels", keys).slice(0, 5), record)
    assert evaluate(survey.lake, "by_night").scores[0.0].accuracy > 0.5
    with pytest.raises(SurveyError, match="train again"):
        evaluate(survey.lake, "by_image")
