"""From verdicts to the lists: close, settle, merge, export, import."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from badlist.proposal import additions_from_inspections, good_by_inspections
from ingest.inspection_tables import read_inspection_csv
from ingest.reports import ingest_reports
from inspector.closing import close, export, import_csv, inspections, judgements_of, merge_round
from inspector.judgement import Judgement
from inspector.rounds import Round, freeze, load, located
from lake.errors import SurveyError
from lake.store import Lake
from lake.verdicts import AGREE, Agree
from queries.engine import run_sql
from queries.merge_labels import merge_labels
from tests.inspector.conftest import MODEL, Survey, make_round

GHOST = Judgement("bad", "Ghost_scatter", 3, "")
NOISE = Judgement("bad", "Noise", 4, "hum")
GOOD = Judgement("good", None, 3)


def judge(round: Round, who: str, *judgements: Judgement | None) -> None:
    log = round.log(who)
    for subject, judgement in zip(round.subjects, judgements, strict=False):
        if judgement is not None:
            log.judge(subject.key, 0, judgement, who)


@pytest.fixture
def round(lake: Lake) -> Round:
    """A round of three exposures that no CCD table knows, seen by three."""
    rows = [{"expnum": number, "class": "Ghost_scatter"} for number in (11, 12, 13)]
    made = freeze(lake, "first", located(lake, rows))
    judge(made, "ann", GHOST, GHOST, GOOD)
    judge(made, "bob", NOISE, GOOD, GOOD)
    judge(made, "cid", NOISE, GOOD, GOOD)
    return made


def test_nobody_sees_anything_before_the_round_is_closed(round: Round) -> None:
    with pytest.raises(SurveyError, match="round first is open"):
        inspections(round)
    with pytest.raises(SurveyError, match="round first is open"):
        export(round.lake, "first")
    with pytest.raises(SurveyError, match="is open"):
        merge_round(round, "any")
    assert run_sql(round.lake, "select * from inspections").num_rows == 0
    assert close(round) == {"ann": 3, "bob": 3, "cid": 3}
    assert inspections(round)["ann"]["decam-11-0"] == GHOST
    assert run_sql(round.lake, "select * from inspections").num_rows == 9


def test_closing_waits_for_everybody_unless_told(lake: Lake) -> None:
    round = freeze(lake, "two", located(lake, [{"expnum": 1}, {"expnum": 2}]))
    with pytest.raises(SurveyError, match="nobody has judged"):
        close(round)
    judge(round, "ann", GHOST)
    with pytest.raises(SurveyError, match="of 2, judged by ann 1; --unfinished"):
        close(round)
    assert not round.is_closed
    assert close(round, unfinished=True) == {"ann": 1}
    assert close(round) == {"ann": 1}  # again: nothing changes
    assert len(judgements_of(round)) == 1


def test_a_closed_round_feeds_the_list_by_inspector_then_merged(round: Round) -> None:
    close(round)
    counts = {
        agree: [a.expnum for a in additions_from_inspections(round.lake, "first", agree)]
        for agree in ("any", "majority", "all")
    }
    assert counts == {"any": [11, 12], "majority": [11], "all": [11]}
    outcomes, found, unsettled = merge_round(round, "majority")
    assert [outcome.verdict for _, outcome in outcomes] == ["bad", "good", "good"]
    assert outcomes[0][1].class_name == "Noise"
    assert (found.subjects, found.unanimous, unsettled) == (3, 2, 2)
    [addition] = additions_from_inspections(round.lake, "first")
    assert (addition.expnum, addition.reason) == (
        11,
        "Noise [survey-qa: round first, ann, bob, cid: hum]",
    )
    round.settlements().judge("decam-12-0", 0, GHOST, "mia")
    outcomes, _, unsettled = merge_round(round, "majority")
    assert (outcomes[1][1].verdict, outcomes[1][1].settled_by, unsettled) == ("bad", "mia", 1)
    assert [a.expnum for a in additions_from_inspections(round.lake, "first")] == [11, 12]
    rows = run_sql(round.lake, "select verdict, settled_by from outcomes order by expnum")
    assert rows.to_pylist()[1] == {"verdict": "bad", "settled_by": "mia"}


def test_labels_have_the_merged_class(survey: Survey) -> None:
    round = make_round(survey.lake, count=3)
    judge(round, "ann", NOISE, GOOD, GOOD)
    judge(round, "bob", NOISE, GHOST, GOOD)
    close(round)
    merge_round(round, "all")
    merge_labels(survey.lake, "sim")
    rows = run_sql(
        survey.lake,
        "select expnum, class, count(*) as n from labels where source = 'inspection' group by all",
    ).to_pylist()
    assert rows == [{"expnum": round.subjects[0].expnum, "class": "Noise", "n": 62}]


def test_a_round_of_ccds_lists_ccds(survey: Survey) -> None:
    expnum = make_round(survey.lake).subjects[0].expnum
    rows = [{"expnum": expnum, "ccdnum": number} for number in (28, 35)]
    round = freeze(survey.lake, "ccds", located(survey.lake, rows))
    assert [subject.name for subject in round.subjects] == [f"{expnum}-S4", f"{expnum}-N4"]
    judge(round, "ann", NOISE, GOOD)
    close(round)
    merge_round(round, "any")
    [addition] = additions_from_inspections(survey.lake, "ccds")
    assert (addition.expnum, addition.ccdname) == (expnum, "S4")
    content = export(survey.lake, "ccds")
    path = survey.directory / "again.csv"
    path.write_bytes(content)
    again, _ = import_csv(survey.lake, path, "again")
    assert [subject.key for subject in again.subjects] == [s.key for s in round.subjects]


def test_each_cameras_verdicts_are_a_list_of_their_own(lake: Lake, tmp_path: Path) -> None:
    same_number = [{"camera": camera, "expnum": 7} for camera in ("decam", "90prime")]
    round = freeze(lake, "both", located(lake, [*same_number, {"camera": "90prime", "expnum": 8}]))
    judge(round, "ann", GOOD, NOISE, GHOST)

    def listed(lake: Lake, name: str) -> dict[str, list[int]]:
        return {
            camera: [a.expnum for a in additions_from_inspections(lake, name, camera=camera)]
            for camera in ("decam", "90prime")
        }

    close(round)
    assert listed(lake, "both") == {"decam": [], "90prime": [7, 8]}
    merge_round(round, "any")
    assert listed(lake, "both") == {"decam": [], "90prime": [7, 8]}
    path = tmp_path / "both.csv"
    path.write_bytes(export(lake, "both"))
    other = Lake(tmp_path / "other.lake", create=True)
    again, _ = import_csv(other, path, "again")
    assert [subject.key for subject in again.subjects] == [s.key for s in round.subjects]
    assert listed(other, "again") == {"decam": [], "90prime": [7, 8]}


def test_what_is_exported_reads_back_as_the_same_verdicts(round: Round, tmp_path: Path) -> None:
    close(round)
    content = export(round.lake, "first")
    table = read_inspection_csv(content)
    assert table.inspectors == ["ann", "bob", "cid"]
    assert table.rows[0].verdicts["bob"].reason == "Noise: hum"
    path = tmp_path / "first.csv"
    path.write_bytes(content)
    other = Lake(tmp_path / "other.lake", create=True)
    again, _ = import_csv(other, path, "second")
    for who, said in inspections(round).items():
        for key, judgement in said.items():
            other_said = inspections(again)[who][key]
            assert (other_said.verdict, other_said.class_name) == (
                judgement.verdict,
                judgement.class_name,
            )


def test_the_real_table_comes_back_byte_for_byte(lake: Lake, shared_data: Path) -> None:
    path = shared_data / "legacypipe" / "dr11_final_selected_bad_exposures.csv"
    round, table = import_csv(lake, path, "dr11")
    assert len(round.subjects) == 939
    assert sum(len(row.verdicts) for row in table.rows) == 3 * 939
    assert run_sql(lake, "select * from reports").num_rows == 3 * 939
    assert export(lake, "dr11") == path.read_bytes()
    outcomes, found, _ = merge_round(round, "any")
    assert sum(outcome.verdict == "bad" for _, outcome in outcomes) == 939
    assert len(additions_from_inspections(lake, "dr11")) == 939
    # Each was chosen because somebody called it bad, so they agree less than by chance.
    assert found.subjects == 939
    assert found.kappa_verdict is not None
    assert found.kappa_verdict < 0
    assert export(lake, "dr11") == path.read_bytes()


def test_rounds_are_frozen_and_named(survey: Survey) -> None:
    round = make_round(survey.lake)
    assert load(survey.lake, "first").subjects == round.subjects
    assert load(survey.lake, "first").origin["model"] == MODEL
    with pytest.raises(SurveyError, match="exists and is frozen"):
        make_round(survey.lake)
    with pytest.raises(SurveyError, match="would be empty"):
        freeze(survey.lake, "none", [])
    with pytest.raises(SurveyError, match=r"no round 'second' in the lake \(first\)"):
        load(survey.lake, "second")
    with pytest.raises(SurveyError, match="use letters"):
        load(survey.lake, "../x")
    with pytest.raises(SurveyError, match="use letters"):
        round.log("../../x")


def test_importing_twice_or_doubled_is_refused(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("expnum,ann_badexp,ann_reason\n5,y?,\n6,yes ,clouds\n7,,\n")
    round, _ = import_csv(lake, path, "r")
    assert inspections(round)["ann"] == {
        "decam-5-0": Judgement("unsure", None, None, ""),
        "decam-6-0": Judgement("bad", "Clouds_transparency", None, "clouds"),
    }
    with pytest.raises(SurveyError, match="exists and is frozen"):
        import_csv(lake, path, "r")
    path.write_text("expnum,ann_badexp\n5,y\n5,n\n")
    with pytest.raises(SurveyError, match="comes twice"):
        import_csv(lake, path, "s")


def test_a_page_round_and_a_table_of_the_same_name_do_not_mix(round: Round, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("expnum,dan_badexp,dan_reason\n99,y,clouds\n")
    ingest_reports(round.lake, [path], "inspection", round="other")
    close(round)
    assert [a.expnum for a in additions_from_inspections(round.lake, "other")] == [99]
    assert [a.expnum for a in additions_from_inspections(round.lake, "first")] == [11, 12]


WORDS = (GOOD, NOISE, Judgement("unsure", None, 1), None)


@pytest.mark.parametrize("rule", AGREE)
def test_the_list_takes_what_merging_by_the_same_rule_decides(lake: Lake, rule: Agree) -> None:
    """Every combination of what three inspectors may say, a subject each."""
    said = [words for words in itertools.product(WORDS, repeat=3) if any(words)]
    rows = [{"expnum": number} for number in range(1, len(said) + 1)]
    round = freeze(lake, "all", located(lake, rows))
    for who, words in zip(("ann", "bob", "cid"), zip(*said, strict=True), strict=True):
        judge(round, who, *words)
    close(round, unfinished=True)

    def listed(agree: Agree | None) -> tuple[list[int], list[int]]:
        bad = additions_from_inspections(lake, "all", agree)
        good = good_by_inspections(lake, "all", agree)
        return [addition.expnum for addition in bad], [expnum for expnum, _ in good]

    counted = {agree: listed(agree) for agree in (*AGREE, None)}
    assert counted[None] == counted["any"]
    merge_round(round, rule)
    assert listed(None) == counted[rule]
    # Told how, the verdicts are counted anew, whatever the round was merged to.
    assert {agree: listed(agree) for agree in AGREE} == {agree: counted[agree] for agree in AGREE}


def test_what_a_merger_settled_counts_unless_verdicts_are_asked_for(round: Round) -> None:
    close(round)
    round.settlements().judge("decam-12-0", 0, NOISE, "mia")
    merge_round(round, "majority")
    merged = additions_from_inspections(round.lake, "first")
    assert [addition.expnum for addition in merged] == [11, 12]
    by_majority = additions_from_inspections(round.lake, "first", "majority")
    assert [addition.expnum for addition in by_majority] == [11]
