"""The scores in SQL against scikit-learn and against counting by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    precision_recall_fscore_support,
)

from lake.store import Lake
from queries.named import contract_breaches, find_query, run_query

CLASSES = ("good", "PSF", "Noise")


class Scored:
    """Held-out CCDs with their predictions, asked without being written."""

    def __init__(self, lake: Lake, truth: np.ndarray, chances: np.ndarray) -> None:
        self.lake = lake
        self.truth, self.chances = truth, chances.astype(np.float32)
        self.decided = self.chances.argmax(axis=1)
        n = len(truth)
        names = np.array(CLASSES)
        keys = {
            "model": ["m"] * n,
            "camera": ["decam"] * n,
            "night": pa.array([20140818 + i % 3 for i in range(n)], pa.int32()),
            "expnum": [i // 5 for i in range(n)],
            "ccdnum": pa.array([i % 5 + 1 for i in range(n)], pa.int16()),
        }
        self.tables = {
            "test_sets": pa.table(
                {
                    **keys,
                    "split": ["night"] * n,
                    "release": ["dr10"] * n,
                    "class": names[truth],
                    "class_index": pa.array(truth + 1, pa.int16()),
                    "weight": [1.0] * n,
                    "predicted": pa.nulls(n, pa.string()),
                    "probability": pa.nulls(n, pa.float32()),
                }
            ),
            "predictions": pa.table(
                {
                    **keys,
                    "class": names[self.decided],
                    "probability": self.chances.max(axis=1),
                    "probabilities": pa.array(list(self.chances), pa.list_(pa.float32())),
                }
            ),
        }

    def ask(self, name: str, **parameters: object) -> list[dict]:
        rows = run_query(self.lake, name, {"model": "m", **parameters}, given=self.tables)
        assert contract_breaches(find_query(self.lake, name), rows) == []
        return rows.to_pylist()


def scored(lake: Lake, n: int, seed: int, levels: int = 20) -> Scored:
    """Return CCDs with probabilities of a few levels, so that many are alike."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(CLASSES), n)
    lean = 0.5 + 2.0 * np.eye(len(CLASSES))[truth]
    chances = np.array([rng.multinomial(levels, rng.dirichlet(each)) for each in lean]) / levels
    return Scored(lake, truth, chances)


@pytest.fixture
def many(lake: Lake) -> Scored:
    return scored(lake, 300, seed=1)


@pytest.mark.parametrize("cut", [0.0, 0.8])
def test_classes_as_scikit_learn_has_them(many: Scored, cut: float) -> None:
    kept = many.chances.max(axis=1) >= np.float32(cut)
    expected = precision_recall_fscore_support(
        many.truth[kept], many.decided[kept], labels=range(3), zero_division=np.nan
    )
    found = {row["class"]: row for row in many.ask("score_classes", min_probability=cut)}
    for index, name in enumerate(CLASSES):
        row = found[name]
        for column, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
            assert row[column] == pytest.approx(values[index])
    total = many.ask("score_summary", min_probability=cut)[0]
    assert total["n_scored"] == 300
    assert total["coverage"] == pytest.approx(kept.mean())
    assert total["accuracy"] == pytest.approx((many.truth == many.decided)[kept].mean())
    assert total["macro_f1"] == pytest.approx(expected[2].mean())
    assert total["by_chance"] == pytest.approx(np.bincount(many.truth[kept]).max() / kept.sum())
    confusion = many.ask("score_confusion", min_probability=cut)
    assert sum(row["n"] for row in confusion) == kept.sum()
    brier = ((many.chances - np.eye(3)[many.truth]) ** 2).sum(axis=1).mean()
    assert total["brier"] == pytest.approx(brier, abs=1e-6)


def test_average_precision_as_scikit_learn_has_it(many: Scored) -> None:
    found = {row["class"]: row for row in many.ask("score_average_precision")}
    assert set(found) == {"any bad", *CLASSES}
    for index, name in enumerate(CLASSES):
        is_true = many.truth == index
        expected = average_precision_score(is_true, many.chances[:, index])
        assert found[name]["average_precision"] == pytest.approx(expected, abs=1e-6)
        assert found[name]["by_chance"] == pytest.approx(is_true.mean())
    expected = average_precision_score(many.truth > 0, 1 - many.chances[:, 0])
    assert found["any bad"]["average_precision"] == pytest.approx(expected, abs=1e-6)


def test_thresholds_lie_on_the_curve(many: Scored) -> None:
    rows = many.ask("score_thresholds", steps=10, classes="Noise")
    assert [row["threshold"] for row in rows] == [step / 10 for step in range(11)]
    precision, recall, at = precision_recall_curve(many.truth == 2, many.chances[:, 2])
    for row in rows:
        index = np.searchsorted(at, np.float32(row["threshold"]))
        if index < len(at):
            assert row["purity"] == pytest.approx(precision[index])
            assert row["completeness"] == pytest.approx(recall[index])
    assert rows[0]["completeness"] == 1
    assert rows[0]["n_selected"] == 300


@pytest.mark.parametrize("steps", [1, 7, 10, 100])
def test_a_probability_at_a_threshold_reaches_it(lake: Lake, steps: int) -> None:
    """And the next smaller one does not, however the product with the steps is rounded."""
    thresholds = (np.arange(steps + 1) / steps).astype(np.float32)
    chance = np.concatenate([thresholds, np.nextafter(thresholds[1:], np.float32(0))])
    truth = np.arange(len(chance)) % 2
    known = Scored(lake, truth, np.stack([1 - chance, chance, 0 * chance], axis=1))
    for row, threshold in zip(
        known.ask("score_thresholds", steps=steps, classes="PSF"), thresholds, strict=True
    ):
        reached = chance >= threshold
        assert row["n_selected"] == reached.sum()
        assert row["purity"] == pytest.approx(truth[reached].mean())
        assert row["completeness"] == pytest.approx(truth[reached].sum() / truth.sum())


def test_other_models_do_not_count(many: Scored) -> None:
    queries = ("score_thresholds", "score_average_precision", "score_top", "score_looks")
    before = {name: many.ask(name) for name in queries}
    for name, rows in many.tables.items():
        other = rows.set_column(0, "model", pa.array(["other"] * len(rows)))
        if name == "test_sets":
            places = pa.array(np.roll(rows["class_index"].to_numpy(), 7))
            classes = pa.array(CLASSES).take(pa.array(places.to_numpy() - 1))
            other = other.set_column(other.column_names.index("class_index"), "class_index", places)
            other = other.set_column(other.column_names.index("class"), "class", classes)
        many.tables[name] = pa.concat_tables([rows, other], promote_options="permissive")
    assert {name: many.ask(name) for name in queries} == before
    assert many.ask("score_thresholds", model="other") != before["score_thresholds"]


def test_calibration_counts_every_prediction_once(many: Scored) -> None:
    rows = many.ask("score_calibration", bins=5)
    assert sum(row["n"] for row in rows) == 300
    right = sum(row["n"] * row["share_right"] for row in rows)
    assert right == pytest.approx((many.truth == many.decided).sum())


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=6))
def test_ties_count_as_the_mean_over_their_orders(
    lake: Lake, images: list[tuple[int, bool]]
) -> None:
    """Images of (rank, is bad): every order that keeps the ranks is as likely as the others."""
    bad = np.array([is_bad for _, is_bad in images])
    if not bad.any():
        return
    good_chance = np.array([rank for rank, _ in images]) / 4
    chances = np.stack([good_chance, 1 - good_chance, np.zeros(len(images))], axis=1)
    known = Scored(lake, bad.astype(int), chances)
    orders = [
        order
        for order in itertools.permutations(range(len(images)))
        if all(np.diff(good_chance[list(order)]) >= 0)
    ]
    found = np.array([np.cumsum(bad[list(order)]) for order in orders])  # (orders, images)
    for row in known.ask("score_top", sizes="1,2,3,4,5,100"):
        assert row["n_bad"] == pytest.approx(found[:, row["looked"] - 1].mean())
        assert row["precision"] == pytest.approx(row["n_bad"] / row["looked"])
    for row in known.ask("score_looks", shares="0.3,0.5,1"):
        wanted = int(np.ceil(row["share"] * bad.sum() - 1e-9))
        assert row["n_bad"] == wanted
        assert row["looks"] == pytest.approx((found >= wanted).argmax(axis=1).mean() + 1)


def test_groups_divide_the_images(many: Scored) -> None:
    rows = many.ask("score_groups", min_probability=0.5)
    kept = many.chances.max(axis=1) >= 0.5
    bad, found = many.truth > 0, many.decided > 0
    whole = next(row for row in rows if row["part"] == "all")
    assert whole["precision"] == pytest.approx((bad & found & kept).sum() / (found & kept).sum())
    assert whole["recall"] == pytest.approx((bad & found & kept).sum() / (bad & kept).sum())
    for part in ("camera", "band", "night"):
        assert sum(row["n"] for row in rows if row["part"] == part) == kept.sum()
    assert [row["name"] for row in rows if row["part"] == "band"] == ["not known"]
    nights = [row for row in rows if row["part"] == "night"]
    assert [row["name"] for row in nights] == [f"decam {20140818 + step}" for step in range(3)]
    first = kept & (np.arange(300) % 3 == 0)
    accuracy = (many.truth == many.decided)[first].mean()
    assert nights[0]["accuracy"] == pytest.approx(accuracy)


def test_the_surest_mistakes_come_first_one_of_an_exposure(many: Scored) -> None:
    rows = many.ask("score_mistakes", per_class=4)
    for index, name in enumerate(CLASSES):
        mine = [row for row in rows if row["class"] == name]
        assert [row["place"] for row in mine] == [1, 2, 3, 4]
        assert len({row["expnum"] for row in mine}) == 4
        wrong = (many.truth == index) & (many.decided != index)
        assert mine[0]["probability"] == many.chances[wrong].max()


def test_ccds_without_a_prediction_are_counted(many: Scored) -> None:
    many.tables["predictions"] = many.tables["predictions"].slice(0, 200)
    row = many.ask("score_summary")[0]
    assert (row["n_unpredicted"], row["n_scored"]) == (100, 200)
    assert sum(row["n"] for row in many.ask("score_confusion")) == 200
    many.tables["predictions"] = many.tables["predictions"].slice(0, 0)
    row = many.ask("score_summary")[0]
    assert (row["n_unpredicted"], row["accuracy"], row["coverage"]) == (300, None, None)
