"""What a lake holds, read without this program's code, and what of it a step has damaged.

Written from the layout alone: Parquet below ``table/key=value/…``, logs of verdicts, models with
their cards. A row of a person, or one that took a computer long, never goes; a file is whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

#: Tables, the columns that tell their rows apart, and those whose values are compared.
TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ccds": (("expnum", "ccdnum"), ("ccdname", "image_filename", "mjd_obs", "fwhm")),
    "exposures": (("expnum",), ("n_ccds",)),
    "embeddings": (("expnum", "ccdnum"), ("embedding",)),
    "reports": (("edition", "line", "expnum", "ccdname", "analyst"), ("is_bad", "reason")),
    "rounds": (("camera", "expnum", "ccdnum"), ("place", "class")),
    "inspections": (
        ("camera", "expnum", "ccdnum"),
        ("verdict", "class", "quality", "comment"),
    ),
    "outcomes": (("camera", "expnum", "ccdnum"), ("verdict", "class", "quality", "comment")),
    "labels": (("expnum", "ccdnum", "source", "class", "inspector"), ("quality", "comment")),
    "predictions": (("expnum", "ccdnum"), ("class", "probability")),
    "votes": (("expnum",), ("class", "is_bad", "n_bad")),
    "test_sets": (("split", "camera", "expnum", "ccdnum"), ("class", "predicted")),
    "projections": (("expnum", "ccdnum"), ("cluster",)),
}
#: Tables whose rows come and go: failures with what is wrong, others with what is asked for.
_PASSING = (
    *("failures", "searches", "comparisons", "selections"),
    *("label_errors", "consistency", "crossmatches"),
)
_RECORD = b"survey_qa"


@dataclass
class Snapshot:
    """What a lake holds.

    Attributes
    ----------
    rows : of each table, the compared values by key (partition keys and key columns).
    logs : whole lines of each log of verdicts.
    closed : rounds whose mark says that all of their verdicts are in the table.
    damage : what is wrong with the lake in itself.
    """

    rows: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = field(default_factory=dict)
    logs: dict[str, list[bytes]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    damage: list[str] = field(default_factory=list)


def snapshot(root: Path) -> Snapshot:
    """Read everything that a lake holds; what cannot be read is damage."""
    found = Snapshot(rows={name: {} for name in TABLES})
    for path in sorted(root.rglob("*.parquet")):
        relative = path.relative_to(root)
        if any(part.startswith((".", "_")) or part == "pending" for part in relative.parts):
            continue
        try:
            table = pq.ParquetFile(path).read()
        except FileNotFoundError:
            continue  # a writer that is at work has replaced it
        except Exception as error:
            found.damage.append(f"{relative}: cannot be read: {error}")
            continue
        if not _has_record(table):
            found.damage.append(f"{relative}: no record of how it was made")
        name = relative.parts[0]
        if name in TABLES:
            _take_rows(found, name, relative, table)
        elif name not in _PASSING:
            found.damage.append(f"{relative}: no table that is known")
    for path in sorted(root.rglob("_*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        found.logs[str(path.relative_to(root))] = [line for line in lines if line.endswith(b"\n")]
    for path in sorted(root.glob("inspections/round=*/_closed.json")):
        if json.loads(path.read_bytes()).get("whole", True):
            found.closed.add(unquote(path.parent.name.partition("=")[2]))
    _check_models(root, found)
    return found


def _has_record(table: pa.Table) -> bool:
    texts = [value for key, value in (table.schema.metadata or {}).items() if _RECORD in key]
    return bool(texts) and all(isinstance(json.loads(text), dict) for text in texts)


def _take_rows(found: Snapshot, name: str, relative: Path, table: pa.Table) -> None:
    keys, values = TABLES[name]
    where = tuple(unquote(part) for part in relative.parts[1:-1])
    part = () if relative.name == "part-0.parquet" else (relative.name,)
    rows = table.select([c for c in (*keys, *values) if c in table.column_names]).to_pylist()
    mine = found.rows[name]
    for row in rows:
        key = (*where, *part, *(row.get(column) for column in keys))
        value = tuple(_plain(row.get(column)) for column in values)
        if key in mine and name != "reports":
            found.damage.append(f"{relative}: two rows of {key}")
        mine[key] = value


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_models(root: Path, found: Snapshot) -> None:
    """A model's file has the hash that its card says, or that of the card which is to come."""
    for folder in sorted(root.glob("models/*/")):
        file = folder / "model.skops"
        cards = [folder / name for name in ("model.json", "_model.json")]
        if not file.is_file():
            if (folder / "model.json").exists():
                found.damage.append(f"models/{folder.name}: a card without a model")
            continue
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        hashes = [json.loads(card.read_bytes()).get("sha256") for card in cards if card.exists()]
        if content not in hashes:
            found.damage.append(f"models/{folder.name}: the model is not that of its card")


def compare(
    before: Snapshot,
    after: Snapshot,
    may_change: Iterable[str] = (),
    may_go: Iterable[str] = (),
) -> list[str]:
    """Return what has been lost or altered between two states of a lake.

    Parameters
    ----------
    may_change : tables whose values a step may replace; what people said is never among them.
    may_go : tables from which a step may take rows, since a person has told it so.
    """
    damage = list(after.damage)
    for name, rows in before.rows.items():
        now = after.rows[name]
        if name not in may_go:
            lost = rows.keys() - now.keys()
            if lost:
                damage.append(
                    f"{name}: {len(lost)} of {len(rows)} rows gone, as {min(lost, key=str)}"
                )
        if name not in may_change:
            changed = [key for key, value in rows.items() if now.get(key, value) != value]
            if changed:
                key = changed[0]
                damage.append(
                    f"{name}: {len(changed)} of {len(rows)} rows altered, as {key}: "
                    f"{rows[key]} -> {now[key]}"[:400]
                )
    for name, lines in before.logs.items():
        if after.logs.get(name, [])[: len(lines)] != lines:
            damage.append(f"{name}: not what was written to it before")
    damage += [f"round {name}: no longer closed" for name in before.closed - after.closed]
    return damage


def differences(one: Snapshot, other: Snapshot, tables: Iterable[str] = TABLES) -> list[str]:
    """Return in which tables two lakes differ, rows that one has over the other included."""
    found = []
    for name in tables:
        a, b = one.rows[name], other.rows[name]
        if a != b:
            more, less = len(b.keys() - a.keys()), len(a.keys() - b.keys())
            changed = sum(b.get(key, value) != value for key, value in a.items())
            found.append(f"{name}: {less} rows less, {more} more, {changed} others")
    return found
