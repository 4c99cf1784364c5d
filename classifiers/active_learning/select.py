"""Choosing the exposures that people look at next, over a whole lake."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from classifiers.active_learning import som, strategies
from classifiers.active_learning.ensemble import MODELS
from classifiers.active_learning.pool import held_out_nights, learned_from, looked_at
from classifiers.active_learning.scorer import Scorer, fit_members, points_of
from classifiers.model import Model, load_model
from classifiers.predict import chosen_nights
from classifiers.sample.vectors import (
    NightVectors,
    ccd_keys,
    embedded_nights,
    input_references,
    look_up,
    read_vectors,
)
from lake.cameras import ccd_name
from lake.errors import BadInput, NotFound
from lake.progress import Progress, ticker
from lake.record import Record, model_reference
from lake.store import Lake, Partition

STAGE = "select"
#: Nights that the map and the isolation forest are shown at most.
_SAMPLED_NIGHTS = 100
#: A CCD is as uncertain as the first of its exposure from this share of its score on.
_ALIKE = 0.9


@dataclass
class Counts:
    """What became of everything that was embedded.

    Attributes
    ----------
    nights, exposures, ccds : embedded, of the nights asked for.
    held_out_nights, held_out : nights that the model holds out, and their CCDs.
    looked_at : exposures of earlier rounds or lists.
    unlabelled : CCDs without a label, where only labelled ones are asked for.
    sparse, lost : CCDs in sparse cells of the map, and exposures all of whose CCDs are.
    scored : CCDs scored, and `duplicates` those among them beside the first of their exposure.
    over_night, over_cluster : exposures passed over because their night or cluster had its share.
    zero : chosen ones that score 0: nothing is uncertain about them.
    seconds : of the scoring.
    """

    nights: int = 0
    exposures: int = 0
    ccds: int = 0
    held_out_nights: int = 0
    held_out: int = 0
    looked_at: int = 0
    unlabelled: int = 0
    sparse: int = 0
    lost: int = 0
    scored: int = 0
    duplicates: int = 0
    over_night: int = 0
    over_cluster: int = 0
    zero: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Selection:
    """What to look at, the most worthwhile first.

    `rows` has place, camera, night, expnum, ccdnum and ccdname (the CCD that decided), score,
    n_ccds (scored ones of the exposure), n_alike (those as uncertain), cluster (null without a
    map), class and probability (the class proposed, null for none), and why.
    """

    model: str
    strategy: str
    rows: pa.Table
    counts: Counts

    def subjects(self, ccds: bool = False) -> list[dict[str, Any]]:
        """Return what to look at as `inspector.rounds` takes it: exposures, or the CCD of each."""
        return [{**row, "ccdnum": row["ccdnum"] if ccds else 0} for row in self.rows.to_pylist()]


def select(
    lake: Lake,
    model: str,
    n: int,
    *,
    strategy: str = "entropy",
    n_models: int = MODELS,
    outlier_step: bool = False,
    per_night: int | None = None,
    per_cluster: int | None = None,
    looked_at_too: bool = False,
    held_out_too: bool = False,
    partitions: Sequence[str] = (),
    seed: int = 0,
    progress: Progress | None = None,
) -> Selection:
    """Choose `n` exposures (Green et al. 2025, section 3).

    Every embedded CCD is scored by the ensemble; an exposure has the score of its first CCD. A
    night is held at a time, and a row an exposure. The same seed gives the same exposures.

    Parameters
    ----------
    strategy : one of `strategies.STRATEGIES`. ``label-error`` chooses among labelled CCDs, and
        asks of each only the members that did not draw its exposure.
    n_models : members of the ensemble.
    outlier_step : drop CCDs in sparse cells of a self-organising map (`som`) over all of them.
    per_night, per_cluster : at most so many exposures of a night, of a cluster of the map.
    looked_at_too : choose among what lists name and earlier rounds have, too.
    held_out_too : and among nights that the model holds out: their labels teach it nothing.
    partitions : as ``--partition`` takes them; all embedded nights when empty.
    progress : called with the nights done and their number, over all passes.

    Raises
    ------
    SurveyError : wrong settings, no such model, or vectors that are not the model's.
    """
    _check(n, strategy, n_models, per_night, per_cluster, seed)
    trained = load_model(lake, model)
    nights = chosen_nights(lake, embedded_nights(lake, trained.features), partitions)
    needs_map = outlier_step or per_cluster is not None
    tick = ticker(len(nights) * (1 + outlier_step), progress)

    ensemble = sample = None
    if strategy in strategies.OF_ENSEMBLE:
        sample = learned_from(lake, trained)
        ensemble = fit_members(trained, sample, n_models, seed)
    shown = None
    if needs_map or strategy == "anomalous":
        shown = _shown(lake, trained, nights, seed)
    grid = som.fit_map(shown, seed) if needs_map and shown is not None else None
    sparse = None
    if outlier_step and grid is not None:
        sparse = som.sparse_cells(_occupancy(lake, trained, nights, grid, tick))

    scorer = Scorer(trained, strategy, seed, sample, ensemble, shown)
    seen = looked_at(lake, strategy != "label-error")
    labels = scorer.labels(lake) if strategy == "label-error" else None
    held_out = set() if held_out_too or labels is not None else set(held_out_nights(trained))
    counts = Counts(nights=len(nights))
    found: list[_Best] = []
    start = time.monotonic()
    for partition in nights:
        place = partition["camera"], partition["night"]
        if "/".join(place) in held_out:
            counts.held_out_nights += 1
            counts.held_out += partition.num_rows()
        else:
            gone = () if looked_at_too else seen.get(place[0], ())
            mine = None if labels is None else labels.get(place, _NO_LABELS)
            best = _night(lake, partition, scorer, counts, gone, mine, grid, sparse)
            if best is not None:
                found.append(best)
        tick()
    counts.seconds = time.monotonic() - start
    rows = _chosen(found, n, scorer, counts, per_night, per_cluster, seed)
    return Selection(model, strategy, rows, counts)


def keep_selection(
    lake: Lake, round: str, selection: Selection, settings: Mapping[str, Any]
) -> None:
    """Write what was selected for a round, with its scores: the table ``selections``."""
    model = load_model(lake, selection.model)
    inputs = {model_reference(model.name): model.identity}
    for night in embedded_nights(lake, model.features):
        inputs |= input_references(lake, night, model.features)
    made_by = {"model": selection.model, **settings, "strategy": selection.strategy}
    lake.write("selections", {"round": round}, selection.rows, Record(STAGE, made_by, inputs))


@dataclass
class _Best:
    """The first CCD of each exposure of a night: arrays (n,); shares are (n, n_classes)."""

    partition: Partition
    expnum: np.ndarray
    ccdnum: np.ndarray
    score: np.ndarray
    n_ccds: np.ndarray
    n_alike: np.ndarray
    cluster: np.ndarray
    shares: np.ndarray
    label: np.ndarray


_NO_LABELS = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def _shown(lake: Lake, model: Model, nights: Sequence[Partition], seed: int) -> np.ndarray:
    """Return points of CCDs drawn over the nights, `som.SAMPLE` of them or a few more."""
    rng = np.random.default_rng([seed, 100])
    chosen = [nights[index] for index in np.sort(rng.permutation(len(nights))[:_SAMPLED_NIGHTS])]
    share = -(-som.SAMPLE // len(chosen))
    parts: list[np.ndarray] = []
    for partition in chosen:
        vectors = read_vectors(lake, partition, model.features).vectors
        rows = np.sort(rng.permutation(len(vectors))[:share])
        parts.extend(points_of(model, vectors[rows]))
    if not parts:
        raise NotFound("no usable vectors in the nights asked for; embed them again")
    return np.concatenate(parts)


def _occupancy(
    lake: Lake, model: Model, nights: Sequence[Partition], grid: som.Map, tick: Callable[[], None]
) -> np.ndarray:
    """Return how many CCDs of all nights each cell of the map holds, (n_cells,)."""
    occupancy = np.zeros(grid.n_cells, np.int64)
    for partition in nights:
        night = read_vectors(lake, partition, model.features)
        for points in points_of(model, night.vectors):
            occupancy += np.bincount(grid.cells(points), minlength=grid.n_cells)
        tick()
    return occupancy


def _night(
    lake: Lake,
    partition: Partition,
    scorer: Scorer,
    counts: Counts,
    gone: Sequence[int] | np.ndarray,
    labels: tuple[np.ndarray, np.ndarray] | None,
    grid: som.Map | None,
    sparse: np.ndarray | None,
) -> _Best | None:
    """Score a night's CCDs; return the first of each exposure, None when nothing is left."""
    model = scorer.model
    model.check_night(lake, partition)
    night = read_vectors(lake, partition, model.features)
    exposures = np.unique(night.expnum)
    counts.exposures += len(exposures)
    counts.ccds += len(night.expnum)
    fresh = ~np.isin(night.expnum, gone)
    counts.looked_at += int(np.isin(exposures, gone).sum())
    label = np.zeros(len(night.expnum), np.int64)
    if labels is not None:
        at, known = look_up(labels[0], ccd_keys(night.expnum, night.ccdnum))
        label[known] = labels[1][at[known]]
        counts.unlabelled += int((fresh & ~known).sum())
        fresh &= known
    rows = np.flatnonzero(fresh)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    done = 0
    for points in points_of(model, night.vectors[rows]):
        mine = rows[done : done + len(points)]
        done += len(points)
        cells = np.zeros(len(points), np.int32) if grid is None else grid.cells(points)
        kept = np.ones(len(points), bool) if sparse is None else ~sparse[cells]
        counts.sparse += int((~kept).sum())
        if not kept.any():
            continue
        mine, cells = mine[kept], cells[kept]
        score, shares = scorer(points[kept], night.expnum[mine], label[mine])
        if shares is None:
            shares = np.zeros((len(mine), len(scorer.classes)))
        clusters = cells if grid is None else grid.clusters(cells)
        parts.append((mine, score, clusters, shares.astype(np.float32)))
    n_asked = len(np.unique(night.expnum[rows]))
    if not parts:
        counts.lost += n_asked
        return None
    mine, score, clusters, shares = (np.concatenate(each) for each in zip(*parts, strict=True))
    best, first = _first_of_each(partition, night, mine, score, clusters, shares, label)
    counts.lost += n_asked - len(first)
    counts.scored += len(mine)
    counts.duplicates += len(mine) - len(first)
    if scorer.strategy == "anomalous":
        best.shares = model.probabilities(night.vectors[first])
    return best


def _first_of_each(
    partition: Partition,
    night: NightVectors,
    mine: np.ndarray,
    score: np.ndarray,
    clusters: np.ndarray,
    shares: np.ndarray,
    label: np.ndarray,
) -> tuple[_Best, np.ndarray]:
    """Return the first CCD of each exposure, and the rows of `night` that these are.

    `score`, `clusters` and `shares` are of the rows `mine`; `label` is of all rows.
    """
    # Of equal scores the first CCD of an exposure decides.
    order = np.lexsort((night.ccdnum[mine], -score, night.expnum[mine]))
    mine, score, clusters, shares = mine[order], score[order], clusters[order], shares[order]
    expnum, first, of = np.unique(night.expnum[mine], return_index=True, return_inverse=True)
    alike = score >= _ALIKE * score[first][of]
    best = _Best(
        partition,
        expnum,
        night.ccdnum[mine][first],
        score[first],
        np.bincount(of),
        np.bincount(of, alike).astype(np.int64),
        clusters[first],
        shares[first],
        label[mine][first],
    )
    return best, mine[first]


def _chosen(
    found: Sequence[_Best],
    n: int,
    scorer: Scorer,
    counts: Counts,
    per_night: int | None,
    per_cluster: int | None,
    seed: int,
) -> pa.Table:
    """Take the best `n`, no more of a night or cluster than allowed; equals go by lot."""
    if not found:
        raise NotFound(
            f"nothing is left to choose from: {counts.looked_at:,} of {counts.exposures:,} "
            f"exposures were looked at already, and {counts.held_out_nights:,} of "
            f"{counts.nights:,} nights are held out"
        )
    where = np.concatenate([np.full(len(best.expnum), i) for i, best in enumerate(found)])
    row = np.concatenate([np.arange(len(best.expnum)) for best in found])
    expnum = np.concatenate([best.expnum for best in found])
    score = np.concatenate([best.score for best in found])
    cluster = np.concatenate([best.cluster for best in found])
    by_night: Counter[int] = Counter()
    by_cluster: Counter[int] = Counter()
    taken: list[tuple[_Best, int]] = []
    for index in np.lexsort((expnum, strategies.lot(expnum, seed), -score)):
        if len(taken) == n:
            break
        if per_night is not None and by_night[where[index]] >= per_night:
            counts.over_night += 1
        elif per_cluster is not None and by_cluster[cluster[index]] >= per_cluster:
            counts.over_cluster += 1
        else:
            by_night[where[index]] += 1
            by_cluster[cluster[index]] += 1
            taken.append((found[where[index]], int(row[index])))
    counts.zero = sum(bool(best.score[i] == 0) for best, i in taken)
    rows = [
        _row(place, best, i, scorer, with_cluster=per_cluster is not None)
        for place, (best, i) in enumerate(taken)
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        ("place", pa.int32()),
        ("camera", pa.string()),
        ("night", pa.int32()),
        ("expnum", pa.int64()),
        ("ccdnum", pa.int16()),
        ("ccdname", pa.string()),
        ("score", pa.float64()),
        ("n_ccds", pa.int32()),
        ("n_alike", pa.int32()),
        ("cluster", pa.int32()),
        ("class", pa.string()),
        ("probability", pa.float32()),
        ("why", pa.string()),
    ]
)


def _row(place: int, best: _Best, i: int, scorer: Scorer, with_cluster: bool) -> dict:
    camera, ccdnum = best.partition["camera"], int(best.ccdnum[i])
    shares = best.shares[i]
    top = int(shares.argmax())
    proposed = None if scorer.strategy == "random" else scorer.classes[top]
    name = ccd_name(camera, ccdnum) or str(ccdnum)
    return {
        "place": place,
        "camera": camera,
        "night": int(best.partition["night"]),
        "expnum": int(best.expnum[i]),
        "ccdnum": ccdnum,
        "ccdname": name,
        "score": float(best.score[i]),
        "n_ccds": int(best.n_ccds[i]),
        "n_alike": int(best.n_alike[i]),
        "cluster": int(best.cluster[i]) if with_cluster else None,
        "class": proposed,
        "probability": None if proposed is None else float(shares[top]),
        "why": _why(best, i, scorer, name),
    }


def _why(best: _Best, i: int, scorer: Scorer, name: str) -> str:
    """Return why a person should look, in the words of the page."""
    if scorer.strategy == "random":
        return "drawn by lot"
    shares = best.shares[i]
    order = [k for k in np.argsort(-shares, kind="stable")[:3] if shares[k] >= 0.005]
    said = ", ".join(f"{scorer.classes[k]} {shares[k]:.0%}" for k in order)
    score = best.score[i]
    head = {
        "entropy": f"entropy {score:.2f} bits: {said}",
        "margin": f"margin {1 - score:.2f}: {said}",
        "least-certain": f"least certain: {said}",
        "anomalous": f"anomaly {score:.2f}; the model says {said}",
        "label-error": f"labelled {scorer.classes[best.label[i]]}, the ensemble says {said}",
    }[scorer.strategy]
    others = int(best.n_alike[i]) - 1
    return f"{head}; CCD {name}" + (
        f" and {others} of {best.n_ccds[i] - 1} others alike" if others else " alone"
    )


def _check(
    n: int,
    strategy: str,
    n_models: int,
    per_night: int | None,
    per_cluster: int | None,
    seed: int,
) -> None:
    if strategy not in strategies.STRATEGIES:
        raise BadInput(f"--strategy {strategy!r}: choose one of {', '.join(strategies.STRATEGIES)}")
    for option, value, least in (
        ("-n", n, 1),
        ("--models", n_models, 2),
        ("--per-night", per_night, 1),
        ("--per-cluster", per_cluster, 1),
        ("--seed", seed, 0),
    ):
        if value is not None and value < least:
            raise BadInput(f"{option} {value}: give {least} or more")
