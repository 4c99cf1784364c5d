"""Comparing classifiers: the same splits, deviations and differences as counted by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from classifiers.estimators.fit import fit_part, predict_proba
from classifiers.estimators.spec import ClassifierSpec
from classifiers.sample.features import Features
from classifiers.sample.sample import read_sample
from classifiers.train import train
from classifiers.validation.compare import METRICS, compare, contender_of, contenders_of
from classifiers.validation.splits import SplitSpec, split_by_group
from cli.main import app, run
from lake.errors import SurveyError
from lake.store import Lake, read_file
from tests.classifiers.conftest import fill_survey

SEEDS = 3
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def survey_lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with vectors of three embedders: toy; dim, the same in noise; last, of some CCDs."""
    lake = Lake(tmp_path_factory.mktemp("compare") / "survey.lake", create=True)
    fill_survey(lake, n_nights=10, n_exposures=8, n_ccds=10, signal=1.0, scatter=0.8)
    rng = np.random.default_rng(7)
    for partition in lake.partitions("embeddings", embedder="toy"):
        rows, record = read_file(partition.path), partition.record()
        assert record is not None
        keys = {**dict(partition.keys), "embedder": "dim"}
        values = rows["embedding"].combine_chunks()
        matrix = values.values.to_numpy().reshape(len(rows), -1)
        noisy = (matrix + rng.normal(size=matrix.shape) * 3).astype(np.float16)
        column = type(values).from_arrays(noisy.ravel(), matrix.shape[1])
        lake.write("embeddings", keys, rows.set_column(2, "embedding", column), record)
        some = rows.filter(np.asarray(rows["ccdnum"]) <= 8)
        lake.write("embeddings", {**keys, "embedder": "last"}, some, record)
    return lake


@pytest.fixture(autouse=True)
def forgotten(survey_lake: Lake) -> None:
    """What one test has fitted is of no help to another."""
    forget(survey_lake)


def forget(lake: Lake) -> None:
    for partition in lake.partitions("comparisons"):
        lake.remove("comparisons", dict(partition.keys))


def fits(lake: Lake) -> list[dict[str, Any]]:
    """Return the rows of the table, their times included."""
    return [
        {**dict(partition.keys), **row}
        for partition in lake.partitions("comparisons")
        for row in read_file(partition.path).to_pylist()
    ]


def row_of(rows: list[dict[str, Any]], **where: Any) -> Mapping[str, Any]:
    (found,) = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return found


def test_scores_deviations_and_differences_are_those_counted_by_hand(survey_lake: Lake) -> None:
    """scikit-learn's scores of fits that are made here one by one."""
    result = compare(
        survey_lake, contenders_of(["toy", "dim"], ["knn"]), n_seeds=SEEDS, seed=4, workers=1
    )
    by_hand: dict[str, dict[str, list[float]]] = {}
    sizes = []
    for embedder in ("toy", "dim"):
        sample = read_sample(survey_lake, Features((embedder,)), seed=4)
        scores = by_hand[embedder] = {name: [] for name in METRICS}
        for seed in range(4, 4 + SEEDS):
            held_out = split_by_group(sample, "night", 0.3, seed)
            sizes.append((int((~held_out).sum()), int(held_out.sum())))
            estimator = fit_part(sample.take(~held_out), "knn", seed)
            shares = predict_proba(estimator, sample.take(held_out))
            truth, called = sample.labels[held_out], shares.argmax(axis=1)
            scores["accuracy"].append(accuracy_score(truth, called))
            scores["macro_f1"].append(f1_score(truth, called, average="macro"))
            scores["balanced_accuracy"].append(balanced_accuracy_score(truth, called))
            scores["bad_f1"].append(f1_score(truth > 0, called > 0))
            scores["coverage"].append(float((shares.max(axis=1) >= np.float32(0.9)).mean()))
    rows = result.table("macro_f1").to_pylist()
    for embedder, scores in by_hand.items():
        row = row_of(rows, embedders=embedder)
        for name, values in scores.items():
            assert row[name] == pytest.approx(np.mean(values))
            assert row[f"{name}_sd"] == pytest.approx(np.std(values, ddof=1))
    assert list(zip(result.n_train, result.n_test, strict=True)) == sizes[:SEEDS]

    difference = np.subtract(by_hand["dim"]["macro_f1"], by_hand["toy"]["macro_f1"])
    n_train, n_test = np.sum(sizes[:SEEDS], axis=0)
    # Nadeau & Bengio (2003): the variance of a mean over splits that share images.
    scale = np.sqrt((1 / SEEDS + n_test / n_train) * difference.var(ddof=1))
    low, high = stats.t.interval(0.95, SEEDS - 1, difference.mean(), scale)
    row = row_of(rows, embedders="dim")
    assert row["difference"] == pytest.approx(difference.mean())
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((low, high))
    assert row_of(rows, embedders="toy")["difference"] is None
    # The noise costs more than chance explains, and the interval says so.
    assert row["difference_high"] < 0


def test_the_first_seed_is_a_training_and_any_number_of_processes_gives_the_same(
    survey_lake: Lake,
) -> None:
    contenders = contenders_of(["toy"], ["knn", "logistic"])
    alone = compare(survey_lake, contenders, n_seeds=2, workers=1)
    forget(survey_lake)
    both = compare(survey_lake, contenders, n_seeds=2, workers=2)
    assert alone.table().equals(both.table())
    assert alone.by_class().equals(both.by_class())
    for name, trials in zip(("knn", "logistic"), alone.trials, strict=True):
        trained = train(survey_lake, "toy", f"plain-{name}", classifier=ClassifierSpec(name))
        assert trials[0].every.confusion.tolist() == trained.scores[0.0].confusion.tolist()
        assert trials[0].sure.confusion.tolist() == trained.scores[0.9].confusion.tolist()
    assert not survey_lake.partitions("searches")


_COMPARISON = """
import sys
from classifiers.validation.compare import compare, contenders_of
from lake.store import Lake

contenders = contenders_of(["toy", "dim"], ["knn"])
compare(Lake(sys.argv[1]), contenders, n_seeds=20, workers=1)
"""


def test_a_killed_comparison_goes_on_and_gives_the_same(survey_lake: Lake) -> None:
    contenders = contenders_of(["toy", "dim"], ["knn"])
    whole = compare(survey_lake, contenders, n_seeds=20, workers=1)
    forget(survey_lake)
    command = [sys.executable, "-c", _COMPARISON, str(survey_lake.root)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        end = time.monotonic() + 60
        # Into the second contender, so that one is complete and another is not.
        while len(fits(survey_lake)) <= 20:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = fits(survey_lake)
    assert 20 < len(before) < 40
    said: list[tuple[int, int]] = []
    found = compare(
        survey_lake,
        contenders,
        n_seeds=20,
        workers=1,
        progress=lambda done, total: said.append((done, total)),
    )
    assert said == [(done, 40) for done in range(len(before), 41)]
    assert found.table().equals(whole.table()) and found.by_class().equals(whole.by_class())
    # Rows keep their times: none was done again.
    after = fits(survey_lake)
    assert len(after) == 40 and all(row in after for row in before)


def test_only_what_is_new_or_has_changed_is_fitted(survey_lake: Lake) -> None:
    def n_fitted(names: list[str], **options: Any) -> int:
        said: list[tuple[int, int]] = []
        compare(
            survey_lake,
            contenders_of(names, ["knn"]),
            workers=1,
            progress=lambda done, total: said.append((done, total)),
            **options,
        )
        return said[-1][0] - said[0][0]

    assert n_fitted(["toy"], n_seeds=2) == 2
    assert n_fitted(["toy"], n_seeds=2) == 0
    assert n_fitted(["toy"], n_seeds=3) == 1
    assert n_fitted(["toy", "dim"], n_seeds=3) == 3
    assert n_fitted(["toy"], n_seeds=3, min_probability=0.5) == 3
    assert n_fitted(["toy"], n_seeds=3, split=SplitSpec(test_fraction=0.5)) == 3
    # Other CCDs: those that all contenders have.
    assert n_fitted(["toy", "last"], n_seeds=3) == 6


def test_all_are_scored_on_the_ccds_that_all_have(survey_lake: Lake) -> None:
    names = ["toy", "last", "toy+dim", "last+dim"]
    result = compare(survey_lake, contenders_of(names, ["knn"]), n_seeds=2, workers=1)
    n_all = len(read_sample(survey_lake, Features(("toy",))))
    n_some = len(read_sample(survey_lake, Features(("last",))))
    assert 0 < result.n_left_out == n_all - n_some
    assert [a + b for a, b in zip(result.n_train, result.n_test, strict=True)] == [n_some] * 2
    supports = {tuple(one.support for one in trials[0].every.classes) for trials in result.trials}
    assert len(supports) == 1
    rows = result.table().to_pylist()
    assert [row["embedders"] for row in rows] == names
    # The same vectors of the same CCDs.
    assert row_of(rows, embedders="last")["difference"] == 0


def test_a_model_is_trained_anew_with_its_own_settings(survey_lake: Lake) -> None:
    halving = ClassifierSpec(search="halving", candidates=4)
    with_ebv = Features(("toy",), columns=("ebv",))
    train(survey_lake, with_ebv, "found", classifier=halving, workers=1)
    balanced = ClassifierSpec("logistic", class_weight="balanced")
    train(survey_lake, "toy", "even", classifier=balanced)
    found, even = (contender_of(survey_lake, name) for name in ("found", "even"))
    assert found.settings is not None and found.features.columns == ("ebv",)
    result = compare(survey_lake, [found, even], n_seeds=1, workers=1)
    rows = result.table().to_pylist()
    assert [(row["model"], row["class_weight"]) for row in rows] == [
        ("found", "none"),
        ("even", "balanced"),
    ]
    # Seed 0 is what they were trained with.
    for model, trials in zip(("found", "even"), result.trials, strict=True):
        card = json.loads((survey_lake.root / "models" / model / "model.json").read_text())
        accuracy = card["scores"]["night"]["0.0"]["accuracy"]
        assert trials[0].every.accuracy == pytest.approx(accuracy, abs=1e-6)
    assert all(row["accuracy_sd"] is None and row["difference_low"] is None for row in rows)


def test_by_class_gives_both_cuts_and_leaves_out_what_is_undefined(survey_lake: Lake) -> None:
    result = compare(
        survey_lake, contenders_of(["dim"], ["knn"]), n_seeds=SEEDS, workers=1, min_probability=1.0
    )
    rows = result.by_class().to_pylist()
    assert [row["class"] for row in rows] == ["good", "PSF", "Ghost_scatter", "Noise"] * 2
    for row in rows:
        part = "every" if row["min_probability"] == 0 else "sure"
        found = [
            next(one for one in getattr(trial, part).classes if one.name == row["class"])
            for trial in result.trials[0]
        ]
        for name in ("precision", "recall", "f1"):
            values = [getattr(one, name) for one in found if np.isfinite(getattr(one, name))]
            assert row[name] == (pytest.approx(np.mean(values)) if values else None)
            if len(values) > 1:
                assert row[f"{name}_sd"] == pytest.approx(np.std(values, ddof=1))
        assert row["support"] == pytest.approx(np.mean([one.support for one in found]))
    sure = [row["support"] for row in rows if row["min_probability"] == 1]
    every = [row["support"] for row in rows if row["min_probability"] == 0]
    assert sum(sure) < sum(every)


def test_the_command_gives_rows_and_a_table(
    survey_lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--lake", str(survey_lake.root), "compare", "--embedder", "toy", "--embedder", "dim"]
    words += ["--classifier", "knn", "--seeds", "2", "--workers", "1"]
    file = tmp_path / "rows.json"
    assert run(lambda: app([*words, "--output", str(file)], standalone_mode=False), False) == 0
    rows = json.loads(file.read_text())
    assert [row["embedders"] for row in rows] == ["toy", "dim"]
    assert all(row["n_seeds"] == 2 and row["metric"] == "accuracy" for row in rows)
    assert run(lambda: app([*words, "--metric", "bad_f1"], standalone_mode=False), False) == 0
    out = capsys.readouterr().out
    assert f"{rows[0]['accuracy']:.3f} ± {rows[0]['accuracy_sd']:.3f}" in out
    assert "difference of F1 of bad" in out
    assert run(lambda: app([*words, "--by-class"], standalone_mode=False), False) == 0
    assert "Ghost_scatter" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to compare; name an --embedder or a --model"),
        (["--embedder", "none", "--classifier", "knn"], "no embeddings of 'none'"),
        (["--embedder", "toy+toy"], "toy is named twice"),
        (["--embedder", "toy", "--seeds", "0"], "--seeds 0: give 1 or more"),
        (["--embedder", "toy", "--workers", "0"], "--workers 0: give 1 or more"),
        (["--embedder", "toy", "--class-weight", "even"], "--class-weight 'even'"),
        (["--model", "none"], "no model 'none'"),
    ],
)
def test_what_is_wrong_is_one_line(
    survey_lake: Lake, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--lake", str(survey_lake.root), "compare", *words]
    assert run(lambda: app(words, standalone_mode=False), False) == 1
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_an_unknown_classifier_names_the_known() -> None:
    with pytest.raises(SurveyError, match="'oracle': choose one of knn, two-step"):
        contenders_of(["toy"], ["oracle"])
