"""Reading the features of a night's CCDs: vectors of one or several embedders, context, columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from classifiers.sample.features import Features, Layout, check_numeric
from lake.cameras import is_by_camera, named_constants
from lake.errors import BadInput, NotFound
from lake.record import MISSING, Record, digest, table_reference
from lake.shares import select
from lake.store import Lake, Partition, read_file
from lake.versions import natural


@dataclass(frozen=True)
class NightVectors:
    """The usable feature vectors of one night.

    Attributes
    ----------
    expnum, ccdnum : keys, (n,), sorted.
    vectors : (n, layout.width) float32, finite but for the columns.
    layout : what the values are.
    unusable : CCDs left out because a vector is missing or not finite: (expnum, ccdnum, embedder
        whose vector it is).
    """

    expnum: np.ndarray
    ccdnum: np.ndarray
    vectors: np.ndarray
    layout: Layout
    unusable: list[tuple[int, int, str]]

    @property
    def n_without_column(self) -> int:
        """How many of the CCDs lack a value of a column."""
        start = self.layout.width - self.layout.columns
        return int(np.isnan(self.vectors[:, start:]).any(axis=1).sum())


def ccd_keys(expnum: np.ndarray, ccdnum: np.ndarray) -> np.ndarray:
    """Return one integer per (expnum, ccdnum) that sorts as the pair does."""
    return expnum.astype(np.int64) * 1000 + ccdnum.astype(np.int64)


def vector_settings(partition: Partition) -> str:
    """Return a hash of the settings that decide a vector; equal hashes may be mixed.

    Vectors of several cameras may, each measured with its own camera's constants.
    """
    settings = (partition.record() or Record("unknown")).settings
    # The others choose CCDs; they do not change a vector.
    embedder, constants = settings.get("embedder", {}), settings.get("camera", {})
    if is_by_camera(embedder) and constants != named_constants(partition["camera"]):
        return digest([embedder, constants, partition["camera"]])
    return digest(embedder)


def embedded_nights(lake: Lake, features: Features) -> list[Partition]:
    """Return the partitions of the first embedder; raises `SurveyError` when one has none."""
    for embedder in features.embedders:
        if not lake.partitions("embeddings", embedder=embedder):
            known = sorted({partition["embedder"] for partition in lake.partitions("embeddings")})
            raise NotFound(
                f"no embeddings of {embedder!r} in {lake.root}; run `survey-qa embed --embedder "
                f"{embedder}` first (the lake has {', '.join(known) or 'none'})"
            )
    return lake.partitions("embeddings", embedder=features.embedders[0])


def joined(lake: Lake, partition: Partition, features: Features) -> dict[str, Partition | None]:
    """Return the partition of every embedder that belongs to one of the first; None: no such."""
    found: dict[str, Partition | None] = {features.embedders[0]: partition}
    for name in features.embedders[1:]:
        keys = {**dict(partition.keys), "embedder": name}
        path = lake.path("embeddings", keys)
        exists = path.exists()
        found[name] = Partition("embeddings", tuple(keys.items()), path) if exists else None
    return found


def input_references(lake: Lake, partition: Partition, features: Features) -> dict[str, str]:
    """Return the identity of everything that decides the features of a night, by reference."""
    inputs = {
        table_reference("embeddings", {**dict(partition.keys), "embedder": name}): (
            MISSING if one is None else one.identity()
        )
        for name, one in joined(lake, partition, features).items()
    }
    tables = ["exposures"] if features.context == "band" else []
    tables += ["ccds"] if features.columns else []
    for table in tables:
        for one in _same_night(lake, table, partition):
            inputs[table_reference(table, dict(one.keys))] = one.identity()
    return inputs


def read_vectors(lake: Lake, partition: Partition, features: Features) -> NightVectors:
    """Read the features of the CCDs of one night.

    Parameters
    ----------
    partition : the night's vectors of the first embedder.

    Raises
    ------
    SurveyError : the first embedder has vectors of whole exposures only, a column that is not
        numeric, or a damaged file.
    """
    partitions = joined(lake, partition, features)
    expnum, ccdnum, vectors = _read(partition)
    # ccdnum 0 stands for a whole exposure, not a CCD.
    ccds = ccdnum > 0
    if len(ccds) and not ccds.any():
        raise BadInput(
            f"{features.embedders[0]} has vectors of whole exposures only; name an embedder of "
            "CCDs before it"
        )
    expnum, ccdnum, vectors = expnum[ccds], ccdnum[ccds], vectors[ccds]
    of_ccds: list[np.ndarray] = [vectors]
    of_exposures: list[np.ndarray] = []
    usable = np.isfinite(vectors).all(axis=1)
    unusable = _lost(expnum, ccdnum, ~usable, features.embedders[0])
    for name in features.embedders[1:]:
        other = partitions[name]
        block, of_whole = _matched(other, expnum, ccdnum)
        (of_exposures if of_whole else of_ccds).append(block)
        found = np.isfinite(block).all(axis=1)
        unusable += _lost(expnum, ccdnum, usable & ~found, name)
        usable &= found
    parts = of_ccds + of_exposures
    vectors = parts[0][usable] if len(parts) == 1 else np.concatenate(parts, axis=1)[usable]
    expnum, ccdnum = expnum[usable], ccdnum[usable]
    n_ccd = sum(block.shape[1] for block in of_ccds)
    around = _context(lake, partition, features, expnum, vectors[:, :n_ccd])
    columns = _columns(lake, partition, features, expnum, ccdnum)
    layout = Layout(
        ccd=n_ccd,
        exposure=vectors.shape[1] - n_ccd,
        median=0 if features.context == "none" else n_ccd,
        band=int(features.context == "band"),
        columns=len(features.columns),
    )
    further = [*around, columns] if features.columns else around
    if further:
        vectors = np.concatenate([vectors, *further], axis=1)
    return NightVectors(expnum, ccdnum, vectors, layout, sorted(unusable))


def read_matrix(
    lake: Lake,
    embedder: str,
    *,
    release: str | None = None,
    nights: Sequence[str] | None = None,
) -> tuple[pa.Table, np.ndarray]:
    """Return all vectors of an embedder, whole in memory: their keys, and (n, d) float32.

    The keys are rows of camera, night, expnum and ccdnum (0: the whole exposure), in the order of
    the vectors. Vectors that are missing or not finite are left out.

    Parameters
    ----------
    release : only exposures that the CCD table of this release has.
    nights : patterns as ``--partition`` takes them; None for all nights.

    Raises
    ------
    SurveyError : no such embeddings or release, or vectors of several lengths.
    """
    by_night = {
        (partition["camera"], partition["night"]): partition
        for partition in embedded_nights(lake, Features((embedder,)))
    }
    if nights is not None:
        counts = {place: partition.num_rows() for place, partition in by_night.items()}
        by_night = {place: by_night[place] for place in select(counts, nights)}
    if release is not None and not lake.partitions("ccds", release=release):
        known = sorted({partition["release"] for partition in lake.partitions("ccds")})
        raise NotFound(f"no release {release!r} in {lake.root} ({', '.join(known) or 'none'})")
    keys, blocks = [_KEYS.empty_table()], []
    for (camera, night), partition in by_night.items():
        expnum, ccdnum, vectors = _read(partition)
        rows = np.isfinite(vectors).all(axis=1)
        if release is not None:
            tables = lake.partitions("exposures", release=release, camera=camera, night=night)
            listed = [read_file(table.path, ["expnum"])["expnum"].to_numpy() for table in tables]
            rows &= np.isin(expnum, np.concatenate([np.empty(0, np.int64), *listed]))
        if not rows.any():
            continue
        n = int(rows.sum())
        of_night = {"camera": [camera] * n, "night": [int(night)] * n}
        of_night |= {"expnum": expnum[rows], "ccdnum": ccdnum[rows]}
        keys.append(pa.table(of_night, schema=_KEYS))
        blocks.append(vectors[rows])
    if len({block.shape[1] for block in blocks}) > 1:
        raise BadInput(f"vectors of {embedder} differ in length; embed again, all nights")
    matrix = np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)
    return pa.concat_tables(keys).combine_chunks(), matrix


_KEYS = pa.schema(
    [
        ("camera", pa.string()),
        ("night", pa.int32()),
        ("expnum", pa.int64()),
        ("ccdnum", pa.int16()),
    ]
)


def group_medians(vectors: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the median vector of each group, (n_groups, d); every group has a member."""
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(1, n_groups))
    return np.stack([np.median(part, axis=0) for part in np.split(vectors[order], bounds)])


def in_chunks(
    vectors: np.ndarray, function: Callable[[np.ndarray], np.ndarray], size: int = 16384
) -> np.ndarray:
    """Apply `function` to `size` rows at a time, so that memory does not grow with the night."""
    parts = [function(vectors[start : start + size]) for start in range(0, len(vectors), size)]
    return np.concatenate(parts)


def read_bands(lake: Lake, partition: Partition, expnum: np.ndarray) -> np.ndarray:
    """Return a number for the band of each exposure, (n,) float32; 0 where it is not known.

    Of several releases the last one that has the exposure tells.
    """
    bands: dict[int, float] = {}
    for exposures in _same_night(lake, "exposures", partition):
        rows = read_file(exposures.path, ["expnum", "band"])
        for number, band in zip(rows["expnum"].to_pylist(), rows["band"].to_pylist(), strict=True):
            # Letters name bands; Y is not y everywhere, so case counts.
            bands.setdefault(number, float(ord(band[0])) if band else 0.0)
    return np.array([bands.get(int(number), 0.0) for number in expnum], dtype=np.float32)


def _same_night(lake: Lake, table: str, partition: Partition) -> list[Partition]:
    """Return the partitions of a table for the same night, of each release, the last one first."""
    found = lake.partitions(table, camera=partition["camera"], night=partition["night"])
    return sorted(found, key=lambda same: natural(same["release"]), reverse=True)


def _read(partition: Partition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = read_file(partition.path, ["expnum", "ccdnum", "embedding"])
    return rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy(), _matrix(rows["embedding"])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of fixed-size lists as (n, d) float32, nulls as NaN."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # no rows
        array = pa.array([], type=column.type)
    dimension = array.type.list_size
    values = array.values.slice(array.offset * dimension, len(array) * dimension)
    matrix = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, dimension)
    if array.null_count:
        matrix[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return matrix


def _lost(
    expnum: np.ndarray, ccdnum: np.ndarray, rows: np.ndarray, embedder: str
) -> list[tuple[int, int, str]]:
    return [
        (number, ccd, embedder)
        for number, ccd in zip(expnum[rows].tolist(), ccdnum[rows].tolist(), strict=True)
    ]


def _matched(
    partition: Partition | None, expnum: np.ndarray, ccdnum: np.ndarray
) -> tuple[np.ndarray, bool]:
    """Return another embedder's vectors of the CCDs, NaN where there is none.

    With them, whether they are of whole exposures.
    """
    if partition is None:
        return np.full((len(expnum), 1), np.nan, np.float32), False
    their_expnum, their_ccdnum, vectors = _read(partition)
    of_whole = not (their_ccdnum > 0).any()
    # Partitions are sorted by (expnum, ccdnum), and so are their keys.
    have = ccd_keys(their_expnum, their_ccdnum)
    wanted = ccd_keys(expnum, np.zeros_like(ccdnum) if of_whole else ccdnum)
    at, found = look_up(have, wanted)
    block = np.full((len(wanted), vectors.shape[1]), np.nan, np.float32)
    block[found] = vectors[at[found]]
    return block, of_whole


def look_up(have: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where in the sorted `have` each of `wanted` is, and whether it is there at all."""
    if not len(have):
        return np.zeros(len(wanted), np.intp), np.zeros(len(wanted), bool)
    at = np.minimum(np.searchsorted(have, wanted), len(have) - 1)
    return at, have[at] == wanted


def _context(
    lake: Lake, partition: Partition, features: Features, expnum: np.ndarray, vectors: np.ndarray
) -> list[np.ndarray]:
    if features.context == "none":
        return []
    exposures, row = np.unique(expnum, return_inverse=True)
    medians = group_medians(vectors, row, len(exposures))[row] if len(exposures) else vectors
    if features.context != "band":
        return [medians]
    return [medians, read_bands(lake, partition, exposures)[row, None]]


def _columns(
    lake: Lake, partition: Partition, features: Features, expnum: np.ndarray, ccdnum: np.ndarray
) -> np.ndarray:
    """Return the columns of the CCD table, (n, columns) float32, NaN where null or not known."""
    values = np.full((len(expnum), len(features.columns)), np.nan, np.float32)
    if not features.columns:
        return values
    tables = sorted(
        _same_night(lake, "ccds", partition),
        key=lambda table: table["release"] != features.release,
    )
    wanted, open_ = ccd_keys(expnum, ccdnum), np.ones(len(expnum), bool)
    for table in tables:
        schema = pq.read_schema(table.path)
        present = [name for name in features.columns if name in schema.names]
        for name in present:
            check_numeric(name, schema.field(name).type)
        rows = read_file(table.path, ["expnum", "ccdnum", *present])
        have = ccd_keys(rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy())
        at, found = look_up(have, wanted)
        found &= open_
        for place, name in enumerate(features.columns):
            if name in present:
                column = rows[name].cast(pa.float32()).to_numpy()
                values[found, place] = column[at[found]]
        open_ &= ~found
    # Some tables mark what is missing by infinity.
    values[~np.isfinite(values)] = np.nan
    return values
