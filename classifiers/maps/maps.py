"""How the embeddings lie: classes apart or mixed, clusters, and maps in two and three dimensions.

All is measured in the space in which the paper's classifier finds neighbours (MinMaxScaler, PCA to
15 components, VarianceThreshold 0.001; Luo et al. 2026, section 3.1 and figure 5), so that what a
map or a number says is what a classifier sees.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from classifiers.estimators import registry as estimators
from classifiers.maps.sample import Drawn, draw
from classifiers.sample.features import Features, Layout
from classifiers.sample.sample import only_release
from classifiers.sample.vectors import embedded_nights, input_references
from lake.errors import BadInput, NotFound
from lake.progress import Progress
from lake.record import Record, digest
from lake.said import said_state
from lake.store import Lake
from lake.vocabulary import Vocabulary
from queries.named import run_query

STAGE = "map"
METHODS = ("tsne", "umap")
#: Clusters of more CCDs than this are shown (Luo et al. 2026, section 4.1).
SHOWN_CLUSTER = 10
#: Row of the scores over all classes.
ALL = "all"
#: CCDs that are in no cluster.
NOISE = -1

#: Fewer CCDs have no structure to speak of, and t-SNE no neighbourhoods.
_LEAST = 20


@dataclass(frozen=True)
class EmbeddingMap:
    """What was found of an embedder's vectors.

    Attributes
    ----------
    rows : the partition of the table ``projections``.
    embedder : names of the embedders, joined by ``+``.
    n_known : labelled CCDs that have a vector, in the sample or not.
    n_unusable : CCDs drawn that had no usable vector.
    order : classes of the lake's vocabulary, good first.
    skipped : whether it stood in the lake already.
    """

    rows: pa.Table
    embedder: str
    method: str
    n_known: int
    n_unusable: int
    order: tuple[str, ...]
    skipped: bool

    @property
    def n_labelled(self) -> int:
        """CCDs of the sample that have a class."""
        return self.rows.num_rows - self.rows["class"].null_count

    def classes(self) -> pa.Table:
        """Return the mean silhouette of each class and of all, and the share in clusters."""
        labelled = self.rows.filter(pc.is_valid(self.rows["class"]))
        names = labelled["class"].to_numpy(zero_copy_only=False)
        silhouette = labelled["silhouette"].to_numpy(zero_copy_only=False)
        clustered = labelled["cluster"].to_numpy() != NOISE
        found = []
        for name in (*self.order, ALL):
            mine = np.ones(len(names), bool) if name == ALL else names == name
            if mine.any():
                mean = float(np.mean(silhouette[mine], dtype=np.float64))
                found.append(
                    {
                        "class": name,
                        "ccds": int(mine.sum()),
                        "silhouette": None if np.isnan(mean) else mean,
                        "in_clusters": float(clustered[mine].mean()),
                    }
                )
        return pa.Table.from_pylist(found, schema=_CLASSES)


_CLASSES = pa.schema(
    [
        ("class", pa.string()),
        ("ccds", pa.int64()),
        ("silhouette", pa.float64()),
        ("in_clusters", pa.float64()),
    ]
)


def map_embeddings(
    lake: Lake,
    features: Features,
    *,
    method: str = "tsne",
    release: str | None = None,
    sample: int = 10_000,
    max_ebv: float = 0.04,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> EmbeddingMap:
    """Write ``projections`` of a sample of the embedded CCDs, and return what it says.

    Each CCD has its silhouette among the labelled ones, its HDBSCAN cluster (at least 5 CCDs) and
    its place in a map of two and one of three dimensions, by t-SNE (perplexity 30) or UMAP
    (15 neighbours). What stands in the lake for the same inputs and settings is kept.

    Parameters
    ----------
    release : release whose labels count; None when the lake has one alone, or none.
    sample : CCDs at most, see `maps.sample.draw`; the paper's is 10,000.
    max_ebv : largest E(B-V) of labelled CCDs, mag.
    seed : the same one gives the same rows bit for bit.

    Raises
    ------
    SurveyError : wrong settings, UMAP that is not installed, no or too few usable vectors.
    """
    _check(method, sample)
    if release is None and lake.partitions("labels"):
        release = only_release(lake)
    embedder = "+".join(features.embedders)
    keys = {"embedder": embedder, "method": method}
    settings = {
        "embedders": list(features.embedders),
        "method": method,
        "release": release,
        "sample": sample,
        "max_ebv": max_ebv,
        "seed": seed,
    }
    inputs = _inputs(lake, features, release)
    order = tuple(Vocabulary.of_lake(lake.root).classes)
    standing = lake.record("projections", keys)
    if not force and Record(STAGE, settings, inputs).matches(standing):
        assert standing is not None
        rows = lake.read("projections", keys)
        return EmbeddingMap(rows, embedder, method, **standing.notes, order=order, skipped=True)

    drawn = draw(
        lake,
        features,
        release=release,
        n=sample,
        max_ebv=max_ebv,
        seed=seed,
        progress=progress,
    )
    rows = _laid_out(drawn, method, seed, progress)
    notes = {"n_known": drawn.n_known, "n_unusable": drawn.n_unusable}
    lake.write("projections", keys, rows, Record(STAGE, settings, inputs, notes))
    rows = lake.read("projections", keys)
    return EmbeddingMap(rows, embedder, method, **notes, order=order, skipped=False)


def large_clusters(
    lake: Lake, mapped: EmbeddingMap, more_than: int = SHOWN_CLUSTER
) -> tuple[pa.Table, int]:
    """Return a row for each cluster of more than so many CCDs, and how many are in none at all.

    The rows hold cluster, ccds, labelled, class (the most common one), purity (its share of the
    labelled ones) and make_up (each class with its CCDs).
    """
    parameters = {"embedder": mapped.embedder, "method": mapped.method}
    rows = run_query(lake, "clusters", parameters).to_pylist()
    n_in_none = next((row["n_ccds"] for row in rows if row["cluster"] == NOISE), 0)
    clusters: dict[int, dict[str, Any]] = {}
    for row in rows:
        if row["cluster"] == NOISE or row["n_ccds"] <= more_than:
            continue
        cluster = clusters.setdefault(
            row["cluster"],
            {
                "cluster": row["cluster"],
                "ccds": row["n_ccds"],
                "labelled": row["n_labelled"],
                "class": None,
                "purity": None,
                "make_up": [],
            },
        )
        if row["class"] is not None:
            # The largest share comes first.
            if cluster["class"] is None:
                cluster["class"], cluster["purity"] = row["class"], row["share"]
            cluster["make_up"].append(f"{row['class']} {row['n']}")
    return pa.Table.from_pylist(list(clusters.values()), schema=_LARGE_CLUSTERS), n_in_none


_LARGE_CLUSTERS = pa.schema(
    [
        ("cluster", pa.int32()),
        ("ccds", pa.int64()),
        ("labelled", pa.int64()),
        ("class", pa.string()),
        ("purity", pa.float64()),
        ("make_up", pa.list_(pa.string())),
    ]
)


def neighbour_space(
    vectors: np.ndarray, layout: Layout, seed: int = 0, labels: np.ndarray | None = None
) -> np.ndarray:
    """Return the vectors as the paper's classifier compares them, (n, at most 15) float32.

    `labels` (n,), 0 for good, are needed where the vectors have columns of the CCD table.
    """
    steps = estimators.build("knn", layout, len(vectors), seed)[:-1]
    # A sum over several threads depends on how many there are.
    with threadpool_limits(1):
        try:
            return np.asarray(steps.fit_transform(vectors, labels), dtype=np.float32)
        except ValueError as error:
            raise BadInput(f"these vectors hardly differ from CCD to CCD: {error}") from error


def _laid_out(drawn: Drawn, method: str, seed: int, progress: Progress | None) -> pa.Table:
    from joblib import Parallel, delayed

    if len(drawn.vectors) < _LEAST:
        raise BadInput(
            f"{len(drawn.vectors)} CCDs with vectors are too few to lay out; embed at least "
            f"{_LEAST}, or raise --sample"
        )
    space = neighbour_space(drawn.vectors, drawn.layout, seed)
    names = drawn.keys["class"].to_numpy(zero_copy_only=False)
    # The two maps take nearly all of the time, each on one core whatever the machine has: a sum
    # over threads would depend on their number, and a map on the last bit of every sum.
    work = [
        delayed(_map)(space, method, 3, seed),
        delayed(_map)(space, method, 2, seed),
        delayed(_clusters)(space),
        delayed(_silhouettes)(space, names),
    ]
    if progress is not None:
        progress(0, len(work))
    done = []
    for result in Parallel(n_jobs=2, return_as="generator")(work):
        done.append(result)
        if progress is not None:
            progress(len(done), len(work))
    three, two, cluster, silhouette = done
    columns = {
        "x": two[:, 0],
        "y": two[:, 1],
        "x3": three[:, 0],
        "y3": three[:, 1],
        "z3": three[:, 2],
        "cluster": cluster.astype(np.int32),
        "silhouette": np.ma.masked_invalid(silhouette),
    }
    rows = drawn.keys
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values))
    return rows


def _map(space: np.ndarray, method: str, dimensions: int, seed: int) -> np.ndarray:
    """Return the place of each vector in a map, (n, dimensions) float32."""
    with threadpool_limits(1):
        return (_umap if method == "umap" else _tsne)(space, dimensions, seed)


def _tsne(space: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    projection = TSNE(
        dimensions,
        perplexity=min(30.0, (len(space) - 1) / 3),
        init="pca" if space.shape[1] >= dimensions else "random",
        random_state=seed,
    )
    return projection.fit_transform(space)


def _umap(space: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    neighbours = min(15, len(space) - 1)
    # Exact ones: UMAP's own are found at random, differently on each number of threads.
    distances, indices = NearestNeighbors(n_neighbors=neighbours).fit(space).kneighbors(space)
    projection = UMAP(
        n_neighbors=neighbours,
        n_components=dimensions,
        init="pca" if space.shape[1] >= dimensions else "random",
        random_state=seed,
        n_jobs=1,
        precomputed_knn=(indices, distances),
    )
    with warnings.catch_warnings():
        # New CCDs could not be put into the map: none are.
        warnings.filterwarnings("ignore", message="precomputed_knn")
        return projection.fit_transform(space).astype(np.float32)


def _clusters(space: np.ndarray) -> np.ndarray:
    """Return the cluster of each vector, (n,); `NOISE` for none. Numbered from the largest."""
    from sklearn.cluster import HDBSCAN

    with threadpool_limits(1):
        found = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(space)
    sizes = np.bincount(found[found != NOISE])
    rank = np.empty(len(sizes), int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    found[found != NOISE] = rank[found[found != NOISE]]
    return found


def _silhouettes(space: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return the silhouette of each labelled vector among them, NaN for the others."""
    from sklearn.metrics import silhouette_samples

    silhouette = np.full(len(space), np.nan, np.float32)
    labelled = np.array([name is not None for name in names], dtype=bool)
    classes = np.unique(names[labelled].astype(str))
    if 2 <= len(classes) < labelled.sum():
        with threadpool_limits(1):
            silhouette[labelled] = silhouette_samples(space[labelled], names[labelled].astype(str))
    return silhouette


def _inputs(lake: Lake, features: Features, release: str | None) -> dict[str, str]:
    """Return the identities of all that the sample is drawn from."""
    vectors = [input_references(lake, one, features) for one in embedded_nights(lake, features)]
    inputs = {"embeddings": digest(vectors)}
    if release is not None:
        for name in ("ccds", "exposures", "labels"):
            partitions = lake.partitions(name, release=release)
            inputs[name] = digest([[one.name, one.identity()] for one in partitions])
        inputs["reports"] = said_state(lake)
    return inputs


def _check(method: str, sample: int) -> None:
    if method not in METHODS:
        raise BadInput(f"--method {method!r}: choose one of {', '.join(METHODS)}")
    if method == "umap" and find_spec("umap") is None:
        raise NotFound(
            "--method umap needs umap-learn, which is not installed: pip install "
            "'survey-qa[umap]', or take --method tsne"
        )
    if sample < _LEAST:
        raise BadInput(f"--sample {sample}: give at least {_LEAST} CCDs")
