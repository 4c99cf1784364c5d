"""What the page on the architecture says of doors is what the test of the house holds."""

from __future__ import annotations

import re

from docs.reference import HERE
from tests.test_house import ALLOWED, ROOMS

PAGE = (HERE / "architecture.md").read_text(encoding="utf-8")
_NAME = re.compile(r"`([a-z_]+)`")


def doors(head: str) -> dict[str, set[str]]:
    """Return name -> names in the last column, of the table that begins with `head`."""
    rows = PAGE.split(f"| {head} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    cells = [row.strip("|").split("|") for row in rows]
    return {_NAME.findall(row[0])[0]: set(_NAME.findall(row[-1])) for row in cells}


def test_packages_and_their_doors() -> None:
    assert doors("package") == ALLOWED


def test_rooms_of_classifiers_and_their_doors() -> None:
    assert doors("room") == ROOMS
