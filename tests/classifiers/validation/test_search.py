"""Searching settings: the paper's space, honest folds, and a history that a kill does not harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import VarianceThreshold
from sklearn.model_selection import HalvingRandomSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from classifiers.estimators import knn
from classifiers.estimators import registry as estimators
from classifiers.estimators.spec import ClassifierSpec
from classifiers.model import load_model
from classifiers.sample.features import Features
from classifiers.sample.sample import Sample, ccd_keys, read_sample
from classifiers.sample.spec import SampleSpec
from classifiers.train import train
from classifiers.validation import search
from classifiers.validation.search import (
    assign_folds,
    draw,
    entry_shares,
    evaluate,
    find_settings,
    schedule,
)
from classifiers.validation.splits import split_by_group
from lake.errors import SurveyError
from lake.store import Lake
from queries.named import contract_breaches, find_query, run_query
from tests.classifiers.conftest import MakeSurvey, fill_survey

ROOT = Path(__file__).resolve().parents[3]
Calls = list[tuple[Sample, np.ndarray, int, int]]


@pytest.fixture(scope="module")
def survey_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake whose classes are not easy to tell apart."""
    lake = Lake(tmp_path_factory.mktemp("search") / "survey.lake", create=True)
    fill_survey(lake, n_nights=12, n_exposures=8, n_ccds=12, signal=0.6, scatter=0.8)
    return lake


@pytest.fixture
def sample(survey_lake: Lake) -> Sample:
    return read_sample(survey_lake, Features(("toy",)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What was evaluated in this process: sample, folds, candidate and fold of each call."""
    seen: Calls = []

    def recorded(sample: Sample, folds: np.ndarray, candidate: int, fold: int, *rest: Any) -> dict:
        seen.append((sample, folds, candidate, fold))
        return evaluate(sample, folds, candidate, fold, *rest)

    monkeypatch.setattr(search, "evaluate", recorded)
    return seen


def history(lake: Lake, model: str) -> list[dict[str, Any]]:
    """Return the rows of a search, in order."""
    parts = [partition.path.stem for partition in lake.partitions("searches", model=model)]
    tables = [lake.read("searches", {"model": model}, part=part) for part in sorted(parts)]
    return [row for table in tables for row in table.to_pylist()]


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_the_space_is_the_papers() -> None:
    """Luo et al. (2026), section 3.1."""
    scalers = "StandardScaler MinMaxScaler Normalizer MaxAbsScaler RobustScaler PowerTransformer"
    assert estimators.SPACES["knn"] == {
        "scaler": tuple(scalers.split()),
        "n_components": (5, 10, 15, 25, 30, 50, 70, 100),
        "min_variance": (0.0, 0.001, 0.01),
        "n_neighbors": (1, 3, 5, 7, 10, 20, 30),
        "p": (1, 2, 3, 5),
        "leaf_size": (1, 5, 10, 15, 30, 35),
    }
    assert all(value in knn.SPACE[name] for name, value in knn.OPTIMUM.items())
    drawn = draw("knn", 200, seed=3)
    assert len({tuple(sorted(one.items())) for one in drawn}) == 200
    for name, values in knn.SPACE.items():
        assert {one[name] for one in drawn} == set(values)
    assert drawn == draw("knn", 200, seed=3) != draw("knn", 200, seed=4)


@pytest.mark.parametrize(("n_candidates", "n_samples"), [(200, 41_000), (60, 2_000), (9, 900)])
def test_the_schedule_is_that_of_successive_halving(n_candidates: int, n_samples: int) -> None:
    rungs = schedule(n_candidates, n_samples, least=72)
    theirs = HalvingRandomSearchCV(
        DummyClassifier(),
        {"strategy": ["stratified"], "random_state": list(range(n_candidates))},
        n_candidates=n_candidates,
        min_resources="exhaust",
        max_resources=n_samples,
        factor=3,
        cv=2,
        random_state=0,
    )
    labels = np.arange(n_samples) % 2
    theirs.fit(np.zeros((n_samples, 1)), labels)
    assert [rung.n_candidates for rung in rungs] == theirs.n_candidates_
    images = np.array([rung.share * n_samples for rung in rungs])
    assert images == pytest.approx(np.array(theirs.n_resources_), rel=0.05)
    assert images[-1] == n_samples


def test_few_images_make_few_rungs() -> None:
    assert [rung.n_candidates for rung in schedule(200, 41_000, 72)] == [200, 67, 23, 8, 3]
    assert [rung.n_candidates for rung in schedule(200, 700, 72)] == [200, 67, 23]
    assert [(rung.n_candidates, rung.share) for rung in schedule(200, 80, 72)] == [(200, 1.0)]
    assert [(rung.n_candidates, rung.share) for rung in schedule(1, 41_000, 72)] == [(1, 1.0)]


def test_subsamples_lie_within_one_another_and_keep_every_class_and_fold(sample: Sample) -> None:
    folds = assign_folds(sample, seed=1)
    shares = entry_shares(sample.labels, folds, seed=1)
    smaller = np.zeros(len(sample), bool)
    for share in (1 / 81, 1 / 9, 1 / 3, 1.0):
        chosen = shares < share
        assert (chosen | ~smaller).all()
        for label in np.unique(sample.labels):
            for fold in range(3):
                here = (sample.labels == label) & (folds == fold)
                expected = min(max(round(share * here.sum()), 4), here.sum())
                assert abs(int((chosen & here).sum()) - expected) <= 1
        smaller = chosen
    assert smaller.all()


def test_an_evaluation_is_a_fit_on_the_other_folds(sample: Sample) -> None:
    """Equal weights: scikit-learn's own classifier gives the same accuracy."""
    settings = {**knn.OPTIMUM, "scaler": "RobustScaler", "n_components": 10, "n_neighbors": 5}
    settings |= {"p": 3, "min_variance": 0.0}
    folds = assign_folds(sample, seed=0)
    alike = Sample(**{**vars(sample), "weights": np.ones(len(sample))})
    found = evaluate(alike, folds, 0, 2, settings, "knn", "none", 0)
    theirs = make_pipeline(
        RobustScaler(), PCA(10), VarianceThreshold(), KNeighborsClassifier(5, p=3, leaf_size=1)
    )
    theirs.fit(sample.vectors[folds != 2], sample.labels[folds != 2])
    accuracy = theirs.score(sample.vectors[folds == 2], sample.labels[folds == 2])
    assert found["accuracy"] == pytest.approx(accuracy, abs=0.005)


@pytest.mark.parametrize("classifier", ["two-step", "logistic", "boosted"])
def test_every_classifier_has_settings_to_search(
    survey_lake: Lake, sample: Sample, classifier: str
) -> None:
    found = find_settings(survey_lake, sample, classifier, classifier, candidates=2, workers=1)
    assert found.n_failed == 0
    space = estimators.SPACES[classifier]
    rows = history(survey_lake, classifier)
    for row in rows:
        assert all(row[name] in values for name, values in space.items())
    (best,) = {row["candidate"] for row in rows if _settings(row, space) == found.settings}
    assert found.accuracy == pytest.approx(
        np.mean([row["accuracy"] for row in rows if row["candidate"] == best])
    )
    pipeline = estimators.build(classifier, sample.layout, len(sample), 0, found.settings)
    steps = estimators.settings(pipeline)
    assert {name: steps["classifier"][name] for name in space} == found.settings


def _settings(row: dict[str, Any], space: Iterable[str]) -> dict[str, Any]:
    return {name: row[name] for name in space}


def test_held_out_nights_never_enter_and_folds_share_no_night(
    survey_lake: Lake, calls: Calls
) -> None:
    summary = train(
        survey_lake,
        "toy",
        "m",
        sample=SampleSpec(good=100),
        classifier=ClassifierSpec(search="halving", candidates=9),
        workers=1,
        seed=2,
    )
    assert summary.found is not None
    assert len(calls) == summary.found.n_evaluations == 3 * (9 + 3 + 1)
    nights = set()
    for part, folds, _, _ in calls:
        nights |= set(part.nights_of(np.arange(len(part))))
        of_fold = [set(part.night[folds == fold]) for fold in range(3)]
        assert not (of_fold[0] & of_fold[1] or of_fold[0] & of_fold[2] or of_fold[1] & of_fold[2])
    assert nights == set(summary.model.card["split"]["trained_on"])
    assert not nights & set(summary.held_out)
    sizes = [len(part) for part, *_ in calls]
    assert sizes == sorted(sizes) and sizes[-1] == summary.n_train


def test_the_model_is_the_winner_and_says_so(survey_lake: Lake) -> None:
    summary = train(
        survey_lake,
        "toy",
        "won",
        classifier=ClassifierSpec(search="halving", candidates=12),
        workers=1,
    )
    found, card = summary.found, load_model(survey_lake, "won").card
    assert found is not None
    rows = run_query(survey_lake, "search_history", {"model": "won"})
    assert contract_breaches(find_query(survey_lake, "search_history"), rows) == []
    ranked = rows.to_pylist()
    assert len(ranked) == 12
    settings = dict(pair.split("=") for pair in ranked[0]["settings"].split())
    assert settings == {name: str(value) for name, value in found.settings.items()}
    assert ranked[0]["accuracy"] == pytest.approx(found.accuracy)
    assert [row["rank"] for row in ranked] == list(range(1, 13))
    last = [row for row in ranked if row["rung"] == ranked[0]["rung"]]
    assert ranked[0]["accuracy"] == max(row["accuracy"] for row in last)
    assert card["search"] == "halving"
    assert card["settings"] == card["searched"]["winner"] == dict(found.settings)
    assert card["searched"]["n_evaluations"] == len(history(survey_lake, "won"))
    assert card["searched"]["space"]["p"] == [1, 2, 3, 5]
    assert [rung["n_candidates"] for rung in card["searched"]["rungs"]] == [12, 4, 2]
    assert card["steps"]["classifier"]["n_neighbors"] == found.settings["n_neighbors"]
    assert card["steps"]["scaler"]["type"] == found.settings["scaler"]
    plain = train(survey_lake, "toy", "plain").model.card
    assert (plain["search"], plain["searched"], plain["settings"]) == ("none", None, None)


def test_the_result_does_not_depend_on_the_number_of_processes(
    survey_lake: Lake, sample: Sample
) -> None:
    options = {"candidates": 6, "seed": 5}
    alone = find_settings(survey_lake, sample, "alone", "knn", workers=1, **options)
    both = find_settings(survey_lake, sample, "both", "knn", workers=2, **options)
    assert alone == both
    rows = history(survey_lake, "alone")
    assert without_times(rows) == without_times(history(survey_lake, "both"))
    # Scalers are fitted once for all candidates; each fitted by itself gives the same.
    drawn, folds = draw("knn", 6, 5), assign_folds(sample, 5)
    for row in rows:
        if row["n_samples"] == len(sample):
            candidate, fold = row["candidate"], row["fold"]
            again = evaluate(sample, folds, candidate, fold, drawn[candidate], "knn", "none", 5)
            assert again["accuracy"] == row["accuracy"]


def test_what_is_there_is_not_done_again_and_another_search_replaces_it(
    survey_lake: Lake, sample: Sample, calls: Calls
) -> None:
    first = find_settings(survey_lake, sample, "again", "knn", candidates=9, workers=1)
    rows = history(survey_lake, "again")
    calls.clear()
    second = find_settings(survey_lake, sample, "again", "knn", candidates=9, workers=1)
    assert not calls
    assert second.n_kept == second.n_evaluations == len(rows)
    assert (second.settings, second.accuracy) == (first.settings, first.accuracy)
    assert history(survey_lake, "again") == rows
    fewer = sample.take(np.arange(len(sample)) % 10 > 0)
    for part, options in ((sample, {"candidates": 2}), (fewer, {"candidates": 2})):
        third = find_settings(survey_lake, part, "again", "knn", workers=1, **options)
        assert third.n_kept == 0
        assert len(history(survey_lake, "again")) == third.n_evaluations == 6


def test_settings_that_do_not_go_together_are_counted_and_lose(
    survey_lake: Lake, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {**knn.SPACE, "min_variance": (0.0, 1e9), "scaler": ("MinMaxScaler",)}
    monkeypatch.setattr(estimators, "SPACES", {"knn": space})
    found = find_settings(survey_lake, sample, "some", "knn", candidates=12, workers=1)
    rows = history(survey_lake, "some")
    failed = [row for row in rows if row["accuracy"] is None]
    assert found.n_failed == len(failed) > 0
    assert all(row["min_variance"] == 1e9 and "cannot be fitted" in row["error"] for row in failed)
    assert found.settings["min_variance"] == 0
    assert all(row["min_variance"] == 0 for row in rows if row["rung"] > 0)
    ranking = run_query(survey_lake, "search_history", {"model": "some"})
    assert contract_breaches(find_query(survey_lake, "search_history"), ranking) == []
    monkeypatch.setattr(estimators, "SPACES", {"knn": {**space, "min_variance": (1e9,)}})
    with pytest.raises(SurveyError, match="none of 3 settings of knn can be fitted: .*variance"):
        find_settings(survey_lake, sample, "none", "knn", candidates=3, workers=1)


_SEARCH = """
import sys, time
from classifiers.validation import search
from classifiers.sample.features import Features
from classifiers.sample.sample import read_sample
from lake.store import Lake

def slow(*arguments):
    time.sleep(0.05)
    return evaluate(*arguments)

evaluate, search.evaluate = search.evaluate, slow
search._PERIOD = 0
lake = Lake(sys.argv[1])
sample = read_sample(lake, Features(("toy",)))
search.find_settings(lake, sample, "killed", "knn", candidates=9, workers=1)
"""


def test_a_killed_search_goes_on_and_finds_the_same(
    survey_lake: Lake, sample: Sample, calls: Calls
) -> None:
    whole = find_settings(survey_lake, sample, "whole", "knn", candidates=9, workers=1)
    calls.clear()
    command = [sys.executable, "-c", _SEARCH, str(survey_lake.root)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        # Into the second rung, so that a rung is complete and another is not.
        _until(lambda: len(history(survey_lake, "killed")) > 9 * 3, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = history(survey_lake, "killed")
    assert 9 * 3 < len(before) < whole.n_evaluations
    found = find_settings(survey_lake, sample, "killed", "knn", candidates=9, workers=1)
    assert found.n_kept == len(before)
    after = history(survey_lake, "killed")
    assert len(calls) == len(after) - len(before)
    # Rows keep their times: none was done again.
    assert all(row in after for row in before)
    assert (found.settings, found.accuracy) == (whole.settings, whole.accuracy)
    assert without_times(after) == without_times(history(survey_lake, "whole"))


def _until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)


def test_progress_tells_the_rung(survey_lake: Lake, sample: Sample) -> None:
    said: list[tuple[int, int, str]] = []
    find_settings(
        survey_lake,
        sample,
        "told",
        "knn",
        candidates=3,
        workers=1,
        progress=lambda done, total, title: said.append((done, total, title)),
    )
    titles = list(dict.fromkeys(title for _, _, title in said))
    assert [title.partition(",")[0] for title in titles] == ["rung 1 of 2", "rung 2 of 2"]
    assert [step[:2] for step in said if step[2] == titles[0]] == [(n, 9) for n in range(10)]


def test_ccds_of_either_side_are_those_of_a_plain_training(
    survey_lake: Lake, sample: Sample
) -> None:
    """A search changes the settings and nothing else."""
    searched = train(
        survey_lake,
        "toy",
        "one",
        classifier=ClassifierSpec(search="halving", candidates=2),
        workers=1,
    )
    plain = train(survey_lake, "toy", "two")
    assert searched.model.card["split"] == plain.model.card["split"]
    assert searched.model.card["training"] == plain.model.card["training"]
    held_out = split_by_group(sample, "night", 0.3, 0)
    assert searched.n_test == held_out.sum()
    assert len(np.unique(ccd_keys(sample.expnum, sample.ccdnum))) == len(sample)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "--workers 0: give 1 or more"),
        ({"sample": SampleSpec(nights=["night=2014080[12]"])}, "two nights or more to learn from"),
    ],
)
def test_wrong_settings_are_one_line(make_survey: MakeSurvey, options: dict, message: str) -> None:
    survey = make_survey(n_nights=3)
    with pytest.raises(SurveyError) as caught:
        train(survey.lake, "toy", "m", classifier=ClassifierSpec(search="halving"), **options)
    assert message in str(caught.value)
    assert not survey.lake.partitions("searches")
