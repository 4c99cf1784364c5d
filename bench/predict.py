"""Predictions a second: this project's neighbours against the published configuration.

Both classify the same vectors of 768 dimensions with the same fitted pipeline (MinMaxScaler, PCA
to 15, VarianceThreshold, 7 neighbours by the L1 distance), in one run; the published one uses
scikit-learn's ``KNeighborsClassifier`` with leaf size 1 (Luo et al. 2026, section 3.1). Neighbours
have to be the same up to ties, or the run fails.

    python -m bench.predict --train 41000 --vectors 50000
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from classifiers import estimators
from classifiers.features import Layout
from classifiers.vectors import in_chunks

_DIMENSION = 768
_CLASSES = 12
_RELEASE = 5_672_660


def vectors(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` vectors (n, 768) float32 in 12 classes that overlap, and their labels.

    Their variance falls over some 30 directions as that of image embeddings does.
    """
    fixed = np.random.default_rng(0)
    basis = np.linalg.qr(fixed.normal(size=(_DIMENSION, 30)))[0].T
    widths = 1.5 * np.arange(1, 31) ** -0.7
    centres = fixed.normal(size=(_CLASSES, 30)) * widths * 1.5
    labels = rng.integers(0, _CLASSES, n)
    inner = centres[labels] + rng.normal(size=(n, 30)) * widths
    noise = 0.02 * rng.standard_normal((n, _DIMENSION), dtype=np.float32)
    return (inner @ basis).astype(np.float32) + noise, labels


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=41_000, help="vectors to learn from")
    parser.add_argument("--vectors", type=int, default=50_000, help="vectors to predict")
    parser.add_argument("--published", type=int, default=4_000, help="of them by the published way")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    train, labels = vectors(rng, options.train)
    queries, _ = vectors(rng, options.vectors)

    start = time.perf_counter()
    pipeline = estimators.build("knn", Layout(_DIMENSION), len(train))
    estimators.fit(pipeline, train, labels, np.ones(len(train)))
    print(f"fit: {len(train):,} vectors in {time.perf_counter() - start:.1f} s")

    start = time.perf_counter()
    in_chunks(queries, lambda part: estimators.probabilities(pipeline, part, _CLASSES))
    ours = len(queries) / (time.perf_counter() - start)

    reducer, last = pipeline[:-1], pipeline[-1]
    published = KNeighborsClassifier(7, p=1, leaf_size=1, algorithm="kd_tree")
    published.fit(last.vectors_, labels)
    few = queries[: options.published]
    start = time.perf_counter()
    published.predict_proba(reducer.transform(few))
    theirs = len(few) / (time.perf_counter() - start)

    points = reducer.transform(few)
    distances, indices = last.kneighbors(points)
    their_distances, their_indices = published.kneighbors(points)
    # The same neighbours, but for equal distances: then the distances are the same nonetheless.
    if not np.allclose(distances, their_distances, rtol=1e-6, atol=1e-9):
        raise SystemExit("the neighbours are not those of the published configuration")
    same = float((np.sort(indices, axis=1) == np.sort(their_indices, axis=1)).all(axis=1).mean())

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"cores: {len(os.sched_getaffinity(0))}, peak memory: {peak:.1f} GiB")
    print(f"published, leaf size 1: {theirs:9,.0f} predictions/s")
    print(f"here:                   {ours:9,.0f} predictions/s, {ours / theirs:.1f} times")
    print(f"neighbours the same:    {same:9.2%} of {len(few):,}, distances of all")
    print(f"a release of {_RELEASE:,}: {_RELEASE / ours / 60:.1f} min")


if __name__ == "__main__":
    main()
