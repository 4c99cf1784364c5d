"""Whatever a person types or a file holds: one line and exit 1 or 2, never a defect's traceback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cli.main import app, run_arguments
from lake.errors import LONGEST_LINE, SurveyError
from lake.store import Lake
from queries.merge_labels import merge_labels
from tests.cli.test_commands import commands
from tests.queries.lakes import fill

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS: dict[str, Any] = dict(commands())
BUILT = get_command(app)
#: What is not a name, a number, a path or a statement, or not one that anybody meant.
HOSTILE = [
    "x" * 300,
    "dr10\n",
    "\x1b[2Jred",
    "\u202eevil",
    "../..",
    "/",
    "",
    " ",
    "-1",
    "0",
    "1e999",
    "nan",
    "٣",
    "9" * 30,
    "[/]",
    "{}%s",
    "a=b=c",
    "release=",
    "night=*",
    "1/0",
    "[",
    "(",
    "a,b,,c",
    "é" * 150,
    "\udcff\udc80",
    "/dev/null",
    "/proc/self/mem",
]


@pytest.fixture(autouse=True)
def nothing_long(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stop what a command would do after its arguments have been taken for good."""

    def stop(*_: object, **__: object) -> None:
        raise SurveyError("stopped by the test")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simulator.survey.simulate", stop)
    monkeypatch.setattr("inspector.serve.serve", stop)
    # Built once: the tree of the commands takes longer than most of what is tried here.
    monkeypatch.setattr("cli.main.app", BUILT)


@pytest.fixture(params=["none", "empty", "full"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder where a lake is, or is not; beside it files of every kind."""
    if request.param != "none":
        lake = Lake(tmp_path / "survey.lake", create=True)
        if request.param == "full":
            fill(lake)
            merge_labels(lake, "dr10")
            # Written without the lists that they came from, which reading a list asks for.
            shutil.rmtree(lake.root / "reports")
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(os.urandom(3000))
    (tmp_path / "list.txt").write_text("1 clouds\n")
    return tmp_path


def usual(parameter: Any) -> str:
    """Return a value that could be right."""
    annotation = str(parameter.type_descriptor.annotation)
    if choices := parameter.type_descriptor.choices:
        first = next(iter(choices))
        return str(getattr(first, "value", first))
    if "Path" in annotation:
        return "list.txt" if parameter.name in ("against", "file", "files") else "folder"
    if "int" in annotation or "float" in annotation:
        return "1"
    return {"release": "dr10", "embedder": "statistics", "name": "label_counts"}.get(
        parameter.name, "knn"
    )


def option(parameter: Any) -> str:
    return str(max(parameter.opts, key=len))


def is_argument(parameter: Any) -> bool:
    return not option(parameter).startswith("-")


def needed(command: Any, other_than: Any = None) -> list[str]:
    """Return arguments that make a command complete, but for one parameter."""
    words, plain = [], []
    for parameter in command.params:
        if parameter is other_than or not parameter.required:
            continue
        if is_argument(parameter):
            plain.append(usual(parameter))
        else:
            words += [option(parameter), usual(parameter)]
    return [*words, *plain]


def attempts(command: Any) -> Iterator[list[str]]:
    """Yield the arguments of a command with each parameter in turn as nobody meant it."""
    for parameter in command.params:
        if parameter.name == "help" or getattr(parameter, "is_flag", False):
            continue
        values = [*HOSTILE, "binary", "folder", "list.txt"]
        if "Path" in str(parameter.type_descriptor.annotation):
            # A folder of everything there is may rightly take long; no name is this folder.
            values = [value for value in values if value not in ("/", "../..", "")]
        for value in values:
            rest = needed(command, parameter)
            if is_argument(parameter):
                yield [*rest, "--", value] if value.startswith("-") else [*rest, value]
            else:
                yield [f"{option(parameter)}={value}", *rest]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_argument_is_a_defect(home: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    tried = list(attempts(COMMANDS[name]))
    # Without a lake of rows most arguments are not even looked at: some of them do.
    is_full = (home / "survey.lake" / "ccds").exists()
    for words in tried if is_full else tried[:: len(HOSTILE) // 4]:
        status = run_arguments([*name.split(), *words])
        said = capfd.readouterr()
        shown = (name, words, said.err[-700:])
        assert status in (0, 1, 2), shown
        assert "internal error" not in said.err and "Traceback" not in said.err, shown
        for line in said.err.splitlines() if status == 1 else ():
            assert len(line) <= LONGEST_LINE, shown
            assert line.isprintable(), shown
