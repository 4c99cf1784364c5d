"""Do the vectors of whole focal planes help to find ghosts: ``python -m bench.ghosts FOLDER``.

Simulates a survey of 624 exposures on 24 nights, three in five with a defect, and more ghosts than
of any other (their strengths as by default: two fifths cannot be seen, and half of the rest lie
below twice what can). The lists name what they name, errors included. The judge of exposures
(`classifiers.exposures.classifier`) learns from them, once with the vectors of CCDs alone and once
with those of the focal plane too; each night is judged by one that has not seen it, so that every
ghost counts. Beside it stands the vote of CCDs, each on its own: their mean probability of a ghost.

Against the truth: the recall of ghosts among all exposures at equal precision, with 95 % intervals
over nights drawn with replacement, and the difference between the two on the same draws. What is in
the folder already is used again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from classifiers.estimators.fit import fit_part
from classifiers.exposures.classifier import train_exposure_classifier
from classifiers.exposures.features import describe
from classifiers.sample.features import Features
from classifiers.sample.sample import Sample, read_sample
from classifiers.sample.vectors import embedded_nights, in_chunks, read_vectors
from embedders.engine import run as embed
from ingest.ccds import ingest
from ingest.reports import ingest_reports
from lake.store import Lake, Partition, read_file
from queries.merge_labels import merge_labels
from simulator.conditions import CLASSES, Settings
from simulator.survey import simulate

GHOST = "Ghost_scatter"
#: What the judge is told, by name.
INPUTS = {
    "CCDs": ("statistics",),
    "CCDs and focal plane": ("statistics", "focal-plane-statistics"),
}
CLASSIFIER = "two-step"
PRECISIONS = (0.9, 0.95)


def main() -> None:
    """Run and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the survey and its lake, about 1 GB")
    parser.add_argument("--nights", type=int, default=24)
    parser.add_argument("--exposures", type=int, default=26, help="a night")
    parser.add_argument("--ghosts", type=int, default=4, help="as often as each other defect")
    parser.add_argument("--folds", type=int, default=4, help="nights are left out in so many parts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    settings = Settings(
        n_nights=options.nights,
        exposures_per_night=options.exposures,
        bad_fraction=0.6,
        classes=CLASSES + (GHOST,) * (options.ghosts - 1),
    )
    start = time.monotonic()
    lake, truth = make_survey(options.folder, settings, options.seed)
    print(f"survey and vectors: {time.monotonic() - start:.0f} s", flush=True)
    rows = read_file(truth, columns=["expnum", "night", "class", "visible"])
    expnum, night = rows["expnum"].to_numpy(), rows["night"].to_numpy(zero_copy_only=False)
    ghost = rows["class"].to_numpy(zero_copy_only=False) == GHOST
    visible = rows["visible"].to_numpy(zero_copy_only=False).astype(bool)
    chances = {}
    for name, embedders in INPUTS.items():
        start = time.monotonic()
        voted, judged = out_of_fold(lake, embedders, expnum, options.folds, options.seed)
        chances[f"vote, {name}"], chances[f"judge, {name}"] = voted, judged
        print(f"judged from {name}: {time.monotonic() - start:.0f} s", flush=True)
    n_nights = len(np.unique(night))
    print(
        f"{len(expnum)} exposures of {n_nights} nights, {ghost.sum()} with a ghost, "
        f"{(ghost & visible).sum()} of them with a visible one\n"
    )
    report("visible ghosts (the others left out)", chances, ghost, night, visible | ~ghost)
    report("all ghosts", chances, ghost, night, np.ones(len(ghost), bool))


def make_survey(folder: Path, settings: Settings, seed: int) -> tuple[Lake, Path]:
    """Return a lake with a simulated survey, its labels and vectors, and the file of its truth."""
    survey = simulate(folder / "survey", settings, seed)
    lake = Lake(folder / "survey.lake", create=True)
    ingest(lake, [survey.ccd_table], "sim")
    ingest_reports(lake, [survey.decam_list], "decals")
    ingest_reports(lake, list(survey.delve_lists), "delve")
    merge_labels(lake, "sim")
    for embedder in sorted({name for names in INPUTS.values() for name in names}):
        embed(lake, embedder, survey.images)
    return lake, survey.truth_exposures


def out_of_fold(
    lake: Lake, embedders: tuple[str, ...], expnum: np.ndarray, folds: int, seed: int
) -> np.ndarray:
    """Return the probability of a ghost in each exposure, by its CCDs and by the judge, (2, n).

    Neither has seen the exposure's night.
    """
    sample = read_sample(lake, Features(embedders, "band"), seed=seed)
    partitions = embedded_nights(lake, sample.features)
    order = np.random.default_rng(seed).permutation(len(partitions))
    chance = np.full((2, len(expnum)), np.nan)
    for fold in range(folds):
        left_out = [partitions[index] for index in order[fold::folds]]
        for exposures, found in _judged(lake, sample, left_out, seed):
            chance[:, np.searchsorted(expnum, exposures)] = found
    return chance


def _judged(
    lake: Lake, sample: Sample, left_out: Sequence[Partition], seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return exposures (n,) and their probabilities of a ghost (2, n) of the nights left out."""
    names = [f"{partition['camera']}/{partition['night']}" for partition in left_out]
    learn = sample.take(~sample.is_of(names))
    judge = train_exposure_classifier(
        lake, learn, lambda part: fit_part(part, CLASSIFIER, seed), seed
    )
    estimator = fit_part(learn, CLASSIFIER, seed)
    ghost, n_classes = sample.classes.index(GHOST), len(sample.classes)
    found = []
    for partition in left_out:
        night = read_vectors(lake, partition, sample.features)
        of_ccds = np.zeros((len(night.expnum), n_classes), np.float32)
        of_ccds[:, estimator.classes_] = in_chunks(night.vectors, estimator.predict_proba)
        described = describe(lake, partition, night, of_ccds)
        row = np.searchsorted(described.expnum, night.expnum)
        voted = np.bincount(row, of_ccds[:, ghost]) / described.n_ccds
        judged = judge.probabilities(described.vectors)[:, ghost]
        found.append((described.expnum, np.stack([voted, judged])))
    return found


def report(
    title: str,
    chances: dict[str, np.ndarray],
    ghost: np.ndarray,
    night: np.ndarray,
    counts: np.ndarray,
    n_draws: int = 1000,
) -> None:
    """Print recall at each precision, of the exposures that count, and what the plane adds."""
    ghost, night = ghost[counts], np.unique(night[counts], return_inverse=True)[1]
    n_nights = int(night.max()) + 1
    draws = np.random.default_rng(0).multinomial(n_nights, np.full(n_nights, 1 / n_nights), n_draws)
    print(f"{title}: {ghost.sum()} of {len(ghost)} exposures")
    for precision in PRECISIONS:
        recalls = {}
        for name, chance in chances.items():
            order = np.argsort(-chance[counts], kind="stable")
            weights = np.concatenate([np.ones((1, n_nights)), draws])[:, night[order]]
            recalls[name] = recall_at(precision, chance[counts][order], ghost[order], weights)
            print(f"  recall at precision {precision:.2f}, {name:28s} {_shown(recalls[name])}")
        for way in ("vote", "judge"):
            without, with_plane = (recalls[f"{way}, {name}"] for name in INPUTS)
            print(f"    {way + ', what the focal plane adds':47s} {_shown(with_plane - without)}")


def recall_at(
    precision: float, chance: np.ndarray, ghost: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the highest recall (n_draws,) with at least that precision, 0 where there is none.

    Parameters
    ----------
    chance, ghost : (n,) probabilities, falling, and truth.
    weights : (n_draws, n) how often each exposure was drawn.
    """
    hits = np.cumsum(weights * ghost, axis=1)
    called = np.cumsum(weights, axis=1)
    # Equal probabilities are called together.
    ends = np.append(chance[1:] < chance[:-1], True)
    enough = ends & (hits >= precision * called)
    total = np.maximum(hits[:, -1], 1)
    return np.where(enough, hits, 0).max(axis=1) / total


def _shown(values: np.ndarray) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:6.3f}  ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
