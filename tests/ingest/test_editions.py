"""No edition of a list ever goes, and a shorter one takes no place without being told to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.editions import MOST_LOST, Edition, Editions, Line

LINES = st.sets(st.integers(1, 30), max_size=30)
ARRIVALS = st.lists(
    st.tuples(
        LINES, st.sampled_from(("a.txt", "b.txt")), st.sampled_from(("x", "y")), st.booleans()
    ),
    max_size=8,
)


def edition(numbers: set[int], file: str = "a.txt", place: str = "x") -> tuple[Edition, set[Line]]:
    lines: set[Line] = {((number, None, None), "PSF") for number in numbers}
    name = f"{sorted(numbers)}"
    return Edition(name, file, file, "decam", f"{place}/{file}", reports=len(numbers)), lines


def arrive(
    editions: Editions, numbers: set[int], file: str, place: str, prune: bool = False
) -> str:
    one, lines = edition(numbers, file, place)
    placing = editions.place(one, lines, is_named=False)
    editions.take(one, lines, placing, prune)
    return placing.outcome


@given(ARRIVALS)
def test_no_edition_goes_and_no_more_than_a_tenth_is_lost(
    arrivals: list[tuple[set[int], str, str, bool]],
) -> None:
    editions = Editions()
    for numbers, file, place, prune in arrivals:
        before = set(editions.known)
        current = {one.id for one in editions.known.values() if one.is_current}
        arrive(editions, numbers, file, place, prune)
        assert before <= set(editions.known)
        now = {one.id for one in editions.known.values() if one.is_current}
        gone = current - now
        assert len(gone) <= 1
        for name in gone if not prune else ():
            lost = editions.lines[name] - editions.lines[f"{sorted(numbers)}"]
            assert len(lost) <= MOST_LOST * len(editions.lines[name])


def test_the_outcomes() -> None:
    editions = Editions()
    whole = set(range(1, 21))
    assert arrive(editions, whole, "a.txt", "x") == "added"
    assert arrive(editions, whole, "a.txt", "x") == "same"
    assert arrive(editions, whole | {21}, "a.txt", "x") == "later"
    assert arrive(editions, whole, "a.txt", "x") == "earlier"
    assert arrive(editions, set(range(1, 11)), "a.txt", "x") == "shorter"
    assert arrive(editions, set(range(40, 60)), "b.txt", "x") == "added"
    assert arrive(editions, set(range(40, 61)), "renamed.txt", "y") == "later"
    assert [one.id for one in editions.known.values() if one.is_current] == [
        str(sorted(whole | {21})),
        str(list(range(40, 61))),
    ]
