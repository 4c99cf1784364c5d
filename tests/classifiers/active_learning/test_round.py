"""From a model to what people should look at, to their verdicts, to a better model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from classifiers.model import load_model
from classifiers.sample.sample import read_sample
from classifiers.sample.spec import SampleSpec
from classifiers.train import train
from classifiers.validation.splits import SplitSpec
from cli.main import app
from inspector.closing import close, merge_round
from inspector.judgement import Judgement
from inspector.rounds import Round, load
from lake.errors import SurveyError
from lake.freshness import Freshness
from lake.record import split_reference
from lake.store import Lake
from queries.engine import run_sql
from queries.merge_labels import merge_labels
from queries.named import run_query
from tests.classifiers.conftest import CLASSES, Survey, fill_survey

N_CHOSEN = 12


def survey_qa(lake: Lake, *arguments: str | Path) -> Result:
    words = ["--lake", str(lake.root), *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=True)


def said_of(survey: Survey, expnum: int, doubted: set[int]) -> Judgement:
    """Return what somebody says who sees the truth, of some exposures with little confidence."""
    label = int(survey.label[survey.expnum == expnum].max())
    quality = 2 if expnum in doubted else 3
    return Judgement("bad", CLASSES[label], quality) if label else Judgement("good", None, quality)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Ten nights, the lists of six, a model ``m0`` of these and what it made people look at."""
    lake = Lake(tmp_path_factory.mktemp("round") / "survey.lake", create=True)
    made = fill_survey(lake, 10, 12, signal=1.0, n_labelled=6)
    nights = [f"night={night}" for night in np.unique(made.night)[:6]]
    train(lake, "toy", "m0", sample=SampleSpec(nights=nights, good=400), seed=1)
    result = survey_qa(
        lake, "select", "--model", "m0", "-n", N_CHOSEN, "--models", 20, "--format", "json"
    )
    assert result.exit_code == 0, result.output
    assert [row["place"] for row in json.loads(result.stdout)] == list(range(N_CHOSEN))
    assert "round m0-1: 12 frozen" in result.stderr
    assert "survey-qa inspect --round m0-1 --model m0 --images FOLDER" in result.stderr
    return made


@pytest.fixture(scope="module")
def doubted(survey: Survey) -> set[int]:
    """A bad and a good exposure that nobody is sure of."""
    subjects = load(survey.lake, "m0-1").subjects
    truth = [int(survey.label[survey.expnum == s.expnum].max()) > 0 for s in subjects]
    return {subjects[truth.index(True)].expnum, subjects[truth.index(False)].expnum}


@pytest.fixture(scope="module")
def merged(survey: Survey, doubted: set[int]) -> Round:
    """The round, judged by three, merged by the quasar rule, and its labels."""
    round = load(survey.lake, "m0-1")
    for who in ("ann", "bob", "cid"):
        for subject in round.subjects:
            round.log(who).judge(subject.key, 0, said_of(survey, subject.expnum, doubted), who)
    close(round)
    merge_round(round, "quasar")
    merge_labels(survey.lake, "sim")
    return round


def test_a_round_proposes_and_says_why(survey: Survey) -> None:
    round = load(survey.lake, "m0-1")
    assert len(round.subjects) == N_CHOSEN
    assert all(subject.ccdnum == 0 and subject.night for subject in round.subjects)
    assert all(subject.why.startswith("entropy ") for subject in round.subjects)
    assert {subject.class_name for subject in round.subjects} <= set(CLASSES)
    assert round.origin["model"] == "m0"
    assert round.origin["strategy"] == "entropy"


def test_the_scores_of_a_round_are_a_table(survey: Survey) -> None:
    stored = run_sql(survey.lake, "from selections where round = 'm0-1' order by place").to_pylist()
    round = load(survey.lake, "m0-1")
    assert [(row["expnum"], row["why"]) for row in stored] == [
        (subject.expnum, subject.why) for subject in round.subjects
    ]
    scores = [row["score"] for row in stored]
    assert scores == sorted(scores, reverse=True) and scores[0] > 0
    [partition] = survey.lake.partitions("selections")
    record = partition.record()
    assert record is not None and record.settings["strategy"] == "entropy"
    kinds = {split_reference(reference)[0] for reference in record.inputs}
    assert kinds == {"model", "table"}
    assert Freshness(survey.lake).because(partition) is None


def test_only_what_people_were_sure_of_trains(
    survey: Survey, merged: Round, doubted: set[int]
) -> None:
    labels = run_query(survey.lake, "training_sample", {"max_ebv": "", "n_good": 400}).to_pylist()
    trains = {row["expnum"]: row["class"] for row in labels}
    truth = {
        s.expnum: CLASSES[int(survey.label[survey.expnum == s.expnum].max())]
        for s in merged.subjects
    }
    sure = {number: name for number, name in truth.items() if number not in doubted}
    bad = {number for number, name in sure.items() if name not in ("good", "Ghost_scatter")}
    good = {number for number, name in sure.items() if name == "good"}
    assert len(bad) > 2 and len(good) > 1
    assert {number: trains.get(number) for number in bad | good} == {
        number: truth[number] for number in bad | good
    }
    # Of what was found good every CCD is drawn; what nobody was sure of trains as nothing.
    drawn = [row["expnum"] for row in labels if row["class"] == "good"]
    assert all(drawn.count(number) == 10 for number in good)
    assert not doubted & set(trains)


def test_what_was_found_good_is_at_most_half_of_the_good(survey: Survey, merged: Round) -> None:
    rows = run_query(survey.lake, "training_sample", {"max_ebv": "", "n_good": 20}).to_pylist()
    drawn = [row["expnum"] for row in rows if row["class"] == "good"]
    seen = {subject.expnum for subject in merged.subjects}
    assert len(drawn) == 20
    assert 10 <= sum(number in seen for number in drawn) < 20


def test_training_takes_the_new_labels_and_holds_out_the_same_nights(
    survey: Survey, merged: Round, tmp_path: Path
) -> None:
    before = load_model(survey.lake, "m0").card
    result = survey_qa(
        survey.lake, "train", "--embedder", "toy", "--model", "m1", "--held-out-like", "m0",
        "--good", 400, "--seed", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    after = load_model(survey.lake, "m1")
    assert after.card["split"]["held_out"] == before["split"]["held_out"]
    assert after.card["rounds"] == {"m0-1": {"judged": N_CHOSEN, "looks": 3 * N_CHOSEN}}
    sample = read_sample(survey.lake, after.features, SampleSpec(good=400), seed=1)
    learned = sample.expnum[
        ~np.isin(np.array(sample.nights)[sample.night], list(after.card["split"]["held_out"]))
    ]
    assert len(np.intersect1d(learned, [s.expnum for s in merged.subjects])) > 5

    rows = json.loads(survey_qa(survey.lake, "rounds", "--format", "json").stdout)
    assert [(row["series"], row["model"], row["looks"]) for row in rows] == [
        (1, "m0", 0),
        (1, "m1", 3 * N_CHOSEN),
    ]
    assert rows[1]["n_bad"] > rows[0]["n_bad"]
    plotted = survey_qa(survey.lake, "rounds", "--rescore", "--plot", tmp_path / "curve.png")
    assert plotted.exit_code == 0
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")

    again = survey_qa(survey.lake, "select", "--model", "m1", "-n", 5, "--models", 10)
    assert "round m1-1: 5 frozen" in again.stderr
    seen = {subject.expnum for subject in merged.subjects}
    assert not seen & {subject.expnum for subject in load(survey.lake, "m1-1").subjects}


def test_a_round_of_ccds_asks_about_the_one_that_decided(survey: Survey) -> None:
    options = ["--model", "m0", "-n", 3, "--models", 10, "--strategy", "margin"]
    dry = survey_qa(survey.lake, "select", *options, "--dry-run", "--format", "json")
    assert "frozen" not in dry.stderr
    survey_qa(survey.lake, "select", *options, "--round", "of-ccds", "--ccds")
    subjects = load(survey.lake, "of-ccds").subjects
    asked = [(row["expnum"], row["ccdnum"]) for row in json.loads(dry.stdout)]
    assert [(subject.expnum, subject.ccdnum) for subject in subjects] == asked


def test_inspect_makes_the_round_itself(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    monkeypatch.setattr("inspector.serve.serve", lambda round, *_, **__: served.append(round.name))
    options = ["inspect", "--round", "quick", "--images", ".", "--model", "m0"]
    result = survey_qa(survey.lake, *options, "--select", 4)
    assert result.exit_code == 0, result.output
    assert "round quick: 4 frozen" in result.stderr
    assert survey_qa(survey.lake, *options, "--select", 4).exit_code == 0  # opens it
    assert served == ["quick", "quick"]
    other = survey_qa(survey.lake, *options, "--select", 5).exception
    assert "exists and is frozen, and not of --select 5" in str(other)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "--round", "x", "--images", ".", "--select", "4"], "give --model"),
        (["select", "--model", "m0", "--round", "m0-1"], "round m0-1 exists and is frozen"),
        (["select", "--model", "m0", "--round", "a/b"], "use letters"),
        (["select", "--model", "m0", "-n", "0"], "-n 0: give 1 or more"),
        (["rounds", "--model", "none"], "no model 'none'"),
        (["rounds", "--plot", "curve.txt"], "cannot write curve.txt"),
        (["train", "--embedder", "toy", "--model", "x", "--held-out-like", "none"], "no model"),
        (["consistency", "--model", "m0"], "run `survey-qa predict --model m0`"),
    ],
)
def test_what_goes_wrong_is_told(survey: Survey, arguments: list[str], says: str) -> None:
    error = survey_qa(survey.lake, *arguments).exception
    assert isinstance(error, SurveyError)
    assert says in str(error)
    assert "\n" not in str(error)


def test_held_out_nights_of_another_split_cannot_be_kept(survey: Survey) -> None:
    train(survey.lake, "toy", "by-image", split=SplitSpec("image"), sample=SampleSpec(good=100))
    with pytest.raises(SurveyError, match="trained with --split image"):
        train(survey.lake, "toy", "x", split=SplitSpec(held_out_like="by-image"))
