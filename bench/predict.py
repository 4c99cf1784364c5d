"""Predicting a data release: a lake of vectors through `survey-qa predict`, and what others do.

    python -m bench.predict [--folder FOLDER] [--full]

Makes a lake of vectors of 768 dimensions, a tenth of DR11's 5.67 million CCDs (all of them with
``--full``: 9 GB on disk), and predicts it with the paper's classifier, as a command, start-up
included: seconds, vectors a second, peak memory. Before it, in the same run, the published
configuration classifies some of the same vectors with the same fitted pipeline (MinMaxScaler, PCA
to 15, VarianceThreshold, 7 neighbours by the L1 distance), its neighbours found by scikit-learn's
``KNeighborsClassifier`` with leaf size 1 (Luo et al. 2026, section 3.1). Neighbours have to be the
same up to ties, or the run fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from bench import made
from classifiers.estimators import registry as estimators
from classifiers.model import save_model
from classifiers.sample.features import Layout
from classifiers.sample.vectors import in_chunks
from lake.record import digest
from lake.store import Lake

CLASSES = 12
RELEASE, NIGHTS = 5_672_660, 2_400
#: What a release may take.
MINUTES, GIB = 15, 4
_MODEL = "bench"


def vectors(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` vectors (n, 768) float32 in 12 classes that overlap, and their labels."""
    labels = rng.integers(0, CLASSES, n)
    return made.vectors(rng, labels, CLASSES), labels


def fitted(n: int) -> tuple[Pipeline, np.ndarray]:
    """Return the paper's classifier, fitted to `n` vectors, and their labels."""
    train, labels = vectors(np.random.default_rng(1), n)
    start = time.perf_counter()
    pipeline = estimators.build("knn", Layout(made.DIMENSION), n)
    estimators.fit(pipeline, train, labels, np.ones(n))
    print(f"fit: {n:,} vectors in {time.perf_counter() - start:.1f} s")
    return pipeline, labels


def compare(pipeline: Pipeline, labels: np.ndarray, n_ours: int, n_theirs: int) -> None:
    """Print predictions a second here and by the published configuration, from memory."""
    queries, _ = vectors(np.random.default_rng(2), n_ours)
    few = queries[:n_theirs]
    reducer, last = pipeline[:-1], pipeline[-1]
    published = KNeighborsClassifier(7, p=1, leaf_size=1, algorithm="kd_tree")
    published.fit(last.vectors_, labels)
    in_chunks(few, lambda part: estimators.probabilities(pipeline, part, CLASSES))  # imports
    start, used = time.perf_counter(), time.process_time()
    in_chunks(queries, lambda part: estimators.probabilities(pipeline, part, CLASSES))
    ours = n_ours / (time.perf_counter() - start)
    our_core = n_ours / (time.process_time() - used)
    start, used = time.perf_counter(), time.process_time()
    published.predict_proba(reducer.transform(few))
    theirs = n_theirs / (time.perf_counter() - start)
    their_core = n_theirs / (time.process_time() - used)

    points = reducer.transform(few)
    distances, indices = last.kneighbors(points)
    their_distances, their_indices = published.kneighbors(points)
    # The same neighbours, but for equal distances: then the distances are the same nonetheless.
    if not np.allclose(distances, their_distances, rtol=1e-6, atol=1e-9):
        raise SystemExit("the neighbours are not those of the published configuration")
    same = float((np.sort(indices, axis=1) == np.sort(their_indices, axis=1)).all(axis=1).mean())
    print(f"published, leaf size 1: {theirs:9,.0f} predictions/s")
    print(f"here, from memory:      {ours:9,.0f} predictions/s, {ours / theirs:.1f} times")
    print(
        f"a core second, there: {their_core:,.0f}, here: {our_core:,.0f}, "
        f"{our_core / their_core:.1f} times"
    )
    print(f"neighbours the same:    {same:9.2%} of {len(few):,}, distances of all")


def make_lake(root: Path, pipeline: Pipeline, n_vectors: int, n_nights: int) -> None:
    """Write the model and `n_vectors` vectors, as many on each night."""
    lake = Lake(root, create=True)
    card = {
        "classes": [f"class {index}" for index in range(CLASSES)],
        "embedders": [{"name": made.EMBEDDER, "settings": digest(made.SETTINGS)}],
        "context": "none",
        "columns": [],
        "classifier": "knn",
        "training": {"release": "bench"},
    }
    save_model(lake, _MODEL, pipeline, None, card)
    rng = np.random.default_rng(3)

    def nights() -> Iterator[tuple[str, pa.Table]]:
        for number, mine in enumerate(np.array_split(np.arange(n_vectors), n_nights)):
            rows = made.embedded(
                mine // made.DRAWN, mine % made.DRAWN + 1, vectors(rng, len(mine))[0]
            )
            yield made.name_of(number), rows

    made.write_vectors(lake, nights())


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to make the lake [a temporary one]")
    parser.add_argument("--full", action="store_true", help="all 5.67 million vectors")
    parser.add_argument("--share", type=float, default=0.1, help="of them, where not all [0.1]")
    parser.add_argument("--train", type=int, default=41_000, help="vectors to learn from")
    parser.add_argument("--memory", type=int, default=50_000, help="vectors to predict from memory")
    parser.add_argument("--published", type=int, default=4_000, help="of them by the published way")
    options = parser.parse_args()
    share = 1.0 if options.full else options.share
    n_vectors, n_nights = round(RELEASE * share), max(round(NIGHTS * share), 1)

    pipeline, labels = fitted(options.train)
    compare(pipeline, labels, options.memory, options.published)
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        needed = n_vectors * (2 * made.DIMENSION + 8 * CLASSES)
        if shutil.disk_usage(folder).free < needed:
            raise SystemExit(f"{folder}: {needed / 1e9:.1f} GB are needed; name another --folder")
        start = time.perf_counter()
        make_lake(Path(folder, "lake"), pipeline, n_vectors, n_nights)
        print(
            f"made {n_vectors:,} vectors, {n_nights:,} nights: {time.perf_counter() - start:.0f} s"
        )
        command = ("predict", "--model", _MODEL)
        seconds, gib = made.timed(Path(folder, "lake"), *command)
        again, _ = made.timed(Path(folder, "lake"), *command)
    # What starting up takes is the same for a release.
    minutes = (again + (seconds - again) / share) / 60
    cores = len(os.sched_getaffinity(0))
    print(f"survey-qa predict: {seconds:.0f} s, {n_vectors / seconds:,.0f} CCDs/s, {cores} cores")
    print(f"  again, unchanged: {again:.1f} s")
    print(f"  peak memory: {gib:.2f} GiB (to be under {GIB})")
    how = "" if share == 1 else f", extrapolated from {share:.0%}"
    print(f"  a release of {RELEASE:,}: {minutes:.1f} min{how} (to be under {MINUTES})")
    if gib >= GIB or (share == 1 and minutes >= MINUTES):
        raise SystemExit("too slow or too large")


if __name__ == "__main__":
    main()
