"""A small survey, and every command that writes in the order in which a survey runs them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inspector.judgement import Judgement
from inspector.rounds import load
from lake.store import Lake
from simulator.conditions import Settings
from simulator.survey import simulate

RELEASE = "dr10"
ROUND = "chosen"
#: Verdicts of the inspectors, by number; comments hold words that lists are read by.
_COMMENTS = ("", "not a ghost", "looks good to me", "PSF? clouds", "trailed | saturated", "é☂")
_CLASSES = ("PSF", "Noise", "Ghost_scatter", None)


@dataclass(frozen=True)
class Step:
    """A command, and what of the lake it may alter.

    Attributes
    ----------
    words : arguments, with ``{inputs}`` and ``{outputs}`` for folders; or a name of `CALLS`.
    may_change : tables whose values it replaces.
    may_go : tables from which it takes rows, as it is told to.
    output : file that it writes.
    judges : who says verdicts in it.
    reads : which of the inputs it reads.
    """

    name: str
    words: str
    may_change: tuple[str, ...] = ()
    may_go: tuple[str, ...] = ()
    output: str = ""
    judges: str = ""
    reads: str = ""

    def arguments(self, inputs: Path, outputs: Path) -> list[str]:
        """Return the arguments of the command."""
        return [word.format(inputs=inputs, outputs=outputs) for word in self.words.split()]


_TRAIN = (
    f"train --embedder statistics --model knn --release {RELEASE} --test-fraction 0.4 --good 60"
)
_VOTE = "vote --model knn --min-probability 0.4 --min-fraction 0.3"
_IMAGES = "--images {inputs}/images"
STEPS = (
    Step("ingest ccds", f"ingest ccds {{inputs}}/ccds.fits.gz --release {RELEASE}", reads="table"),
    Step("ingest list", "ingest reports {inputs}/bad_expid.txt --source decals", reads="list"),
    Step("ingest lists", "ingest reports {inputs}/delve --source delve", reads="lists"),
    Step(
        "ingest verdicts",
        "ingest reports {inputs}/verdicts.csv --source inspection --round listed",
        reads="verdicts",
    ),
    Step("ingest images", "ingest images {inputs}/incoming --release night", reads="incoming"),
    Step("merge-labels", f"merge-labels --release {RELEASE}"),
    Step("embed", f"embed --embedder statistics {_IMAGES}", reads="images"),
    Step("embed exposures", f"embed --embedder focal-plane-statistics {_IMAGES}", reads="images"),
    Step("embed neighbours", f"embed --embedder statistics.neighbours {_IMAGES}"),
    Step("train", _TRAIN),
    Step("predict", "predict --model knn"),
    Step("vote", _VOTE),
    Step("map", f"map --embedder statistics --release {RELEASE} --output {{outputs}}"),
    Step(
        "select",
        f"select --model knn --round {ROUND} -n 6 --models 8 --looked-at-too --held-out-too",
    ),
    Step("judge", "judge ann", judges="ann"),
    Step("judge too", "judge bob", judges="bob"),
    Step("close", f"inspections close {ROUND} --unfinished"),
    Step("settle", "settle max", judges="max"),
    Step("merge", f"inspections merge {ROUND} --rule any"),
    Step("import", "inspections import {inputs}/verdicts.csv --round imported"),
    Step("merge imported", "inspections merge imported --rule any"),
    Step("merge-labels again", f"merge-labels --release {RELEASE}", ("labels",)),
    Step("train anew", f"{_TRAIN} --seed 5 --force", ("test_sets",), ("test_sets",)),
    Step("predict anew", "predict --model knn", ("predictions",)),
    Step("vote anew", _VOTE, ("votes",)),
    Step("crossmatch", f"crossmatch --model knn --release {RELEASE}"),
    Step("consistency", "consistency --model knn"),
    Step("label errors", "label-errors --embedder statistics -n 5"),
    Step(
        "diff",
        f"bad-expid diff --inspections {ROUND} --against {{inputs}}/bad_expid.txt "
        "--output {outputs}/change.patch",
        output="change.patch",
    ),
    Step(
        "export",
        f"inspections export {ROUND} --output {{outputs}}/{ROUND}.csv",
        output=f"{ROUND}.csv",
    ),
    Step("sql", "sql from(votes) --output {outputs}/rows.csv", output="rows.csv"),
    # It votes with thresholds of its own.
    Step("night", f"night {{inputs}}/incoming --model knn --release night {_IMAGES}", ("votes",)),
    Step("vote at last", _VOTE, ("votes",)),
)


def build(folder: Path) -> None:
    """Make the inputs: images, CCD table, lists, a table of verdicts, images that have come in."""
    made = folder.parent / f"{folder.name}-made"
    settings = Settings(n_nights=3, exposures_per_night=4, nx=48, ny=48, bad_fraction=0.6)
    survey = simulate(made, settings, seed=4, workers=1)
    folder.mkdir()
    shutil.move(survey.images, folder / "images")
    shutil.move(survey.ccd_table, folder / "ccds.fits.gz")
    shutil.move(made / "delve", folder / "delve")
    lines = [f"{expnum} PSF trailed" for expnum in range(1000, 1030)]
    text = survey.decam_list.read_text()
    (folder / "bad_expid.txt").write_text(text + "".join(f"{line}\n" for line in lines))
    rows = [f"{expnum},y,Ghosting,n,not a ghost" for expnum in range(2000, 2030)]
    heading = "expnum,ann_badexp,ann_reason,bob_badexp,bob_reason"
    (folder / "verdicts.csv").write_text("\n".join([heading, *rows]) + "\n")
    (folder / "incoming").mkdir()
    for image in sorted((folder / "images").rglob("*.fz"))[:2]:
        shutil.move(image, folder / "incoming")
    shutil.rmtree(made)


def judge(lake: Path, who: str, tell: Callable[[str], None]) -> None:
    """Say a verdict of every subject, and of half of them another; `tell` what is saved."""
    round = load(Lake(lake), ROUND)
    log = round.log(who)
    for turn in (0, 1):
        for number, subject in enumerate(round.subjects[:: turn + 1]):
            said = _verdict(number + turn, who)
            if log.entry(subject.key).judgement == said:
                continue
            log.judge(subject.key, log.entry(subject.key).version, said, who)
            tell(f"{subject.key} {number + turn}")


def settle(lake: Path, who: str, tell: Callable[[str], None]) -> None:
    """Settle what the inspectors disagree on."""
    round = load(Lake(lake), ROUND)
    log = round.settlements()
    for number, subject in enumerate(round.subjects):
        if log.entry(subject.key).judgement is None:
            log.judge(subject.key, log.entry(subject.key).version, _verdict(number, who), who)
            tell(f"{subject.key} {number}")


CALLS = {"judge": judge, "settle": settle}


def _verdict(number: int, who: str) -> Judgement:
    number += len(who) + (who == "bob")
    verdict = "good" if number % 5 == 0 else "bad"
    name = _CLASSES[number % len(_CLASSES)] if verdict == "bad" else None
    return Judgement(verdict, name, number % 5, _COMMENTS[number % len(_COMMENTS)])  # type: ignore[arg-type]


def verdict(number: int, who: str) -> tuple[object, ...]:
    """Return a verdict as the checker compares it."""
    said = _verdict(number, who)
    return (said.verdict, said.class_name, said.quality, said.comment or None)
