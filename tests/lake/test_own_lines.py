"""What the tool writes into a list it knows again, and it takes no person's words for its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.own_lines import OwnLine, join_classes, read_own_line

KNOWN = ("PSF", "Noise", "Ghost_scatter")
CLASSES = st.lists(st.sampled_from(KNOWN), min_size=1, max_size=3, unique=True)
NAMES = st.text("abcXYZ019_.+-", min_size=1, max_size=12)
#: Words on a line that hold no bracket of ours.
WORDS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="[]"), max_size=30)


@given(CLASSES, st.sampled_from(("model", "round", "list")), NAMES, st.lists(WORDS))
def test_a_line_is_read_back_as_it_was_written(
    classes: list[str], kind: str, name: str, details: list[str]
) -> None:
    line = OwnLine(join_classes(classes), kind, name, " ".join(" ".join(details).split()))  # type: ignore[arg-type]
    assert read_own_line(line.text()) == line
    assert line.classes(KNOWN) == classes
    assert "\n" not in line.text()


@given(WORDS, WORDS)
def test_what_people_write_is_theirs(one: str, other: str) -> None:
    assert read_own_line(f"{one} {other}") is None


@pytest.mark.parametrize(
    "words",
    ["PSF (bad)", "trailed [see survey-qa]", "[survey-qa: person ann]", "survey-qa: model m"],
)
def test_words_that_are_nearly_ours_are_a_persons(words: str) -> None:
    assert read_own_line(words) is None


def test_what_version_0_1_0_wrote_is_known() -> None:
    line = read_own_line("Wonky (two-step: 62 of 62 CCDs)")
    assert line == OwnLine("Wonky", "model", "two-step", "62 of 62 CCDs")


def test_words_that_are_no_class_are_none() -> None:
    assert OwnLine("Bad CCD", "list", "delve").classes(KNOWN) == []
    assert OwnLine("PSF + Sky", "model", "m").classes(KNOWN) == []
