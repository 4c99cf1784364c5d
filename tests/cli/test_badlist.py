"""`bad-expid` says what a list says, and refuses options that would do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app


@pytest.fixture
def bad_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.txt"
    path.write_text("1 clouds\n2 trailed PSF\n2-N4\nwhat\n")
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "m", "--reason", "x"], "--reason is for --reports"),
        (["--inspections", "r", "--collapse"], "--collapse is for --reports"),
        (["--reports", "delve", "--agree", "all"], "--agree is for --inspections"),
        (["--reports", "delve", "--ccd-probability", "0.5"], "--ccd-probability is for --model"),
        (["--model", "m", "--ccd-probability", "2"], "--ccd-probability"),
        (["--model", "m", "--reports", "delve"], "name one of --model"),
        ([], "name one of --model"),
    ],
)
def test_options_that_do_nothing_are_wrong_usage(
    bad_list: Path, words: list[str], says: str
) -> None:
    wide = {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}
    result = CliRunner(env=wide).invoke(
        app, ["bad-expid", "diff", "--against", str(bad_list), *words]
    )
    assert result.exit_code == 2
    assert says in result.output


def test_check_sums_up_what_the_lines_say(bad_list: Path) -> None:
    result = CliRunner().invoke(app, ["bad-expid", "check", str(bad_list)])
    assert result.exit_code == 0
    assert "4 lines = 3 entries + 0 comments + 0 blank + 1 skipped" in result.output
    assert "1 Clouds_transparency, 1 PSF, 1 without a class" in result.output
    assert CliRunner().invoke(app, ["bad-expid", "check", str(bad_list), "--strict"]).exit_code == 1
