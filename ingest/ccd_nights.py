"""A night of CCD rows: which processing of a CCD counts, and the exposures that they make up."""

from __future__ import annotations

from contextlib import AbstractContextManager

import polars as pl
import pyarrow as pa

from lake.store import Lake
from lake.versions import processing

#: (camera, night): the partition of a release that a row belongs to.
Key = tuple[str, str]
#: Columns that tell the processings of a CCD image apart.
_PROCESSING = ("procdate", "plver")
#: Dates after this one (in the year 2406) are taken for damage.
LATEST_MJD = 200_000.0


def locked(lake: Lake, release: str) -> AbstractContextManager[None]:
    """Let one process at a time change the nights of a release: files may share a night."""
    return lake.lock(f"ccds-{release}")


def latest_processing(rows: pa.Table) -> pa.Table:
    """Return a row per (expnum, ccdnum), the last by `lake.versions.processing`, then by order."""
    keys = pl.DataFrame(
        {
            "expnum": rows["expnum"].to_numpy(),
            "ccdnum": rows["ccdnum"].to_numpy(),
        }
    )
    if keys.n_unique() == rows.num_rows:
        return rows
    unknown = pa.nulls(rows.num_rows, pa.string())
    told = [
        (rows[name].cast(pa.string()) if name in rows.column_names else unknown).to_pylist()
        for name in _PROCESSING
    ]
    order = sorted(range(rows.num_rows), key=lambda row: processing(told[0][row], told[1][row]))
    chosen = (
        keys.with_columns(pl.int_range(pl.len()).alias("position"))[order]
        .group_by("expnum", "ccdnum", maintain_order=True)
        .last()["position"]
        .sort()
    )
    return rows.take(chosen.to_arrow())


def filled(rows: pa.Table, stored: pa.Table) -> pa.Table:
    """Return `rows` with what they do not say and `stored` ones of the same processing do.

    A table with fewer columns, or with blanks, takes nothing away.
    """
    new, old = (pl.DataFrame(pl.from_arrow(part)) for part in (rows, stored))
    on = ["expnum", "ccdnum", *(f"\0{name}" for name in _PROCESSING)]

    def with_processing(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            (pl.col(name).cast(pl.String).fill_null("").str.strip_chars().alias(f"\0{name}"))
            if name in frame.columns
            else pl.lit("").alias(f"\0{name}")
            for name in _PROCESSING
        )

    shared = [name for name in old.columns if name not in ("expnum", "ccdnum", "table_file")]
    old = with_processing(old).unique(on, keep="last")
    old = old.select(*on, *(pl.col(name).alias(f"\0stored {name}") for name in shared))
    joined = with_processing(new).join(old, on=on, how="left", maintain_order="left")
    told = [
        pl.coalesce(*([name] if name in new.columns else []), f"\0stored {name}").alias(name)
        for name in shared
    ]
    names = [*new.columns, *(name for name in shared if name not in new.columns)]
    return joined.with_columns(told).select(names).to_arrow(compat_level=pl.CompatLevel.oldest())


def exposures_of(ccds: pa.Table) -> pa.Table:
    """Return the exposures of a night's CCDs: one row per expnum, medians over its CCDs."""
    frame = pl.DataFrame(pl.from_arrow(ccds.select(_EXPOSURE_SOURCES)))

    def median(name: str) -> pl.Expr:
        return pl.col(name).fill_nan(None).median()

    exposures = frame.group_by("expnum", maintain_order=True).agg(
        pl.col("mjd_obs").first(),
        pl.col("filter").first().str.split(" ").list.first().alias("band"),
        *(
            pl.col(name).first()
            for name in (
                "exptime",
                "airmass",
                "ra_bore",
                "dec_bore",
                "propid",
                "object",
                "plver",
            )
        ),
        pl.len().cast(pl.Int32).alias("n_ccds"),
        median("fwhm"),
        median("ccdzpt").alias("zpt"),
        median("ccdskysb").alias("skysb"),
        median("ebv"),
        pl.when(pl.col("ccd_cuts").is_null().all())
        .then(None)
        .otherwise(pl.col("ccd_cuts").fill_null(0).bitwise_or())
        .alias("ccd_cuts"),
        pl.when(pl.col("ccd_cuts").is_null().all())
        .then(None)
        .otherwise((pl.col("ccd_cuts") != 0).sum())
        .cast(pl.Int32)
        .alias("n_cut"),
        pl.col("image_filename").first(),
    )
    return exposures.to_arrow(compat_level=pl.CompatLevel.oldest())


_EXPOSURE_SOURCES = [
    "expnum", "mjd_obs", "filter", "exptime", "airmass", "ra_bore", "dec_bore", "propid",
    "object", "plver", "fwhm", "ccdzpt", "ccdskysb", "ebv", "ccd_cuts", "image_filename",
]  # fmt: skip
