"""Fitting a linear probe to a million vectors, and scikit-learn's on some of them.

    python -m bench.logistic [--vectors 1000000] [--sklearn 20000]

One fit of `classifiers.estimators.logistic.LogisticProbe` to vectors of 768 dimensions in 12
classes that overlap, with its seconds, steps, peak memory and accuracy on vectors it has not seen.
Beside it, in the same run, scikit-learn's ``LogisticRegression(solver="lbfgs")`` on the
standardised vectors: on a subsample, since on all of them it would need several times the memory;
both are fitted to that, to the same tolerance, and have to agree.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from classifiers.estimators.logistic import LogisticProbe

DIMENSION, CLASSES = 768, 12
#: What a million may take.
MINUTES, GIB = 5, 8
#: Most by which the accuracies of the two fits to the subsample may differ.
_SAME = 0.002


def vectors(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` vectors (n, 768) float32 and labels that no linear rule gets all right.

    Their variance falls over the directions as that of image embeddings does, and their labels
    depend on all of them.
    """
    fixed = np.random.default_rng(0)
    rng = np.random.default_rng(seed)
    widths = (np.arange(1, DIMENSION + 1) ** -0.5).astype(np.float32)
    turn = np.linalg.qr(fixed.normal(size=(DIMENSION, DIMENSION)))[0].astype(np.float32)
    slopes = fixed.normal(size=(DIMENSION, CLASSES)).astype(np.float32)
    made = np.empty((n, DIMENSION), np.float32)
    labels = np.empty(n, np.intp)
    for start in range(0, n, 1 << 16):
        rows = slice(start, min(start + (1 << 16), n))
        inner = rng.standard_normal((rows.stop - start, DIMENSION), dtype=np.float32) * widths
        noise = rng.gumbel(size=(rows.stop - start, CLASSES))
        labels[rows] = (inner @ slopes + noise).argmax(axis=1)
        made[rows] = inner @ turn + 1
    return made, labels


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--sklearn", type=int, default=20_000, help="of them for scikit-learn")
    options = parser.parse_args()
    train, labels = vectors(1, options.vectors)
    test, truth = vectors(2, 20_000)
    made = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = train.nbytes / 2**30
    print(f"{options.vectors:,} x {DIMENSION}, {CLASSES} classes: {size:.2f} GiB")

    start = time.perf_counter()
    probe = LogisticProbe().fit(train, labels)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    accuracy = float((probe.predict(test) == truth).mean())
    print(f"here: {seconds:.0f} s, {probe.n_iter_} steps, accuracy {accuracy:.4f}, "
          f"{len(os.sched_getaffinity(0))} cores")  # fmt: skip
    print(f"  peak memory: {peak:.2f} GiB, {made:.2f} before the fit")

    few, few_labels = train[: options.sklearn], labels[: options.sklearn]
    start = time.perf_counter()
    ours = LogisticProbe().fit(few, few_labels)
    our_seconds = time.perf_counter() - start
    start = time.perf_counter()
    scaler = StandardScaler().fit(few)
    theirs = LogisticRegression(solver="lbfgs", tol=ours.tol, max_iter=ours.max_iter)
    theirs.fit(scaler.transform(few), few_labels)
    their_seconds = time.perf_counter() - start
    scores = [
        float((found == truth).mean())
        for found in (ours.predict(test), theirs.predict(scaler.transform(test)))
    ]
    print(f"the first {len(few):,} of them:")
    print(f"  here:         {our_seconds:.1f} s, {ours.n_iter_} steps, accuracy {scores[0]:.4f}")
    print(f"  scikit-learn: {their_seconds:.1f} s, {theirs.n_iter_.max()} steps, "
          f"accuracy {scores[1]:.4f}")  # fmt: skip
    if abs(scores[0] - scores[1]) > _SAME:
        raise SystemExit("the accuracies differ")
    million = options.vectors >= 1_000_000
    if million and (seconds > 60 * MINUTES or peak > GIB):
        raise SystemExit(f"to be under {MINUTES} min and {GIB} GiB")


if __name__ == "__main__":
    main()
