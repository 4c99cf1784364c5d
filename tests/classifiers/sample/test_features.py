"""Features: vectors of several embedders, context and columns, joined as one would by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from classifiers.estimators.imputer import ColumnImputer
from classifiers.model import load_model
from classifiers.predict import predict
from classifiers.sample.features import Features, Layout
from classifiers.sample.sample import read_sample
from classifiers.sample.vectors import NightVectors, read_vectors
from classifiers.train import train
from lake.errors import SurveyError
from lake.record import Record
from lake.store import Lake
from tests.classifiers.conftest import MakeSurvey, Survey, write_vectors

NIGHT = "20140803"


def other_vectors(survey: Survey, dimension: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(survey.expnum), dimension)).astype(np.float16)


@pytest.fixture
def survey(make_survey: MakeSurvey) -> Survey:
    """Three embedders: ``toy`` and ``other`` of CCDs, ``whole`` of exposures."""
    made = make_survey(n_nights=6, signal=1.0, n_exposures=8)
    vectors = other_vectors(made, 3, 1)
    for night in np.unique(made.night):
        here = made.night == night
        expnum = made.expnum[here]
        write_vectors(made.lake, night, expnum, made.ccdnum[here], vectors[here], "other")
        exposures = np.unique(expnum)
        write_vectors(made.lake, night, exposures, 0 * exposures, exposures[:, None] % 7, "whole")
    return made


def night_of(survey: Survey, features: Features) -> NightVectors:
    (partition,) = survey.lake.partitions("embeddings", embedder=features.embedders[0], night=NIGHT)
    return read_vectors(survey.lake, partition, features)


def write_ccds(survey: Survey, release: str, values: dict[str, np.ndarray]) -> None:
    here = survey.night == NIGHT
    columns = {"expnum": survey.expnum[here], "ccdnum": survey.ccdnum[here].astype(np.int16)}
    keys = {"release": release, "camera": "decam", "night": NIGHT}
    inputs = {"values": str([one.tolist() for one in values.values()])}
    survey.lake.write("ccds", keys, pa.table({**columns, **values}), Record("ingest", {}, inputs))


def test_joined_vectors_are_those_of_a_join_by_hand(survey: Survey) -> None:
    here = survey.night == NIGHT
    night = night_of(survey, Features(("toy", "whole", "other"), "band"))
    assert night.layout == Layout(ccd=19, exposure=1, median=19, band=1)
    assert night.vectors.shape == (here.sum(), night.layout.width)
    other = other_vectors(survey, 3, 1)[here].astype(np.float32)
    own = np.concatenate([survey.vectors[here].astype(np.float32), other], axis=1)
    expnum = survey.expnum[here]
    for row in range(0, len(expnum), 7):
        same = expnum == expnum[row]
        expected = [own[row], [expnum[row] % 7], np.median(own[same], axis=0)]
        expected.append([ord("g" if expnum[row] % 2 else "r")])
        np.testing.assert_array_equal(night.vectors[row], np.concatenate(expected))


def test_order_decides_the_ccds_and_the_places_of_values_alone(survey: Survey) -> None:
    here = survey.night == NIGHT
    few = np.flatnonzero(here)[::2]
    write_vectors(
        survey.lake, NIGHT, survey.expnum[few], survey.ccdnum[few], survey.vectors[few], "toy"
    )
    toy_first = night_of(survey, Features(("toy", "other", "whole")))
    other_first = night_of(survey, Features(("other", "toy", "whole")))
    assert len(toy_first.expnum) == len(few) and not toy_first.unusable
    # The CCDs are the other's then; those without a vector of toy cannot be used.
    assert {(e, c) for e, c, _ in other_first.unusable} == {
        (int(survey.expnum[row]), int(survey.ccdnum[row]))
        for row in np.setdiff1d(np.flatnonzero(here), few)
    }
    assert {name for _, _, name in other_first.unusable} == {"toy"}
    order = [*range(16, 19), *range(16), 19]
    np.testing.assert_array_equal(toy_first.vectors[:, order], other_first.vectors)
    np.testing.assert_array_equal(toy_first.ccdnum, other_first.ccdnum)


def test_ccds_that_lack_a_joined_vector_are_failures(survey: Survey) -> None:
    lake = survey.lake
    train(lake, ["toy", "whole"], "m")
    here = survey.night == NIGHT
    exposures = np.unique(survey.expnum[here])
    write_vectors(lake, NIGHT, exposures[1:], 0 * exposures[1:], exposures[1:, None] % 7, "whole")
    lake.remove("embeddings", {"embedder": "whole", "camera": "decam", "night": "20140801"})
    summary = predict(lake, "m")
    assert summary.n_failed == 10 + 80
    assert summary.n_ccds == len(survey.expnum) - 90
    (partition,) = lake.partitions("failures", stage="predict", night=NIGHT)
    rows = lake.read("failures", dict(partition.keys), part="m")
    assert rows["expnum"].to_pylist() == [int(exposures[0])] * 10
    assert set(rows["error"].to_pylist()) == {
        "the vector of whole is missing or not finite; embed it again"
    }


def test_labelled_ccds_without_a_joined_vector_are_counted(survey: Survey) -> None:
    everything = read_sample(survey.lake, Features(("toy",)))
    survey.lake.remove("embeddings", {"embedder": "other", "camera": "decam", "night": NIGHT})
    joined = read_sample(survey.lake, Features(("toy", "other")))
    here = np.array(everything.nights)[everything.night] == f"decam/{NIGHT}"
    assert joined.n_missing == here.sum() > 0
    assert len(joined) == len(everything) - here.sum()


def test_predictions_are_redone_when_any_input_changed(survey: Survey) -> None:
    lake = survey.lake
    here = survey.night == NIGHT
    fwhm = np.linspace(2, 6, here.sum(), dtype=np.float32)
    write_ccds(survey, "sim", {"fwhm": fwhm, "ebv": np.full(here.sum(), 0.02, np.float32)})
    train(lake, Features(("toy", "other", "whole"), "band", ("fwhm",)), "m")
    assert predict(lake, "m").done == 6
    assert predict(lake, "m").done == 0
    expnum, ccdnum = survey.expnum[here], survey.ccdnum[here]
    exposures = np.unique(expnum)
    bands = pa.table({"expnum": exposures, "band": ["z"] * len(exposures)})
    keys = {"release": "sim", "camera": "decam", "night": NIGHT}
    changes = [
        lambda: write_vectors(lake, NIGHT, expnum, ccdnum, survey.vectors[here] + 1),
        lambda: write_vectors(lake, NIGHT, expnum, ccdnum, np.ones((len(expnum), 3)), "other"),
        lambda: write_vectors(lake, NIGHT, exposures, 0 * exposures, exposures[:, None], "whole"),
        lambda: write_ccds(survey, "sim", {"fwhm": fwhm + 1}),
        lambda: write_ccds(survey, "newer", {"fwhm": fwhm + 2}),
        lambda: lake.write("exposures", keys, bands, Record("ingest", {}, {"table": "2"})),
        lambda: lake.remove("embeddings", {"embedder": "whole", "camera": "decam", "night": NIGHT}),
    ]
    for change in changes:
        change()
        assert predict(lake, "m").done == 1
        assert predict(lake, "m").done == 0


def test_other_settings_of_a_joined_embedder_are_refused(survey: Survey) -> None:
    train(survey.lake, ["toy", "other"], "m")
    here = survey.night == NIGHT
    vectors = other_vectors(survey, 3, 1)[here]
    write_vectors(
        survey.lake, NIGHT, survey.expnum[here], survey.ccdnum[here], vectors, "other", scale=2
    )
    with pytest.raises(SurveyError, match=rf"night={NIGHT}: these vectors of other.*other setting"):
        predict(survey.lake, "m")
    with pytest.raises(SurveyError, match=r"embeddings of other were made with different settings"):
        train(survey.lake, ["toy", "other"], "again")


def test_card_records_every_input(survey: Survey) -> None:
    rows = int((survey.night == NIGHT).sum())
    write_ccds(survey, "sim", {"fwhm": np.ones(rows, np.float32)})
    train(survey.lake, Features(("toy", "whole"), "exposure", ("fwhm",)), "m")
    model = load_model(survey.lake, "m")
    assert model.features == Features(("toy", "whole"), "exposure", ("fwhm",), "sim")
    assert [one["name"] for one in model.card["embedders"]] == ["toy", "whole"]
    assert all(one["settings"] for one in model.card["embedders"])


def test_columns_are_of_the_models_release_then_of_the_latest(survey: Survey) -> None:
    here = survey.night == NIGHT
    n = int(here.sum())
    for place, release in enumerate(("a", "b", "c")):
        write_ccds(survey, release, {"fwhm": np.full(n, place, np.float32), "own": np.arange(n)})
    survey.lake.remove("ccds", {"release": "sim", "camera": "decam", "night": NIGHT})
    for release, expected in (("b", 1), ("d", 2), (None, 2)):
        night = night_of(survey, Features(("toy",), columns=("fwhm", "own"), release=release))
        assert night.layout == Layout(ccd=16, columns=2)
        np.testing.assert_array_equal(night.vectors[:, 16], np.full(n, expected))
        np.testing.assert_array_equal(night.vectors[:, 17], np.arange(n))


def test_null_columns_become_the_median_of_good_images(survey: Survey) -> None:
    lake = survey.lake
    rng = np.random.default_rng(0)
    n = int((survey.night == NIGHT).sum())
    fwhm = rng.normal(4, 1, n).astype(np.float32)
    fwhm[:20] = np.nan
    fwhm[20] = np.inf
    write_ccds(survey, "sim", {"fwhm": fwhm, "ebv": np.full(n, 0.02, np.float32)})
    summary = train(lake, Features(("toy",), columns=("fwhm",)), "m")
    assert summary.n_missing == 0
    predicted = predict(lake, "m")
    assert predicted.n_failed == 0
    # The other nights' tables have no fwhm at all.
    assert predicted.n_without_column == len(survey.expnum) - n + 21
    sample = read_sample(lake, load_model(lake, "m").features)
    learned = ~np.isin(np.array(sample.nights)[sample.night], summary.held_out)
    good = sample.vectors[learned & (sample.labels == 0), -1]
    imputer = load_model(lake, "m").estimator["imputer"]
    assert isinstance(imputer, ColumnImputer)
    assert imputer.medians_ == pytest.approx([np.nanmedian(good) if np.isfinite(good).any() else 0])


def test_a_sample_has_the_vectors_of_its_nights_bit_for_bit(survey: Survey) -> None:
    """However they are held: also those that an exposure's CCDs share, medians, and gaps."""
    here = int((survey.night == NIGHT).sum())
    fwhm = np.random.default_rng(0).normal(4, 1, here).astype(np.float32)
    fwhm[::7] = np.nan
    write_ccds(survey, "sim", {"fwhm": fwhm, "ebv": np.full(here, 0.02, np.float32)})
    features = Features(("toy", "whole", "other"), "band", ("fwhm",))
    sample = read_sample(survey.lake, features)
    mine = np.flatnonzero(np.array(sample.nights)[sample.night] == f"decam/{NIGHT}")
    some = np.random.default_rng(1).permutation(mine)[: len(mine) // 2]
    part, night = sample.take(some), night_of(survey, features)
    rows = {
        (expnum, ccdnum): row
        for expnum, ccdnum, row in zip(
            night.expnum.tolist(), night.ccdnum.tolist(), night.vectors, strict=True
        )
    }
    keys = zip(part.expnum.tolist(), part.ccdnum.tolist(), strict=True)
    np.testing.assert_array_equal(part.vectors, np.stack([rows[key] for key in keys]))
    assert np.isnan(part.vectors).any()


def test_imputer_leaves_all_else_alone() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 4)).astype(np.float32)
    labels = np.arange(50) % 2
    vectors[::5, 3] = np.nan
    imputer = ColumnImputer(2).fit(vectors, labels)
    filled = imputer.transform(vectors)
    missing = np.isnan(vectors)
    np.testing.assert_array_equal(filled[~missing], vectors[~missing])
    assert np.isnan(vectors).sum() == 10
    expected = np.float32(np.nanmedian(vectors[labels == 0, 3]))
    np.testing.assert_allclose(filled[missing], expected, rtol=1e-6)
    assert imputer.transform(filled) is filled


@pytest.mark.parametrize(
    ("embedders", "options", "says"),
    [
        ([], {}, "name one with --embedder"),
        (["toy", "toy"], {}, "--embedder: toy is named twice"),
        (["toy", "none"], {}, "no embeddings of 'none'"),
        (["whole", "toy"], {}, "whole has vectors of whole exposures only"),
        (["toy"], {"columns": ("ccd_cuts",)}, "--columns ccd_cuts: it names the CCD or says what"),
        (["toy"], {"columns": ("object",)}, "--columns object: its values are no numbers"),
        (["toy"], {"columns": ("text",)}, "--columns text: its values are no numbers"),
        (["toy"], {"columns": ("fwhm", "fwhm")}, "--columns: fwhm is named twice"),
        (
            ["toy"],
            {"columns": ("fwmh",)},
            "--columns fwmh: the CCD table of sim has no value of it",
        ),
    ],
)
def test_wrong_inputs_are_one_line(
    survey: Survey, embedders: list[str], options: dict, says: str
) -> None:
    n = int((survey.night == NIGHT).sum())
    write_ccds(survey, "sim", {"text": np.full(n, "x"), "ebv": np.full(n, 0.02, np.float32)})
    with pytest.raises(SurveyError) as caught:
        train(survey.lake, Features(tuple(embedders), **options), "m")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path(survey.lake.root, "models").exists()


def test_empty_night_of_an_embedder_is_no_obstacle(survey: Survey) -> None:
    lake: Lake = survey.lake
    none = np.zeros(0, np.int64)
    write_vectors(lake, NIGHT, none, none, np.zeros((0, 16)))
    train(lake, Features(("toy", "whole"), "band"), "m")
    assert predict(lake, "m").n_ccds == (survey.night != NIGHT).sum()


def test_vectors_of_another_length_are_refused(survey: Survey) -> None:
    here = survey.night == NIGHT
    expnum, ccdnum = survey.expnum[here], survey.ccdnum[here]
    write_vectors(survey.lake, NIGHT, expnum, ccdnum, survey.vectors[here, :5], length=5)
    with pytest.raises(SurveyError, match="embeddings of toy were made with different settings"):
        read_sample(survey.lake, Features(("toy",)))
    exposures = np.unique(expnum)
    write_vectors(survey.lake, NIGHT, expnum, ccdnum, survey.vectors[here])
    write_vectors(survey.lake, NIGHT, exposures, 0 * exposures, exposures[:, None], "other")
    with pytest.raises(SurveyError, match=rf"{NIGHT}: vectors of toy or other are of whole"):
        read_sample(survey.lake, Features(("toy", "other")))
