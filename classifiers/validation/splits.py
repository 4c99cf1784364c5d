"""Splits of a labelled sample: which rows are held out, in whole groups."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from classifiers.sample.sample import Sample
from lake.errors import BadInput

#: How the sample can be divided: what stays together on one side.
SPLITS = ("night", "exposure", "image")


@dataclass(frozen=True)
class SplitSpec:
    """How a sample is divided into what is learned from and what is held out.

    Attributes
    ----------
    by : what is never divided: ``night``, ``exposure`` or ``image``. Luo et al. (2026) divide
        images; CCDs of an exposure then stand on both sides, and scores are too good.
    test_fraction : share of the sample that is held out; 0.3 as in section 3.1.
    held_out_like : a model whose held-out nights are held out again, whatever the fraction: so
        scores before and after a round of inspection are of the same nights.

    Raises
    ------
    SurveyError : another group, or a share that is not between 0 and 1.
    """

    by: str = "night"
    test_fraction: float = 0.3
    held_out_like: str | None = None

    def __post_init__(self) -> None:
        if self.by not in SPLITS:
            raise BadInput(f"split by {self.by!r}: choose one of {', '.join(SPLITS)}")
        if not 0 < self.test_fraction < 1:
            raise BadInput(f"test fraction {self.test_fraction}: give a share between 0 and 1")


def split_by_group(sample: Sample, by: str, test_fraction: float, seed: int) -> np.ndarray:
    """Return which rows are held out, (n,) bool: whole groups, classes alike on both sides.

    Raises
    ------
    SurveyError : there are fewer than two groups, or a side lacks good or bad images.
    """
    rows = np.arange(len(sample))
    held_out = np.zeros(len(sample), bool)
    if by == "image":
        counts = np.bincount(sample.labels)
        # A class of one image cannot be on both sides.
        alike = None if counts[counts > 0].min() < 2 else sample.labels
        test = train_test_split(rows, test_size=test_fraction, random_state=seed, stratify=alike)[1]
        held_out[test] = True
        return held_out
    groups = sample.night if by == "night" else sample.expnum
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise BadInput(
            f"all labelled CCDs are of one {by}: nothing can be held out; label more nights, or "
            "use --split image"
        )
    n_folds = min(10, n_groups)
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Classes on fewer nights than folds are expected: they are as rare as they are.
        warnings.filterwarnings("ignore", message="The least populated class")
        tests = [test for _, test in folds.split(rows, sample.labels, groups)]
    n_test = min(max(round(n_folds * test_fraction), 1), n_folds - 1)
    # Folds differ from seed to seed only where groups are alike; which are held out does always.
    drawn = np.random.default_rng(seed).permutation(n_folds)[:n_test]
    held_out[np.concatenate([tests[fold] for fold in drawn])] = True
    for side, name in ((held_out, "held out"), (~held_out, "trained on")):
        if len(np.unique(sample.labels[side])) < 2:
            raise BadInput(
                f"the {by}s {name} have labels of one class alone; label more nights or choose "
                "another --seed"
            )
    return held_out
