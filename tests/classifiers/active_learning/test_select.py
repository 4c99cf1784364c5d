"""Choosing over a lake: what is left out, in what order, and how often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from classifiers.active_learning.select import Selection, select
from classifiers.active_learning.strategies import STRATEGIES
from classifiers.estimators.spec import ClassifierSpec
from classifiers.sample.spec import SampleSpec
from classifiers.train import train
from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake
from tests.classifiers.conftest import CLASSES, Survey, fill_survey

N_LABELLED, N_NIGHTS, N_EXPOSURES = 6, 10, 12


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Ten nights, six of them labelled, and models of these."""
    lake = Lake(tmp_path_factory.mktemp("select") / "survey.lake", create=True)
    made = fill_survey(lake, N_NIGHTS, N_EXPOSURES, signal=1.0, n_labelled=N_LABELLED)
    labelled = [f"night={night}" for night in np.unique(made.night)[:N_LABELLED]]
    for name in ("knn", "two-step"):
        train(
            lake,
            "toy",
            name,
            classifier=ClassifierSpec(name),
            sample=SampleSpec(nights=labelled, good=200),
            seed=1,
        )
    return made


def chosen(survey: Survey, n: int = 8, model: str = "knn", **options: object) -> Selection:
    options.setdefault("n_models", 20)
    return select(survey.lake, model, n, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "strategy"),
    [*(("knn", strategy) for strategy in STRATEGIES), ("two-step", "entropy")],
)
def test_every_strategy_gives_one_row_an_exposure_the_best_first(
    survey: Survey, model: str, strategy: str
) -> None:
    n_models = 10 if model == "knn" else 3
    rows = chosen(survey, model=model, strategy=strategy, n_models=n_models).rows
    scores = rows["score"].to_numpy()
    assert rows.num_rows == 8
    assert (np.diff(scores) <= 0).all()
    assert rows["place"].to_pylist() == list(range(8))
    assert len(set(rows["expnum"].to_pylist())) == 8
    assert set(rows["class"].to_pylist()) <= {None, *CLASSES}
    assert all(rows["why"].to_pylist())
    again = chosen(survey, model=model, strategy=strategy, n_models=n_models)
    assert again.rows.equals(rows)


def test_what_is_left_out_is_counted_and_adds_up(survey: Survey) -> None:
    counts = chosen(survey).counts
    n_open = counts.nights - counts.held_out_nights
    assert counts.nights == N_NIGHTS
    assert counts.held_out_nights == 2 and counts.held_out == 2 * N_EXPOSURES * 10
    assert counts.exposures == n_open * N_EXPOSURES
    assert counts.ccds == counts.exposures * 10
    assert counts.scored == counts.ccds - 10 * counts.looked_at
    assert counts.duplicates == counts.scored - (counts.exposures - counts.looked_at)
    bad = np.unique(survey.expnum[survey.label > 0]).tolist()
    assert not set(chosen(survey, n=1000).rows["expnum"].to_pylist()) & set(listed(survey))
    assert set(listed(survey)) < set(bad)
    everything = chosen(survey, n=1000, looked_at_too=True, held_out_too=True)
    assert everything.rows.num_rows == N_NIGHTS * N_EXPOSURES


def listed(survey: Survey) -> list[int]:
    return [
        number
        for partition in survey.lake.partitions("reports")
        for number in survey.lake.read("reports", dict(partition.keys))["expnum"].to_pylist()
    ]


def test_rounds_are_not_chosen_again(survey: Survey) -> None:
    first = chosen(survey).rows
    keys = {"round": "one"}
    rows = first.select(["camera", "expnum"]).append_column(
        "ccdnum", pa.array([0] * first.num_rows, pa.int16())
    )
    survey.lake.write("rounds", keys, rows, Record("rounds"))
    try:
        again = chosen(survey)
        assert not set(again.rows["expnum"].to_pylist()) & set(first["expnum"].to_pylist())
        assert again.counts.looked_at == chosen(survey, strategy="random").counts.looked_at
        assert again.counts.looked_at == len(first) + len(open_listed(survey))
    finally:
        survey.lake.remove("rounds", keys)


def open_listed(survey: Survey) -> set[int]:
    """Return listed exposures of nights that the model does not hold out."""
    from classifiers.model import load_model

    split = load_model(survey.lake, "knn").card["split"]
    nights = {name.split("/")[1] for name in split["held_out"]}
    held = set(survey.expnum[np.isin(survey.night, list(nights))].tolist())
    return set(listed(survey)) - held


def test_entropy_prefers_what_lies_between_classes(survey: Survey) -> None:
    """Vectors half-way between the classes' centres are the least certain."""
    lake = survey.lake
    scores = {
        row["expnum"]: row["score"]
        for row in chosen(survey, n=1000, looked_at_too=True, held_out_too=True).rows.to_pylist()
    }
    centres = np.stack(
        [survey.vectors[survey.label == label].mean(axis=0) for label in range(len(CLASSES))]
    )
    gap = []
    for expnum in scores:
        mine = survey.vectors[survey.expnum == expnum].astype(float)
        near = np.sort(np.linalg.norm(mine[:, None] - centres, axis=2), axis=1)
        gap.append((near[:, 1] - near[:, 0]).min())
    order = np.argsort(list(scores.values()))
    third = len(order) // 3
    gaps = np.array(gap)
    assert gaps[order[-third:]].mean() < gaps[order[:third]].mean()
    assert lake.partitions("rounds") == []


def test_no_more_of_a_night_or_cluster_than_asked(survey: Survey) -> None:
    by_night = chosen(survey, n=6, per_night=1)
    assert max(Counter(by_night.rows["night"].to_pylist()).values()) == 1
    by_cluster = chosen(survey, n=6, per_cluster=1)
    assert max(Counter(by_cluster.rows["cluster"].to_pylist()).values()) == 1
    few = chosen(survey, n=1000, per_night=2)
    n_open = few.counts.nights - few.counts.held_out_nights
    assert few.rows.num_rows == 2 * n_open
    assert few.counts.over_night + few.rows.num_rows == few.counts.exposures - few.counts.looked_at


def test_the_outlier_step_drops_ccds_of_sparse_cells(survey: Survey) -> None:
    with_step = chosen(survey, n=1000, outlier_step=True)
    without = chosen(survey, n=1000)
    assert with_step.counts.scored + with_step.counts.sparse == without.counts.scored
    assert with_step.rows.num_rows + with_step.counts.lost == without.rows.num_rows
    assert without.counts.sparse == 0


def test_a_label_error_is_found_by_members_that_did_not_learn_it(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "survey.lake", create=True)
    fill_survey(lake, 8, 8)
    partition = lake.partitions("labels")[3]
    rows = lake.read("labels", dict(partition.keys))
    wrong = rows["expnum"][0].as_py()
    names = [
        "Noise" if number == wrong else name
        for number, name in zip(rows["expnum"].to_pylist(), rows["class"].to_pylist(), strict=True)
    ]
    rows = rows.set_column(rows.column_names.index("class"), "class", [names])
    lake.write("labels", dict(partition.keys), rows, Record("test"))
    train(lake, "toy", "m")
    found = select(lake, "m", 3, strategy="label-error", n_models=30)
    first = found.rows.to_pylist()[0]
    assert (first["expnum"], first["class"]) == (wrong, "PSF")
    assert "labelled Noise, the ensemble says PSF" in first["why"]
    assert first["n_alike"] == first["n_ccds"] == 10
    assert found.counts.unlabelled > 0
    assert found.rows["score"][1].as_py() < 0.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"strategy": "best"}, "--strategy 'best': choose one of entropy"),
        ({"n": 0}, "-n 0: give 1 or more"),
        ({"n_models": 1}, "--models 1: give 2 or more"),
        ({"per_night": 0}, "--per-night 0"),
        ({"seed": -1}, "--seed -1"),
        ({"model": "none"}, "no model 'none'"),
        ({"partitions": ["night=1999*"]}, "night=1999*"),
    ],
)
def test_wrong_settings_are_one_line(survey: Survey, options: dict, says: str) -> None:
    with pytest.raises(SurveyError) as caught:
        chosen(survey, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_left_says_why(survey: Survey) -> None:
    held_out = train_card_nights(survey)[0]
    with pytest.raises(SurveyError, match="nothing is left to choose from: .* 1 of 1 nights"):
        chosen(survey, partitions=[f"night={held_out}"])


def train_card_nights(survey: Survey) -> list[str]:
    from classifiers.model import load_model

    return [name.split("/")[1] for name in load_model(survey.lake, "knn").card["split"]["held_out"]]
