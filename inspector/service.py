"""The state behind the page: a round, who has said what, and in which order things are shown."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from inspector.closing import inspections
from inspector.facts import Exposure, Facts
from inspector.focal_plane import Layout
from inspector.judgement import (
    MAX_COMMENT,
    QUALITIES,
    VERDICTS,
    Entry,
    Judgement,
    VerdictLog,
)
from inspector.keys import class_keys
from inspector.merge import disagree
from inspector.neighbours import Neighbours
from inspector.rounds import Round, Subject, parse_key
from lake.store import Lake, file_stamp
from lake.versions import natural
from lake.vocabulary import Vocabulary

SORTS = {
    "round": "order of the round",
    "probability": "probability",
    "class": "proposed class",
    "time": "time of observation",
    "seeing": "seeing",
    "sky": "sky brightness",
}
SHOWN = {
    "all": "all",
    "open": "without verdict",
    "good": "called good",
    "bad": "called bad",
    "unsure": "unsure",
}
#: Seconds between two verdicts beyond which somebody was away.
_AWAY = 120.0
#: Verdicts whose pace tells the time left.
_PACE = 50


class Refused(Exception):  # noqa: N818
    """A request that makes no sense, and why."""


@dataclass(frozen=True)
class View:
    """What a person wants to see, and in which order."""

    sort: str = "round"
    show: str = "all"
    class_name: str = ""
    band: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> View:
        """Read a query string; what it does not know falls back to showing everything."""
        sort, show = query.get("sort", "round"), query.get("show", "all")
        return cls(
            sort if sort in SORTS else "round",
            show if show in SHOWN else "all",
            query.get("class", "")[:80],
            query.get("band", "")[:20],
        )


class InspectionService:
    """A round being inspected; safe to share between threads."""

    def __init__(self, lake: Lake, round: Round, facts: Facts, neighbours: Neighbours) -> None:
        self.lake = lake
        self.round = round
        self.facts = facts
        self.neighbours = neighbours
        self.vocabulary = Vocabulary.of_lake(lake.root)
        self.classes = [name for name in self.vocabulary.classes if name != "good"]
        self.keys = class_keys(self.classes)
        self.summaries = facts.summaries(round)
        # Of the releases that have a night the last one.
        self._releases = {
            (partition["camera"], partition["night"]): partition["release"]
            for partition in sorted(
                lake.partitions("ccds"), key=lambda partition: natural(partition["release"])
            )
        }
        self._logs: dict[str, VerdictLog] = {}
        self._said: tuple[tuple[str, ...], dict[str, dict[str, Judgement]]] = ((), {})
        self._lock = Lock()

    # --- who said what

    def log(self, inspector: str) -> VerdictLog:
        """Return the log of an inspector."""
        with self._lock:
            if inspector not in self._logs:
                self._logs[inspector] = self.round.log(inspector)
            return self._logs[inspector]

    def settlements(self) -> VerdictLog:
        """Return the log of the merger."""
        with self._lock:
            if "" not in self._logs:  # no inspector has an empty name
                self._logs[""] = self.round.settlements()
            return self._logs[""]

    def others(self, key: str) -> dict[str, Judgement]:
        """Return what every inspector says of a subject; nobody while the round is open."""
        return {who: each[key] for who, each in self._inspections().items() if key in each}

    def _inspections(self) -> dict[str, dict[str, Judgement]]:
        """Return inspector -> key -> judgement of a closed round; nothing while it is open."""
        if not self.round.is_closed:
            return {}
        partitions = self.lake.partitions("inspections", round=self.round.name)
        # Closing marks the round first and commits the partitions after.
        version = tuple(file_stamp(partition.path) for partition in partitions)
        if self._said[0] != version:
            self._said = version, inspections(self.round)
        return self._said[1]

    def parse_judgement(self, body: Mapping[str, Any]) -> Judgement:
        """Return the judgement of a request; raises `Refused` for one that makes no sense."""
        verdict, name = body.get("verdict"), body.get("class") or None
        quality, comment = body.get("quality"), body.get("comment") or ""
        if verdict not in VERDICTS:
            raise Refused(f"verdict: one of {', '.join(VERDICTS)}")
        if name is not None and name not in self.classes:
            raise Refused("class: none of the vocabulary")
        if quality is not None and (type(quality) is not int or quality not in QUALITIES):
            raise Refused("quality: 0 to 4")
        if not isinstance(comment, str) or len(comment) > MAX_COMMENT:
            raise Refused(f"comment: text of at most {MAX_COMMENT} characters")
        comment = comment.encode("utf-8", "replace").decode()
        return Judgement(verdict, name if verdict == "bad" else None, quality, comment)

    # --- what is there

    def subject(self, key: str) -> Subject | None:
        """Return a subject of the round."""
        return self.round.subject(key)

    def pictured(self, key: str) -> Subject | None:
        """Return a subject of the round, its exposure, or an exposure that is a neighbour."""
        found = self.subject(key)
        parsed = parse_key(key)
        if found is not None or parsed is None:
            return found
        camera, expnum, ccdnum = parsed
        night = self.neighbours.knows(camera, expnum)
        if night is None or ccdnum:
            return None
        release = self._releases.get((camera, night))
        return None if release is None else Subject(camera, expnum, 0, release, night)

    def layout(self, subject: Subject) -> Layout | None:
        """Return where the subject's CCDs lie."""
        return self.facts.layout(subject)

    def exposure(self, subject: Subject) -> Exposure:
        """Return what is known of a subject."""
        return self.facts.exposure(subject)

    def listing(self, log: VerdictLog, view: View, merging: bool = False) -> list[Subject]:
        """Return the subjects that `view` wants, in its order; of a merger, what is disputed."""
        entries = log.entries()
        chosen = []
        for subject in self.disputed() if merging else self.round.subjects:
            entry = entries.get(subject.key)
            said = entry.judgement.verdict if entry and entry.judgement else "open"
            if view.show not in ("all", said):
                continue
            if view.class_name and (subject.class_name or "") != view.class_name:
                continue
            if view.band and self.summaries[subject.key].get("band") != view.band:
                continue
            chosen.append(subject)
        return sorted(chosen, key=lambda subject: self._rank(subject, view.sort))

    def disputed(self) -> list[Subject]:
        """Return the subjects that the inspectors of a closed round disagree on."""
        said = self._inspections()
        found = []
        for subject in self.round.subjects:
            if disagree([each[subject.key] for each in said.values() if subject.key in each]):
                found.append(subject)
        return found

    def bands(self) -> list[str]:
        """Return the bands of the round."""
        return sorted({str(row["band"]) for row in self.summaries.values() if row.get("band")})

    def proposed(self) -> list[str]:
        """Return the classes that are proposed in the round."""
        return sorted({s.class_name for s in self.round.subjects if s.class_name})

    def progress(self, log: VerdictLog, merging: bool = False) -> dict[str, Any]:
        """Return how many are done, of how many, and the seconds that the rest will take."""
        subjects = self.disputed() if merging else list(self.round.subjects)
        entries = log.entries()
        done = sum(subject.key in entries for subject in subjects)
        times = log.times()[-_PACE:]
        gaps = [
            later - earlier
            for earlier, later in itertools.pairwise(times)
            if later - earlier <= _AWAY
        ]
        left = len(subjects) - done
        pace = statistics.median(gaps) if len(gaps) >= 2 else None
        return {
            "done": done,
            "total": len(subjects),
            "seconds": None if pace is None else round(pace * left),
            "sequence": log.sequence,
            "closed": self.round.is_closed,
        }

    def _rank(self, subject: Subject, sort: str) -> tuple[Any, ...]:
        place = self.round.index[subject.key]
        row = self.summaries[subject.key]
        value: Any = {
            "probability": -(subject.probability or 0.0),
            "class": subject.class_name or "~",
            "time": row.get("mjd_obs"),
            "seeing": -row["fwhm"] if row.get("fwhm") is not None else None,
            "sky": row.get("skysb"),
        }.get(sort, place)
        return (value is None, value if value is not None else 0, place)


def entry_json(entry: Entry) -> dict[str, Any]:
    """Return an entry as the page reads it."""
    judgement = None
    if entry.judgement is not None:
        judgement = asdict(entry.judgement)
        judgement["class"] = judgement.pop("class_name")
    return {"version": entry.version, "judgement": judgement}
