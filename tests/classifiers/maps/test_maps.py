"""The embeddings as a whole: silhouettes, clusters and maps; what they rest on, and their page."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from classifiers.maps.maps import ALL, EmbeddingMap, map_embeddings
from classifiers.maps.plots import draw_maps
from classifiers.maps.sample import Drawn, draw
from classifiers.sample.features import Features
from lake.errors import SurveyError
from lake.store import Lake
from queries.engine import run_sql
from queries.named import contract_breaches, find_query, run_query
from tests.classifiers.conftest import CLASSES, MakeSurvey, Survey, fill_survey, write_vectors

TOY = Features(("toy",))
SAMPLE = 160


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Ten nights of classes that lie apart; lists know six of them."""
    lake = Lake(tmp_path_factory.mktemp("structure") / "survey.lake", create=True)
    return fill_survey(lake, n_labelled=6)


@pytest.fixture(scope="module")
def found(survey: Survey) -> EmbeddingMap:
    return map_embeddings(survey.lake, TOY, sample=SAMPLE)


def truth_of(survey: Survey, rows: pa.Table) -> np.ndarray:
    labels = dict(zip(zip(survey.expnum, survey.ccdnum, strict=True), survey.label, strict=True))
    keys = zip(rows["expnum"].to_pylist(), rows["ccdnum"].to_pylist(), strict=True)
    return np.array([labels[key] for key in keys])


def test_half_of_the_sample_is_labelled_classes_alike(survey: Survey, found: EmbeddingMap) -> None:
    assert found.rows.num_rows == SAMPLE
    assert found.n_labelled == SAMPLE // 2
    counts = {row["class"]: row["ccds"] for row in found.classes().to_pylist()}
    assert counts.pop(ALL) == SAMPLE // 2
    assert set(counts) == set(CLASSES)
    assert max(counts.values()) - min(counts.values()) <= 1
    # Good is what no list names, so that some of it is what lists do not know.
    bad = found.rows.filter(pc.is_in(found.rows["class"], pa.array(CLASSES[1:])))
    assert [CLASSES[label] for label in truth_of(survey, bad)] == bad["class"].to_pylist()


def drawn(survey: Survey, n: int) -> Drawn:
    return draw(survey.lake, TOY, release="sim", n=n, max_ebv=0.04, seed=0)


def test_labelled_ccds_fill_up_where_others_are_few(survey: Survey) -> None:
    sample = drawn(survey, 700)
    assert sample.keys.num_rows == len(sample.vectors) == 700
    n_others = sample.keys["class"].null_count
    assert 0 < n_others < 350
    assert sample.n_known > 700 - n_others


def test_classes_that_lie_apart_are_clusters_of_their_own(
    survey: Survey, found: EmbeddingMap
) -> None:
    truth = truth_of(survey, found.rows)
    cluster = found.rows["cluster"].to_numpy()
    assert (cluster >= 0).mean() > 0.9
    for number in np.unique(cluster[cluster >= 0]):
        assert len(np.unique(truth[cluster == number])) == 1
    sizes = np.bincount(cluster[cluster >= 0])
    assert sizes.tolist() == sorted(sizes, reverse=True)
    for row in found.classes().to_pylist():
        assert row["silhouette"] > 0.5 or row["class"] in ("good", ALL)
    # Who is near in a map is of one class.
    for axes in (("x", "y"), ("x3", "y3", "z3")):
        places = np.stack([found.rows[axis].to_numpy() for axis in axes], axis=1)
        nearest = NearestNeighbors(n_neighbors=1).fit(places).kneighbors(return_distance=False)
        assert (truth[nearest[:, 0]] == truth).mean() > 0.95


def test_classes_that_are_the_same_have_no_silhouette(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=0.0, n_nights=6)
    overall = map_embeddings(survey.lake, TOY, sample=200).classes().to_pylist()[-1]
    assert overall["class"] == ALL
    assert overall["silhouette"] < 0.05


def test_the_query_counts_the_clusters(survey: Survey, found: EmbeddingMap) -> None:
    rows = run_query(survey.lake, "clusters", {"embedder": "toy"})
    assert contract_breaches(find_query(survey.lake, "clusters"), rows) == []
    assert pc.sum(rows["n"]).as_py() == found.rows.num_rows
    big = run_query(survey.lake, "clusters", {"embedder": "toy", "more_than": 10}).to_pylist()
    assert min(row["n_ccds"] for row in big) > 10
    for number in {row["cluster"] for row in big}:
        shares = [row["share"] for row in big if row["cluster"] == number and row["class"]]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)


def test_readers_join_the_projections_with_the_ccds(survey: Survey, found: EmbeddingMap) -> None:
    joined = run_sql(
        survey.lake,
        "select count(*) as n from projections join ccds using (camera, night, expnum, ccdnum)",
    )
    assert joined["n"].to_pylist() == [found.rows.num_rows]


def test_the_same_again_is_skipped_and_a_change_is_not(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=4)
    first = map_embeddings(survey.lake, TOY, sample=60)
    again = map_embeddings(survey.lake, TOY, sample=60)
    assert (first.skipped, again.skipped) == (False, True)
    assert again.rows.equals(first.rows)
    assert (again.n_known, again.n_unusable) == (first.n_known, first.n_unusable)
    with threadpool_limits(2):
        forced = map_embeddings(survey.lake, TOY, sample=60, force=True)
    assert not forced.skipped
    assert forced.rows.equals(first.rows)
    other = map_embeddings(survey.lake, TOY, sample=60, seed=1)
    assert not other.skipped
    assert not other.rows.equals(first.rows)
    night = survey.night == "20140801"
    moved = survey.vectors[night] + 1
    write_vectors(survey.lake, "20140801", survey.expnum[night], survey.ccdnum[night], moved)
    assert not map_embeddings(survey.lake, TOY, sample=60, seed=1).skipped


def test_no_labels_still_give_clusters_and_maps(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=4, n_labelled=0)
    found = map_embeddings(survey.lake, TOY, sample=100)
    assert found.rows.num_rows == 100
    assert found.n_labelled == 0
    assert found.classes().num_rows == 0
    assert found.rows["silhouette"].null_count == 100
    assert found.rows["x"].null_count == 0


def test_unusable_vectors_are_counted(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=2)
    whole = drawn(survey, 1000)
    night = survey.night == "20140802"
    vectors = survey.vectors[night].copy()
    vectors[::4, 0] = np.nan
    write_vectors(survey.lake, "20140802", survey.expnum[night], survey.ccdnum[night], vectors)
    sample = drawn(survey, 1000)
    assert 10 < sample.n_unusable <= 20
    assert sample.keys.num_rows + sample.n_unusable == whole.keys.num_rows
    assert sample.keys.num_rows == len(sample.vectors)
    assert np.isfinite(sample.vectors).all()


def test_joined_embedders_have_a_partition_of_their_own(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=2)
    for partition in survey.lake.partitions("embeddings", embedder="toy"):
        keys = dict(partition.keys) | {"embedder": "other"}
        record = partition.record()
        assert record is not None
        rows = survey.lake.read("embeddings", dict(partition.keys))
        survey.lake.write("embeddings", keys, rows, record)
    found = map_embeddings(survey.lake, Features(("toy", "other")), sample=40)
    assert found.embedder == "toy+other"
    names = run_sql(survey.lake, "select distinct embedder from projections")
    assert names["embedder"].to_pylist() == ["toy+other"]


def test_vectors_of_several_settings_are_refused(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=2)
    night = survey.night == "20140802"
    there = (survey.expnum[night], survey.ccdnum[night], survey.vectors[night])
    write_vectors(survey.lake, "20140802", *there, bins=3)
    with pytest.raises(SurveyError, match="different settings"):
        map_embeddings(survey.lake, TOY, sample=40)


def test_umap_that_is_not_installed_is_one_line(
    survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "umap", raising=False)
    with pytest.raises(SurveyError, match=r"pip install 'survey-qa\[umap\]'"):
        map_embeddings(survey.lake, TOY, method="umap")


def test_umap_gives_maps_too(make_survey: MakeSurvey) -> None:
    pytest.importorskip("umap")
    survey = make_survey(n_nights=2)
    first = map_embeddings(survey.lake, TOY, method="umap", sample=100)
    again = map_embeddings(survey.lake, TOY, method="umap", sample=100, force=True)
    assert again.rows.equals(first.rows)
    places = np.stack([first.rows[axis].to_numpy() for axis in ("x", "y")], axis=1)
    assert silhouette_score(places, truth_of(survey, first.rows)) > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "pca"}, "--method 'pca'"),
        ({"sample": 3}, "--sample 3"),
        ({"release": "none"}, "no 'none'; valid are sim"),
        ({"features": Features(("none",))}, "no embeddings of 'none'"),
    ],
)
def test_wrong_settings_are_one_line(survey: Survey, options: dict, message: str) -> None:
    with pytest.raises(SurveyError) as caught:
        map_embeddings(survey.lake, **({"features": TOY} | options))
    assert message in str(caught.value)


def test_pictures_open_without_a_network(found: EmbeddingMap, tmp_path: Path) -> None:
    names = {path.name for path in draw_maps(found, tmp_path / "new")}
    assert names == {"classes.png", "clusters.png", "silhouettes.png", "map.html"}
    for name in names - {"map.html"}:
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "new" / "map.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|img|iframe)[^>]+src=|<link[^>]+href=|@import", page)
    for name in CLASSES:
        assert f'"name":"{name} (' in page
    assert draw_maps(found, tmp_path / "again")
    assert (tmp_path / "again" / "map.html").read_bytes() == page.encode()
