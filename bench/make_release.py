"""A survey-ccds table of DR10's size: the same in every run, written in chunks of rows.

    python -m bench.make_release OUT.fits [--scale 0.05] [--lists FOLDER]

The columns are those of a survey-ccds table of DR9/DR10, with ``ebv`` of the ccds-annotated
tables. The exposure numbers of the lists in FOLDER are among its exposures, so that merging the
real lists finds what it would find in the real release. As in a release, exposures are ordered by
reduction version, and by time within it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from badlist.format import parse_bad_list, read_bad_list
from ingest.delve_lists import parse_delve_text
from ingest.inspection_tables import parse_inspection_table, read_inspection_csv
from lake.cameras import DECAM

#: DECam exposures of DR10; 60 or 61 CCDs of each make 15.6 million rows.
N_EXPOSURES = 256_701
#: CCDs by number, without N30.
CCDNUMS = np.array(sorted(set(DECAM.ccdnames) - {DECAM.ccdnums["N30"]}), np.int16)
N_NIGHTS = 2200
FIRST_MJD = 56_250
ROWS_PER_CHUNK = 500_000
VERSIONS = (b"V4.8.2a", b"V4.9", b"V5.2.2LS")

DTYPE = np.dtype(
    [
        ("image_filename", "S72"), ("image_hdu", ">i2"), ("camera", "S5"), ("expnum", ">i8"),
        ("plver", "S8"), ("procdate", "S19"), ("plprocid", "S7"), ("ccdname", "S3"),
        ("object", "S35"), ("propid", "S10"), ("filter", "S1"), ("exptime", ">f4"),
        ("mjd_obs", ">f8"), ("airmass", ">f4"), ("fwhm", ">f4"), ("width", ">i2"),
        ("height", ">i2"), ("ra_bore", ">f8"), ("dec_bore", ">f8"), ("crpix1", ">f4"),
        ("crpix2", ">f4"), ("crval1", ">f8"), ("crval2", ">f8"), ("cd1_1", ">f4"),
        ("cd1_2", ">f4"), ("cd2_1", ">f4"), ("cd2_2", ">f4"), ("yshift", "?"), ("ra", ">f8"),
        ("dec", ">f8"), ("skyrms", ">f4"), ("sig1", ">f4"), ("ccdzpt", ">f4"), ("zpt", ">f4"),
        ("ccdraoff", ">f4"), ("ccddecoff", ">f4"), ("ccdskycounts", ">f4"), ("ccdskysb", ">f4"),
        ("ccdrarms", ">f4"), ("ccddecrms", ">f4"), ("ccdphrms", ">f4"), ("phrms", ">f4"),
        ("ccdnastrom", ">i2"), ("ccdnphotom", ">i2"), ("ccd_cuts", ">i8"), ("psfnorm", ">f4"),
        ("galnorm", ">f4"), ("co_sky", ">f4"), ("ebv", ">f4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Exposures:
    """What all CCDs of an exposure share; arrays of one length, in the order of the file."""

    expnum: np.ndarray
    mjd: np.ndarray
    band: np.ndarray
    filename: np.ndarray
    version: np.ndarray
    n_ccds: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    ebv: np.ndarray
    seeing: np.ndarray
    cuts: np.ndarray


def listed_expnums(folder: Path) -> np.ndarray:
    """Return the exposure numbers of the real lists under `folder` (DECaLS, DELVE, inspection)."""
    numbers: set[int] = set()
    for path in sorted(folder.rglob("*bad_expid*.txt")):
        parsed = parse_bad_list(read_bad_list(path), "decam")
        numbers.update(report.expnum for report in parsed.reports)
    for path in sorted((folder / "delve").rglob("*.txt")):
        parsed = parse_delve_text(path.read_text(errors="replace"), path.stem)
        numbers.update(report.expnum for report in parsed.reports)
    for path in sorted(folder.rglob("*bad_exposures*.csv")):
        parsed = parse_inspection_table(read_inspection_csv(path))
        numbers.update(report.expnum for report in parsed.reports)
    return np.array(sorted(number for number in numbers if number > 0), np.int64)


def make_exposures(scale: float, listed: np.ndarray, seed: int = 10) -> Exposures:
    """Return ``scale * N_EXPOSURES`` exposures; at least the same share of `listed` is in them."""
    rng = np.random.default_rng(seed)
    number = max(round(N_EXPOSURES * scale), 1)
    wanted = rng.permutation(listed)[: int(len(listed) * min(scale, 1.0))]
    pool = np.setdiff1d(rng.permutation(np.arange(149_000, 1_400_000))[: 2 * number], listed)
    expnum = np.sort(np.concatenate([wanted, pool[: max(number - len(wanted), 0)]]))
    number = len(expnum)
    # Numbers rise with time; nights are spread over eleven years, some of them lost to weather.
    nights = np.sort(rng.choice(4000, max(int(N_NIGHTS * min(scale * 4, 1)), 1), replace=False))
    night = nights[np.arange(number) * len(nights) // number]
    place = np.arange(number) - np.searchsorted(night, night)
    mjd = FIRST_MJD + night + 1.0 + place * 0.002
    band = rng.choice(np.array([b"g", b"r", b"i", b"z"]), number, p=[0.3, 0.3, 0.1, 0.3])
    version = rng.choice(len(VERSIONS), number, p=[0.5, 0.3, 0.2])
    dates = (np.datetime64("1858-11-17") + night.astype(int) + FIRST_MJD).astype(str)
    names = [
        f"decam/CP/{VERSIONS[v].decode()}/CP{d.replace('-', '')}/"
        f"c4d_{d[2:].replace('-', '')}_{p:06d}_ooi_{b.decode()}_ls{v}.fits.fz"
        for v, d, p, b in zip(version, dates, place, band, strict=True)
    ]
    # A third of the exposures is cut whole, more have a CCD that is (section 2.3 of the paper).
    cuts = np.where(
        rng.random(number) < 0.33,
        rng.choice([0x200, 0x1000, 0x40, 0x100, 0x4000, 0x8000 | 0x400], number),
        0,
    )
    exposures = Exposures(
        expnum=expnum,
        mjd=mjd,
        band=band,
        filename=np.array(names, "S72"),
        version=version,
        n_ccds=rng.choice([60, 61], number, p=[0.23, 0.77]),
        ra=rng.uniform(0, 360, number),
        dec=rng.uniform(-70, 32, number),
        ebv=rng.gamma(2.0, 0.02, number),
        seeing=rng.normal(1.3, 0.25, number).clip(0.7),
        cuts=cuts,
    )
    order = np.lexsort((exposures.expnum, exposures.version))
    return Exposures(**{name: values[order] for name, values in vars(exposures).items()})


def make_rows(exposures: Exposures, first: int, last: int, seed: int = 10) -> np.ndarray:
    """Return the rows of exposures `first` to `last` of the file, not included."""
    rng = np.random.default_rng([seed, first])
    counts = exposures.n_ccds[first:last]
    of = np.repeat(np.arange(first, last), counts)
    number = len(of)
    place = np.arange(number) - np.repeat(np.cumsum(counts) - counts, counts)
    ccdnum = CCDNUMS[place]
    rows = np.zeros(number, DTYPE)
    names = np.array([DECAM.ccdnames.get(number, "") for number in range(63)], "S3")
    noise = rng.normal(size=number).astype(np.float32)
    rows["image_filename"] = exposures.filename[of]
    rows["image_hdu"] = place + 1
    rows["camera"] = b"decam"
    rows["expnum"] = exposures.expnum[of]
    rows["plver"] = np.array(VERSIONS)[exposures.version[of]]
    rows["procdate"] = b"2019-07-22T16:23:50"
    rows["plprocid"] = b"9522dd2"
    rows["ccdname"] = names[ccdnum]
    rows["object"] = np.char.add(
        np.char.add(b"DECaLS_", (exposures.expnum[first:last] % 30_000).astype("S5")),
        np.char.add(b"_", exposures.band[first:last]),
    )[of - first]
    rows["propid"] = b"2014B-0404"
    rows["filter"] = exposures.band[of]
    rows["exptime"] = 60 + exposures.expnum[of] % 120
    rows["mjd_obs"] = exposures.mjd[of]
    rows["airmass"] = 1 + exposures.ebv[of] % 1
    rows["fwhm"] = exposures.seeing[of] / DECAM.pixel_scale + 0.05 * noise
    rows["width"], rows["height"] = DECAM.size
    rows["ra_bore"], rows["dec_bore"] = exposures.ra[of], exposures.dec[of]
    rows["crpix1"], rows["crpix2"] = (place % 8) * 2048 - 8192, (place // 8) * 4096 - 16384
    rows["crval1"], rows["crval2"] = exposures.ra[of], exposures.dec[of]
    rows["cd1_2"], rows["cd2_1"] = 7.285e-5, -7.285e-5
    rows["ra"] = exposures.ra[of] + rows["crpix2"] * 7.285e-5
    rows["dec"] = exposures.dec[of] + rows["crpix1"] * 7.285e-5
    for name, mean, scatter in (
        ("skyrms", 0.1, 0.01), ("sig1", 0.008, 1e-3), ("ccdzpt", 25.2, 0.1), ("zpt", 25.2, 0.05),
        ("ccdraoff", 0.0, 0.01), ("ccddecoff", 0.0, 0.01), ("ccdskycounts", 3.6, 0.2),
        ("ccdskysb", 22.5, 0.2), ("ccdrarms", 0.02, 1e-3), ("ccddecrms", 0.03, 1e-3),
        ("ccdphrms", 0.02, 1e-3), ("phrms", 0.02, 1e-3), ("psfnorm", 0.11, 0.01),
        ("galnorm", 0.09, 0.01), ("co_sky", 3e-4, 1e-5),
    ):  # fmt: skip
        rows[name] = mean + scatter * np.roll(noise, len(name))
    rows["ccdnastrom"] = 250 + 20 * noise
    rows["ccdnphotom"] = 300 + 20 * np.roll(noise, 1)
    single = np.where(rng.random(number) < 0.003, rng.choice([0x1, 0x10, 0x20], number), 0)
    rows["ccd_cuts"] = exposures.cuts[of] | single
    rows["ebv"] = exposures.ebv[of] * (1 + 0.02 * noise)
    return rows


def write_release(path: Path, scale: float, lists: Path | None, seed: int = 10) -> int:
    """Write the table and return its number of rows."""
    import fitsio

    listed = listed_expnums(lists) if lists else np.zeros(0, np.int64)
    exposures = make_exposures(scale, listed, seed)
    step = ROWS_PER_CHUNK // int(exposures.n_ccds.max())
    total = 0
    with fitsio.FITS(str(path), "rw", clobber=True) as table:
        for first in range(0, len(exposures.expnum), step):
            rows = make_rows(exposures, first, min(first + step, len(exposures.expnum)), seed)
            if first:
                table[1].append(rows)
            else:
                table.write(rows, extname="CCDS")
            total += len(rows)
    return total


def main() -> None:
    """Write a table as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is DR10 [default: 1]")
    parser.add_argument("--lists", type=Path, help="folder of real lists")
    options = parser.parse_args()
    rows = write_release(options.output, options.scale, options.lists)
    print(f"{options.output}: {rows:,} rows, {options.output.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
