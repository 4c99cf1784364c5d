"""The labelled CCDs that a model learns from, joined to their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from classifiers.sample.features import Features, Layout
from classifiers.sample.held import HeldVectors
from classifiers.sample.spec import SampleSpec
from classifiers.sample.vectors import (
    ccd_keys,
    embedded_nights,
    input_references,
    joined,
    look_up,
    read_vectors,
    vector_settings,
)
from lake.errors import BadInput, NotFound
from lake.record import digest, short_reference
from lake.shares import select
from lake.store import Lake
from lake.versions import in_order
from lake.vocabulary import Vocabulary
from queries.named import run_query


@dataclass(frozen=True)
class Sample:
    """Labelled vectors.

    Attributes
    ----------
    held : vectors, which the parts of a sample share, and `rows` (n,), which of them these are.
    layout : what the values of a vector are.
    labels : (n,) index into `classes`.
    weights : (n,) how many CCDs each stands for, after down-sampling.
    expnum, ccdnum : keys, (n,).
    night : (n,) index into `nights`.
    classes : names of the classes, good first.
    nights : ``camera/night`` of each group that a split keeps together.
    release : release whose labels these are.
    features : what the vectors are made of, and `settings`: by embedder, a hash of what decides
        its vectors.
    fingerprint : hash of the inputs: labels, vectors and columns.
    n_missing : labelled CCDs that have no usable vector.
    """

    held: HeldVectors
    rows: np.ndarray
    layout: Layout
    labels: np.ndarray
    weights: np.ndarray
    expnum: np.ndarray
    ccdnum: np.ndarray
    night: np.ndarray
    classes: tuple[str, ...]
    nights: tuple[str, ...]
    release: str
    features: Features
    settings: tuple[str, ...]
    fingerprint: str
    n_missing: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def vectors(self) -> np.ndarray:
        """The vectors, (n, layout.width) float32, NaN where a column of the CCD table is null.

        They are put together anew each time: ask once, and of no more rows than are needed.
        """
        return self.held.take(self.rows)

    def take(self, rows: np.ndarray) -> Sample:
        """Return the sample reduced to `rows` (indices or mask); classes and nights stay."""
        return replace(
            self,
            rows=self.rows[rows],
            labels=self.labels[rows],
            weights=self.weights[rows],
            expnum=self.expnum[rows],
            ccdnum=self.ccdnum[rows],
            night=self.night[rows],
        )

    def pieces(self, size: int = 16_384) -> Iterator[Sample]:
        """Yield the sample in parts of `size` rows, the last one of up to twice as many.

        A last part of a few rows would be multiplied by other routines, to other last bits.
        """
        starts = range(0, max(len(self) - size, 0) + 1, size)
        for start, end in pairwise([*starts, len(self)]):
            yield self.take(np.arange(start, end))

    def is_of(self, nights: Sequence[str]) -> np.ndarray:
        """Return which rows are of these nights, (n,) bool."""
        return np.isin(np.array(self.nights)[self.night], nights)

    def nights_of(self, rows: np.ndarray) -> list[str]:
        """Return the names of the nights of `rows` (indices or mask), sorted."""
        return [self.nights[index] for index in np.unique(self.night[rows])]


def read_sample(
    lake: Lake,
    features: Features,
    spec: SampleSpec = SampleSpec(),
    *,
    seed: int = 0,
) -> Sample:
    """Draw the balanced training sample (`queries/training_sample.sql`) and join its vectors.

    Parameters
    ----------
    spec : which labelled CCDs count, and how many good ones.
    seed : decides which CCDs are drawn.

    Raises
    ------
    SurveyError : no embeddings, no labels, labels that no vector matches, fewer than two classes,
        a column without values, or vectors of different settings.
    """
    partitions = {(p["camera"], p["night"]): p for p in embedded_nights(lake, features)}
    if spec.nights is not None:
        counts = {key: partition.num_rows() for key, partition in partitions.items()}
        partitions = {key: partitions[key] for key in select(counts, spec.nights)}
    features = replace(features, release=spec.release or only_release(lake))
    release = features.release
    rows = run_query(
        lake,
        "training_sample",
        {
            "release": release,
            "sources": ",".join(spec.sources),
            "n_good": spec.good,
            "embedder": features.embedders[0],
            "max_ebv": spec.max_ebv,
            "seed": seed,
            "own_lines": str(spec.trust_own_lines).lower(),
        },
    )
    if not rows.num_rows:
        raise NotFound(
            f"release {release} has no labelled CCDs; run `survey-qa ingest reports` and "
            f"`survey-qa merge-labels --release {release}` first"
        )
    return _join(lake, partitions, rows, features)


def _join(lake: Lake, partitions: dict, rows: pa.Table, features: Features) -> Sample:
    order = Vocabulary.of_lake(lake.root).training_classes
    camera = rows["camera"].to_numpy(zero_copy_only=False)
    night = rows["night"].to_numpy(zero_copy_only=False).astype(str)
    keys = ccd_keys(rows["expnum"].to_numpy(), rows["ccdnum"].to_numpy())
    code = np.array([order.index(name) for name in rows["class"].to_pylist()])
    weight = rows["weight"].to_numpy().astype(np.float64)
    groups = [f"{c}/{n}" for c, n in zip(camera, night, strict=True)]
    names, group = np.unique(groups, return_inverse=True)

    found = _gather(lake, partitions, names, group, keys, features)
    chosen = found.rows
    _check_columns(features, found.held.columns)
    present, labels = np.unique(code[chosen], return_inverse=True)
    classes = tuple(order[index] for index in present)
    if "good" not in classes or len(classes) < 2:
        raise BadInput(
            f"the labelled CCDs with vectors are all {', '.join(classes)}: training needs good "
            "ones and at least one bad class"
        )
    used, night_index = np.unique(group[chosen], return_inverse=True)
    return Sample(
        held=found.held,
        rows=np.arange(len(chosen)),
        layout=found.layout,
        labels=labels,
        weights=weight[chosen],
        expnum=rows["expnum"].to_numpy()[chosen],
        ccdnum=rows["ccdnum"].to_numpy()[chosen],
        night=night_index,
        classes=classes,
        nights=tuple(str(names[index]) for index in used),
        release=str(rows["release"][0]),
        features=features,
        settings=found.settings,
        fingerprint=digest([found.inputs, digest(keys[chosen].tolist()), labels.tolist()]),
        n_missing=found.n_missing,
    )


@dataclass(frozen=True)
class _Gathered:
    """Vectors of the labelled CCDs `rows` (n,), and what decided them."""

    rows: np.ndarray
    held: HeldVectors
    layout: Layout
    settings: tuple[str, ...]
    inputs: dict[str, dict[str, str]]
    n_missing: int


def _gather(
    lake: Lake,
    partitions: dict,
    names: np.ndarray,
    group: np.ndarray,
    keys: np.ndarray,
    features: Features,
) -> _Gathered:
    """Read the vectors of the CCDs `keys`, a night at a time; `names[group]` are their nights."""
    rows = np.empty(len(keys), np.intp)
    # Filled in place: parts to be joined at the end would be in memory twice.
    own = np.empty((0, 0), np.float16)
    columns = np.empty((0, 0), np.float32)
    exposure = np.empty(len(keys), np.intp)
    shared: list[np.ndarray] = []
    n_found = wanted = n_exposures = 0
    layouts: set[Layout] = set()
    settings: dict[str, dict[str, str]] = {embedder: {} for embedder in features.embedders}
    inputs: dict[str, dict[str, str]] = {}
    for number, name in enumerate(names):
        partition = partitions.get(tuple(name.split("/", 1)))
        if partition is None:
            continue
        mine = np.flatnonzero(group == number)
        wanted += len(mine)
        for embedder, one in joined(lake, partition, features).items():
            if one is not None:
                settings[embedder][one.name] = vector_settings(one)
        inputs[partition.name] = {
            short_reference(reference): identity
            for reference, identity in input_references(lake, partition, features).items()
        }
        night = read_vectors(lake, partition, features)
        at, found = look_up(ccd_keys(night.expnum, night.ccdnum), keys[mine])
        if not found.any():
            continue
        layouts.add(night.layout)
        if len(layouts) > 1:
            check_settings(settings)
            raise BadInput(
                f"{partition.name}: vectors of {' or '.join(features.embedders)} are of whole "
                "exposures here and of CCDs elsewhere, or the reverse; embed again with --force"
            )
        layout = night.layout
        if not n_found:
            own = np.empty((len(keys), layout.ccd), np.float16)
            columns = np.empty((len(keys), layout.columns), np.float32)
        place = slice(n_found, n_found + int(found.sum()))
        at = at[found]
        rows[place] = mine[found]
        own[place] = night.vectors[at, : layout.ccd]
        columns[place] = night.vectors[at, layout.width - layout.columns :]
        _, first, exposure[place] = np.unique(
            night.expnum[at], return_index=True, return_inverse=True
        )
        exposure[place] += n_exposures
        shared.append(night.vectors[at[first], layout.ccd : layout.width - layout.columns])
        n_found, n_exposures = place.stop, n_exposures + len(first)
    if not n_found:
        raise BadInput(
            f"none of the {len(keys)} labelled CCDs has a vector of "
            f"{' and '.join(features.embedders)}; embed the nights that are labelled"
        )
    check_settings(settings)
    return _Gathered(
        rows=rows[:n_found],
        held=HeldVectors(
            own[:n_found], np.concatenate(shared), exposure[:n_found], columns[:n_found]
        ),
        layout=layouts.pop(),
        settings=tuple(next(iter(one.values())) for one in settings.values()),
        inputs=inputs,
        n_missing=wanted - n_found,
    )


def check_settings(settings: dict[str, dict[str, str]]) -> None:
    """Raise `SurveyError` when the vectors of an embedder were made with several settings."""
    for embedder, by_night in settings.items():
        first = next(iter(by_night.values()))
        odd = next((name for name, value in by_night.items() if value != first), None)
        if odd is not None:
            raise BadInput(
                f"embeddings of {embedder} were made with different settings (from {odd} on); "
                "embed again with --force"
            )


def _check_columns(features: Features, columns: np.ndarray) -> None:
    """Raise `SurveyError` when one of `columns` (n, m) says nothing of any labelled CCD."""
    for place, name in enumerate(features.columns):
        if np.isnan(columns[:, place]).all():
            raise NotFound(
                f"--columns {name}: the CCD table of {features.release} has no value of it for any "
                "labelled CCD; `survey-qa schema ccds` lists the columns"
            )


def only_release(lake: Lake) -> str:
    """Return the release that has labels; raises `SurveyError` unless it is one alone."""
    releases = in_order(partition["release"] for partition in lake.partitions("labels"))
    if not releases:
        raise NotFound(
            f"no labels in {lake.root}; run `survey-qa ingest reports` and `survey-qa "
            "merge-labels` first"
        )
    if len(releases) > 1:
        raise BadInput(f"the lake has labels of {', '.join(releases)}; choose with --release")
    return releases[0]
