"""Apply a model to the vectors of a lake, a night at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from classifiers.model import Model, load_model
from classifiers.sample.vectors import (
    NightVectors,
    embedded_nights,
    input_references,
    read_vectors,
)
from classifiers.validation.metrics import decide
from lake.errors import NotFound
from lake.keeping import with_kept
from lake.progress import Progress
from lake.record import Record, model_reference
from lake.shares import nights, select
from lake.store import Lake, Partition

STAGE = "predict"


@dataclass(frozen=True)
class PredictSummary:
    """What prediction did.

    Attributes
    ----------
    done, skipped : partitions, those skipped being unchanged.
    n_ccds : CCDs predicted, and `n_without_column` how many of them lack a value of a column,
        which the model fills in.
    n_failed : CCDs without a usable vector.
    n_kept : predictions that stay since their CCDs lack a vector now; `n_left` nights stay as they
        were, since the model that predicted them was another one.
    """

    done: int
    skipped: int
    n_ccds: int
    n_without_column: int
    n_failed: int
    n_kept: int = 0
    n_left: int = 0


def predict(
    lake: Lake,
    model: str,
    *,
    partitions: Sequence[str] = (),
    force: bool = False,
    prune: bool = False,
    announce: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> PredictSummary:
    """Write class probabilities of every embedded CCD to ``predictions``, a partition at a time.

    A partition whose vectors and model are unchanged is skipped, so that an interrupted run goes
    on where it stopped. Memory is bounded by one night, and the predictions of a few.

    Parameters
    ----------
    partitions : as ``--partition`` takes them; all embedded nights when empty.
    force : predict unchanged partitions too.
    prune : remove the predictions of CCDs that lack a vector now, which else stay; `announce` is
        told first how many these are.
    progress : called with the partitions done and how many there are to do.

    Raises
    ------
    SurveyError : no such model, a model file that is refused, no vector at all, or vectors of
        another embedder or other settings than those it was trained on.
    """
    trained = load_model(lake, model)
    embedded = chosen_nights(lake, embedded_nights(lake, trained.features), partitions)
    if embedded and not any(partition.num_rows() for partition in embedded):
        raise NotFound(
            f"{trained.features.embedders[0]} has no vector in any of the {len(embedded):,} nights "
            "asked for; the table failures says why"
        )
    if prune:
        _announce(lake, trained, embedded, announce)
    stale = []
    for partition in embedded:
        record = _record(lake, trained, partition)
        keys = _keys(trained, partition)
        if force or prune or not lake.is_current("predictions", keys, record):
            stale.append((partition, record))
    counts: Counter[str] = Counter()

    def predicted() -> Iterator[tuple[dict[str, str], pa.Table, Record]]:
        for partition, record in stale:
            keys = _keys(trained, partition)
            trained.check_night(lake, partition)
            night = read_vectors(lake, partition, trained.features)
            lake.write_failures(STAGE, model, keys, _failures(partition, night), record)
            counts["ccds"] += len(night.expnum)
            counts["without a column"] += night.n_without_column
            counts["failed"] += len(night.unusable)
            rows = _predictions(trained, night)
            if prune:
                yield keys, rows, record
                continue
            before = lake.record("predictions", keys)
            reference = model_reference(model)
            is_same = before is not None and before.inputs.get(reference) == trained.identity
            whole, n_kept = with_kept(lake, "predictions", keys, rows, is_same)
            counts["left" if whole is None else "kept"] += 1 if whole is None else n_kept
            if whole is not None:
                yield keys, whole, record

    for number, _ in enumerate(lake.write_many("predictions", predicted()), start=1):
        if progress is not None:
            progress(number, len(stale))
    return PredictSummary(
        done=len(stale) - counts["left"],
        skipped=len(embedded) - len(stale),
        n_ccds=counts["ccds"],
        n_without_column=counts["without a column"],
        n_failed=counts["failed"],
        n_kept=counts["kept"],
        n_left=counts["left"],
    )


def _announce(
    lake: Lake,
    model: Model,
    embedded: Sequence[Partition],
    announce: Callable[[str], None] | None,
) -> None:
    """Say how many predictions go, before any does."""
    n_gone = 0
    for partition in embedded:
        keys = _keys(model, partition)
        if lake.path("predictions", keys).exists():
            night = read_vectors(lake, partition, model.features)
            rows = pa.table({"expnum": night.expnum, "ccdnum": night.ccdnum})
            n_gone += with_kept(lake, "predictions", keys, rows, may_mix=False)[1]
    if announce is not None:
        announce(f"{n_gone:,} predictions of CCDs that lack a vector are removed")


def chosen_nights(
    lake: Lake, partitions: Sequence[Partition], patterns: Sequence[str]
) -> list[Partition]:
    """Return the partitions of the nights that ``--partition`` patterns choose."""
    if not patterns:
        return list(partitions)
    # Shares follow from the CCD table alone, so that the tasks of every stage agree.
    counts = nights(lake) or {(p["camera"], p["night"]): p.num_rows() for p in partitions}
    wanted = set(select(counts, patterns))
    return [p for p in partitions if (p["camera"], p["night"]) in wanted]


def _keys(model: Model, partition: Partition) -> dict[str, str]:
    return {"model": model.name, "camera": partition["camera"], "night": partition["night"]}


def _record(lake: Lake, model: Model, partition: Partition) -> Record:
    inputs = {
        model_reference(model.name): model.identity,
        **input_references(lake, partition, model.features),
    }
    return Record(STAGE, {"model": model.name}, inputs, {"classes": list(model.classes)})


def _predictions(model: Model, night: NightVectors) -> pa.Table:
    probabilities = model.probabilities(night.vectors)
    best = decide(probabilities, model.good_first)
    n_classes = len(model.classes)
    return pa.table(
        {
            "expnum": night.expnum,
            "ccdnum": night.ccdnum,
            "class": pa.array(model.classes).take(pa.array(best)),
            "probability": probabilities[np.arange(len(best)), best],
            "probabilities": pa.ListArray.from_arrays(
                np.arange(0, (len(best) + 1) * n_classes, n_classes, dtype=np.int32),
                pa.array(probabilities.ravel()),
            ),
        }
    )


def _failures(partition: Partition, night: NightVectors) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "expnum": expnum,
            "ccdnum": ccdnum,
            "file": partition.name,
            "error": f"the vector of {embedder} is missing or not finite; embed it again",
        }
        for expnum, ccdnum, embedder in night.unusable
    ]
    fields = [("expnum", pa.int64()), ("ccdnum", pa.int16())]
    fields += [("file", pa.string()), ("error", pa.string())]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))
