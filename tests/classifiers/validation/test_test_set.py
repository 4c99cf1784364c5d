"""The table of what a model is scored with, and the list of models."""

from __future__ import annotations

import json

import numpy as np
import pytest

from classifiers.registry.catalog import list_models, read_entries
from classifiers.sample.features import Features
from classifiers.train import train
from classifiers.validation.evaluate import evaluate
from classifiers.validation.splits import SplitSpec
from lake.errors import SurveyError
from lake.model_files import model_folder
from lake.paths import MODEL_CARD
from queries.engine import run_sql
from tests.classifiers.conftest import MakeSurvey


def test_training_leaves_both_splits(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    summary = train(survey.lake, "toy", "m")
    rows = run_sql(survey.lake, "select * from test_sets where model = 'm'").to_pylist()
    own = [row for row in rows if row["split"] == "night"]
    assert len(own) == summary.n_test
    assert {f"decam/{row['night']}" for row in own} == set(summary.held_out)
    truth = {
        (expnum, ccdnum): label
        for expnum, ccdnum, label in zip(survey.expnum, survey.ccdnum, survey.label, strict=True)
    }
    for row in rows:
        assert row["class_index"] == truth[row["expnum"], row["ccdnum"]] + 1
        assert row["class"] == summary.model.classes[row["class_index"] - 1]
        assert (row["predicted"] is None) == (row["split"] == "night")
    leaky = [row for row in rows if row["split"] == "image"]
    right = np.mean([row["class"] == row["predicted"] for row in leaky])
    assert right == pytest.approx(summary.image_scores[0.0].accuracy)


def test_evaluation_keeps_the_table_or_follows_the_labels(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    train(survey.lake, "toy", "m")
    path = survey.lake.path("test_sets", {"model": "m"})
    before = path.read_bytes()
    leak = evaluate(survey.lake, "m").leak
    assert path.read_bytes() == before
    held_out = evaluate(survey.lake, "m").held_out[0].split("/")[1]
    keys = {"release": "sim", "camera": "decam", "night": held_out}
    record = survey.lake.record("labels", keys)
    assert record is not None
    survey.lake.write("labels", keys, survey.lake.read("labels", keys).slice(10), record)
    after = evaluate(survey.lake, "m")
    counts = run_sql(
        survey.lake, "select split, count(*) as n from test_sets group by split order by split"
    ).to_pylist()
    assert {row["split"]: row["n"] for row in counts}["night"] == after.n_held_out
    assert after.leak is not None and leak is not None and len(counts) == 2


def test_models_and_what_they_are_worth(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    assert list_models(survey.lake).num_rows == 0
    summary = train(survey.lake, Features(("toy",), "exposure"), "b")
    train(survey.lake, "toy", "a", split=SplitSpec("image"))
    (model_folder(survey.lake, "c")).mkdir()
    (model_folder(survey.lake, "c") / MODEL_CARD).write_text("{}")
    rows = {row["model"]: row for row in list_models(survey.lake).to_pylist()}
    assert list(rows) == ["a", "b", "c"]
    assert rows["b"]["accuracy"] == pytest.approx(summary.scores[0.0].accuracy, abs=1e-6)
    image = summary.image_scores[0.0].accuracy
    assert rows["b"]["leak"] == pytest.approx(image - rows["b"]["accuracy"], abs=1e-5)
    assert rows["b"]["coverage"] == pytest.approx(summary.scores[0.9].coverage, abs=1e-6)
    assert rows["a"]["leak"] is None
    assert rows["a"]["problem"] is None
    assert "not a model card" in rows["c"]["problem"]


def test_the_card_as_rows(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    train(survey.lake, "toy", "m")
    entries = dict(zip(*read_entries(survey.lake, "m").to_pydict().values(), strict=True))
    card = json.loads((model_folder(survey.lake, "m") / MODEL_CARD).read_text())
    assert entries["training.fingerprint"] == card["training"]["fingerprint"]
    assert entries["split.held_out"] == ", ".join(card["split"]["held_out"])
    assert entries["embedders.0.name"] == "toy"
    assert entries["classes"] == "good, PSF, Ghost_scatter, Noise"
    assert entries["intended_use"]
    for name in ("sha256", "date", "seed", "versions.survey-qa", "steps.classifier.type"):
        assert entries[name]
    with pytest.raises(SurveyError, match="no model 'x'"):
        read_entries(survey.lake, "x")
