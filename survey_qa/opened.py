"""A lake that is open, and rows that it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from lake.store import Lake

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from badlist.diff import ListDiff
    from badlist.proposal import CheckReport
    from classifiers.active_learning.select import Selection
    from classifiers.label_errors.suspects import Suspects
    from classifiers.maps.maps import EmbeddingMap
    from classifiers.model import Model
    from classifiers.predict import PredictSummary
    from classifiers.sample.features import Features
    from classifiers.train import TrainSummary
    from classifiers.validation.compare import Comparison, Contender
    from classifiers.validation.tables import Evaluation
    from classifiers.vote import VoteSummary
    from embedders.engine import EmbedSummary
    from ingest.ccds import CcdSummary
    from ingest.images import ImageSummary
    from ingest.reports import ReportsSummary
    from queries.merge_labels import MergeSummary

#: A file or folder, or several.
Paths = str | Path | Sequence[str | Path]


@dataclass(frozen=True, repr=False)
class Result:
    """Rows: a table on the screen and in a notebook, and Arrow for every other library.

    >>> result = lake.sql("select night, expnum from exposures order by expnum limit 2")
    >>> result.columns, len(result)
    (['night', 'expnum'], 2)
    >>> result.to_polars()["expnum"].to_list()
    [349001, 349002]
    >>> result.to_arrow().schema.field("night").type
    DataType(int32)

    Whatever takes Arrow takes it as it is: ``polars.DataFrame(result)``, ``duckdb.sql("from
    result")``, ``pyarrow.table(result)``.
    """

    rows: pa.Table

    def to_arrow(self) -> pa.Table:
        """Return the rows as a table of pyarrow."""
        return self.rows

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a frame of polars; columns of one name are numbered."""
        from queries.frames import with_distinct_names

        return pl.DataFrame(self.rows.rename_columns(with_distinct_names(self.rows.schema).names))

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.rows.column_names)

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __repr__(self) -> str:
        return repr(self.to_polars())

    def _repr_html_(self) -> str:
        return self.to_polars()._repr_html_()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.rows.__arrow_c_stream__(requested_schema)


class SurveyLake:
    """A lake: what it holds, and every stage that fills it.

    `survey_qa.open` makes one. Stages return what they did as the library's own summaries, and are
    free where nothing has changed. ``**options`` are further ones of the function that is named.
    """

    def __init__(self, lake: Lake) -> None:
        #: What the functions of the library take.
        self.lake = lake

    def __repr__(self) -> str:
        return f"SurveyLake({str(self.lake.root)!r})"

    # What it holds ------------------------------------------------------------------------------

    def sql(self, statement: str, **parameters: Any) -> Result:
        """Return the rows of a select: every table is a view. Nothing can be written.

        >>> rows = lake.sql("select count(*) as n from exposures where band = $band", band="g")
        >>> rows.to_polars().item()
        10

        Parameters
        ----------
        parameters : values of ``$name`` in the statement.

        Raises
        ------
        SurveyError : what is wrong with the statement, with line and column.
        """
        from queries.engine import run_sql

        return Result(run_sql(self.lake, statement, parameters))

    def query(self, name: str, **parameters: Any) -> Result:
        """Return the rows of a named query; `queries` lists them.

        >>> lake.query("label_counts").columns
        ['release', 'class', 'first_only', 'second_only', 'in_both', 'total']
        >>> lake.query("training_sample", n_good=10, max_ebv="").columns[:4]
        ['release', 'camera', 'night', 'expnum']

        Raises `SurveyError` for an unknown query or parameter.
        """
        from queries.named import run_query

        return Result(run_query(self.lake, name, parameters))

    def queries(self) -> Result:
        """Return the named queries: what each answers, its parameters and columns.

        >>> lake.queries().columns
        ['name', 'answers', 'parameters', 'columns']
        """
        from queries.named import describe_queries

        return Result(describe_queries(lake_path=self.lake.root))

    def table(self, name: str, **where: str | int) -> pl.LazyFrame:
        """Return a table as a lazy frame: partition keys, `night` among them a number, and columns.

        Only the columns and row groups that are asked for are read.

        >>> votes = lake.table("votes", model="knn")
        >>> votes.filter(pl.col("n_ccds") > 61).select("night", "expnum", "n_ccds").collect().height
        20
        >>> votes.collect_schema()["night"]
        Int32

        Parameters
        ----------
        where : partition keys and their values, such as ``model="knn"``, ``night=20140818``.

        Raises
        ------
        SurveyError : no such table, or a key that it is not partitioned by.
        """
        from queries.frames import scan_table

        return scan_table(self.lake, name, **where)

    def vectors(
        self, embedder: str, *, release: str | None = None, nights: Sequence[str] | None = None
    ) -> tuple[pl.DataFrame, np.ndarray]:
        """Return all vectors of an embedder: their keys, and a float32 matrix (n, d).

        >>> keys, matrix = lake.vectors("statistics", release="sim", nights=["night=201408*"])
        >>> keys.columns, len(keys) == len(matrix), matrix.dtype
        (['camera', 'night', 'expnum', 'ccdnum'], True, dtype('float32'))

        Parameters
        ----------
        release : only exposures that its CCD table has.
        nights : patterns such as ``night=20140818`` or ``camera=decam/night=2014*``; all when None.

        Raises
        ------
        SurveyError : no such embeddings, release or nights.
        """
        from classifiers.sample.vectors import read_matrix

        keys, matrix = read_matrix(self.lake, embedder, release=release, nights=nights)
        return pl.DataFrame(keys), matrix

    def status(self) -> Result:
        """Return what every table holds, and how many of its partitions are out of date.

        >>> sum(lake.status().to_polars()["stale"])
        0
        """
        from queries.status import lake_status

        return Result(lake_status(self.lake))

    def schema(self, table: str | None = None) -> Result:
        """Return the columns of a table, or of all: type, unit and meaning.

        >>> lake.schema("votes").to_polars()["column"].to_list()[:4]
        ['model', 'camera', 'night', 'expnum']
        """
        from lake.tables import describe_columns

        return Result(describe_columns(table))

    def models(self) -> Result:
        """Return the models with their scores on what they have not seen.

        >>> lake.models().to_polars().select("model", "classifier", "embedders").rows()
        [('knn', 'knn', 'statistics')]
        """
        from classifiers.registry.catalog import list_models

        return Result(list_models(self.lake))

    def model(self, name: str) -> Model:
        """Return a model: its `card`, its `classes`, and `probabilities` of vectors.

        >>> model = lake.model("knn")
        >>> model.card["embedders"][0]["name"], model.classes[0]
        ('statistics', 'good')
        >>> _, matrix = lake.vectors("statistics")
        >>> model.probabilities(matrix).shape == (len(matrix), len(model.classes))
        True

        Raises `SurveyError` where there is no such model.
        """
        from classifiers.model import load_model

        return load_model(self.lake, name)

    def focal_plane(
        self,
        expnum: int,
        images: str | Path,
        *,
        camera: str = "decam",
        release: str | None = None,
        **options: Any,
    ) -> Image:
        """Return a picture of an exposure on the focal plane, north up and east left.

        >>> picture = lake.focal_plane(349001, images="survey/images", size=400)
        >>> picture.mode, 300 < max(picture.size) < 500
        ('L', True)

        Parameters
        ----------
        images : the folder that ``image_filename`` of the CCD table is relative to.
        options : of `inspector.mosaic.draw_exposure`: `size` in pixels, `stretch`.

        Raises
        ------
        SurveyError : an exposure that the lake does not know, or that cannot be read.
        """
        from inspector.mosaic import draw_exposure

        return draw_exposure(
            self.lake, expnum, Path(images), camera=camera, release=release, **options
        )

    # Prepare ------------------------------------------------------------------------------------

    def ingest_ccds(self, files: Paths, release: str, **options: Any) -> CcdSummary:
        """Read CCD tables into `ccds` and `exposures`; see `ingest.ccds.ingest`.

        >>> lake.ingest_ccds("survey/survey-ccds-sim.fits.gz", "sim").unchanged_files
        1
        """
        from ingest.ccds import ingest

        return ingest(self.lake, _paths(files), release, **options)

    def ingest_reports(self, files: Paths, source: str, **options: Any) -> ReportsSummary:
        """Read bad-exposure lists into `reports`, word for word; see `ingest.reports`.

        >>> lake.ingest_reports("survey/decam-bad_expid.txt", "decals").files[0].unchanged
        True

        Parameters
        ----------
        source : ``decals``, ``des``, ``delve`` or ``inspection``, or a name of the survey's own.
        """
        from ingest.reports import ingest_reports

        return ingest_reports(self.lake, _paths(files), source, **options)

    def ingest_images(self, folder: str | Path, release: str, **options: Any) -> ImageSummary:
        """Read images' headers into `ccds` and `exposures`; see `ingest.images.ingest_images`.

        >>> other = survey_qa.create("headers.lake")
        >>> other.ingest_images("survey/images", "night", workers=1).ccds
        1240
        """
        from ingest.images import ingest_images

        return ingest_images(self.lake, Path(folder), release, **options)

    def merge_labels(self, release: str, **options: Any) -> MergeSummary:
        """Resolve what the lists say onto the CCDs of a release: `labels`.

        >>> lake.merge_labels("sim").written
        0

        `options` are of `queries.merge_labels.merge_labels`.
        """
        from queries.merge_labels import merge_labels

        return merge_labels(self.lake, release, **options)

    def embed(self, embedder: str, images: Paths, **options: Any) -> EmbedSummary:
        """Turn CCD images into vectors, a night at a time; see `embedders.engine.run`.

        >>> lake.embed("statistics", "survey/images").n_skipped
        5

        Parameters
        ----------
        images : the folder that ``image_filename`` of the CCD table is relative to; or several.
        """
        from embedders.engine import run

        return run(self.lake, embedder, _paths(images), **options)

    # Learn --------------------------------------------------------------------------------------

    def train(
        self, model: str, features: Features | str | Sequence[str], **options: Any
    ) -> TrainSummary:
        """Train a classifier, score it on nights that it has not seen, and save it.

        >>> from survey_qa import ClassifierSpec, SampleSpec, SplitSpec
        >>> trained = lake.train(
        ...     "linear",
        ...     "statistics",
        ...     sample=SampleSpec(good=200, max_ebv=0.1),
        ...     split=SplitSpec(test_fraction=0.4),
        ...     classifier=ClassifierSpec("logistic"),
        ... )
        >>> trained.n_train > trained.n_test > 0, len(trained.held_out)
        (True, 2)

        Parameters
        ----------
        features : embedders whose vectors are learned from, or `Features` with a context, and
            columns of the CCD table.
        options : of `classifiers.train.train`: `sample`, `split`, `classifier`, `seed`, `force`, …

        Raises
        ------
        SurveyError : a model of that name, unless `force`, or a sample that cannot be learned from.
        """
        from classifiers.train import train

        return train(self.lake, features, model, **options)

    def compare(
        self,
        embedders: str | Sequence[str] = (),
        classifiers: str | Sequence[str] = ("knn", "two-step", "logistic", "boosted"),
        *,
        models: str | Sequence[str] = (),
        **options: Any,
    ) -> Comparison:
        """Train classifiers on the same splits, and show how far their scores differ.

        >>> scores = lake.compare("statistics", ["knn", "logistic"], n_seeds=2, workers=1)
        >>> Result(scores.table()).to_polars()["classifier"].to_list()
        ['knn', 'logistic']

        Parameters
        ----------
        embedders : sets of embedders, ``+`` between those that are joined; each with each of
            `classifiers`.
        models : models whose settings are trained anew beside them.
        options : of `classifiers.validation.compare.compare`: `sample`, `split`, `n_seeds`, …
        """
        from classifiers.validation.compare import compare, contender_of, contenders_of

        contenders: list[Contender] = contenders_of(_texts(embedders), _texts(classifiers))
        contenders += [contender_of(self.lake, model) for model in _texts(models)]
        return compare(self.lake, contenders, **options)

    def evaluate(self, model: str, output: str | Path | None = None, **options: Any) -> Evaluation:
        """Return the scores of a model on what it was not trained on; with `output`, a report.

        >>> Result(lake.evaluate("knn").table()).columns[:4]
        ['split', 'min_probability', 'class', 'precision']

        `options` are of `classifiers.validation.evaluate.evaluate`.
        """
        from classifiers.validation.evaluate import evaluate

        return evaluate(self.lake, model, None if output is None else Path(output), **options)

    # Judge --------------------------------------------------------------------------------------

    def predict(self, model: str, **options: Any) -> PredictSummary:
        """Write class probabilities of every embedded CCD: `predictions`.

        >>> lake.predict("knn").skipped
        5

        `options` are of `classifiers.predict.predict`: `partitions`, `force`, …
        """
        from classifiers.predict import predict

        return predict(self.lake, model, **options)

    def vote(self, model: str, **options: Any) -> VoteSummary:
        """Let the CCDs of each exposure vote: `votes`.

        >>> lake.vote("knn", min_probability=0.6).n_exposures
        20

        `options` are of `classifiers.vote.vote`: `rule`, `min_probability`, `min_fraction`, …
        """
        from classifiers.vote import vote

        return vote(self.lake, model, **options)

    def crossmatch(self, model: str, *releases: str, **options: Any) -> Result:
        """Compare a model's votes with legacypipe's own cuts: both, only ours, only theirs.

        >>> lake.crossmatch("knn", "sim").columns
        ['part', 'name', 'in_both', 'only_ours', 'only_theirs', 'neither', 'n_exposures']
        """
        from queries.crossmatch import crossmatch

        return Result(crossmatch(self.lake, model, releases, **options))

    def bad_expid_diff(self, against: str | Path, **options: Any) -> ListDiff:
        """Return the change to a bad-exposure list; writes nothing.

        >>> change = lake.bad_expid_diff("survey/decam-bad_expid.txt", model="knn")
        >>> change.patch[:4], len(change.added) > 0
        (b'--- ', True)

        `options` are of `badlist.proposal.propose`: `model`, `inspections` or `reports`, …
        """
        from badlist.proposal import propose

        return propose(self.lake, Path(against), **options)

    def bad_expid_check(self, file: str | Path, camera: str = "decam") -> CheckReport:
        """Return what a bad-exposure list says, and what in it is to be looked at.

        >>> report = lake.bad_expid_check("survey/decam-bad_expid.txt")
        >>> report.lines == report.entries + report.comments + report.blank + len(report.skipped)
        True
        >>> Result(report.findings()).columns
        ['line', 'key', 'finding']
        """
        from badlist.proposal import check

        return check(Path(file), self.lake, camera)

    # Look ---------------------------------------------------------------------------------------

    def select(
        self,
        model: str,
        number: int,
        *,
        round: str | None = None,
        ccds: bool = False,
        release: str | None = None,
        **options: Any,
    ) -> Selection:
        """Choose the exposures whose labels a model would learn most from.

        >>> selection = lake.select("knn", 3, strategy="margin", n_models=3, held_out_too=True)
        >>> Result(selection.rows).columns[:4]
        ['place', 'camera', 'night', 'expnum']

        Parameters
        ----------
        round : freeze them as a new round of inspection of this name, of CCDs where `ccds`.
        options : of `classifiers.active_learning.select.select`.
        """
        from classifiers.active_learning.select import keep_selection, select
        from inspector.rounds import check_free, freeze, located

        if round is not None:
            check_free(self.lake, round)
        selection = select(self.lake, model, number, **options)
        if round is not None:
            origin = {"model": model, "select": number, "release": release, **options}
            subjects = located(self.lake, selection.subjects(ccds), release)
            # The round comes last: it says that all of it is there.
            keep_selection(self.lake, round, selection, origin)
            freeze(self.lake, round, subjects, origin)
        return selection

    def map(self, features: Features | str | Sequence[str], **options: Any) -> EmbeddingMap:
        """Lay the embeddings out: silhouettes, clusters and maps of CCDs, in `projections`.

        >>> laid_out = lake.map("statistics", sample=200)
        >>> Result(laid_out.classes()).columns
        ['class', 'ccds', 'silhouette', 'in_clusters']
        >>> lake.query("clusters", embedder="statistics").columns[2:5]
        ['cluster', 'n_ccds', 'n_labelled']

        `options` are of `classifiers.maps.maps.map_embeddings`; `classifiers.maps.plots` draws it.
        """
        from classifiers.maps.maps import map_embeddings
        from classifiers.sample.features import as_features

        return map_embeddings(self.lake, as_features(features), **options)

    def label_errors(
        self,
        features: Features | str | Sequence[str] | None = None,
        *,
        model: str | None = None,
        round: str | None = None,
        **options: Any,
    ) -> Suspects:
        """Rank the labels that are likely wrong, by what other nights teach.

        >>> suspects = lake.label_errors("statistics", n=5)
        >>> suspects.n_judged > 0, len(suspects.rows) <= 5
        (True, True)

        Parameters
        ----------
        model : judge as this model does, in place of `features`.
        round : freeze them as a new round of inspection of this name.
        options : of `classifiers.label_errors.suspects.find_label_errors`: `n`, `by`, `sample`,
            `classifier`, …
        """
        from classifiers.label_errors.suspects import find_label_errors
        from classifiers.sample.features import as_features
        from inspector.rounds import check_free, freeze_rows

        if round is not None:
            check_free(self.lake, round)
        vectors = None if features is None else as_features(features)
        suspects = find_label_errors(self.lake, vectors, model=model, **options)
        if round is not None:
            freeze_rows(self.lake, round, suspects.subjects(), suspects.origin)
        return suspects


def _paths(given: Paths) -> list[Path]:
    return [Path(given)] if isinstance(given, (str, Path)) else [Path(path) for path in given]


def _texts(given: str | Sequence[str]) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given
