"""How much each class counts in training: as drawn, all alike, or as a survey is known to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lake.errors import BadInput, NotFound

#: Weights as the sample gives them, or the same total for every class; else shares by class.
NONE, BALANCED = "none", "balanced"


def parse(text: str) -> str | Mapping[str, float]:
    """Return what ``none``, ``balanced`` or ``good=0.97,Ghost_scatter=0.001`` says.

    Raises
    ------
    SurveyError : anything else, or shares that are not above 0 and below 1 in all.
    """
    if text in (NONE, BALANCED):
        return text
    shares: dict[str, float] = {}
    for piece in text.split(","):
        name, _, value = piece.strip().partition("=")
        try:
            shares[name] = float(value)
        except ValueError:
            raise BadInput(
                f"--class-weight {text!r}: expected {NONE}, {BALANCED}, or shares such as "
                "good=0.97,Ghost_scatter=0.001"
            ) from None
    if not all(share > 0 for share in shares.values()) or not sum(shares.values()) <= 1:
        raise BadInput(f"--class-weight {text}: the shares must be above 0 and 1 at most in all")
    return shares


def reweighted(
    labels: np.ndarray, weights: np.ndarray, classes: Sequence[str], setting: str
) -> np.ndarray:
    """Return weights (n,) that give each class its total; their sum stays as it is.

    Within a class they keep their proportions. Classes that `setting` gives no share have what the
    others leave, in proportion to their weights.

    Parameters
    ----------
    labels : (n,) index into `classes`.
    setting : as `parse` takes it.

    Raises
    ------
    SurveyError : a class that `classes` lacks, or shares that leave the others nothing.
    """
    chosen = parse(setting)
    if chosen == NONE:
        return weights
    totals = np.bincount(labels, weights, len(classes))
    present = totals > 0
    if isinstance(chosen, str):
        wanted = present / present.sum()
    else:
        wanted = _shares(chosen, totals, classes, setting)
    factors = np.divide(wanted * totals.sum(), totals, out=np.zeros(len(totals)), where=present)
    return weights * factors[labels]


def _shares(
    chosen: Mapping[str, float], totals: np.ndarray, classes: Sequence[str], setting: str
) -> np.ndarray:
    unknown = sorted(set(chosen) - set(classes))
    if unknown:
        raise NotFound(
            f"--class-weight {setting}: there are no labels of {', '.join(unknown)}; the classes "
            f"are {', '.join(classes)}"
        )
    given = np.array([name in chosen for name in classes])
    wanted = np.array([chosen.get(name, 0.0) for name in classes])
    left, others = 1 - wanted.sum(), totals[~given].sum()
    if others > 0 and left < 1e-9:
        raise BadInput(f"--class-weight {setting}: nothing is left for the other classes")
    if others > 0:
        wanted[~given] = left * totals[~given] / others
    # A class that these rows lack takes no share.
    wanted[totals == 0] = 0
    return wanted / wanted.sum()
