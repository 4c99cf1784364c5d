"""Making one verdict of several, and how far several agree. Pure: nothing here reads the lake."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from inspector.judgement import Judgement
from lake.verdicts import Verdict, agreed

#: ``any``, ``majority``, ``all`` of those who looked (the unsure among them) must call it bad;
#: ``quasar``: at least three looked, more than half agree, and their mean quality is above 2.5
#: (Green et al. 2025, section 4: what trains is above 2.5, a merger's word too).
Rule = Literal["any", "majority", "all", "quasar"]
RULES: tuple[Rule, ...] = get_args(Rule)
#: Quality that a merged verdict must exceed, and how many must have looked.
QUASAR_QUALITY, QUASAR_LOOKS = 2.5, 3


@dataclass(frozen=True)
class Outcome:
    """A merged verdict; `quality` is the mean of those who agree with it, None when none gave any.

    `settled_by` names the merger, where one decided; `inspectors` are those who agree.
    """

    verdict: Verdict
    class_name: str | None
    quality: float | None
    comment: str
    n_looked: int
    n_bad: int
    settled_by: str | None = None
    inspectors: tuple[str, ...] = ()


def disagree(judgements: Sequence[Judgement]) -> bool:
    """Tell whether a merger is needed: verdicts differ, or classes among the bad."""
    return len({_said(judgement) for judgement in judgements}) > 1


def merge(
    judgements: Mapping[str, Judgement],
    rule: Rule,
    precedence: Sequence[str],
    settled: tuple[str, Judgement] | None = None,
) -> Outcome:
    """Return what several inspectors' judgements of one subject come to.

    Parameters
    ----------
    judgements : inspector -> judgement; at least one.
    precedence : classes; the first decides between classes that as many give.
    settled : the merger's name and judgement, which is taken as it is; by ``quasar`` it is unsure
        unless its own quality is above 2.5.
    """
    n_looked = len(judgements)
    n_bad = sum(judgement.verdict == "bad" for judgement in judgements.values())
    if settled is not None:
        who, judgement = settled
        quality = None if judgement.quality is None else float(judgement.quality)
        verdict, class_name = judgement.verdict, judgement.class_name
        if rule == "quasar" and (quality is None or quality <= QUASAR_QUALITY):
            verdict, class_name = "unsure", None
        return Outcome(
            verdict,
            class_name,
            quality,
            judgement.comment,
            n_looked,
            n_bad,
            who,
            tuple(name for name, each in judgements.items() if each.verdict == verdict),
        )
    verdict = _verdict(judgements, rule, n_bad)
    agreeing = {who: each for who, each in judgements.items() if each.verdict == verdict}
    quality = _mean_quality(agreeing)
    if rule == "quasar" and (
        n_looked < QUASAR_LOOKS or quality is None or quality <= QUASAR_QUALITY
    ):
        verdict = "unsure"
    class_name = _commonest_class(agreeing, precedence) if verdict == "bad" else None
    comment = " | ".join(dict.fromkeys(each.comment for each in agreeing.values() if each.comment))
    return Outcome(
        verdict, class_name, quality, comment, n_looked, n_bad, inspectors=tuple(agreeing)
    )


def _verdict(judgements: Mapping[str, Judgement], rule: Rule, n_bad: int) -> Verdict:
    n_good = sum(judgement.verdict == "good" for judgement in judgements.values())
    return agreed("majority" if rule == "quasar" else rule, len(judgements), n_bad, n_good)


def _mean_quality(judgements: Mapping[str, Judgement]) -> float | None:
    given = [each.quality for each in judgements.values() if each.quality is not None]
    return sum(given) / len(given) if given else None


def _commonest_class(judgements: Mapping[str, Judgement], precedence: Sequence[str]) -> str | None:
    counts = Counter(each.class_name for each in judgements.values() if each.class_name)
    rank = {name: place for place, name in enumerate(precedence)}
    return min(counts, key=lambda name: (-counts[name], rank.get(name, len(rank))), default=None)


def _said(judgement: Judgement) -> str:
    """Return the category of a judgement: good, unsure, or bad with its class."""
    if judgement.verdict != "bad":
        return judgement.verdict
    return judgement.class_name or "bad"


@dataclass(frozen=True)
class Agreement:
    """How far inspectors agree.

    Attributes
    ----------
    subjects : that at least two looked at.
    unanimous : of these, where all gave one verdict.
    kappa_verdict, kappa_class : Fleiss' kappa over good, bad, unsure, and over classes; None
        where it is not defined.
    differences : (inspector, what they said, another, what that one said) -> subjects.
    """

    subjects: int
    unanimous: int
    kappa_verdict: float | None
    kappa_class: float | None
    differences: Mapping[tuple[str, str, str, str], int]


def agreement(judgements: Sequence[Mapping[str, Judgement]]) -> Agreement:
    """Return how far the inspectors of several subjects agree."""
    shared = [each for each in judgements if len(each) > 1]
    differences: Counter[tuple[str, str, str, str]] = Counter()
    for each in shared:
        for one, other in combinations(sorted(each), 2):
            said = _said(each[one]), _said(each[other])
            if said[0] != said[1]:
                differences[one, said[0], other, said[1]] += 1
    return Agreement(
        len(shared),
        sum(len({j.verdict for j in each.values()}) == 1 for each in shared),
        fleiss_kappa([Counter(j.verdict for j in each.values()) for each in shared]),
        fleiss_kappa([Counter(_said(j) for j in each.values()) for each in shared]),
        dict(differences.most_common()),
    )


def fleiss_kappa(ratings: Sequence[Mapping[str, int]]) -> float | None:
    """Return Fleiss' kappa of subjects' counts of ratings by category (Fleiss 1971).

    Subjects need not have the same number of ratings; those with one tell nothing and do not
    count. None when there is nothing to compare, or all ratings fall into one category.
    """
    ratings = [each for each in ratings if sum(each.values()) > 1]
    total = sum(sum(each.values()) for each in ratings)
    if not ratings:
        return None
    observed = 0.0
    totals: Counter[str] = Counter()
    for each in ratings:
        n = sum(each.values())
        observed += sum(count * (count - 1) for count in each.values()) / (n * (n - 1))
        totals.update(each)
    observed /= len(ratings)
    expected = sum((count / total) ** 2 for count in totals.values())
    return None if expected == 1 else (observed - expected) / (1 - expected)
