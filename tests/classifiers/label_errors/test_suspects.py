"""Labels that are likely wrong: flipped ones come first, sound ones stay, and each says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.estimators.spec import ClassifierSpec
from classifiers.label_errors.suspects import Suspects, contradictions, find_label_errors, rank
from classifiers.sample.features import Features
from classifiers.sample.spec import SampleSpec
from classifiers.train import train
from lake.errors import SurveyError
from lake.freshness import Freshness
from lake.record import Record
from lake.store import Lake
from tests.classifiers.conftest import CLASSES, MakeSurvey, Survey, fill_survey

TOY = Features(("toy",))
FLIPPED = 0.05


def relabel(survey: Survey, change: Callable[[int, int, str], str | None]) -> None:
    """Rewrite labels and list: (expnum, ccdnum, class) -> class, or None to take it off."""
    said: dict[int, str] = {}
    for partition in survey.lake.partitions("labels"):
        rows = []
        for row in survey.lake.read("labels", dict(partition.keys)).to_pylist():
            name = change(row["expnum"], row["ccdnum"], row["class"])
            if name is not None:
                rows.append(row | {"class": name})
                said[row["expnum"]] = name
        schema = survey.lake.read("labels", dict(partition.keys)).schema
        table = pa.Table.from_pylist(rows, schema=schema.remove_metadata())
        survey.lake.write("labels", dict(partition.keys), table, Record("merge-labels"))
    reports = pa.table(
        {
            "expnum": list(said),
            "camera": ["decam"] * len(said),
            "classes": [[name] for name in said.values()],
            "is_bad": [True] * len(said),
            "line": pa.array(range(len(said)), pa.int32()),
        }
    )
    survey.lake.write("reports", {"source": "delve"}, reports, Record("ingest"))


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Survey, set[int]]:
    """Classes that lie apart; of one bad exposure in twenty the lists name another class."""
    lake = Lake(tmp_path_factory.mktemp("wrong") / "survey.lake", create=True)
    survey = fill_survey(lake, n_nights=12, n_exposures=20, n_ccds=4)
    bad = np.unique(survey.expnum[survey.label > 0])
    rng = np.random.default_rng(1)
    wrong = set(rng.choice(bad, round(FLIPPED * len(bad)), replace=False).tolist())
    following = dict(zip(CLASSES[1:], (*CLASSES[2:], CLASSES[1]), strict=True))
    relabel(survey, lambda expnum, _, name: following[name] if expnum in wrong else name)
    return survey, wrong


@pytest.fixture(scope="module")
def found(flipped: tuple[Survey, set[int]]) -> Suspects:
    return rank(flipped[0].lake, TOY)


def rows_of(suspects: Suspects) -> Iterator[dict]:
    yield from suspects.rows.to_pylist()


def test_flipped_labels_come_first(flipped: tuple[Survey, set[int]], found: Suspects) -> None:
    survey, wrong = flipped
    first = list(rows_of(found))[: len(wrong)]
    assert {row["expnum"] for row in first} == wrong
    truth = dict(zip(survey.expnum.tolist(), survey.label.tolist(), strict=True))
    for row in first:
        assert row["suggested"] == CLASSES[truth[row["expnum"]]]
        assert row["confident"]
        assert row["ccdnum"] == 0
        assert row["agree"] > 0.7 > 0.3 > row["agree_label"]
        assert (row["sources"], row["reasons"]) == ("delve", "because")
    n_confident = sum(found.counts["confident"].to_pylist())
    assert n_confident == len(wrong)
    # Of some ghosts, one in two of whose CCDs is drawn, there is none.
    assert 220 < found.n_judged <= len(np.unique(survey.expnum))


def test_every_ccd_by_itself(flipped: tuple[Survey, set[int]]) -> None:
    survey, wrong = flipped
    found = rank(survey.lake, TOY, by="ccd")
    confident = [row for row in rows_of(found) if row["confident"]]
    assert {row["expnum"] for row in confident} == wrong
    assert len(confident) > 2 * len(wrong)
    assert all(row["ccdnum"] > 0 and row["n_ccds"] == 1 for row in confident)


def test_neighbours_are_of_other_nights_and_look_alike(found: Suspects) -> None:
    for row in list(rows_of(found))[:3]:
        assert len(row["nearest"]) == 10
        for name in row["nearest"]:
            ccd, label = name.split(" ")
            # The fixture numbers exposures by night.
            assert int(ccd.split("-")[0]) // 1000 != row["expnum"] // 1000
            assert label == row["suggested"]


def test_good_that_looks_bad_and_bad_that_looks_good(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=10)
    forgotten, slandered = 3001, 4000  # of PSF, and good
    relabel(survey, lambda expnum, _, name: None if expnum == forgotten else name)
    keys = {"release": "sim", "camera": "decam", "night": "20140804"}
    labels = survey.lake.read("labels", keys)
    extra = labels.slice(0, 1).to_pylist()[0]
    ccds = [extra | {"expnum": slandered, "ccdnum": ccd, "class": "Noise"} for ccd in range(1, 11)]
    rows = pa.Table.from_pylist([*labels.to_pylist(), *ccds], schema=labels.schema)
    survey.lake.write("labels", keys, rows.replace_schema_metadata(), Record("merge-labels"))
    first = {row["expnum"]: row for row in list(rows_of(rank(survey.lake, TOY)))[:2]}
    assert first[forgotten]["kind"] == "good that looks bad"
    assert first[forgotten]["suggested"] == "PSF"
    assert first[forgotten]["sources"] is None
    assert first[forgotten]["why"].startswith("in no list, looks like PSF")
    assert first[slandered]["kind"] == "bad that looks good"
    assert first[slandered]["why"].startswith("delve says Noise (because), looks like good")


def test_what_another_list_says_is_no_contradiction(flipped: tuple[Survey, set[int]]) -> None:
    """Two lists name two classes; the vectors agree with the one that training does not take."""
    survey, wrong = flipped
    expnum = min(wrong)
    truth = CLASSES[survey.label[survey.expnum == expnum][0]]
    keys = {"release": "sim", "camera": "decam", "night": survey.night[survey.expnum == expnum][0]}
    before = survey.lake.read("labels", keys)
    more = [
        row | {"class": truth, "source": "decals"}
        for row in before.to_pylist()
        if row["expnum"] == expnum
    ]
    rows = pa.Table.from_pylist([*before.to_pylist(), *more], schema=before.schema)
    record = Record("merge-labels")
    survey.lake.write("labels", keys, rows.replace_schema_metadata(), record)
    try:
        assert expnum not in {row["expnum"] for row in rows_of(rank(survey.lake, TOY))}
        one_list = rank(survey.lake, TOY, sample=SampleSpec(sources=["delve"]))
        assert expnum in {row["expnum"] for row in rows_of(one_list)}
    finally:
        survey.lake.write("labels", keys, before.replace_schema_metadata(), record)


def test_the_same_seed_gives_the_same_list(
    flipped: tuple[Survey, set[int]], found: Suspects
) -> None:
    again = rank(flipped[0].lake, TOY)
    assert again.rows.equals(found.rows)
    assert again.counts.equals(found.counts)
    fewer = rank(flipped[0].lake, TOY, n=2)
    assert fewer.rows.equals(found.rows.slice(0, 2))
    assert fewer.counts.equals(found.counts)


def test_label_errors_are_a_table_that_is_out_of_date_when_labels_change(
    flipped: tuple[Survey, set[int]], found: Suspects
) -> None:
    lake = flipped[0].lake
    for _ in range(2):
        kept = find_label_errors(lake, TOY)
        assert kept.rows.equals(found.rows)
        assert kept.counts.equals(found.counts)
        assert (kept.n_judged, kept.n_missing) == (found.n_judged, found.n_missing)
    [partition] = lake.partitions("label_errors")
    written = partition.path.stat().st_mtime_ns
    find_label_errors(lake, TOY)
    fewer = find_label_errors(lake, TOY, n=2)
    assert fewer.rows.equals(found.rows.slice(0, 2)) and fewer.counts.equals(found.counts)
    assert partition.path.stat().st_mtime_ns == written
    assert Freshness(lake).because(partition) is None
    labels = lake.partitions("labels")[0]
    before, record = lake.read("labels", dict(labels.keys)), Record("merge-labels")
    lake.write("labels", dict(labels.keys), before.slice(1).replace_schema_metadata(), record)
    try:
        assert Freshness(lake).because(partition) == f"labels/{labels.name} has changed"
    finally:
        lake.write("labels", dict(labels.keys), before.replace_schema_metadata(), record)


def test_vectors_that_say_nothing_contradict_nothing_strongly(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=0.0, scatter=0.0, n_nights=6)
    assert all(row["margin"] > -0.6 for row in rows_of(rank(survey.lake, TOY)))


def test_a_class_of_one_night_cannot_be_judged(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=6)
    relabel(survey, lambda expnum, _, name: "Wonky" if name == "PSF" and expnum < 2000 else name)
    found = rank(survey.lake, TOY)
    assert found.n_unjudged == 2
    assert "Wonky" not in {row["label"] for row in rows_of(found)}


def test_a_model_judges_as_it_was_trained(flipped: tuple[Survey, set[int]]) -> None:
    survey, wrong = flipped
    train(survey.lake, Features(("toy",), "exposure"), "boss", seed=3)
    found = rank(survey.lake, model="boss")
    assert found.origin["embedders"] == ["toy"]
    assert found.origin["seed"] == 3
    by_hand = rank(survey.lake, Features(("toy",), "exposure"), seed=3)
    assert found.rows.equals(by_hand.rows)
    confident = {row["expnum"] for row in rows_of(found) if row["confident"]}
    # Another seed draws other ghosts, of some exposures none.
    assert confident <= wrong
    assert len(confident) >= len(wrong) - 2


@given(
    st.integers(2, 5).flatmap(
        lambda k: st.lists(
            st.tuples(
                st.lists(st.integers(0, 20), min_size=k, max_size=k).filter(any),
                st.integers(0, k - 1),
            ),
            min_size=k,
            max_size=30,
        )
    )
)
def test_confidence_follows_from_its_definition(drawn: list[tuple[list[int], int]]) -> None:
    """Counting one by one, as in section 3.1 of Northcutt et al. (2021)."""
    chances = np.array([counts for counts, _ in drawn], float)
    chances /= chances.sum(axis=1, keepdims=True)
    label = np.array([name for _, name in drawn])
    n_classes = chances.shape[1]
    own = np.eye(n_classes, dtype=bool)[label]
    found = contradictions(chances, label, own, np.ones(len(label), bool))
    usual = [
        chances[label == name, name].mean() if (label == name).any() else np.inf
        for name in range(n_classes)
    ]
    for row, name in enumerate(label):
        clear = [k for k in range(n_classes) if chances[row, k] >= usual[k]]
        best = max(clear, key=lambda k: (chances[row, k], k == name), default=name)
        assert found.confident[row] == (best != name and chances[row, best] > 0)
        if found.confident[row]:
            assert chances[row, found.suggested[row]] == chances[row, best]
        if found.suspect[row] and not found.confident[row]:
            assert found.margin[row] < 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "night"}, "--by 'night': choose one of exposure, ccd"),
        ({"n": 0}, "-n 0"),
        ({"model": "boss"}, "name embedders to judge by, or a model to judge as"),
        ({"classifier": ClassifierSpec(search="halving")}, "labels are judged without a search"),
        ({"sample": SampleSpec(nights=["night=20140801"])}, "one night"),
        ({"features": Features(("none",))}, "no embeddings of 'none'"),
    ],
)
def test_wrong_settings_are_one_line(
    flipped: tuple[Survey, set[int]], options: dict, message: str
) -> None:
    with pytest.raises(SurveyError) as caught:
        rank(flipped[0].lake, **({"features": TOY} | options))
    assert message in str(caught.value)


def test_an_unknown_model_is_named(flipped: tuple[Survey, set[int]]) -> None:
    with pytest.raises(SurveyError, match="no model 'nobody'"):
        rank(flipped[0].lake, model="nobody")
