"""A small random lake in which every query has something to find."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lake.cameras import DECAM
from lake.record import Record
from lake.store import Lake
from lake.tables import table

RELEASES = ("dr9", "dr10")
NIGHTS = (20140818, 20140819, 20150101)
N_EXPOSURES = 12
CCDNUMS = tuple(range(1, 9))
CLASSES = ("Saturated", "Clouds_transparency", "PSF", "Ghost_scatter", "NObjects", "Bad_CCD")
SOURCES = ("decals", "des", "delve", "inspection")
EMBEDDER = "statistics"
#: CCDs that have a vector.
EMBEDDED = CCDNUMS[::2]
MODEL = "knn"
OTHER_MODEL = "other"
RECORD = Record("test")


def fill(lake: Lake, seed: int = 0) -> None:
    """Write all but labels, which are left to `merge_labels`."""
    rng = np.random.default_rng(seed)
    held_out: list[dict[str, object]] = []
    for release in RELEASES:
        for number, night in enumerate(NIGHTS):
            _write_night(lake, release, night, 1000 * (number + 1), rng)
            if release == RELEASES[0]:
                held_out += _write_predictions(lake, night, 1000 * (number + 1), rng)
    for number, night in enumerate(NIGHTS):
        _write_vectors(lake, night, 1000 * (number + 1))
    _write_other_model(lake, np.random.default_rng(seed + 1))
    lake.write("test_sets", {"model": MODEL}, pa.Table.from_pylist(held_out), RECORD)
    lake.write("searches", {"model": MODEL}, pa.Table.from_pylist(_evaluations(rng)), RECORD)
    keys = {"embedder": "statistics", "method": "tsne"}
    lake.write("projections", keys, pa.Table.from_pylist(_projected(rng)), RECORD)
    for source in SOURCES:
        rows = pa.Table.from_pylist(
            [_report(source, line, rng) for line in range(1, 40)],
            schema=table("reports").conform(pa.table({})).schema,
        )
        lake.write("reports", {"source": source}, rows, RECORD)


def _write_vectors(lake: Lake, night: int, first: int) -> None:
    """Vectors of every other CCD."""
    keys = [(expnum, ccdnum) for expnum in range(first, first + N_EXPOSURES) for ccdnum in EMBEDDED]
    rows = {
        "expnum": [expnum for expnum, _ in keys],
        "ccdnum": pa.array([ccdnum for _, ccdnum in keys], pa.int16()),
        "embedding": pa.array([[0.5, 1.0]] * len(keys), pa.list_(pa.float16(), 2)),
    }
    where = {"embedder": EMBEDDER, "camera": "decam", "night": str(night)}
    lake.write("embeddings", where, pa.table(rows), RECORD)


def _write_night(
    lake: Lake, release: str, night: int, first: int, rng: np.random.Generator
) -> None:
    keys = {"release": release, "camera": "decam", "night": str(night)}
    ccds, exposures, votes = [], [], []
    for expnum in range(first, first + N_EXPOSURES):
        cuts = rng.choice([0, 0, 0, 0x200, 0x1000 | 0x40, 0x4000], size=len(CCDNUMS))
        if rng.random() < 0.5:
            cuts[:] = 0
        ebv = float(rng.uniform(0, 0.06))
        for ccdnum, cut in zip(CCDNUMS, cuts, strict=True):
            ccds.append(
                {
                    "expnum": expnum,
                    "ccdnum": ccdnum,
                    "ccdname": DECAM.ccdnames[ccdnum],
                    "image_filename": f"decam/CP/c4d_{expnum}_ooi_g_v1.fits.fz",
                    "ccd_cuts": int(cut),
                    "ebv": None if rng.random() < 0.1 else float(rng.uniform(0, 0.08)),
                    "plver": "V4.10" if release == "dr10" else "V4.8.2a",
                    "procdate": "2020-01-01" if rng.random() < 0.5 else "2021-01-01",
                }
            )
        exposures.append(
            {
                "expnum": expnum,
                "band": str(rng.choice(["g", "r", "z"])),
                "exptime": 90.0,
                "ra_bore": float(rng.uniform(0, 360)),
                "dec_bore": float(rng.uniform(-90, 90)),
                "n_ccds": len(CCDNUMS),
                "ebv": ebv,
                "ccd_cuts": int(np.bitwise_or.reduce(cuts)),
                "n_cut": int(np.count_nonzero(cuts)),
            }
        )
        if (expnum - first) % 3 == 2:  # the same field again
            exposures[-1] |= {key: exposures[-2][key] for key in ("band", "ra_bore", "dec_bore")}
        name = str(rng.choice(["good", *CLASSES]))
        votes.append(
            {
                "expnum": expnum,
                "n_ccds": len(CCDNUMS),
                "n_bad": 0 if name == "good" else 6,
                "class": name,
                "probability": 0.95,
                "is_bad": name != "good",
            }
        )
    lake.write("ccds", keys, pa.Table.from_pylist(ccds), RECORD)
    lake.write("exposures", keys, pa.Table.from_pylist(exposures), RECORD)
    place = {"model": MODEL, "camera": "decam", "night": str(night)}
    lake.write("votes", place, pa.Table.from_pylist(votes), RECORD)


def _write_predictions(
    lake: Lake, night: int, first: int, rng: np.random.Generator
) -> list[dict[str, object]]:
    """Predict a night's CCDs and return the half of them that is held out, by night and image."""
    names = ["good", *CLASSES]
    predictions, held_out = [], []
    for expnum in range(first, first + N_EXPOSURES):
        for ccdnum in CCDNUMS:
            # Few values, as of the votes of a few neighbours: many are alike.
            chances = rng.multinomial(7, rng.dirichlet(np.full(len(names), 0.3))) / 7
            best = int(chances.argmax())
            key = {"expnum": expnum, "ccdnum": ccdnum}
            said = {"class": names[best], "probability": chances[best]}
            predictions.append({**key, **said, "probabilities": chances.tolist()})
            if rng.random() < 0.5:
                continue
            place = best if rng.random() < 0.7 else int(rng.integers(len(names)))
            truth = {"release": RELEASES[1], "camera": "decam", "night": night, **key}
            truth |= {"class": names[place], "class_index": place + 1, "weight": 1.0}
            held_out.append({**truth, "split": "night"})
            other = {"predicted": names[best], "probability": chances[best]}
            held_out.append({**truth, "split": "image", **other})
    keys = {"model": MODEL, "camera": "decam", "night": str(night)}
    lake.write("predictions", keys, pa.Table.from_pylist(predictions), RECORD)
    return held_out


def _write_other_model(lake: Lake, rng: np.random.Generator) -> None:
    """Give another model the predictions of the first, some of them changed."""
    for partition in lake.partitions("predictions", model=MODEL):
        rows = lake.read("predictions", dict(partition.keys))
        names = [
            str(rng.choice(CLASSES)) if rng.random() < 0.2 else name
            for name in rows["class"].to_pylist()
        ]
        rows = rows.set_column(rows.column_names.index("class"), "class", [names])
        lake.write("predictions", {**dict(partition.keys), "model": OTHER_MODEL}, rows, RECORD)


def _evaluations(rng: np.random.Generator) -> list[dict[str, object]]:
    """Return a search of nine settings in two rungs; the last of them fails on a fold."""
    return [
        {
            "rung": rung,
            "candidate": candidate,
            "fold": fold,
            "n_samples": 300 * 3**rung,
            "accuracy": None if failed else float(rng.choice([0.5, 0.6, 0.7])),
            "error": "no component left" if failed else None,
            "seconds": 0.5,
            "scaler": "MinMaxScaler",
            "n_neighbors": candidate + 1,
        }
        for rung, n_candidates in enumerate((9, 3))
        for candidate in range(n_candidates)
        for fold in range(3)
        for failed in [candidate == 8 and fold == 1]
    ]


def _projected(rng: np.random.Generator) -> list[dict[str, object]]:
    """Lay the CCDs of a night out in three clusters, half of them with a class."""
    return [
        {
            "camera": "decam",
            "night": NIGHTS[0],
            "expnum": expnum,
            "ccdnum": ccdnum,
            "class": str(rng.choice(["good", *CLASSES])) if rng.random() < 0.5 else None,
            "cluster": int(rng.integers(-1, 3)),
        }
        for expnum in range(1000, 1000 + N_EXPOSURES)
        for ccdnum in CCDNUMS
    ]


def _report(source: str, line: int, rng: np.random.Generator) -> dict[str, object]:
    # One night further than the tables go: some reports are orphans.
    expnum = int(rng.integers(1, 5)) * 1000 + int(rng.integers(0, N_EXPOSURES))
    ccdnum = int(rng.choice([0, 0, *CCDNUMS, 62])) or None
    classes = [str(name) for name in rng.choice(CLASSES, size=rng.integers(0, 3), replace=False)]
    return {
        "expnum": expnum,
        "ccdname": DECAM.ccdnames[ccdnum] if ccdnum else None,
        "ccdnum": ccdnum,
        "reason": " and ".join(classes) or "Airplane",
        "classes": classes,
        "is_bad": bool(rng.random() < 0.85),
        "round": "r1",
        "file": f"{source}.txt",
        "line": line,
        "camera": "decam",
    }
