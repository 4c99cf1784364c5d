"""Training: honest scores, determinism, and files that are not trusted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifiers.estimators.spec import ClassifierSpec
from classifiers.model import load_model
from classifiers.sample.features import Features
from classifiers.sample.spec import SampleSpec
from classifiers.train import train
from classifiers.validation.metrics import score
from classifiers.validation.splits import SplitSpec
from lake.errors import SurveyError
from lake.model_files import model_folder
from lake.paths import MODEL_CARD, MODEL_FILE
from lake.store import Lake
from tests.classifiers.conftest import CLASSES, MakeSurvey


def test_learns_classes_that_differ(make_survey: MakeSurvey) -> None:
    survey = make_survey()
    summary = train(survey.lake, "toy", "m")
    assert summary.model.classes == ("good", "PSF", "Ghost_scatter", "Noise")
    assert summary.scores[0.0].accuracy > 0.95
    assert summary.scores[0.9].coverage > 0.9
    assert sum(one.support for one in summary.scores[0.0].classes) == summary.n_test
    counts = summary.model.card["training"]["n_by_class"]
    ghosts = counts.pop("Ghost_scatter")
    assert counts == {"good": 200, "PSF": 200, "Noise": 200}
    assert 70 < ghosts < 130  # one in two is drawn
    assert summary.n_train + summary.n_test == ghosts + 600
    assert summary.n_missing == 0
    assert not set(summary.held_out) & set(summary.model.card["split"]["trained_on"])
    assert len(summary.held_out) == 3


def test_leak_shows_in_the_image_split_alone(make_survey: MakeSurvey) -> None:
    """Classes say nothing beyond the exposure: by night all is chance, by image it is not."""
    survey = make_survey(n_nights=12, n_exposures=12, signal=0.0, scatter=4.0)
    summary = train(survey.lake, "toy", "m")
    night, image = summary.scores[0.0], summary.image_scores[0.0]
    assert night.accuracy < 0.4  # four classes
    assert image.accuracy > 0.95
    scores = json.loads((model_folder(survey.lake, "m") / MODEL_CARD).read_text())["scores"]
    assert scores["night"]["0.0"]["accuracy"] == pytest.approx(night.accuracy, abs=1e-6)
    assert scores["image"]["0.0"]["accuracy"] == pytest.approx(image.accuracy, abs=1e-6)


def test_permuted_labels_destroy_the_scores(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=12, n_exposures=12)
    lake, rng = survey.lake, np.random.default_rng(1)
    for partition in lake.partitions("labels"):
        keys = dict(partition.keys)
        rows = lake.read("labels", keys)
        names = rng.permutation(rows["class"].to_pylist())
        rows = rows.set_column(rows.column_names.index("class"), "class", [names.tolist()])
        record = partition.record()
        assert record is not None
        lake.write("labels", keys, rows, record)
    summary = train(lake, "toy", "m")
    by_name = {one.name: one for one in summary.scores[0.0].classes}
    # Good stays apart from bad; which bad class it is has become a guess among three.
    assert all(by_name[name].f1 < 0.5 for name in CLASSES[1:])


def test_same_seed_same_bytes(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    files = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(survey.lake, "toy", name, seed=seed)
        files[name] = (model_folder(survey.lake, name) / MODEL_FILE).read_bytes()
    assert files["a"] == files["b"]
    assert files["a"] != files["c"]


def test_loaded_model_predicts_what_was_trained(make_survey: MakeSurvey) -> None:
    survey = make_survey(signal=1.0)
    trained = train(survey.lake, "toy", "m").model
    loaded = load_model(survey.lake, "m")
    vectors = survey.vectors.astype(np.float32)
    np.testing.assert_array_equal(loaded.probabilities(vectors), trained.probabilities(vectors))
    assert loaded.identity == trained.identity


def test_changed_file_is_refused(make_survey: MakeSurvey) -> None:
    survey = make_survey()
    train(survey.lake, "toy", "m")
    path = model_folder(survey.lake, "m") / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        SurveyError,
        match=r"model\.json: not the card of model\.skops|model\.skops: not a model file",
    ):
        load_model(survey.lake, "m")


def test_types_beyond_the_list_are_refused(
    make_survey: MakeSurvey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose card was forged too still runs nothing: its types are not on the list."""
    import hashlib

    survey = make_survey()
    train(survey.lake, "toy", "m")
    folder = model_folder(survey.lake, "m")
    with zipfile.ZipFile(folder / MODEL_FILE) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(parts["schema.json"])
    mark = tmp_path / "ran"
    schema["content"]["exposures"] = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "content": {"function": "system", "module_path": "os"},
        "__id__": 999999,
    }
    parts["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(folder / MODEL_FILE, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    card = json.loads((folder / MODEL_CARD).read_text())
    card["sha256"] = hashlib.sha256((folder / MODEL_FILE).read_bytes()).hexdigest()
    (folder / MODEL_CARD).write_text(json.dumps(card))
    with pytest.raises(SurveyError, match=r"types that a model may not hold: .*system"):
        load_model(survey.lake, "m")
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"sha256": "x", "classes": []}', "\x00"])
def test_damaged_card_is_one_line(make_survey: MakeSurvey, damage: str) -> None:
    survey = make_survey()
    train(survey.lake, "toy", "m")
    (model_folder(survey.lake, "m") / MODEL_CARD).write_text(damage)
    with pytest.raises(SurveyError, match=r"model\.json: not a model card"):
        load_model(survey.lake, "m")


def test_unknown_model_names_the_known(make_survey: MakeSurvey) -> None:
    survey = make_survey()
    train(survey.lake, "toy", "m")
    with pytest.raises(SurveyError, match=r"no model 'other'.*has m\)"):
        load_model(survey.lake, "other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": SampleSpec(release="none")}, "no 'none'; valid are sim"),
        ({"sample": SampleSpec(nights=["night=20140801"])}, "one night"),
        ({"min_probability": 90}, "probability 90: give one from 0 to 1"),
    ],
)
def test_wrong_settings_are_one_line(make_survey: MakeSurvey, options: dict, message: str) -> None:
    survey = make_survey(n_nights=3)
    with pytest.raises(SurveyError) as caught:
        train(survey.lake, "toy", "m", **options)
    assert message in str(caught.value)
    assert not model_folder(survey.lake, "m").exists()


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        (SplitSpec, {"by": "month"}, "split by 'month': choose one of night, exposure, image"),
        (SplitSpec, {"test_fraction": 1.0}, "test fraction 1.0: give a share between 0 and 1"),
        (ClassifierSpec, {"name": "oracle"}, "classifier 'oracle': choose one of knn, two-step"),
        (ClassifierSpec, {"search": "grid"}, "search 'grid': choose one of none, halving"),
        (ClassifierSpec, {"candidates": 0}, "candidates 0: give 1 or more"),
        (ClassifierSpec, {"class_weight": "much"}, "--class-weight 'much': expected none"),
        (ClassifierSpec, {"settings": {"depth": 3}}, "setting 'depth' of knn: choose among"),
        (
            ClassifierSpec,
            {"search": "halving", "settings": {"n_neighbors": 3}},
            "settings are given and searched for",
        ),
        (SampleSpec, {"good": 0}, "good 0: give 1 CCD or more"),
        (SampleSpec, {"max_ebv": float("nan")}, "max_ebv nan: give an E(B-V) in mag, from 0"),
        (SampleSpec, {"sources": "delve"}, "sources 'delve': give a list of texts"),
        (Features, {"embedders": ("toy",), "context": "sky"}, "context 'sky'"),
    ],
)
def test_settings_check_themselves(spec: Callable[..., Any], settings: dict, message: str) -> None:
    with pytest.raises(SurveyError) as caught:
        spec(**settings)
    assert message in str(caught.value)


def test_settings_that_are_given_are_those_of_the_model(make_survey: MakeSurvey) -> None:
    lake = make_survey(n_nights=4).lake
    spec = ClassifierSpec("knn", settings={"n_neighbors": 3})
    trained = train(lake, "toy", "m", classifier=spec).model
    assert trained.card["settings"] == {"n_neighbors": 3}
    assert trained.estimator.steps[-1][1].n_neighbors == 3
    sample = SampleSpec.from_card(trained.card)
    assert sample == SampleSpec(release="sim")


def test_no_embeddings_names_what_there_is(make_survey: MakeSurvey) -> None:
    survey = make_survey(n_nights=2)
    with pytest.raises(SurveyError, match=r"no embeddings of 'other'.*has toy\)"):
        train(survey.lake, "other", "m")


def test_no_labels_says_what_to_run(lake: Lake, make_survey: MakeSurvey) -> None:
    make_survey(n_nights=2)
    for partition in lake.partitions("labels"):
        lake.remove("labels", dict(partition.keys))
    with pytest.raises(SurveyError, match="merge-labels"):
        train(lake, "toy", "m")


def test_context_sees_the_exposure(make_survey: MakeSurvey) -> None:
    """Signal far below the scatter of a CCD: only the exposure's median shows it."""
    survey = make_survey(n_nights=12, n_exposures=8, n_ccds=40, signal=0.35, scatter=0.0)
    alone = train(survey.lake, "toy", "alone").scores[0.0].accuracy
    joined = train(survey.lake, Features(("toy",), "exposure"), "joined").scores[0.0].accuracy
    assert joined > alone + 0.1


def test_scores_against_counting_by_hand() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.array(
        [[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0, 1, 0], [0.95, 0.05, 0], [0.1, 0.9, 0]]
    )
    scores = score(("a", "b", "c"), truth, probabilities, min_probability=0.9)
    assert scores.coverage == pytest.approx(4 / 6)
    assert scores.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    first, second, third = scores.classes
    assert (first.precision, first.recall, first.support) == (0.5, 1.0, 1)
    assert (second.precision, second.recall, second.support) == (0.5, 0.5, 2)
    assert np.isnan(third.precision) and third.recall == 0 and third.support == 1
    assert scores.to_dict()["classes"]["c"]["precision"] is None


def test_intervals_widen_when_a_night_is_one_draw() -> None:
    """Forty images that are right or wrong a night at a time are no more than four."""
    truth = np.zeros(40, int)
    night = np.repeat(np.arange(4), 10)
    probabilities = np.eye(2)[np.where(night == 0, 1, 0)]
    by_night = score(("a", "b"), truth, probabilities, night).classes[0].recall_interval
    by_image = score(("a", "b"), truth, probabilities, np.arange(40)).classes[0].recall_interval
    assert by_night[0] < by_image[0] < 0.75 < by_image[1] <= by_night[1]
