"""Every command stands in a group of the help, with an example that can be typed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app
from cli.panels import GROUPS

EXAMPLES = {name: text for commands in GROUPS.values() for name, text in commands.items()}


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(get_command(app)))


def test_every_command_has_its_place() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_its_help_shows_an_example_that_can_be_typed(name: str) -> None:
    words = shlex.split(EXAMPLES[name])
    assert words[: 1 + len(name.split())] == ["survey-qa", *name.split()]
    command = COMMANDS[name]
    assert command.help and command.epilog.startswith("Example: survey-qa")
    context = command.make_context(name, words[1 + len(name.split()) :], resilient_parsing=True)
    assert not context.args
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options
