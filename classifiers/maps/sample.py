"""The CCDs whose embeddings are looked at as a whole: labelled ones and others, with vectors."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pyarrow as pa

from classifiers.sample.features import Features, Layout
from classifiers.sample.sample import check_settings
from classifiers.sample.vectors import (
    ccd_keys,
    embedded_nights,
    joined,
    look_up,
    read_vectors,
    vector_settings,
)
from lake.errors import BadInput, NotFound
from lake.progress import Progress
from lake.store import Lake
from queries.engine import connect
from queries.named import run_query


@dataclass(frozen=True)
class Drawn:
    """A sample of CCDs.

    Attributes
    ----------
    keys : camera, night, expnum, ccdnum and class (null: not labelled) of each, sorted.
    vectors : (n, layout.width) float32, finite.
    n_known : labelled CCDs that have a vector, drawn or not.
    n_unusable : CCDs drawn whose vector is missing or not finite; they are left out.
    """

    keys: pa.Table
    vectors: np.ndarray
    layout: Layout
    n_known: int
    n_unusable: int


def draw(
    lake: Lake,
    features: Features,
    *,
    release: str | None,
    n: int,
    max_ebv: float,
    seed: int,
    progress: Progress | None = None,
) -> Drawn:
    """Draw `n` CCDs (`queries/map_sample.sql`) and read their vectors.

    Half of them are labelled, of every class alike as far as there are so many: the training
    sample (Luo et al. 2026, section 2.4) thinned. The others are drawn from all that have a vector
    and no label. Where one half has too few the other fills up.

    Parameters
    ----------
    release : whose labels count; None for no labels.

    Raises
    ------
    SurveyError : no embeddings, none that is usable, or vectors of different settings.
    """
    rows, n_known = _chosen(lake, features, release, n, max_ebv, seed)
    vectors, layout, found = _vectors(lake, features, rows, progress)
    return Drawn(rows.filter(pa.array(found)), vectors, layout, n_known, int((~found).sum()))


def _chosen(
    lake: Lake, features: Features, release: str | None, n: int, max_ebv: float, seed: int
) -> tuple[pa.Table, int]:
    columns = ["camera", "night", "expnum", "ccdnum", "class"]
    limits = {"release": release or "", "n_good": n // 2, "max_ebv": max_ebv, "seed": seed}
    labelled = run_query(lake, "training_sample", limits).select(columns)
    if release is None:
        labelled = labelled.slice(0, 0)
    sql = files("queries").joinpath("map_sample.sql").read_text(encoding="utf-8")
    with connect(lake, ["embeddings", "labels"]) as connection:
        connection.register("labelled", labelled)
        given = {"embedder": features.embedders[0], "n": n, "seed": seed}
        rows = connection.sql(sql, params=given).to_arrow_table()
    n_known = rows["n_known"][0].as_py() if rows.num_rows else 0
    return rows.select(columns), n_known


def _vectors(
    lake: Lake, features: Features, rows: pa.Table, progress: Progress | None
) -> tuple[np.ndarray, Layout, np.ndarray]:
    """Return the vectors of the rows that have one, what they are made of, and which have one."""
    keys = ccd_keys(rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy())
    camera = rows["camera"].to_numpy(zero_copy_only=False).astype(str)
    night = rows["night"].to_numpy().astype(str)
    found = np.zeros(len(keys), bool)
    parts: list[np.ndarray] = []
    layouts: set[Layout] = set()
    settings: dict[str, dict[str, str]] = {embedder: {} for embedder in features.embedders}
    # In the order of the rows, so that the vectors are too.
    partitions = embedded_nights(lake, features)
    for number, partition in enumerate(partitions, start=1):
        mine = np.flatnonzero((camera == partition["camera"]) & (night == partition["night"]))
        if len(mine):
            for embedder, one in joined(lake, partition, features).items():
                if one is not None:
                    settings[embedder][one.name] = vector_settings(one)
            read = read_vectors(lake, partition, features)
            at, usable = look_up(ccd_keys(read.expnum, read.ccdnum), keys[mine])
            found[mine[usable]] = True
            parts.append(read.vectors[at[usable]])
            if usable.any():
                layouts.add(read.layout)
        if progress is not None:
            progress(number, len(partitions))
    if not found.any():
        raise NotFound(
            f"no CCD has a usable vector of {' and '.join(features.embedders)}; name an embedder "
            "of CCDs that was run on this lake"
        )
    check_settings({name: one for name, one in settings.items() if one})
    if len(layouts) > 1:
        raise BadInput(
            f"vectors of {' or '.join(features.embedders)} are of several kinds or lengths; embed "
            "again with --force"
        )
    return np.concatenate([part for part in parts if len(part)]), layouts.pop(), found
