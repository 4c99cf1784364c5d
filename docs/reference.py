"""The reference of commands and of tables, written from the code.

``python -m docs.reference`` writes ``docs/reference-commands.md`` and ``docs/reference-tables.md``;
a test fails when one of them is out of date.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.main import get_command

import queries
from cli.main import app
from lake.tables import TABLES, VECTOR, Column, Table
from queries.engine import JOINED
from queries.named import Parameter, Query, list_queries
from queries.reference import cut_bits

HERE = Path(__file__).resolve().parent
NOTICE = "<!-- Written by `python -m docs.reference`: edit the code, not this file. -->"
#: What the views that are no file of SQL hold.
OTHER_VIEWS = {
    "statistics": "The vectors of the embedder `statistics`, a column a feature.",
    "classes": "The classes of the lake's vocabulary and how each is balanced in training.",
    "cut_bits": "The bits of `ccd_cuts`, as below.",
}


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (name, command) of every command below `command`, in the order of the help."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from commands(below, (*words, name))
    else:
        yield " ".join(words), command


def commands_page() -> str:
    """Return the reference of commands as Markdown."""
    program = get_command(app)
    lines = [
        "# Reference: commands",
        "",
        NOTICE,
        "",
        "Every command with its arguments and options, as `survey-qa COMMAND --help` has them.",
        "What is marked as needed has to be given; `0<=x<=1` is the range that a number may have.",
        "",
        "Global options stand before or after the command:",
        "",
        *_parameters(program, "survey-qa"),
    ]
    for name, command in commands(program):
        lines += ["", f"## {name}", "", *_paragraphs(command.help or ""), ""]
        lines += _parameters(command, f"survey-qa {name}")
    return "\n".join(lines) + "\n"


def _parameters(command: Any, usage: str) -> list[str]:
    """Return the table of a command's arguments and options, as its help has them."""
    context = command.context_class(command, info_name=usage)
    rows = []
    for parameter in command.params:
        if parameter.name != "help":
            spelling, text = parameter.get_help_record(context)
            meaning, default = _default(text)
            rows.append((f"`{_sentence(spelling)}`", _sentence(meaning), _sentence(default)))
    return _table(("argument or option", "meaning", "default"), rows) if rows else []


def _default(text: str) -> tuple[str, str]:
    """Return (meaning, default) of a help text, which ends like ``[default: 0; 0<=x<=1]``."""
    meaning, bracket, rest = text.rpartition("  [")
    if not bracket:
        return text, ""
    notes = rest.removesuffix("]").split("; ")
    default = [note.removeprefix("default: ") for note in notes if note != "required"]
    return meaning, "; ".join(["needed"] * ("required" in notes) + default)


def tables_page() -> str:
    """Return the reference of tables, views, named queries and bits as Markdown."""
    lines = [
        "# Reference: tables, views and queries",
        "",
        NOTICE,
        "",
        "Every table is also a view of its name in `survey-qa sql`, partition keys included.",
        "Columns in **bold** are the key: the partition keys, which are folders and no columns of",
        "the files, then what is unique and sorted within a partition. `survey-qa schema` prints",
        "the same.",
    ]
    for table in TABLES.values():
        lines += ["", f"## {table.name}", "", f"A row is {table.row}.", "", *_columns(table)]
        if table.keeps_source_columns:
            lines += ["", "Further columns of the source are kept under their own names."]
    lines += ["", "## Views beside the tables", ""]
    lines += _table(("view", "holds"), [(f"`{name}`", text) for name, text in _views()])
    lines += ["", "## Named queries", ""]
    lines += ["`survey-qa query NAME --param NAME=VALUE` runs one.", ""]
    lines += _table(("query", "answers", "parameters"), map(_query, list_queries()))
    lines += ["", "## Bits of `ccd_cuts`", ""]
    lines += _table(
        ("bit", "value", "name", "meaning"),
        [
            (str(row["bit"]), f"`{row['value']:#x}`", f"`{row['name']}`", row["meaning"])
            for row in cut_bits().to_pylist()
        ],
    )
    return "\n".join(lines) + "\n"


def _columns(table: Table) -> list[str]:
    keys = [(f"**`{name}`**", "folder", "", "partition key") for name in table.partition]
    columns = [
        (
            f"**`{column.name}`**" if column.name in table.key else f"`{column.name}`",
            _type(column),
            column.unit,
            _sentence(column.meaning),
        )
        for column in table.columns
    ]
    return _table(("column", "type", "unit", "meaning"), keys + columns)


def _type(column: Column) -> str:
    if column.type == VECTOR:
        return "list of float16, of the embedder's length"
    return str(column.type).replace("list<item: ", "list of ").replace("element: ", "").rstrip(">")


def _views() -> Iterator[tuple[str, str]]:
    yield from ((name, text) for name, text in OTHER_VIEWS.items())
    folder = Path(queries.__file__).parent
    for name in JOINED:
        yield name, _first_comment((folder / f"{name}.sql").read_text(encoding="utf-8"))


def _first_comment(sql: str) -> str:
    """Return the comment that a file of SQL begins with, as one text without its mark."""
    words = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        words.append(line.removeprefix("--").strip())
    text = " ".join(words).removeprefix("View: ")
    return _sentence(text[:1].upper() + text[1:])


def _query(query: Query) -> tuple[str, str, str]:
    parameters = "; ".join(map(_parameter, query.parameters))
    return f"`{query.name}`", _sentence(query.answers), parameters


def _parameter(parameter: Parameter) -> str:
    if parameter.default is None:
        default = "needed"
    else:
        default = f"default `{parameter.default}`" if parameter.default else "default: all"
    return f"`{parameter.name}` ({default}): {_sentence(parameter.meaning)}"


# Markdown ---------------------------------------------------------------------------------------


def _paragraphs(text: str) -> list[str]:
    """Return help text as lines of Markdown, without the marks of the terminal."""
    return text.replace("[bold]", "**").replace("[/bold]", "**").strip().splitlines()


def _sentence(text: str) -> str:
    """Return a text as it can stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


#: File of each page.
PAGES = {"reference-commands.md": commands_page, "reference-tables.md": tables_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
