"""A night of CCD rows: which processing of a CCD counts, and the exposures that they make up."""

from __future__ import annotations

from contextlib import AbstractContextManager

import polars as pl
import pyarrow as pa

from lake.store import Lake, hold
from lake.versions import natural

#: (camera, night): the partition of a release that a row belongs to.
Key = tuple[str, str]
#: Dates after this one (in the year 2406) are taken for damage.
LATEST_MJD = 200_000.0


def locked(lake: Lake, release: str) -> AbstractContextManager[None]:
    """Let one process at a time change the nights of a release: files may share a night."""
    return hold(lake.root / "ccds" / f"release={release}" / "_lock")


def latest_processing(rows: pa.Table) -> pa.Table:
    """Return one row per (expnum, ccdnum): the last by ``procdate``, then ``plver``, then order."""
    keys = pl.DataFrame(
        {
            "expnum": rows["expnum"].to_numpy(),
            "ccdnum": rows["ccdnum"].to_numpy(),
        }
    )
    if keys.n_unique() == rows.num_rows:
        return rows
    blank = pl.Series([""] * rows.num_rows)
    for name in ("procdate", "plver"):
        column = blank
        if name in rows.column_names:
            column = pl.Series(pl.from_arrow(rows[name])).cast(pl.String).fill_null("")
        keys = keys.with_columns(column.alias(name))
    keys = keys.with_columns(
        # V4.10 comes after V4.8.2a: compare runs of digits as numbers.
        pl.col("plver").map_elements(natural, return_dtype=pl.String),
        pl.int_range(pl.len()).alias("position"),
    )
    chosen = (
        keys.sort("procdate", "plver", "position")
        .group_by("expnum", "ccdnum", maintain_order=True)
        .last()["position"]
        .sort()
    )
    return rows.take(chosen.to_arrow())


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
