"""The models of a lake and what they are worth, read from their cards alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from lake.errors import SurveyError
from lake.model_files import model_names, read_card
from lake.store import Lake

_TEXT, _NUMBER, _COUNT = pa.string(), pa.float64(), pa.int64()
_COLUMNS = {
    "model": _TEXT,
    "classifier": _TEXT,
    "embedders": _TEXT,
    "release": _TEXT,
    "classes": _COUNT,
    "n_train": _COUNT,
    "n_test": _COUNT,
    "split": _TEXT,
    "accuracy": _NUMBER,
    "macro_f1": _NUMBER,
    "leak": _NUMBER,
    "min_probability": _NUMBER,
    "coverage": _NUMBER,
    "accuracy_at_cut": _NUMBER,
    "date": _TEXT,
    "problem": _TEXT,
}


def list_models(lake: Lake) -> pa.Table:
    """Return one row per model: what it is, and its scores on what it has not seen.

    ``leak`` is the accuracy that a split by image would add; ``accuracy_at_cut`` is that of the
    share ``coverage`` with a probability of at least ``min_probability``. A model whose card cannot
    be read has the reason in ``problem``.
    """
    rows = []
    for name in model_names(lake):
        try:
            row = _row(read_card(lake, name))
        except SurveyError as error:
            row = {"problem": str(error)}
        rows.append({"model": name, **row})
    return pa.Table.from_pylist(rows, schema=pa.schema(list(_COLUMNS.items())))


def read_entries(lake: Lake, name: str) -> pa.Table:
    """Return a model's card as rows: entry (``training.release``) and value.

    Raises
    ------
    SurveyError : there is no such model, or its card is damaged.
    """
    pairs = list(_entries(read_card(lake, name)))
    return pa.table(
        {
            "entry": pa.array([entry for entry, _ in pairs], _TEXT),
            "value": pa.array([value for _, value in pairs], _TEXT),
        }
    )


def _row(card: Mapping[str, Any]) -> dict[str, Any]:
    try:
        split, training = card["split"]["by"], card["training"]
        own = card["scores"][split]
        cut = max(own, key=float)
        every, at_cut = own["0.0"], own[cut]
        by_image = card["scores"]["image"]["0.0"]["accuracy"]
        return {
            "classifier": card["classifier"],
            "embedders": ", ".join(one["name"] for one in card["embedders"]),
            "release": training["release"],
            "classes": len(card["classes"]),
            "n_train": training["n_train"],
            "n_test": training["n_test"],
            "split": split,
            "accuracy": every["accuracy"],
            "macro_f1": every["macro_f1"],
            "leak": None if split == "image" else round(by_image - every["accuracy"], 6),
            "min_probability": float(cut),
            "coverage": at_cut["coverage"],
            "accuracy_at_cut": at_cut["accuracy"],
            "date": card["date"],
        }
    except (KeyError, TypeError, ValueError) as error:
        return {"problem": f"the card lacks {error}; train the model again"}


def _entries(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, text) of every value; a list of plain values is one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entries(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for index, inner in enumerate(value):
            yield from _entries(inner, f"{name}.{index}")
    elif isinstance(value, list):
        yield name, ", ".join(str(each) for each in value)
    else:
        yield name, "" if value is None else str(value)
