"""How much a CCD is worth a look: one number each, larger for more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: What can be asked for, and what each looks for.
STRATEGIES = {
    "entropy": "the ensemble's members disagree most (Green et al. 2025)",
    "margin": "the first two classes are closest",
    "least-certain": "the first class has the least share",
    "anomalous": "an isolation forest finds it unlike the rest",
    "label-error": "labelled, and the members that have not learned from it say otherwise",
    "random": "drawn by lot, to compare with",
}


def entropy(shares: np.ndarray) -> np.ndarray:
    """Return H = -sum C log2 C of class shares (n, n_classes), in bits (eq. 3.2)."""
    logarithms = np.log2(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.abs(-(shares * logarithms).sum(axis=1))  # no -0


def margin(shares: np.ndarray) -> np.ndarray:
    """Return 1 less the distance of the two largest shares, 0 to 1."""
    first = np.sort(shares, axis=1)
    return 1 - (first[:, -1] - first[:, -2])


def least_certain(shares: np.ndarray) -> np.ndarray:
    """Return 1 less the largest share, 0 to 1."""
    return 1 - shares.max(axis=1)


def label_error(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the share of the members that do not give the label (n,), 0 to 1.

    Beside `classifiers.label_errors`, which asks fits that have not seen the night and compares
    with how probable a class usually is: this one asks what a selection has anyway, the ensemble,
    whose members have not seen the exposure but may have seen its night, and obeys the selection's
    limits.
    """
    return 1 - shares[np.arange(len(labels)), labels]


#: Strategies that need nothing but the shares.
OF_SHARES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": entropy,
    "margin": margin,
    "least-certain": least_certain,
}
#: Strategies that need an ensemble.
OF_ENSEMBLE = (*OF_SHARES, "label-error")


def lot(expnum: np.ndarray, seed: int) -> np.ndarray:
    """Return a number from 0 to 1 for each exposure that depends on it and the seed alone.

    Two rounds of splitmix64: what is drawn does not depend on what else there is to draw from.
    """
    with np.errstate(over="ignore"):
        mixed = expnum.astype(np.uint64) + np.uint64(seed % 2**63) * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(2):
            mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed.astype(np.float64) / 2.0**64
