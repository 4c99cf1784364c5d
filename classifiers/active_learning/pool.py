"""What there is to choose from: nights, what was looked at already, and what the labels say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import queries
from classifiers.model import Model
from classifiers.sample.nights import by_night
from classifiers.sample.sample import Sample
from classifiers.sample.vectors import ccd_keys
from classifiers.validation.test_set import sample_of
from lake.store import Lake
from queries.engine import run_sql

_QUERIES = Path(queries.__file__).parent
Night = tuple[str, str]


def looked_at(lake: Lake, listed: bool) -> dict[str, np.ndarray]:
    """Return the exposures of earlier rounds, with `listed` those of the lists too, by camera."""
    rows = _run(lake, "looked_at", {"listed": listed})
    return {
        camera: np.sort(rows.filter(pc.equal(rows["camera"], camera))["expnum"].to_numpy())
        for camera in rows["camera"].unique().to_pylist()
    }


def labels_by_night(
    lake: Lake, release: str, sources: Sequence[str], classes: Sequence[str]
) -> dict[Night, tuple[np.ndarray, np.ndarray]]:
    """Return the labelled CCDs by (camera, night): sorted keys, and indices into `classes`."""
    rows = _run(lake, "labelled_ccds", {"release": release, "sources": list(sources)})
    rows = rows.filter(pc.is_in(rows["class"], pa.array(classes, pa.string())))
    index = pc.index_in(rows["class"], pa.array(classes, pa.string())).to_numpy()
    keys = ccd_keys(rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy())
    return {night: (keys[mine], index[mine]) for night, mine in by_night(rows).items()}


def learned_from(lake: Lake, model: Model) -> Sample:
    """Return what a model would learn from today: its sample, without the nights it holds out.

    Labels that came since it was trained are in it. Raises `SurveyError` as `read_sample`.
    """
    sample = sample_of(lake, model)
    return sample.take(~sample.is_of(held_out_nights(model)))


def held_out_nights(model: Model) -> list[str]:
    """Return the nights, ``camera/night``, from which a model never learns; none by image."""
    split = model.card["split"]
    return list(split["held_out"]) if split["by"] == "night" else []


def _run(lake: Lake, name: str, parameters: dict) -> pa.Table:
    sql = (_QUERIES / f"{name}.sql").read_text(encoding="utf-8")
    return run_sql(lake, sql, parameters)
