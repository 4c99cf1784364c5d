"""Rounds of inspection on disk: which are closed, so that what was said in them may be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lake import paths
from lake.store import Lake

#: Marks a round that takes no more verdicts; in ``inspections/round=…/``. It says whether every
#: inspector's verdicts are in the table yet; version 0.1.0 did not say, and closed in one go.
CLOSED = "_closed.json"
#: Who is named where the verdicts of a round are merged.
MERGED = "merged"
#: Source of what people say in rounds, and of lists of verdicts.
INSPECTION = "inspection"


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
