"""What a judge is told of an exposure: vectors in common, where bad CCDs lie, its own vector."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from classifiers.estimators import registry as estimators
from classifiers.estimators.spec import ClassifierSpec
from classifiers.exposures import classifier
from classifiers.exposures.features import focal_plane_cells, summarise, summarise_classes
from classifiers.predict import predict
from classifiers.train import train
from classifiers.vote import vote
from lake.record import Record
from lake.store import Lake, Partition
from tests.classifiers.conftest import CLASSES, Survey, fill_survey


def test_summary_tells_one_ccd_from_all() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 3)).astype(np.float32)
    expnum = np.repeat([7, 8, 9], 20)
    vectors[20:40] += 10  # all CCDs of exposure 8
    vectors[45] += 10  # one CCD of exposure 9
    order = rng.permutation(60)
    exposures, summaries = summarise(expnum[order], vectors[order])
    assert exposures.tolist() == [7, 8, 9]
    median, low, _, _, high, spread = np.split(summaries, 6, axis=1)
    assert (median[1] > 9).all() and (np.abs(median[[0, 2]]) < 1).all()
    assert (high[2] > 8).all() and (high[:2] < 5).all()
    assert (low > -5).all()
    assert (spread[2] > spread[0]).all()


def test_a_summary_is_numpys_bit_for_bit_whatever_the_number_of_ccds() -> None:
    rng = np.random.default_rng(1)
    expnum = rng.permutation(np.repeat(np.arange(60), rng.choice([1, 2, 3, 20, 61], 60)))
    vectors = rng.normal(size=(len(expnum), 300)).astype(np.float16).astype(np.float32)
    vectors[:, :50] = vectors[:, :50].round()
    for number, summary in zip(*summarise(expnum, vectors), strict=True):
        mine = vectors[expnum == number]
        median = np.median(mine, axis=0)
        deviation = mine - median
        quantiles = np.quantile(deviation, [0, 0.05, 0.95, 1], axis=0)
        spread = np.sqrt((deviation**2).mean(axis=0))
        expected = np.concatenate([median[None], quantiles, spread[None]]).astype(np.float32)
        np.testing.assert_array_equal(summary, expected.ravel())


def test_classes_tell_how_many_ccds_are_bad_and_where() -> None:
    cell = np.tile(np.repeat(np.arange(9), 2), 3)  # two CCDs in each part of the focal plane
    expnum = np.repeat([7, 8, 9], 18)
    bad = np.zeros(54, np.float32)
    bad[18:20] = 0.8  # exposure 8: both CCDs of the first part
    bad[36::9] = 0.8  # exposure 9: as many, far from each other
    probabilities = np.stack([1 - bad, bad / 4, 3 * bad / 4], axis=1)
    told = summarise_classes(expnum, probabilities, cell)
    mean, over_quarter, over_half, over_most, first, third, tenth = told[:, :7].T
    np.testing.assert_allclose(mean, [0, 0.8 / 9, 0.8 / 9], atol=1e-6)
    np.testing.assert_allclose(over_half, [0, 1 / 9, 1 / 9], atol=1e-6)
    np.testing.assert_array_equal(over_quarter, over_half)
    assert (over_most == 0).all() and (tenth == 0).all() and (third == 0).all()
    np.testing.assert_allclose(first, [0, 0.8, 0.8], atol=1e-6)
    places = told[:, 7:16]
    np.testing.assert_allclose(places[1], [0.8, *[0] * 8], atol=1e-6)
    scatter = told[:, 16]
    assert scatter[1] > 1.2 * scatter[2] > 0
    np.testing.assert_allclose(told[:, 17:], mean[:, None] * [0.25, 0.75], atol=1e-6)


def test_ccds_without_a_place_leave_no_pattern() -> None:
    bad = np.linspace(0, 1, 12)
    probabilities = np.stack([1 - bad, bad], axis=1)
    expnum = np.repeat([1, 2], [4, 8])
    told = summarise_classes(expnum, probabilities, np.full(12, -1))
    np.testing.assert_allclose(told[:, 7:16], np.tile(told[:, :1], 9), atol=1e-6)
    assert (np.abs(told[:, 16]) < 1e-6).all()
    # In any order of the CCDs.
    order = np.random.default_rng(0).permutation(12)
    again = summarise_classes(expnum[order], probabilities[order], np.full(12, -1))
    np.testing.assert_allclose(again, told, atol=1e-6)


def test_parts_of_the_focal_plane_follow_from_the_astrometry(lake: Lake) -> None:
    side = 100
    x, y = np.tile(np.arange(6), 6), np.repeat(np.arange(6), 6)
    columns = {
        "expnum": np.full(36, 5),
        "ccdnum": np.arange(1, 37, dtype=np.int16),
        "width": np.full(36, side, np.int16),
        "height": np.full(36, side, np.int16),
        # The reference point of all CCDs is the corner of the first one.
        "crpix1": (-side * x).astype(np.float32),
        "crpix2": (-side * y).astype(np.float32),
        "crval1": np.full(36, 20.0),
        "crval2": np.full(36, 0.0),
        **{
            f"cd{i}_{j}": np.full(36, 1e-4 if i == j else 0.0, np.float32)
            for i in (1, 2)
            for j in (1, 2)
        },
    }
    keys = {"release": "sim", "camera": "decam", "night": "20140801"}
    path = lake.write("ccds", keys, pa.table(columns), Record("ingest"))
    cells = focal_plane_cells(lake, Partition("ccds", tuple(keys.items()), path))
    assert [cells[number] for number in range(1, 37)] == (x // 2 + 3 * (y // 2)).tolist()


@pytest.fixture
def survey(lake: Lake) -> Survey:
    """CCD vectors that say nothing of the class, and vectors of whole exposures that do."""
    survey = fill_survey(lake, n_nights=8, n_exposures=12, n_ccds=6, dimension=4, signal=0.0)
    rng = np.random.default_rng(1)
    for night in np.unique(survey.night):
        here = survey.night == night
        expnum, first = np.unique(survey.expnum[here], return_index=True)
        label = survey.label[here][first]
        vectors = np.eye(len(CLASSES))[label] * 8 + rng.normal(size=(len(label), len(CLASSES)))
        flat = pa.array(vectors.astype(np.float16).ravel())
        lake.write(
            "embeddings",
            {"embedder": "focal-plane-toy", "camera": "decam", "night": str(night)},
            pa.table(
                {
                    "expnum": expnum,
                    "ccdnum": np.zeros(len(expnum), np.int16),
                    "embedding": pa.FixedSizeListArray.from_arrays(flat, len(CLASSES)),
                }
            ),
            Record("embed", {"embedder": {"version": 1}}, {"night": str(night)}),
        )
    return survey


def test_what_only_the_whole_exposure_shows_is_found(
    survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "TREES", 40)
    monkeypatch.setattr(estimators, "TREES", 20)
    right = {}
    for name, embedders in (("ccds", ["toy"]), ("both", ["toy", "focal-plane-toy"])):
        held_out = train(
            survey.lake, embedders, name, classifier=ClassifierSpec("knn"), exposure_classifier=True
        ).held_out
        predict(survey.lake, name)
        vote(survey.lake, name, rule="learned")
        judged = true = np.zeros(0, str)
        for night in (held.split("/")[1] for held in held_out):
            keys = {"model": name, "camera": "decam", "night": night}
            rows = survey.lake.read("votes", keys)
            judged = np.append(judged, rows["class"].to_pylist())
            label = [
                survey.label[survey.expnum == expnum][0] for expnum in rows["expnum"].to_pylist()
            ]
            true = np.append(true, np.array(CLASSES)[label])
        right[name] = np.mean(judged == true)
    assert right["ccds"] < 0.5  # of four classes
    assert right["both"] > 0.9
