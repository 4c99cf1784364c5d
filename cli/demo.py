"""The whole job on a simulated survey, each step as the command that a person would type."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cli.output import emit
from cli.session import progress

if TYPE_CHECKING:
    from classifiers.validation.exposure_scores import ExposureScores
    from lake.store import Lake
    from simulator.survey import SimulatedSurvey

#: Size of the survey: as many exposures of each defect as a classifier needs to learn from.
NIGHTS, EXPOSURES_PER_NIGHT, BAD_FRACTION = 22, 18, 0.6
RELEASE, EMBEDDER = "sim", "statistics"
#: (model, classifier, rule of the vote): ours, then the paper's for comparison.
MODELS = (("two-step", "two-step", "learned"), ("paper", "knn", "share"))
#: Least probability of a single CCD on the list, by model; the paper keeps nothing below 0.9.
CCD_PROBABILITY = {"two-step": 0.8, "paper": 0.9}


def run(directory: Path, seed: int) -> None:
    """Simulate a survey in `directory` and take it from its files to the change of its list.

    Raises `SurveyError` when the directory cannot be used.
    """
    from lake.store import Lake

    start = time.monotonic()
    survey = _simulate(directory / "survey", seed)
    lake = Lake(directory / "survey.lake", create=True)
    print(f"The lake is {lake.root}; the commands below name it with --lake.\n")
    _ingest(lake, survey)
    _embed(lake, survey)
    scores = {}
    for model, classifier, rule in MODELS:
        held_out = _judge(lake, model, classifier, rule)
        scores[model] = _score(lake, model, survey, held_out)
    _report(scores, held_out)
    _diff(lake, survey.decam_list)
    seconds = time.monotonic() - start
    print(f"\nDone in {seconds:.0f} s. Look around: survey-qa status --lake {lake.root}")


def _command(*words: object) -> None:
    """Show a step as the command that does the same."""
    print("$ survey-qa " + shlex.join(str(word) for word in words))
    sys.stdout.flush()


def _simulate(directory: Path, seed: int) -> SimulatedSurvey:
    from simulator.conditions import Settings
    from simulator.survey import simulate

    _command(
        "simulate", directory, "--nights", NIGHTS, "--exposures-per-night", EXPOSURES_PER_NIGHT,
        "--bad-fraction", BAD_FRACTION, "--seed", seed,
    )  # fmt: skip
    settings = Settings(
        n_nights=NIGHTS, exposures_per_night=EXPOSURES_PER_NIGHT, bad_fraction=BAD_FRACTION
    )
    with progress("simulating", "exposures") as shown:
        survey = simulate(directory, settings, seed, progress=shown.update)
    print(
        f"  {survey.n_exposures} exposures of 62 CCDs; {BAD_FRACTION:.0%} have a defect, "
        f"{survey.n_visible} a visible one"
    )
    return survey


def _ingest(lake: Lake, survey: SimulatedSurvey) -> None:
    from ingest.ccds import ingest
    from ingest.reports import ingest_reports
    from queries.merge_labels import merge_labels

    _command("ingest", "ccds", survey.ccd_table, "--release", RELEASE)
    tables = ingest(lake, [survey.ccd_table], RELEASE)
    print(f"  {tables.rows:,} CCDs")
    for source, files in (
        ("decals", [survey.decam_list]),
        ("delve", list(survey.delve_lists)),
    ):
        shown = files if source == "decals" else [files[0].parent.parent]
        _command("ingest", "reports", *shown, "--source", source)
        lists = ingest_reports(lake, files, source)
        print(f"  {lists.entries} entries")
    _command("merge-labels", "--release", RELEASE)
    print(f"  {merge_labels(lake, RELEASE).text()}")


def _embed(lake: Lake, survey: SimulatedSurvey) -> None:
    from embedders.engine import run as embed

    _command("embed", "--embedder", EMBEDDER, "--images", survey.images)
    with progress("embedding", "images") as shown:
        done = 0

        def watch(event: object) -> None:
            nonlocal done
            done += getattr(event, "n_images", 0) if getattr(event, "kind", "") == "images" else 0
            shown.update(done)

        summary = embed(lake, EMBEDDER, survey.images, progress=watch)
    print(f"  {summary.n_images:,} images ({summary.rate:.0f}/s), {summary.n_reused:,} kept")


def _judge(lake: Lake, model: str, classifier: str, rule: str) -> tuple[str, ...]:
    """Train on some nights, judge the others, and return those."""
    from classifiers.estimators.spec import ClassifierSpec
    from classifiers.predict import predict
    from classifiers.train import train
    from classifiers.vote import vote

    _command("train", "--embedder", EMBEDDER, "--model", model, "--classifier", classifier)
    trained = train(lake, EMBEDDER, model, classifier=ClassifierSpec(classifier), force=True)
    held_out = tuple(night.split("/")[-1] for night in trained.held_out)
    nights = [f"night={night}" for night in held_out]
    options = [word for night in nights for word in ("--partition", night)]
    print(
        f"  {trained.n_train:,} CCD images of {NIGHTS - len(nights)} nights learned from; "
        f"{len(nights)} nights held out"
    )
    _command("predict", "--model", model, *options)
    print(f"  {predict(lake, model, partitions=nights).n_ccds:,} CCDs")
    _command("vote", "--model", model, "--rule", rule, *options)
    votes = vote(lake, model, rule=rule, partitions=nights)
    print(f"  {votes.n_bad} of {votes.n_exposures} exposures are bad as a whole")
    return held_out


def _score(
    lake: Lake, model: str, survey: SimulatedSurvey, nights: tuple[str, ...]
) -> ExposureScores:
    from classifiers.validation.exposure_scores import score_exposures

    return score_exposures(
        lake, model, survey.truth_exposures, nights=nights, ccd_probability=CCD_PROBABILITY[model]
    )


def _report(scores: dict[str, ExposureScores], held_out: tuple[str, ...]) -> None:
    import pyarrow as pa

    ours = scores[MODELS[0][0]]
    print(f"\nScores on the {len(held_out)} nights that no model has seen, against the truth.")
    print("Found: a line of the list names the exposure or a CCD of it.")
    emit(ours.table(), title="exposures by class")
    emit(ours.strengths, title="recall by strength of the defect; visible from 3")
    rows = [
        {
            "model": model,
            "visible": one.n_visible,
            "found": one.n_visible_found,
            "recall": one.recall,
            "found without any defect": one.n_false,
            "precision": one.precision,
            "precision, faint ones counted as false": one.precision_visible,
        }
        for model, one in scores.items()
    ]
    emit(pa.Table.from_pylist(rows), title="exposures with a visible defect")


def _diff(lake: Lake, bad_list: Path) -> None:
    from badlist.proposal import propose

    model = MODELS[0][0]
    _command(
        "bad-expid", "diff", "--model", model, "--ccd-probability", CCD_PROBABILITY[model],
        "--against", bad_list,
    )  # fmt: skip
    change = propose(lake, bad_list, model=model, ccd_probability=CCD_PROBABILITY[model])
    print(change.patch.decode(), end="")
    print(f"  {len(change.added)} added, {len(change.already_listed)} listed already")
