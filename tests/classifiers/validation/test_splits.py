"""Dividing a sample: whole nights, classes alike on both sides, other nights for another seed."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from classifiers.estimators.fit import fit_part
from classifiers.sample.features import Features, Layout
from classifiers.sample.held import HeldVectors
from classifiers.sample.sample import Sample
from classifiers.validation.splits import split_by_group


def uneven_sample(n_nights: int = 24, seed: int = 0) -> Sample:
    """Return a sample whose nights differ in size and in what they hold, as real ones do."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 200, n_nights)
    shares = rng.dirichlet([3.0, 1.0, 0.7, 0.5], n_nights)
    labels = np.concatenate(
        [rng.choice(4, size, p=share) for size, share in zip(sizes, shares, strict=True)]
    )
    n = len(labels)
    return Sample(
        held=HeldVectors.of(np.zeros((n, 1), np.float32)),
        rows=np.arange(n),
        layout=Layout(1),
        labels=labels,
        weights=np.ones(n),
        expnum=np.arange(n) // 10,
        ccdnum=np.ones(n, np.int16),
        night=np.repeat(np.arange(n_nights), sizes),
        classes=("good", "PSF", "Ghost_scatter", "Noise"),
        nights=tuple(f"decam/{20140801 + index}" for index in range(n_nights)),
        release="sim",
        features=Features(("toy",)),
        settings=("",),
        fingerprint="",
        n_missing=0,
    )


@pytest.mark.parametrize("by", ["night", "exposure"])
def test_each_seed_divides_otherwise_and_groups_stay_whole(by: str) -> None:
    """Without other nights for another seed, a deviation over seeds would be no deviation."""
    sample = uneven_sample()
    groups = sample.night if by == "night" else sample.expnum
    splits = set()
    for seed in range(10):
        held_out = split_by_group(sample, by, 0.3, seed)
        assert not set(groups[held_out]) & set(groups[~held_out])
        for label in range(4):
            assert held_out[sample.labels == label].mean() == pytest.approx(0.3, abs=0.2)
        assert np.array_equal(held_out, split_by_group(sample, by, 0.3, seed))
        splits.add(held_out.tobytes())
    assert len(splits) >= 9


def test_the_vectors_of_a_fit_are_in_memory_once() -> None:
    """Beside the sample's own, in half precision: a training of a million is of some 5 GB then."""
    sample = uneven_sample(n_nights=300)
    vectors = np.random.default_rng(0).normal(size=(len(sample), 300)).astype(np.float16)
    sample = replace(sample, held=HeldVectors.of(vectors), layout=Layout(300))
    fit_part(sample, "knn", 0)  # imports
    tracemalloc.start()
    try:
        fit_part(sample, "knn", 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    single = 4 * vectors.size
    assert single < peak < 1.5 * single


def test_pieces_are_all_of_a_sample_and_none_is_small() -> None:
    sample = uneven_sample()
    pieces = {size: [len(one) for one in sample.pieces(size)] for size in (1, 100, 10_000)}
    assert {sum(sizes) for sizes in pieces.values()} == {len(sample)}
    assert len(pieces[10_000]) == 1 and min(pieces[100]) == 100 and max(pieces[100]) < 200
    assert [len(one) for one in sample.take(np.arange(0)).pieces()] == [0]
