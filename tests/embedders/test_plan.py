"""Plans: which CCDs are drawn, and which processing of them counts."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from embedders.wanted import draw


def ccds(exposures: list[int], n: int = 62) -> list[dict[str, Any]]:
    return [{"expnum": expnum, "ccdnum": ccd} for expnum in exposures for ccd in range(1, n + 1)]


def keys(rows: list[dict[str, Any]]) -> set[tuple[int, int]]:
    return {(row["expnum"], row["ccdnum"]) for row in rows}


@given(
    st.sets(st.integers(1, 10**6), min_size=1, max_size=5),
    st.integers(1, 70),
    st.integers(0, 9),
    st.randoms(use_true_random=False),
)
def test_the_draw_depends_on_seed_and_exposure_alone(
    expnums: set[int], n: int, seed: int, random: Any
) -> None:
    rows = ccds(sorted(expnums))
    drawn = keys(draw(rows, n, seed))
    shuffled = random.sample(rows, len(rows))
    assert keys(draw(shuffled, n, seed)) == drawn
    for expnum in expnums:
        alone = keys(draw(ccds([expnum]), n, seed))
        assert alone == {key for key in drawn if key[0] == expnum}
        assert len(alone) == min(n, 62)


@given(st.integers(1, 10**6), st.integers(0, 9), st.integers(1, 62))
def test_a_ccd_that_goes_missing_displaces_one_at_most(expnum: int, seed: int, lost: int) -> None:
    rows = ccds([expnum])
    before = keys(draw(rows, 20, seed))
    after = keys(draw([row for row in rows if row["ccdnum"] != lost], 20, seed))
    assert len(before - after) <= 1


def test_every_ccd_is_drawn_about_as_often() -> None:
    drawn = draw(ccds(list(range(1, 401))), 20, 0)
    counts = [sum(row["ccdnum"] == ccd for row in drawn) for ccd in range(1, 63)]
    assert min(counts) > 80 and max(counts) < 190  # 129 expected, scatter 9
