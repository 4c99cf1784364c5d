"""What the README and the pages of docs/ say works as written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app
from lake.store import Lake
from queries.engine import run_sql
from tests.cli.test_commands import NAMES
from tests.cli.test_commands import commands as walked

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
#: Where old names stand beside the new ones.
OLD_NAMES = ("docs/glossary.md", "CHANGELOG.md")
#: Pages that people write to be read through: every command is to be in one of them.
GUIDES = [
    text for name, text in TEXTS.items() if name not in OLD_NAMES and "reference-" not in name
]

_BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_STATEMENT = re.compile(r'^(?:\$ )?survey-qa sql "(.*?)"', re.DOTALL | re.MULTILINE)
_COMMAND = re.compile(r"^(?:\$ )?(survey-qa .*)$", re.MULTILINE)
_INLINE = re.compile(r"`(survey-qa [a-z][^`]*)`")
_CODE = re.compile(r"`([^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_FILE = re.compile(r"`([a-z_]+/[a-z_0-9/]+\.(?:py|sql|toml))`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def statements() -> Iterator[Any]:
    """Yield every SQL statement of a block."""
    for name, text in TEXTS.items():
        for block in _BLOCK.findall(text):
            for sql in _STATEMENT.findall(block):
                yield pytest.param(sql, id=f"{name}: {' '.join(sql.split())[:60]}")


def commands() -> Iterator[Any]:
    """Yield every command line of a block, those joined by ``&&`` one by one."""
    for name, text in TEXTS.items():
        for block in _BLOCK.findall(text):
            for line in _COMMAND.findall(_STATEMENT.sub("", block)):
                for command in line.split(" && "):
                    yield pytest.param(command, id=f"{name}: {command}")


def mentions() -> Iterator[Any]:
    """Yield every command that a sentence names."""
    for name, text in TEXTS.items():
        for command in dict.fromkeys(_INLINE.findall(_BLOCK.sub("", text))):
            if name not in OLD_NAMES:
                yield pytest.param(command, id=f"{name}: {command}")


STATEMENTS, COMMANDS, MENTIONS = list(statements()), list(commands()), list(mentions())


def _command_and_options(line: str) -> tuple[Any, set[str]]:
    """Return the command that a line runs and the options that it gives."""
    words = shlex.split(line, comments=True)[1:]
    command = get_command(app)
    while hasattr(command, "commands"):
        while words[0].startswith("--lake"):
            words = words[2:]
        command = command.commands[words.pop(0)]
    return command, {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}


def _options(command: Any) -> set[str]:
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def _check_options(command: Any, used: set[str]) -> None:
    assert used <= _options(command) | {"--lake", "--verbose", "--help"}


def test_there_are_examples() -> None:
    assert len(STATEMENTS) >= 4
    assert len(COMMANDS) >= 40
    assert len(MENTIONS) >= 10


@pytest.mark.parametrize("statement", STATEMENTS)
def test_sql_runs(lake: Lake, statement: str) -> None:
    assert run_sql(lake, statement).num_rows == 0


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    command, used = _command_and_options(line)
    _check_options(command, used)
    required = {
        tuple(parameter.opts)
        for parameter in command.params
        if parameter.required and parameter.param_type_name == "option"
    }
    assert all(set(names) & used for names in required), "an option that is needed is missing"


@pytest.mark.parametrize("line", MENTIONS)
def test_commands_in_sentences_exist(line: str) -> None:
    _check_options(*_command_and_options(line))


@pytest.mark.parametrize("name", sorted(TEXTS.keys() - {*OLD_NAMES}))
def test_options_in_sentences_are_options_of_a_command(name: str) -> None:
    every = {"--help"}.union(*map(_options, (get_command(app), *dict(walked()).values())))
    spans = _CODE.findall(_BLOCK.sub("", TEXTS[name]))
    ours = [span for span in spans if not span.startswith("python ")]
    assert {option for span in ours for option in _OPTION.findall(span)} - every == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_guide_names_every_command(name: str) -> None:
    assert any(re.search(rf"survey-qa {name}\b", text) for text in GUIDES)


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = [link for link in _LINK.findall(_BLOCK.sub("", TEXTS[name])) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_files_modules_and_targets_exist(name: str) -> None:
    text = TEXTS[name]
    files = [path for path in _FILE.findall(text) if (ROOT / path.split("/")[0]).is_dir()]
    modules = [module.replace(".", "/") for module in re.findall(r"python -m ([a-z_.]+)", text)]
    modules = [module for module in modules if (ROOT / module.split("/")[0]).is_dir()]
    assert [path for path in files if not (ROOT / path).exists()] == []
    assert [path for path in modules if not list(ROOT.glob(f"{path}*"))] == []
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"`make ([a-z]+)`", text) + re.findall(r"^make ([a-z]+)", text, re.M)
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


def test_every_page_is_in_the_index() -> None:
    links = set(_LINK.findall(TEXTS["docs/README.md"]))
    pages = {path.name for path in PAGES if path.parent.name == "docs"} - {"README.md"}
    assert pages - links == set()


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].split()) < 900
