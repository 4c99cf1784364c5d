"""The reference says what the code has."""

from __future__ import annotations

import pytest

from docs.reference import HERE, PAGES, commands_page, tables_page
from lake.tables import TABLES
from tests.cli.test_commands import NAMES


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_up_to_date(name: str) -> None:
    text = (HERE / name).read_text(encoding="utf-8")
    assert text == PAGES[name](), f"docs/{name} is out of date: run `make reference`"


def test_every_command_has_a_section_with_its_options() -> None:
    sections = commands_page().split("\n## ")
    assert sorted(section.splitlines()[0] for section in sections[1:]) == NAMES
    train = next(section for section in sections if section.startswith("train\n"))
    assert "| `--test-fraction <float>` | Share that is held out. | 0.3 |" in train
    assert "| `--model <str>` | Name of the model. | needed |" in train


def test_every_table_has_a_section_with_its_columns() -> None:
    page = tables_page()
    assert [f"## {name}" in page for name in TABLES] == [True] * len(TABLES)
    votes = page.split("\n## votes\n")[1].split("\n## ")[0]
    assert "| **`expnum`** | int64 |  | exposure number of the camera |" in votes
    assert "| `is_bad` | bool |  | whether the exposure is bad |" in votes


def test_a_bar_does_not_end_a_cell() -> None:
    rows = [line for line in commands_page().splitlines() if line.startswith("| ")]
    assert any("\\|" in row for row in rows)
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}
