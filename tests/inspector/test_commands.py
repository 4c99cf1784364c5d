"""The commands of a round, without a browser."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from inspector.names import Names
from inspector.rounds import load, round_names
from lake.errors import SurveyError
from lake.store import Lake
from tests.inspector.conftest import MODEL, Survey, make_round

TABLE = "expnum,ann_badexp,ann_reason,bob_badexp,bob_reason\n5,y,clouds,n,\n6,n,,n,\n7,y?,,y,PSF\n"


def survey_qa(lake: Lake, *arguments: str | Path) -> Result:
    words = ["--lake", str(lake.root), *map(str, arguments)]
    return CliRunner().invoke(app, words, catch_exceptions=True)


def test_a_table_becomes_a_round_is_merged_and_comes_back(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "seen.csv"
    path.write_text(TABLE)
    assert (
        "3 exposures, 2 inspectors, 6 verdicts"
        in survey_qa(lake, "inspections", "import", path).stderr
    )
    status = survey_qa(lake, "inspections", "status", "--format", "json")
    assert json.loads(status.stdout) == [
        {"round": "seen", "state": "closed", "subjects": 3, "judged": ["ann 3", "bob 3"]}
    ]
    merged = survey_qa(lake, "inspections", "merge", "seen", "--rule", "any", "--format", "json")
    assert "2 bad, 1 good, 0 unsure; 0 settled by a merger, 2 disagreements" in merged.stderr
    assert "Fleiss' kappa" in merged.stderr
    assert {row["says"] for row in json.loads(merged.stdout)} == {"Clouds_transparency", "unsure"}
    exported = survey_qa(lake, "inspections", "export", "seen")
    assert exported.stdout.splitlines()[1] == "5,True,clouds,False,"
    assert survey_qa(lake, "inspections", "close", "seen").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspections", "close", "none"], "no round 'none' in the lake (first)"),
        (["inspections", "close", "first"], "nobody has judged anything yet"),
        (["inspections", "merge", "first"], "round first is open"),
        (["inspections", "export", "first"], "round first is open"),
        (["inspections", "import", "none.csv"], "none.csv: no such file"),
        (["inspections", "release-name", "ann"], "name ann: nobody has it"),
        (["inspect", "--round", "x", "--images", "."], "no round 'x' in the lake (first)"),
        (["inspect", "--round", "x", "--images", ".", "--model", "m"], "'m' has no votes"),
        (["inspect", "--round", "x", "--images", ".", "--query", "q"], "no query 'q'"),
        (["inspect", "--round", "a/b", "--images", ".", "--model", MODEL], "use letters"),
        (["inspect", "--round", "first", "--images", "none"], "none: no such folder"),
        (["inspect", "--round", "x", "--images", "none", "--model", MODEL], "none: no such folder"),
        (
            ["inspect", "--round", "x", "--images", ".", "--model", MODEL, "--release", "dr0"],
            "--release dr0: the lake has no such release (sim)",
        ),
        (["inspect", "--round", "first", "--images", ".", "--query", "q"], "exists and is frozen"),
    ],
)
def test_what_goes_wrong_is_told(survey: Survey, arguments: list[str], says: str) -> None:
    make_round(survey.lake)
    error = survey_qa(survey.lake, *arguments).exception
    assert isinstance(error, SurveyError)
    assert says in str(error)
    assert round_names(survey.lake) == ["first"]


def test_a_round_is_made_of_a_query_of_ones_own(
    survey: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    monkeypatch.setattr("inspector.serve.serve", lambda round, *_, **__: served.append(round.name))
    (survey.directory / "worst.sql").write_text(
        "-- Seeing.\nselect expnum, 35 as ccdnum from exposures order by fwhm desc limit 4"
    )
    options = ["--images", survey.images, "--query", "worst", "--query-dir", survey.directory]
    result = survey_qa(survey.lake, "inspect", "--round", "seeing", *options)
    assert "4 frozen" in result.stderr
    assert served == ["seeing"]
    subjects = load(survey.lake, "seeing").subjects
    assert [subject.ccdnum for subject in subjects] == 4 * [35]
    assert all(subject.night is not None and subject.why == "query worst" for subject in subjects)
    assert survey_qa(survey.lake, "inspect", "--round", "seeing", "--images", ".").exit_code == 0


def test_an_address_that_cannot_be_served_is_told(survey: Survey) -> None:
    make_round(survey.lake)
    options = ["inspect", "--round", "first", "--images", str(survey.images)]
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = used.getsockname()[1]
        hosts = [
            "127.0.0.1",
            "203.0.113.1",
            "no.such.host.invalid",
            70 * "a" + ".b",
            "a\0b",
            "",
            "[",
        ]
        for host in hosts:
            where = ["--host", host, "--port", str(port)]
            error = survey_qa(survey.lake, *options, *where).exception
            assert isinstance(error, SurveyError), host
            shown = host.replace("\0", "\\x00")
            assert str(error).startswith(f"cannot serve on {shown}:{port}: "), host
            assert str(error).endswith("choose another --host or --port"), host


def test_a_lake_that_cannot_be_written_is_told(survey: Survey) -> None:
    make_round(survey.lake)
    for name in (".inspection-names", ".inspection-secret"):
        in_the_way = survey.lake.root / name
        if name.endswith("names"):
            in_the_way.write_text("")
        else:
            in_the_way.mkdir()
        options = ["--round", "first", "--images", str(survey.images)]
        error = survey_qa(survey.lake, "inspect", *options).exception
        assert isinstance(error, SurveyError)
        assert name in str(error)
        in_the_way.unlink() if in_the_way.is_file() else in_the_way.rmdir()


def test_a_name_is_freed(lake: Lake) -> None:
    Names(lake.root).claim("Ann", "1", "token", "browser")
    assert "Ann is free" in survey_qa(lake, "inspections", "release-name", "ann").stderr
    assert survey_qa(lake, "inspections", "release-name", "ann").exit_code == 1
    assert Names(lake.root).claim("ann", "2", "token", "browser").id == "2"


def test_what_is_not_installed_is_named(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    make_round(survey.lake)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    for name in ("inspector.serve", "inspector.server"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    error = survey_qa(survey.lake, "inspect", "--round", "first", "--images", ".").exception
    assert isinstance(error, SurveyError)
    assert "survey-qa[inspect]" in str(error)
