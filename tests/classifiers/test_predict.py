"""Prediction and votes: resumable, free to repeat, and equal to counting by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from classifiers.model import load_model
from classifiers.predict import predict
from classifiers.train import train
from classifiers.vote import vote
from lake.errors import SurveyError
from lake.store import Lake
from lake.tables import TABLES
from tests.classifiers.conftest import MakeSurvey, Survey, write_vectors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def trained(make_survey: MakeSurvey) -> Survey:
    survey = make_survey(signal=1.0, n_exposures=12)
    train(survey.lake, "toy", "m")
    return survey


def _contents(lake: Lake, table: str) -> dict[str, bytes]:
    return {str(p.path): p.path.read_bytes() for p in lake.partitions(table)}


def test_predictions_are_the_pipelines(trained: Survey) -> None:
    summary = predict(trained.lake, "m")
    assert (summary.done, summary.skipped, summary.n_failed) == (10, 0, 0)
    assert summary.n_ccds == len(trained.label)
    model = load_model(trained.lake, "m")
    for partition in trained.lake.partitions("predictions", model="m"):
        rows = trained.lake.read("predictions", dict(partition.keys))
        here = trained.night == partition["night"]
        expected = model.estimator.predict_proba(trained.vectors[here].astype(np.float32))
        got = np.array(rows["probabilities"].to_pylist())
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        np.testing.assert_array_equal(rows["expnum"], trained.expnum[here])
        np.testing.assert_array_equal(rows["ccdnum"], trained.ccdnum[here])
        names = np.array(model.classes)[got.argmax(axis=1)]
        np.testing.assert_array_equal(rows["class"].to_numpy(zero_copy_only=False), names)
        np.testing.assert_array_equal(rows["probability"], got.max(axis=1).astype(np.float32))


def test_repeating_is_free_until_an_input_changes(trained: Survey) -> None:
    lake = trained.lake
    predict(lake, "m")
    vote(lake, "m")
    before = _contents(lake, "predictions")
    assert (predict(lake, "m").done, vote(lake, "m").done) == (0, 0)
    assert predict(lake, "m", force=True).done == 10
    assert _contents(lake, "predictions") == before
    here = trained.night == "20140803"
    write_vectors(
        lake, "20140803", trained.expnum[here], trained.ccdnum[here], trained.vectors[here] + 1
    )
    assert (predict(lake, "m").done, vote(lake, "m").done) == (1, 1)
    train(lake, "toy", "m", seed=5, force=True)
    assert predict(lake, "m").done == 10
    assert vote(lake, "m").done == 10


def test_partitions_choose(trained: Survey) -> None:
    assert predict(trained.lake, "m", partitions=["night=2014080[1-4]"]).done == 4
    assert sum(predict(trained.lake, "m", partitions=[f"{i}/3"]).done for i in (1, 2, 3)) == 6
    assert vote(trained.lake, "m", partitions=["night=20140802"]).done == 1
    assert vote(trained.lake, "m").skipped == 1


def test_vectors_of_other_settings_are_refused(trained: Survey) -> None:
    here = trained.night == "20140803"
    write_vectors(
        trained.lake,
        "20140803",
        trained.expnum[here],
        trained.ccdnum[here],
        trained.vectors[here],
        scale=2,
    )
    with pytest.raises(SurveyError, match=r"night=20140803: these vectors of toy.*other settings"):
        predict(trained.lake, "m")
    with pytest.raises(SurveyError, match="trained on vectors of toy, not of dinov2"):
        load_model(trained.lake, "m").check_vectors("dinov2", "", "")


def test_vector_that_is_not_finite_fails_alone(trained: Survey) -> None:
    here = trained.night == "20140803"
    vectors = trained.vectors[here].copy()
    vectors[5, 3] = np.nan
    write_vectors(trained.lake, "20140803", trained.expnum[here], trained.ccdnum[here], vectors)
    summary = predict(trained.lake, "m")
    assert summary.n_failed == 1
    (failures,) = trained.lake.partitions("failures", stage="predict")
    rows = trained.lake.read("failures", dict(failures.keys), part="m")
    assert rows["ccdnum"].to_pylist() == [int(trained.ccdnum[here][5])]
    write_vectors(
        trained.lake, "20140803", trained.expnum[here], trained.ccdnum[here], trained.vectors[here]
    )
    assert predict(trained.lake, "m").n_failed == 0
    assert not trained.lake.partitions("failures")


def test_night_without_any_vector(trained: Survey) -> None:
    here = trained.night == "20140803"
    vectors = np.full_like(trained.vectors[here], np.nan)
    write_vectors(trained.lake, "20140803", trained.expnum[here], trained.ccdnum[here], vectors)
    assert predict(trained.lake, "m").n_failed == here.sum()
    assert vote(trained.lake, "m").n_exposures == 12 * 9
    keys = {"model": "m", "camera": "decam", "night": "20140803"}
    assert trained.lake.read("votes", keys).num_rows == 0


def test_killed_run_goes_on_where_it_stopped(trained: Survey) -> None:
    lake = trained.lake
    predict(lake, "m")
    expected = _contents(lake, "predictions")
    for partition in lake.partitions("predictions"):
        lake.remove("predictions", dict(partition.keys))
    script = (
        "import sys, time; from lake.store import Lake; from classifiers import predict; "
        "read = predict.read_vectors; "
        "predict.read_vectors = lambda *words: time.sleep(0.3) or read(*words); "
        "predict.predict(Lake(sys.argv[1]), 'm')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(lake.root)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while len(lake.partitions("predictions")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    committed = _contents(lake, "predictions")
    assert 3 <= len(committed) < 10
    assert all(expected[name] == content for name, content in committed.items())
    summary = predict(lake, "m")
    assert (summary.done, summary.skipped) == (10 - len(committed), len(committed))
    assert _contents(lake, "predictions") == expected


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"min_probability": 0.5},
        {"min_probability": 0.6, "min_fraction": 0.2},
        {"min_probability": 0.8, "min_ccds": 3},
    ],
)
def test_votes_against_an_independent_count(trained: Survey, rule: dict) -> None:
    lake = trained.lake
    predict(lake, "m")
    summary = vote(lake, "m", **rule)
    classes = load_model(lake, "m").classes
    cut = np.float32(rule.get("min_probability", 0.9))
    n_bad_exposures = 0
    for partition in lake.partitions("predictions", model="m"):
        ccds = pl.from_arrow(lake.read("predictions", dict(partition.keys)))
        assert isinstance(ccds, pl.DataFrame)
        votes = lake.read("votes", dict(partition.keys)).to_pylist()
        assert len(votes) == ccds["expnum"].n_unique()
        for row in votes:
            mine = ccds.filter(pl.col("expnum") == row["expnum"])
            bad = mine.filter((pl.col("class") != "good") & (pl.col("probability") >= cut))
            least = rule.get("min_ccds") or max(rule.get("min_fraction", 0.5) * len(mine), 1)
            assert row["n_ccds"] == len(mine)
            assert row["n_bad"] == len(bad)
            assert row["is_bad"] == (len(bad) >= least)
            if row["is_bad"]:
                counts = bad["class"].value_counts()
                most = counts.filter(pl.col("count") == counts["count"].max())["class"].to_list()
                assert row["class"] in most
            else:
                assert row["class"] == "good"
            shares = np.array(mine["probabilities"].to_list())[:, classes.index(row["class"])]
            assert row["probability"] == pytest.approx(shares.mean(), abs=1e-6)
        n_bad_exposures += sum(row["is_bad"] for row in votes)
    assert summary.n_bad == n_bad_exposures > 0
    assert summary.n_exposures == 120


def test_rules_of_the_vote_are_checked(trained: Survey) -> None:
    with pytest.raises(SurveyError, match="no predictions of model 'm'"):
        vote(trained.lake, "m")
    predict(trained.lake, "m")
    for rule in ({"min_fraction": 0}, {"min_probability": 2}, {"min_ccds": 0}):
        with pytest.raises(SurveyError, match="--min-"):
            vote(trained.lake, "m", **rule)


def test_rows_follow_the_declared_schema(trained: Survey) -> None:
    predict(trained.lake, "m")
    vote(trained.lake, "m")
    for name in ("predictions", "votes"):
        partition = trained.lake.partitions(name)[0]
        schema = trained.lake.read(name, dict(partition.keys)).schema
        assert {field.name: field.type for field in schema} == {
            column.name: column.type for column in TABLES[name].columns
        }
