"""The schemas of the lake, declared once: every column with its type, unit and meaning.

Readers, writers, ``survey-qa schema`` and the documentation all use these declarations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import BadInput, NotFound

_TEXT = pa.string()
_I16, _I32, _I64 = pa.int16(), pa.int32(), pa.int64()
_F32, _F64 = pa.float32(), pa.float64()
_BOOL = pa.bool_()
#: Stands for a fixed-size list of float16 whose length is the embedder's own.
VECTOR = pa.list_(pa.float16())


@dataclass(frozen=True)
class Column:
    """A column: name, Arrow type, unit (empty for none) and a one-line meaning."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    Attributes
    ----------
    row : what one row is, in words.
    partition : names of the partition keys, in the order of the folders.
    key : columns that are unique and sorted within a partition.
    columns : the declared columns, in the order they are written.
    keeps_source_columns : whether further columns of the source are kept under their own names.
    facets : name -> columns that what is made of the table may depend on alone: while they stay,
        it is not out of date.
    """

    name: str
    row: str
    partition: tuple[str, ...]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    keeps_source_columns: bool = False
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def column(self, name: str) -> Column:
        """Return the declared column `name`; raises `KeyError` when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def conform(self, rows: pa.Table) -> pa.Table:
        """Return `rows` with the declared columns in their order and type, sorted by the key.

        Columns that `rows` lacks become null; further ones are kept where the table allows it.
        Partition keys are not stored inside the files.

        Raises
        ------
        SurveyError : a column that cannot be cast, an unknown column, or a key that repeats.
        """
        arrays, fields = [], []
        for column in self.columns:
            values = (
                rows.column(column.name)
                if column.name in rows.column_names
                else pa.nulls(rows.num_rows, column.type)
            )
            values = self._cast(column, values)
            arrays.append(values)
            fields.append(pa.field(column.name, values.type))
        declared = {column.name for column in self.columns} | set(self.partition)
        extra = [name for name in rows.column_names if name not in declared]
        if extra and not self.keeps_source_columns:
            raise NotFound(f"table {self.name}: no such column: {', '.join(extra)}")
        for name in extra:
            arrays.append(rows.column(name))
            fields.append(pa.field(name, rows.schema.field(name).type))
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
        return self._sorted_unique(table)

    def _cast(self, column: Column, values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray:
        if column.type == VECTOR:
            if pa.types.is_fixed_size_list(values.type) and values.type.value_type == pa.float16():
                return values
            if len(values) == 0:
                return pa.chunked_array([], type=pa.list_(pa.float16(), 1))
            raise BadInput(
                f"table {self.name}, column {column.name}: expected a fixed-size list of float16, "
                f"got {values.type}"
            )
        if values.type == column.type:
            return values
        try:
            return values.cast(column.type)
        except pa.ArrowException as error:
            raise BadInput(
                f"table {self.name}, column {column.name}: {values.type} does not fit "
                f"{column.type}: {error}"
            ) from error

    def _sorted_unique(self, table: pa.Table) -> pa.Table:
        if not self.key or table.num_rows < 2:
            return table
        keys = table.select(list(self.key))
        order = pc.sort_indices(
            keys, sort_keys=[(name, "ascending", "at_start") for name in self.key]
        )
        if not np.array_equal(order.to_numpy(), np.arange(len(order))):
            table = table.take(order)
            keys = table.select(list(self.key))
        groups = keys.group_by(list(self.key)).aggregate([])
        if groups.num_rows != table.num_rows:
            raise BadInput(
                f"table {self.name}: {table.num_rows - groups.num_rows} rows repeat the key "
                f"({', '.join(self.key)})"
            )
        return table


def _columns(*rows: tuple[str, pa.DataType, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


_EXPNUM = ("expnum", _I64, "", "exposure number of the camera")
_CCDNUM = ("ccdnum", _I16, "", "CCD number (DECam: 1-62); 0 stands for the whole exposure")
_CCDNAME = ("ccdname", _TEXT, "", "CCD name (DECam: N1-N31, S1-S31)")

_CCDS = _columns(
    _EXPNUM,
    _CCDNUM,
    _CCDNAME,
    ("image_filename", _TEXT, "", "image file, relative to the survey's image folder"),
    ("image_hdu", _I16, "", "HDU of the CCD in the file; the primary is 0"),
    ("ccd_cuts", _I64, "bits", "legacypipe's reasons to leave the CCD out; 0 is kept"),
    ("ebv", _F32, "mag", "galactic reddening E(B-V) at the CCD's centre (SFD)"),
    ("plver", _TEXT, "", "version of the reduction pipeline"),
    ("procdate", _TEXT, "UTC", "date of the reduction"),
    ("plprocid", _TEXT, "", "identifier of the reduction"),
    ("object", _TEXT, "", "target as the observer named it"),
    ("propid", _TEXT, "", "proposal"),
    ("filter", _TEXT, "", "filter"),
    ("exptime", _F32, "s", "exposure time"),
    ("mjd_obs", _F64, "d", "start of the exposure, modified Julian date, UTC"),
    ("airmass", _F32, "", "airmass"),
    ("fwhm", _F32, "pix", "full width at half maximum of the point-spread function"),
    ("width", _I32, "pix", "image size along x"),
    ("height", _I32, "pix", "image size along y"),
    ("ra_bore", _F64, "deg", "right ascension of the boresight (J2000)"),
    ("dec_bore", _F64, "deg", "declination of the boresight (J2000)"),
    ("crpix1", _F32, "pix", "reference pixel along x, counted from 1"),
    ("crpix2", _F32, "pix", "reference pixel along y, counted from 1"),
    ("crval1", _F64, "deg", "right ascension of the reference pixel"),
    ("crval2", _F64, "deg", "declination of the reference pixel"),
    ("cd1_1", _F32, "deg/pix", "CD matrix"),
    ("cd1_2", _F32, "deg/pix", "CD matrix"),
    ("cd2_1", _F32, "deg/pix", "CD matrix"),
    ("cd2_2", _F32, "deg/pix", "CD matrix"),
    ("yshift", _BOOL, "", "whether the image was shifted in y (Mosaic-3)"),
    ("ra", _F64, "deg", "right ascension of the CCD's centre"),
    ("dec", _F64, "deg", "declination of the CCD's centre"),
    ("skyrms", _F32, "counts/s", "scatter of the sky"),
    ("sig1", _F32, "nanomaggies/pix", "median error per pixel"),
    ("ccdzpt", _F32, "mag", "zeropoint of the CCD, at 1 s"),
    ("zpt", _F32, "mag", "median zeropoint of the exposure"),
    ("ccdraoff", _F32, "arcsec", "median astrometric offset in right ascension"),
    ("ccddecoff", _F32, "arcsec", "median astrometric offset in declination"),
    ("ccdskycounts", _F32, "counts/s/pix", "mean sky"),
    ("ccdskysb", _F32, "mag/arcsec2", "sky surface brightness"),
    ("ccdrarms", _F32, "arcsec", "scatter of the astrometry in right ascension"),
    ("ccddecrms", _F32, "arcsec", "scatter of the astrometry in declination"),
    ("ccdphrms", _F32, "mag", "photometric scatter of the CCD"),
    ("phrms", _F32, "mag", "photometric scatter of the exposure"),
    ("ccdnastrom", _I32, "", "stars matched for astrometry"),
    ("ccdnphotom", _I32, "", "stars matched for photometry"),
    ("ccdnmatch", _I32, "", "stars matched (older releases)"),
    ("ccdtransp", _F32, "", "transparency (older releases)"),
    ("psfnorm", _F32, "1/pix", "norm of the PSF model, for depth"),
    ("galnorm", _F32, "1/pix", "norm of the PSF convolved with a small galaxy, for depth"),
    ("wcscal", _TEXT, "", "whether astrometry succeeded, from the image's header"),
    ("table_file", _TEXT, "", "CCD table or image that this row was read from"),
)

#: What tells CCDs apart; which image is a CCD's; where a CCD lies in the focal plane.
_NAMES = ("expnum", "ccdnum", "ccdname")
_IMAGES = ("image_filename", "image_hdu", "procdate", "plver")
_PLACES = (
    "width", "height", "crpix1", "crpix2", "crval1", "crval2", "cd1_1", "cd1_2", "cd2_1", "cd2_2",
)  # fmt: skip

_REASON = ("reason", _TEXT, "", "the words of the list, as they stand")
#: What a verdict brings along: null where a list says it.
_VERDICT = (
    ("quality", _F32, "", "confidence of the inspectors, 0-4; null: not given, or of a list"),
    ("comment", _TEXT, "", "words of the inspectors, as they were typed; null: of a list"),
    ("time", _F64, "s", "when it was said, seconds since 1970 UTC; null: not known"),
)
_ORIGIN = (
    "origin",
    _TEXT,
    "",
    "what this program wrote the line by, such as 'model knn-dr10'; null: a person's word",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "ccds",
            "a CCD image of a release",
            ("release", "camera", "night"),
            ("expnum", "ccdnum"),
            _CCDS,
            keeps_source_columns=True,
            facets={
                "names": _NAMES,
                "images": (*_NAMES, *_IMAGES),
                "places": (*_NAMES, *_PLACES),
                "mosaics": (*_NAMES, *_IMAGES, *_PLACES),
            },
        ),
        Table(
            "exposures",
            "an exposure of a release",
            ("release", "camera", "night"),
            ("expnum",),
            _columns(
                _EXPNUM,
                ("mjd_obs", _F64, "d", "start of the exposure, modified Julian date, UTC"),
                ("band", _TEXT, "", "band: first word of the filter"),
                ("exptime", _F32, "s", "exposure time"),
                ("airmass", _F32, "", "airmass"),
                ("ra_bore", _F64, "deg", "right ascension of the boresight (J2000)"),
                ("dec_bore", _F64, "deg", "declination of the boresight (J2000)"),
                ("propid", _TEXT, "", "proposal"),
                ("object", _TEXT, "", "target as the observer named it"),
                ("plver", _TEXT, "", "version of the reduction pipeline"),
                ("n_ccds", _I32, "", "CCD images of the exposure in the table"),
                ("fwhm", _F32, "pix", "median full width at half maximum over the CCDs"),
                ("zpt", _F32, "mag", "median zeropoint over the CCDs, at 1 s"),
                ("skysb", _F32, "mag/arcsec2", "median sky surface brightness over the CCDs"),
                ("ebv", _F32, "mag", "median E(B-V) over the CCDs"),
                ("ccd_cuts", _I64, "bits", "legacypipe's bits set on any CCD"),
                ("n_cut", _I32, "", "CCDs with at least one bit set; null where no bits are known"),
                ("image_filename", _TEXT, "", "image file of the first CCD"),
            ),
        ),
        Table(
            "reports",
            "what one line of one list says",
            ("source",),
            ("camera", "round", "file", "edition", "line", "expnum", "ccdnum", "analyst"),
            _columns(
                _EXPNUM,
                ("ccdname", _TEXT, "", "CCD name; null: the whole exposure"),
                ("ccdnum", _I16, "", "CCD number; null: the whole exposure or an unknown name"),
                _REASON,
                ("classes", pa.list_(_TEXT), "", "classes of the vocabulary; empty when none"),
                ("is_bad", _BOOL, "", "whether the list calls the exposure or CCD bad"),
                ("analyst", _TEXT, "", "who said so, where the list tells"),
                ("round", _TEXT, "", "round of inspection or edition of the list"),
                ("file", _TEXT, "", "name of the file"),
                ("line", _I32, "", "line of the file, counted from 1 (FITS: row)"),
                ("camera", _TEXT, "", "camera whose exposure numbers these are"),
                ("edition", _TEXT, "", "hash of the list's content; null: a round"),
                ("is_current", _BOOL, "", "whether this edition of the list counts"),
                _ORIGIN,
                (
                    "inspector",
                    _TEXT,
                    "",
                    "of a round: who said so; of a merged one who settled it, or all who agree",
                ),
                *_VERDICT,
            ),
        ),
        Table(
            "labels",
            "a CCD, a class, a source",
            ("release", "camera", "night"),
            ("expnum", "ccdnum", "class", "source"),
            _columns(
                _EXPNUM,
                _CCDNUM,
                _CCDNAME,
                ("class", _TEXT, "", "class of the vocabulary; null when the words map to none"),
                ("source", _TEXT, "", "list that says so"),
                _REASON,
                ("inspector", _TEXT, "", "who said so; null: of a list that does not tell"),
                *_VERDICT,
                _ORIGIN,
            ),
        ),
        Table(
            "embeddings",
            "a CCD image, or an exposure (ccdnum 0)",
            ("embedder", "camera", "night"),
            ("expnum", "ccdnum"),
            _columns(
                _EXPNUM,
                _CCDNUM,
                ("embedding", VECTOR, "", "vector of the embedder, float16"),
            ),
        ),
        Table(
            "predictions",
            "a CCD image as a model sees it",
            ("model", "camera", "night"),
            ("expnum", "ccdnum"),
            _columns(
                _EXPNUM,
                _CCDNUM,
                ("class", _TEXT, "", "most probable class"),
                ("probability", _F32, "", "probability of that class"),
                (
                    "probabilities",
                    pa.list_(_F32),
                    "",
                    "probability of each of the model's classes, in the order of its card",
                ),
            ),
        ),
        Table(
            "test_sets",
            "a labelled CCD that a model is scored with, since it has not seen it",
            ("model",),
            ("split", "camera", "expnum", "ccdnum"),
            _columns(
                ("split", _TEXT, "", "what was kept apart: night, exposure or image"),
                ("release", _TEXT, "", "release whose labels these are"),
                ("camera", _TEXT, "", "camera"),
                ("night", _I32, "", "UTC date of the night's start, YYYYMMDD"),
                _EXPNUM,
                _CCDNUM,
                ("class", _TEXT, "", "class by its labels"),
                ("class_index", _I16, "", "index of that class among the probabilities, from 1"),
                ("weight", _F64, "", "how many CCDs it counts for in training"),
                (
                    "predicted",
                    _TEXT,
                    "",
                    "class it was given after training on the other images, where that is not the "
                    "model's own split; null: see predictions",
                ),
                ("probability", _F32, "", "probability of that class; null: see predictions"),
            ),
        ),
        Table(
            "votes",
            "an exposure as its CCDs vote",
            ("model", "camera", "night"),
            ("expnum",),
            _columns(
                _EXPNUM,
                ("n_ccds", _I32, "", "CCDs that voted"),
                ("n_bad", _I32, "", "CCDs of a bad class at or above the least probability"),
                ("class", _TEXT, "", "class of most of the bad CCDs; good when the vote is good"),
                ("probability", _F32, "", "mean over CCDs; learned: of being bad, or good"),
                ("is_bad", _BOOL, "", "whether the exposure is bad"),
            ),
        ),
        Table(
            "searches",
            "a fit of a search for settings, scored on nights left out of it",
            ("model",),
            ("rung", "candidate", "fold"),
            _columns(
                ("rung", _I16, "", "round of the search, counted from 0"),
                ("candidate", _I32, "", "settings, numbered as they were drawn"),
                ("fold", _I16, "", "part of the nights that it is scored on; the others it fits"),
                ("n_samples", _I32, "", "images of the rung, all folds together"),
                ("accuracy", _F64, "", "share of the fold's images that is right; null: failed"),
                ("error", _TEXT, "", "why it could not be fitted"),
                ("seconds", _F32, "s", "time to fit and score"),
                ("scaler", _TEXT, "", "knn: how values are scaled, as scikit-learn names it"),
                ("n_components", _I16, "", "knn: principal components"),
                ("min_variance", _F64, "", "knn: least variance of a component"),
                ("n_neighbors", _I16, "", "knn: neighbours that vote"),
                ("p", _I16, "", "knn: order of the Minkowski distance"),
                ("leaf_size", _I16, "", "knn: of the paper's tree; of no effect on scores"),
                ("n_estimators", _I16, "", "two-step: trees of each step"),
                ("min_samples_leaf", _I16, "", "two-step: fewest images in a leaf"),
                ("C", _F64, "", "logistic: inverse strength of the penalty"),
                ("learning_rate", _F64, "", "boosted: how far each round goes"),
                ("max_iter", _I16, "", "boosted: rounds"),
                ("max_leaf_nodes", _I16, "", "boosted: most leaves of a tree"),
                ("l2_regularization", _F64, "", "boosted: penalty of the leaves' values"),
            ),
        ),
        Table(
            "comparisons",
            "a fit of a comparison, scored on what its seed holds out",
            ("contender",),
            ("seed",),
            _columns(
                ("seed", _I64, "", "decides the split and the fit"),
                ("model", _TEXT, "", "model whose settings these are; null: none"),
                ("classifier", _TEXT, "", "classifier"),
                ("embedders", _TEXT, "", "embedders, + between those that are joined"),
                ("context", _TEXT, "", "what a CCD's vector is joined with"),
                ("columns", _TEXT, "", "columns of the CCD table that it learns from; null: none"),
                ("class_weight", _TEXT, "", "how much classes count"),
                ("classes", pa.list_(_TEXT), "", "classes, good first"),
                ("confusion", pa.list_(_I64), "", "images by true class and, in it, by called one"),
                ("sure", pa.list_(_I64), "", "those of them that pass the cut"),
                ("min_probability", _F64, "", "that cut"),
                ("seconds", _F32, "s", "time to fit and score"),
            ),
        ),
        Table(
            "projections",
            "a CCD image among those whose embeddings were laid out in two and three dimensions",
            ("embedder", "method"),
            ("camera", "expnum", "ccdnum"),
            _columns(
                ("camera", _TEXT, "", "camera whose exposure number this is"),
                ("night", _I32, "", "UTC date of the night's start, YYYYMMDD"),
                _EXPNUM,
                _CCDNUM,
                ("class", _TEXT, "", "class of the vocabulary; null: no list names the CCD"),
                ("x", _F32, "", "place in two dimensions"),
                ("y", _F32, "", "place in two dimensions"),
                ("x3", _F32, "", "place in three dimensions"),
                ("y3", _F32, "", "place in three dimensions"),
                ("z3", _F32, "", "place in three dimensions"),
                ("cluster", _I32, "", "number of the cluster (HDBSCAN); -1: in none"),
                (
                    "silhouette",
                    _F32,
                    "",
                    "how much nearer its own class is than the next one, -1 to 1; null: no class",
                ),
            ),
        ),
        Table(
            "label_errors",
            "a label that vectors contradict: an exposure's, or (ccdnum above 0) a CCD's",
            ("embedder",),
            ("camera", "expnum", "ccdnum", "label"),
            _columns(
                ("rank", _I32, "", "rank from the most suspicious, counted from 0"),
                ("camera", _TEXT, "", "camera whose exposure number this is"),
                ("night", _I32, "", "UTC date of the night's start, YYYYMMDD"),
                _EXPNUM,
                _CCDNUM,
                ("label", _TEXT, "", "class by its labels"),
                ("suggested", _TEXT, "", "class that it looks like"),
                ("p_label", _F32, "", "probability of the label's class, by other nights"),
                ("p_suggested", _F32, "", "probability of the suggested class"),
                ("margin", _F32, "", "p_label - p_suggested, -1 to 1"),
                ("confident", _BOOL, "", "whether confident learning holds the label for wrong"),
                ("kind", _TEXT, "", "good that looks bad, bad that looks good, another class"),
                ("n_ccds", _I32, "", "labelled CCDs that were judged together"),
                ("agree", _F32, "", "share of the nearest labelled CCDs that are of it"),
                (
                    "agree_label",
                    _F32,
                    "",
                    "share of them that are of the label's class",
                ),
                ("nearest", pa.list_(_TEXT), "", "nearest labelled CCDs of other nights"),
                ("sources", _TEXT, "", "lists that give the label; null: none, as of good"),
                ("reasons", _TEXT, "", "words of these lists"),
                ("why", _TEXT, "", "all that in a sentence"),
            ),
        ),
        Table(
            "selections",
            "an exposure that was selected for a round of inspection, and its score",
            ("round",),
            ("camera", "expnum"),
            _columns(
                ("place", _I32, "", "place in the selection, counted from 0"),
                ("camera", _TEXT, "", "camera whose exposure number this is"),
                ("night", _I32, "", "UTC date of the night's start, YYYYMMDD"),
                _EXPNUM,
                ("ccdnum", _I16, "", "CCD that decided"),
                _CCDNAME,
                ("score", _F64, "", "how worthwhile a look is, in the terms of the strategy"),
                ("n_ccds", _I32, "", "CCDs of the exposure that were scored"),
                ("n_alike", _I32, "", "CCDs of the exposure that are about as uncertain"),
                ("cluster", _I32, "", "cluster of the self-organising map; null: no map"),
                ("class", _TEXT, "", "class proposed to the inspectors; null for none"),
                ("probability", _F32, "", "probability of that class"),
                ("why", _TEXT, "", "why it is worth a look"),
            ),
        ),
        Table(
            "consistency",
            "a group that should be of one class, and how alike one model or two find it",
            ("model", "other"),
            ("compared", "camera", "expnum", "field"),
            _columns(
                (
                    "compared",
                    _TEXT,
                    "",
                    "CCDs of an exposure, exposures of a field, or between models",
                ),
                ("camera", _TEXT, "", "camera whose exposure numbers these are"),
                ("night", _I32, "", "UTC date of the night's start, YYYYMMDD; null: a field"),
                ("expnum", _I64, "", "exposure number of the camera; null: a field"),
                ("field", _I64, "", "exposure number of a field's first exposure; else null"),
                ("band", _TEXT, "", "band of a field; empty: not known"),
                ("ra", _F64, "deg", "right ascension of a field's first boresight"),
                ("dec", _F64, "deg", "declination of a field's first boresight"),
                ("n_ccds", _I64, "", "CCDs of an exposure that are compared"),
                ("n_exposures", _I64, "", "exposures of a field that are compared"),
                ("n_differ", _I64, "", "CCDs that two models give different classes"),
                ("class", _TEXT, "", "commonest class; between models, in the commonest pair"),
                ("other_class", _TEXT, "", "what the other model gives in that pair"),
                ("agreement", _F64, "", "share of the commonest class"),
                ("n_classes", _I64, "", "classes that are given"),
                ("entropy", _F64, "bits", "entropy of the classes; 0: all alike"),
            ),
        ),
        Table(
            "crossmatches",
            "a part of the exposures that voted: how many the vote and legacypipe call bad",
            ("release", "model"),
            ("part", "name"),
            _columns(
                ("rank", _I32, "", "rank in the order of classes and bits, counted from 0"),
                ("part", _TEXT, "", "all; class: of the vote; bit: set on any CCD"),
                ("name", _TEXT, "", "name of the class or bit"),
                ("in_both", _I64, "", "exposures that the vote and legacypipe call bad"),
                ("only_ours", _I64, "", "exposures that only the vote calls bad"),
                ("only_theirs", _I64, "", "exposures that only legacypipe rejects"),
                ("neither", _I64, "", "exposures that neither calls bad"),
                ("n_exposures", _I64, "", "exposures compared"),
            ),
        ),
        Table(
            "rounds",
            "an exposure or CCD that a round of inspection is to look at; frozen",
            ("round",),
            ("camera", "expnum", "ccdnum"),
            _columns(
                ("camera", _TEXT, "", "camera whose exposure number this is"),
                _EXPNUM,
                _CCDNUM,
                ("place", _I32, "", "place in the round's order, counted from 0"),
                ("release", _TEXT, "", "release whose CCD table and images are shown"),
                ("observed", _I32, "", "night of the exposure, YYYYMMDD"),
                ("why", _TEXT, "", "why it is in the round"),
                ("class", _TEXT, "", "class proposed to the inspectors; null for none"),
                ("probability", _F32, "", "probability of that class"),
            ),
            keeps_source_columns=True,
        ),
        Table(
            "inspections",
            "what an inspector of a closed round says of an exposure or CCD",
            ("round", "inspector"),
            ("camera", "expnum", "ccdnum"),
            _columns(
                ("camera", _TEXT, "", "camera whose exposure number this is"),
                _EXPNUM,
                _CCDNUM,
                ("verdict", _TEXT, "", "good, bad or unsure"),
                ("class", _TEXT, "", "class of the vocabulary; null when none was given"),
                ("quality", _I16, "", "confidence of the inspector, 0-4; null when not given"),
                ("comment", _TEXT, "", "the inspector's words"),
                ("time", _F64, "s", "when it was said, seconds since 1970 UTC; null: not known"),
            ),
        ),
        Table(
            "outcomes",
            "what a round says, its inspectors' verdicts merged, of an exposure or CCD",
            ("round",),
            ("camera", "expnum", "ccdnum"),
            _columns(
                ("camera", _TEXT, "", "camera whose exposure number this is"),
                _EXPNUM,
                _CCDNUM,
                ("verdict", _TEXT, "", "good, bad or unsure"),
                ("class", _TEXT, "", "class of a bad one; null when nobody gave any"),
                ("quality", _F32, "", "mean confidence of those who agree, 0-4"),
                ("comment", _TEXT, "", "words of those who agree"),
                ("n_looked", _I16, "", "inspectors who looked"),
                ("n_bad", _I16, "", "inspectors who call it bad"),
                ("settled_by", _TEXT, "", "merger who settled a disagreement; null for none"),
                ("inspectors", pa.list_(_TEXT), "", "inspectors who agree with the verdict"),
                ("time", _F64, "s", "when the last of them said so, seconds since 1970 UTC"),
            ),
        ),
        Table(
            "failures",
            "an input that could not be used",
            ("stage", "camera", "night"),
            (),
            _columns(
                _EXPNUM,
                _CCDNUM,
                ("file", _TEXT, "", "file, with its HDU or row where it has one"),
                ("error", _TEXT, "", "what is wrong with it"),
            ),
        ),
    )
}


def table(name: str) -> Table:
    """Return the declaration of table `name`; raises `SurveyError` naming the tables."""
    try:
        return TABLES[name]
    except KeyError:
        raise NotFound(f"no table {name!r}; the tables are {', '.join(TABLES)}") from None


def describe_columns(name: str | None = None) -> pa.Table:
    """Return a row for each column of a table, or of all: its type, unit and meaning.

    Raises `SurveyError` for a table that there is not, naming those there are.
    """
    rows = []
    for declared in [table(name)] if name else TABLES.values():
        keys = [(key, str(key_type(key)), "", "partition key") for key in declared.partition]
        columns = [(c.name, str(c.type), c.unit, c.meaning) for c in declared.columns]
        rows += [
            {
                "table": declared.name,
                "column": column,
                "type": kind,
                "unit": unit,
                "key": column in declared.partition + declared.key,
                "meaning": meaning,
            }
            for column, kind, unit, meaning in keys + columns
        ]
    return pa.Table.from_pylist(rows)


def key_type(name: str) -> pa.DataType:
    """Return the type of a partition key where it is a column: `night` is a number."""
    return pa.int32() if name == "night" else pa.string()
