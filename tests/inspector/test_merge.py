"""One verdict of several, and how far several agree."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.judgement import Judgement
from inspector.merge import RULES, Rule, agreement, disagree, fleiss_kappa, merge

ORDER = ("Ghost_scatter", "PSF", "Noise")
CODES = {"g": "good", "b": "bad", "u": "unsure"}


def said(text: str) -> dict[str, Judgement]:
    """Read ``b:PSF:3 g u`` as the judgements of i0, i1, i2."""
    found = {}
    for number, word in enumerate(text.split()):
        code, name, quality = (*word.split(":"), "", "")[:3]
        found[f"i{number}"] = Judgement(
            CODES[code],  # type: ignore[arg-type]
            name or None,
            int(quality) if quality else None,
        )
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b g g", {"any": "bad", "majority": "good", "all": "good", "quasar": "unsure"}),
        ("b b g", {"any": "bad", "majority": "bad", "all": "good", "quasar": "unsure"}),
        ("b b b", {"any": "bad", "majority": "bad", "all": "bad", "quasar": "unsure"}),
        ("b g", {"any": "bad", "majority": "unsure", "all": "good", "quasar": "unsure"}),
        ("u u g", {"any": "unsure", "majority": "unsure", "all": "good", "quasar": "unsure"}),
        ("b b u", {"any": "bad", "majority": "bad", "all": "unsure", "quasar": "unsure"}),
        ("b::3 b::3 g::0", {"quasar": "bad"}),
        ("b::2 b::3 g::4", {"quasar": "unsure"}),
        ("b::4 b::4", {"quasar": "unsure"}),
        ("g::3 g::4 g::3", {"quasar": "good"}),
    ],
)
def test_rules(text: str, expected: dict[Rule, str]) -> None:
    for rule, verdict in expected.items():
        assert merge(said(text), rule, ORDER).verdict == verdict, rule


def test_the_class_is_the_commonest_then_the_first_by_precedence() -> None:
    assert merge(said("b:PSF b:PSF b:Noise"), "any", ORDER).class_name == "PSF"
    assert merge(said("b:Noise b:PSF g"), "any", ORDER).class_name == "PSF"
    assert merge(said("b g g"), "any", ORDER).class_name is None
    assert merge(said("b:PSF g g"), "majority", ORDER).class_name is None


def test_a_merger_has_the_last_word() -> None:
    outcome = merge(
        said("b:PSF b:PSF g"), "all", ORDER, ("mia", Judgement("bad", "Noise", 2, "hum"))
    )
    assert (outcome.verdict, outcome.class_name, outcome.quality) == ("bad", "Noise", 2.0)
    assert (outcome.settled_by, outcome.n_looked, outcome.n_bad) == ("mia", 3, 2)


@pytest.mark.parametrize(("quality", "verdict"), [(3, "bad"), (2, "unsure"), (None, "unsure")])
def test_by_the_quasar_rule_a_merger_has_to_be_sure(quality: int | None, verdict: str) -> None:
    settled = ("mia", Judgement("bad", "Noise", quality))
    outcome = merge(said("b:PSF:4 b:Noise:4 g::4"), "quasar", ORDER, settled)
    assert (outcome.verdict, outcome.settled_by) == (verdict, "mia")
    assert outcome.class_name == ("Noise" if verdict == "bad" else None)


@given(
    st.lists(st.sampled_from(["g", "b:PSF:1", "b:Noise:4", "b", "u"]), min_size=1, max_size=5),
    st.sampled_from(RULES),
    st.randoms(),
)
def test_merging_does_not_depend_on_the_order_and_keeps_unanimity(
    words: list[str], rule: Rule, random: object
) -> None:
    outcome = merge(said(" ".join(words)), rule, ORDER)
    shuffled = list(words)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = merge(said(" ".join(shuffled)), rule, ORDER)
    assert (other.verdict, other.class_name) == (outcome.verdict, outcome.class_name)
    if rule != "quasar" and len({word[0] for word in words}) == 1:
        assert outcome.verdict == CODES[words[0][0]]
    # Each rule asks for more than the one before it.
    bad = [merge(said(" ".join(words)), each, ORDER).verdict == "bad" for each in RULES[:3]]
    assert bad == sorted(bad, reverse=True)


def test_what_a_merger_must_see() -> None:
    assert not disagree(list(said("b:PSF b:PSF").values()))
    assert disagree(list(said("b:PSF b:Noise").values()))
    assert disagree(list(said("g u").values()))
    assert not disagree(list(said("g:PSF g").values()))
    assert not disagree([])


def test_kappa_of_the_textbook_example() -> None:
    # Fourteen raters, ten subjects, five categories; 0.210 is the published value.
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    ratings = [dict(zip("abcde", row, strict=True)) for row in table]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=5e-4)


def test_kappa_at_its_ends() -> None:
    assert fleiss_kappa([{"a": 3}, {"b": 3}]) == pytest.approx(1)
    assert fleiss_kappa([{"a": 1, "b": 1}, {"a": 1, "b": 1}]) == pytest.approx(-1)
    assert fleiss_kappa([{"a": 3}, {"a": 2}]) is None
    assert fleiss_kappa([{"a": 1}, {"b": 1}]) is None
    assert fleiss_kappa([]) is None


@given(st.lists(st.lists(st.sampled_from("gbu"), min_size=1, max_size=4), min_size=1, max_size=9))
def test_who_differs_from_whom_adds_up(subjects: list[list[str]]) -> None:
    found = agreement([said(" ".join(words)) for words in subjects])
    shared = [words for words in subjects if len(words) > 1]
    pairs = sum(
        one != other
        for words in shared
        for number, one in enumerate(words)
        for other in words[number + 1 :]
    )
    assert found.subjects == len(shared)
    assert found.unanimous == sum(len(set(words)) == 1 for words in shared)
    assert Counter(found.differences).total() == pairs
    assert found.kappa_verdict == found.kappa_class
