"""Dividing a sample: whole nights, classes alike on both sides, other nights for another seed."""

from __future__ import annotations

import numpy as np
import pytest

from classifiers.division import divide
from classifiers.inputs.features import Features, Layout
from classifiers.inputs.sample import Sample


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
        vectors=np.zeros((n, 1), np.float32),
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
    divisions = set()
    for seed in range(10):
        held_out = divide(sample, by, 0.3, seed)
        assert not set(groups[held_out]) & set(groups[~held_out])
        for label in range(4):
            assert held_out[sample.labels == label].mean() == pytest.approx(0.3, abs=0.2)
        assert np.array_equal(held_out, divide(sample, by, 0.3, seed))
        divisions.add(held_out.tobytes())
    assert len(divisions) >= 9
