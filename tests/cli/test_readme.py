"""What the README says works as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from cli.main import app
from lake.store import Lake
from queries.engine import run_sql

README = (Path(__file__).resolve().parent.parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```\n(.*?)```", README, re.DOTALL))
STATEMENTS = re.findall(r'^survey-qa sql "(.*?)"$', BLOCKS, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line for line in BLOCKS.splitlines() if line.startswith("survey-qa ") and " sql " not in line
]


def test_there_are_examples() -> None:
    assert len(STATEMENTS) >= 2
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("statement", STATEMENTS)
def test_sql_runs(lake: Lake, statement: str) -> None:
    assert run_sql(lake, statement).num_rows == 0


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    used = {word.split("=")[0] for word in words if word.startswith("--")}
    assert used <= options | {"--lake", "--verbose"}
    required = {
        tuple(parameter.opts)
        for parameter in command.params
        if parameter.required and parameter.param_type_name == "option"
    }
    assert all(set(names) & used for names in required), "an option that is needed is missing"
