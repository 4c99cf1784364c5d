"""Rounds of inspection on disk: which are closed, so that what was said in them may be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from lake import paths
from lake.store import Lake

#: Marks a round that takes no more verdicts; in ``inspections/round=…/``. It says whether every
#: inspector's verdicts are in the table yet; version 0.1.0 did not say, and closed in one go.
CLOSED = "_closed.json"
#: Who is named where the verdicts of a round are merged.
MERGED = "merged"
#: Source of what people say in rounds, and of lists of verdicts.
INSPECTION = "inspection"

Verdict = Literal["good", "bad", "unsure"]
#: How many of those who looked, the unsure among them, must call something bad.
Agree = Literal["any", "majority", "all"]
AGREE: tuple[Agree, ...] = get_args(Agree)


def agreed(rule: Agree, n_looked: int, n_bad: int, n_good: int) -> Verdict:
    """Return what `n_looked` inspectors agree on, of whom `n_bad` say bad and `n_good` say good.

    It is bad where any, more than half, or all of them say so. What is not bad is good where more
    than half say so, or, where all must say bad, any; else it is unsure.
    """
    is_bad = {"any": n_bad > 0, "majority": 2 * n_bad > n_looked, "all": n_bad == n_looked}[rule]
    if is_bad:
        return "bad"
    return "good" if 2 * n_good > n_looked or (rule == "all" and n_good > 0) else "unsure"


def round_folder(lake: Lake, name: str) -> Path:
    """Return where the verdicts of a round are."""
    return lake.root / paths.partition_path("inspections", ("round",), {"round": name})


def closing(lake: Lake, name: str) -> dict[str, Any] | None:
    """Return what the mark of a closed round says; None for a round that is open."""
    try:
        mark = json.loads((round_folder(lake, name) / CLOSED).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # a mark that cannot be read still is one
        return {"whole": False}
    return mark if isinstance(mark, dict) else {"whole": False}


def closed_rounds(lake: Lake) -> list[str]:
    """Return the closed rounds whose verdicts are all in the table ``inspections``."""
    names = [partition["round"] for partition in lake.partitions("rounds")]
    marks = {name: closing(lake, name) for name in names}
    return [name for name, mark in marks.items() if mark is not None and mark.get("whole", True)]
