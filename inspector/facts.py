"""What the lake knows of a subject: its exposure, its CCDs, what lists and the model say."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
import pyarrow as pa

from inspector.focal_plane import COLUMNS, Layout, layout
from inspector.rounds import Round, Subject
from lake.cameras import CAMERAS, viewer_url
from lake.errors import NotFound
from lake.paths import MODEL_CARD, MODELS
from lake.store import Lake
from queries.reference import cut_bits
from queries.reports import read_reports

#: Nights whose tables are kept in memory.
_KEPT_NIGHTS = 24
_CCD_COLUMNS = [*COLUMNS, "expnum", "ccd_cuts", "fwhm", "ccdzpt", "ccdskycounts"]


@dataclass(frozen=True)
class Ccd:
    """A CCD of an exposure: what legacypipe's cuts and the model say of it."""

    ccdnum: int
    name: str
    cuts: tuple[str, ...]
    class_name: str | None
    probability: float | None

    @property
    def is_bad(self) -> bool:
        """Whether the model calls it anything but good."""
        return self.class_name is not None and self.class_name != "good"


@dataclass(frozen=True)
class Opinion:
    """What a list says: `where` is a CCD's name, empty for the whole exposure."""

    source: str
    where: str
    words: str
    classes: tuple[str, ...]
    is_bad: bool | None


@dataclass(frozen=True)
class Exposure:
    """What stands beside an image: (name, value) pairs, legacypipe's bits, the model's vote."""

    facts: tuple[tuple[str, str], ...]
    cuts: tuple[tuple[str, int], ...]
    vote: str
    ccds: tuple[Ccd, ...]
    opinions: tuple[Opinion, ...]
    viewer: str | None


class Facts:
    """The lake as the page asks it; safe to share between threads.

    Parameters
    ----------
    model : whose predictions are shown; None for none.
    """

    def __init__(self, lake: Lake, model: str | None = None) -> None:
        self.lake = lake
        self.model = model
        self._lock = RLock()
        self._nights: OrderedDict[tuple[str, ...], dict[int, list[dict[str, Any]]]] = OrderedDict()

    @cached_property
    def embedder(self) -> str | None:
        """Name of the first embedder of the model; else the lake's only one; else None."""
        if self.model is not None:
            card = self.lake.root / MODELS / self.model / MODEL_CARD
            try:
                return str(json.loads(card.read_bytes())["embedders"][0]["name"])
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                pass  # a model's predictions may have come without it
        names = {partition["embedder"] for partition in self.lake.partitions("embeddings")}
        return names.pop() if len(names) == 1 else None

    def layout(self, subject: Subject) -> Layout | None:
        """Return where the subject's CCDs lie, of a CCD subject that one alone; None: no table."""
        rows = self._ccd_rows(subject)
        if not rows:
            return None
        whole = layout(rows, subject.camera)
        if not subject.ccdnum:
            return whole
        try:
            return whole.only(subject.ccdnum)
        except KeyError:
            return None

    def exposure(self, subject: Subject) -> Exposure:
        """Return everything that is shown of a subject beside its image."""
        rows = self._ccd_rows(subject)
        row = next(iter(self._of_night("exposures", subject).get(subject.expnum, [])), {})
        ccds = self._ccds(subject, rows)
        return Exposure(
            tuple(_shown(subject, row, rows)),
            _counted(ccds),
            self._vote(subject),
            ccds,
            tuple(self._opinions(subject)),
            _viewer(subject, ccds),
        )

    def labels_of(self, camera: str, expnum: int) -> list[str]:
        """Return the classes that lists give an exposure or its CCDs; "bad" for words without."""
        rows = [row for row in self._reports.get((camera, expnum), []) if row["is_bad"]]
        return sorted({name for row in rows for name in row["classes"] or ["bad"]})

    def summaries(self, round: Round) -> dict[str, dict[str, Any]]:
        """Return, by key of a subject, what rounds are sorted and filtered by."""
        from queries.engine import connect

        with connect(self.lake, ["exposures"]) as connection:
            connection.register("wanted", _key_table(round.subjects))
            found = connection.sql(
                """
                select release, camera, expnum, band, fwhm, skysb, exptime, airmass, mjd_obs
                from exposures semi join wanted using (release, camera, expnum)
                """
            ).to_arrow_table()
        by_key = {(row["release"], row["camera"], row["expnum"]): row for row in found.to_pylist()}
        return {
            subject.key: by_key.get((subject.release, subject.camera, subject.expnum), {})
            for subject in round.subjects
        }

    def _ccds(self, subject: Subject, rows: Iterable[Mapping[str, Any]]) -> tuple[Ccd, ...]:
        predicted = {
            row["ccdnum"]: row
            for row in self._of_night("predictions", subject).get(subject.expnum, [])
        }
        ccds = []
        for row in rows:
            guess = predicted.get(row["ccdnum"], {})
            ccds.append(
                Ccd(
                    row["ccdnum"],
                    str(row["ccdname"] or row["ccdnum"]).strip(),
                    bit_names(row["ccd_cuts"]),
                    guess.get("class"),
                    guess.get("probability"),
                )
            )
        return tuple(ccds)

    def _vote(self, subject: Subject) -> str:
        votes = self._of_night("votes", subject).get(subject.expnum)
        if not votes:
            return ""
        vote = votes[0]
        probability = "" if vote["probability"] is None else f" {vote['probability']:.2f}"
        return f"{vote['class']}{probability}, {vote['n_bad']} of {vote['n_ccds']} CCDs bad"

    def _opinions(self, subject: Subject) -> list[Opinion]:
        found = self._reports.get((subject.camera, subject.expnum), [])
        if subject.ccdnum:
            found = [row for row in found if row["ccdnum"] in (None, subject.ccdnum)]
        return [
            Opinion(
                row["source"] + (f" · {row['analyst']}" if row["analyst"] else ""),
                row["ccdname"] or "",
                row["reason"] or "",
                tuple(row["classes"] or ()),
                row["is_bad"],
            )
            for row in found
        ]

    @cached_property
    def _reports(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        """Reports by exposure: lists are small (tens of thousands of lines)."""
        found: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        rows = read_reports(self.lake)
        for row in rows.filter(rows["is_current"]).to_pylist():
            found[row["camera"], row["expnum"]].append(row)
        return dict(found)

    def _ccd_rows(self, subject: Subject) -> list[dict[str, Any]]:
        return self._of_night("ccds", subject).get(subject.expnum, [])

    def _of_night(self, name: str, subject: Subject) -> dict[int, list[dict[str, Any]]]:
        """Return the rows of the subject's night, by exposure; empty where there are none."""
        if subject.night is None:
            return {}
        keys = {"camera": subject.camera, "night": subject.night}
        if name in ("predictions", "votes"):
            if self.model is None:
                return {}
            keys["model"] = self.model
        else:
            keys["release"] = str(subject.release)
        columns = _CCD_COLUMNS if name == "ccds" else None
        kept = (name, *sorted(keys.values()))
        with self._lock:
            if kept not in self._nights:
                self._nights[kept] = self._read(name, keys, columns)
                while len(self._nights) > 4 * _KEPT_NIGHTS:
                    self._nights.popitem(last=False)
            self._nights.move_to_end(kept)
            return self._nights[kept]

    def _read(
        self, name: str, keys: dict[str, str], columns: list[str] | None
    ) -> dict[int, list[dict[str, Any]]]:
        found: dict[int, list[dict[str, Any]]] = defaultdict(list)
        try:
            rows = self.lake.read(name, keys, columns)
        except FileNotFoundError:
            return {}
        if name == "predictions":
            rows = rows.drop_columns(["probabilities"])
        for row in rows.to_pylist():
            found[row["expnum"]].append(row)
        return dict(found)


def find_model(lake: Lake, name: str | None) -> str | None:
    """Return the model to show: `name`, else the lake's only one with predictions, else None.

    Raises `SurveyError` for a model that has predicted nothing.
    """
    models = {partition["model"] for partition in lake.partitions("predictions")}
    models |= {partition["model"] for partition in lake.partitions("votes")}
    if name is None:
        return models.pop() if len(models) == 1 else None
    if name not in models:
        raise NotFound(
            f"model {name!r} has no predictions in the lake ({', '.join(sorted(models)) or 'none'} "
            f"has); run `survey-qa predict --model {name}`"
        )
    return name


def bit_names(value: int | None) -> tuple[str, ...]:
    """Return the names of the bits set in a `ccd_cuts`."""
    if not value:
        return ()
    bits = cut_bits()
    return tuple(
        str(name)
        for name, bit in zip(bits["name"].to_pylist(), bits["value"].to_pylist(), strict=True)
        if value & bit
    )


def _counted(ccds: tuple[Ccd, ...]) -> tuple[tuple[str, int], ...]:
    """Return each bit of `ccd_cuts` with the number of CCDs that have it, the commonest first."""
    counts: dict[str, int] = defaultdict(int)
    for ccd in ccds:
        for name in ccd.cuts:
            counts[name] += 1
    return tuple(sorted(counts.items(), key=lambda item: -item[1]))


def _key_table(subjects: Iterable[Subject]) -> pa.Table:
    found = {(s.release, s.camera, s.expnum) for s in subjects if s.release is not None}
    return pa.table(
        {
            "release": pa.array([each[0] for each in found], pa.string()),
            "camera": pa.array([each[1] for each in found], pa.string()),
            "expnum": pa.array([each[2] for each in found], pa.int64()),
        }
    )


def pixel_scale(row: Mapping[str, Any]) -> float | None:
    """Return arcsec per pixel of a CCD, None without astrometry."""
    terms = [row[name] for name in ("cd1_1", "cd1_2", "cd2_1", "cd2_2") if row[name] is not None]
    if len(terms) < 4:
        return None
    scale = 3600 * float(np.sqrt(abs(terms[0] * terms[3] - terms[1] * terms[2])))
    return scale if np.isfinite(scale) and scale > 0 else None


def _shown(
    subject: Subject, row: Mapping[str, Any], ccds: list[dict[str, Any]]
) -> Iterable[tuple[str, str]]:
    """Yield what is known of the exposure, as (name, text)."""
    scale = next((s for ccd in ccds if (s := pixel_scale(ccd)) is not None), None)
    if scale is None and subject.camera in CAMERAS:
        scale = CAMERAS[subject.camera].pixel_scale
    seeing = row.get("fwhm")
    if seeing is not None and scale is not None:
        yield "seeing", f"{seeing * scale:.2f}″"
    elif seeing is not None:
        yield "seeing", f"{seeing:.1f} pix"
    known = {
        "sky": ("skysb", "{:.2f} mag/″²"),
        "exposure": ("exptime", "{:.0f} s"),
        "airmass": ("airmass", "{:.2f}"),
        "zeropoint": ("zpt", "{:.2f} mag"),
        "E(B−V)": ("ebv", "{:.3f}"),
        "object": ("object", "{}"),
        "proposal": ("propid", "{}"),
        "pipeline": ("plver", "{}"),
    }
    for name, (column, form) in known.items():
        value = row.get(column)
        if value is not None and value == value and str(value).strip():
            yield name, form.format(value)
    if row.get("ra_bore") is not None and row.get("dec_bore") is not None:
        yield "pointing", f"{row['ra_bore']:.3f} {row['dec_bore']:+.3f}"
    if ccds:
        yield "CCDs", str(len(ccds))


def _viewer(subject: Subject, ccds: tuple[Ccd, ...]) -> str | None:
    """Return where the survey itself shows this CCD, or the worst or first of the exposure."""
    if not ccds:
        return None
    chosen = next((ccd for ccd in ccds if ccd.ccdnum == subject.ccdnum), None) or max(
        ccds, key=lambda ccd: (ccd.is_bad, ccd.probability or 0)
    )
    return viewer_url(subject.camera, subject.expnum, chosen.name)
