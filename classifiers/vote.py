"""Let the CCDs of an exposure vote on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import queries
from classifiers.exposures.vote import learned_inputs, learned_votes
from classifiers.model import load_model
from classifiers.predict import chosen_nights
from classifiers.sample.nights import by_night
from lake.errors import BadInput, NotFound
from lake.keeping import with_kept
from lake.paths import check_name
from lake.progress import Progress
from lake.record import Record, model_reference, table_reference
from lake.store import Lake, Partition
from queries.engine import run_sql

STAGE = "vote"
#: How an exposure is decided: by the share (or number) of its bad CCDs, or learned.
RULES = ("share", "learned")


@dataclass(frozen=True)
class VoteSummary:
    """Partitions done and skipped as unchanged; exposures that voted and bad ones among them.

    `n_kept` votes stay since their exposures cannot vote any more; `n_left` nights stay as they
    were, since the model that voted was another one.
    """

    done: int
    skipped: int
    n_exposures: int
    n_bad: int
    n_kept: int = 0
    n_left: int = 0


def vote(
    lake: Lake,
    model: str,
    *,
    rule: str = "share",
    min_probability: float = 0.9,
    min_fraction: float = 0.5,
    min_ccds: int | None = None,
    partitions: Sequence[str] = (),
    force: bool = False,
    progress: Progress | None = None,
) -> VoteSummary:
    """Write one row per exposure to ``votes``: is it bad, and of what class.

    With the rule ``share`` a CCD is bad when its class is and its probability is at least
    `min_probability`; an exposure is when at least the share `min_fraction` of its CCDs are (Luo
    et al. 2026, section 3: 10 of 20), or, where `min_ccds` is given, at least so many (their code:
    more than 2, that is 3, with a probability above 0.9; here 0.9 itself counts too).

    With ``learned`` the model classifies the exposure at once (`classifiers.exposures.classifier`),
    and a CCD is bad when its probability of not being good is at least `min_probability`. An
    exposure that is is_bad bad is so as a whole, unless its class usually strikes some CCDs only:
    then the list names those, and where no CCD is more likely bad than good, the judgement is not
    confirmed and falls (but stands, for the whole exposure, where no good one is as far from what
    is usual). One with a share `min_fraction` of bad CCDs is bad as a whole too. A vote that finds
    bad CCDs alone names their class with `is_bad` false. The probability is that of being bad,
    calibrated, or of being good.

    Raises
    ------
    SurveyError : settings out of range, a model that has predicted nothing yet, or that cannot
        classify exposures.
    """
    _check(rule, min_probability, min_fraction, min_ccds)
    predicted = lake.partitions("predictions", model=check_name("model", model))
    if not predicted:
        raise NotFound(
            f"no predictions of model {model!r} in {lake.root}; run `survey-qa predict --model "
            f"{model}` first"
        )
    if not any(partition.num_rows() for partition in predicted):
        raise BadInput(
            f"model {model!r} has predicted no CCD at all; embed and predict before it can vote"
        )
    settings: dict[str, Any] = {
        "rule": rule,
        "min_probability": min_probability,
        "min_fraction": min_fraction if min_ccds is None else None,
        "min_ccds": min_ccds,
    }
    trained = load_model(lake, model) if rule == "learned" else None
    chosen = chosen_nights(lake, predicted, partitions)
    stale = []
    for partition in chosen:
        inputs = {table_reference("predictions", dict(partition.keys)): partition.identity()}
        if trained is not None:
            inputs.update(learned_inputs(lake, trained, partition))
        record = Record(STAGE, settings, inputs)
        if force or not lake.is_current("votes", dict(partition.keys), record):
            stale.append((partition, record))
    n_exposures = n_bad = 0
    kept: Counter[str] = Counter()
    if stale:
        nights = [partition for partition, _ in stale]
        tables: Iterable[pa.Table]
        if trained is None:
            tables = _votes(lake, model, nights, settings)
        else:
            tables = learned_votes(lake, trained, nights, min_probability, min_fraction)
        voted = _with_kept(lake, stale, tables, kept)
        for number, mine in enumerate(lake.write_many("votes", voted), start=1):
            n_exposures += mine.num_rows
            n_bad += pc.sum(mine["is_bad"]).as_py() or 0
            if progress is not None:
                progress(number, len(stale))
    return VoteSummary(
        len(stale) - kept["left"],
        len(chosen) - len(stale),
        n_exposures,
        n_bad,
        kept["kept"],
        kept["left"],
    )


def _with_kept(
    lake: Lake,
    stale: Sequence[tuple[Partition, Record]],
    tables: Iterable[pa.Table],
    kept: Counter[str],
) -> Iterator[tuple[dict[str, str], pa.Table, Record]]:
    """Yield the votes of each night with those that stay, and count these."""
    for (partition, record), rows in zip(stale, tables, strict=True):
        keys = dict(partition.keys)
        before = lake.record("votes", keys)
        model = model_reference(keys["model"])
        is_same = before is not None and before.inputs.get(model) == record.inputs.get(model)
        whole, n_kept = with_kept(lake, "votes", keys, rows, is_same)
        kept["left" if whole is None else "kept"] += 1 if whole is None else n_kept
        if whole is not None:
            yield keys, whole, record


def _votes(
    lake: Lake, model: str, partitions: Sequence[Partition], settings: dict[str, Any]
) -> list[pa.Table]:
    """Count the votes of all the partitions at once: one scan, not one per night."""
    nights = [int(partition["night"]) for partition in partitions]
    rows = run_sql(
        lake,
        Path(queries.__path__[0], "vote.sql").read_text(),
        {
            "model": model,
            "first_night": min(nights),
            "last_night": max(nights),
            "classes": ",".join(_classes(partitions)),
            **{name: value for name, value in settings.items() if name != "rule"},
        },
    )
    values = rows.drop_columns(["camera", "night"])
    of_night = by_night(rows)
    return [
        values[of_night.get((partition["camera"], partition["night"]), slice(0, 0))]
        for partition in partitions
    ]


def _classes(partitions: Sequence[Partition]) -> list[str]:
    """Return the order of the probabilities, which must be one for all partitions."""
    orders = set()
    for partition in partitions:
        record = partition.record()
        orders.add(tuple(record.notes.get("classes", ())) if record else ())
    if len(orders) != 1 or () in orders:
        raise BadInput(
            f"predictions of model {partitions[0]['model']} are of several versions of it; run "
            "`survey-qa predict` again"
        )
    return list(orders.pop())


def _check(rule: str, min_probability: float, min_fraction: float, min_ccds: int | None) -> None:
    if rule not in RULES:
        raise BadInput(f"--rule {rule!r}: choose one of {', '.join(RULES)}")
    if rule == "learned" and min_ccds is not None:
        raise BadInput("--min-ccds belongs to --rule share; with learned use --min-fraction")
    if not 0 <= min_probability <= 1:
        raise BadInput(f"--min-probability {min_probability}: give a probability from 0 to 1")
    if not 0 < min_fraction <= 1:
        raise BadInput(f"--min-fraction {min_fraction}: give a share above 0 and up to 1")
    if min_ccds is not None and min_ccds < 1:
        raise BadInput(f"--min-ccds {min_ccds}: give a number of CCDs from 1 up")
