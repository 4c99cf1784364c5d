"""Partitions are chosen by name, pattern or share, the same way in every task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.errors import SurveyError
from lake.shares import Night, select

COUNTS: dict[Night, int] = {
    ("decam", "20140818"): 100,
    ("decam", "20140819"): 50,
    ("decam", "20150101"): 60,
    ("mosaic", "20150101"): 5,
}

counts = st.dictionaries(
    st.tuples(st.sampled_from(["decam", "mosaic", "90prime"]), st.integers(0, 400).map(str)),
    st.integers(0, 10_000),
    max_size=60,
)


def test_names_and_patterns() -> None:
    assert select(COUNTS, []) == sorted(COUNTS)
    assert select(COUNTS, ["night=20140818"]) == [("decam", "20140818")]
    assert select(COUNTS, ["night=2014*"]) == [("decam", "20140818"), ("decam", "20140819")]
    assert select(COUNTS, ["camera=mosaic/night=2015*"]) == [("mosaic", "20150101")]
    both = select(COUNTS, ["night=20140819", "camera=mosaic"])
    assert both == [("decam", "20140819"), ("mosaic", "20150101")]


@given(counts, st.integers(1, 20))
def test_shares_cover_everything_once(counts: dict[Night, int], of: int) -> None:
    shares = [select(counts, [f"{number}/{of}"]) for number in range(1, of + 1)]
    assert sorted(night for share in shares for night in share) == sorted(counts)


@given(counts, st.integers(1, 20))
def test_shares_are_balanced_by_rows(counts: dict[Night, int], of: int) -> None:
    loads = [
        sum(max(counts[night], 1) for night in select(counts, [f"{number}/{of}"]))
        for number in range(1, of + 1)
    ]
    largest = max((max(rows, 1) for rows in counts.values()), default=0)
    assert max(loads) - min(loads) <= largest


def test_a_share_divides_what_the_patterns_chose() -> None:
    chosen = select(COUNTS, ["night=2014*", "1/2"]) + select(COUNTS, ["night=2014*", "2/2"])
    assert sorted(chosen) == [("decam", "20140818"), ("decam", "20140819")]


@pytest.mark.parametrize("wrong", ["20140818", "nite=2014", "night=", "0/3", "4/3", "1/0"])
def test_what_cannot_be_read_is_refused(wrong: str) -> None:
    with pytest.raises(SurveyError, match="--partition"):
        select(COUNTS, [wrong])


def test_a_pattern_without_match_is_an_error() -> None:
    with pytest.raises(SurveyError, match="none of the 4 partitions match"):
        select(COUNTS, ["night=1999*"])
