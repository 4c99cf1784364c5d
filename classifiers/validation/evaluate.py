"""What a model is worth on what it was not trained on.

Every table is the answer of a named query (``queries/score_*.sql``), so that the same SQL gives the
same numbers of a lake in which the model has predicted. Here the predictions of the held-out CCDs
stand for the table `predictions`. Intervals alone are from elsewhere: a bootstrap over nights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from classifiers.model import Model, load_model
from classifiers.sample.sample import Sample
from classifiers.sample.spec import SampleSpec
from classifiers.validation.metrics import Scores, score, score_decided
from classifiers.validation.splits import SplitSpec, split_by_group
from classifiers.validation.tables import Answer, Evaluation
from classifiers.validation.test_set import (
    IMAGE,
    TABLE,
    keep_test_set,
    prediction_rows,
    sample_of,
    true_classes,
)
from lake.errors import BadInput, NotFound
from lake.freshness import check_fresh
from lake.store import Lake
from lake.vocabulary import Vocabulary
from queries.named import filled_sql, run_query

if TYPE_CHECKING:
    from classifiers.validation.compare import Comparison
    from lake.progress import Progress

#: All classes but good together, as the queries call them.
ANY_BAD = "any bad"


def evaluate(
    lake: Lake,
    model: str,
    output: Path | None = None,
    *,
    images: Path | None = None,
    per_class: int = 6,
    n_seeds: int = 0,
    stale_ok: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on the nights that it was not trained on.

    Labels that came since count too where whole nights were held out; what is scored stands in the
    table `test_sets` afterwards. Votes that the lake has of the held-out exposures are scored too.

    Parameters
    ----------
    output : folder of the report: ``index.html``, its tables as CSV, its plots, ``scores.json``.
    images : folder of the survey's images, for thumbnails of the worst mistakes.
    per_class : mistakes shown of each class.
    n_seeds : how often the classifier is trained anew on other splits of its kind, to see how
        far scores deviate; `progress` is called with the trainings done and their number.

    Raises
    ------
    SurveyError : no such model, nothing held out, or a sample that is no longer the one that was
        divided, where the split was not by night; votes that are out of date, unless
        `stale_ok`.
    """
    _check(output, images, per_class, n_seeds)
    check_fresh(lake, "votes", stale_ok, model=model)
    trained = load_model(lake, model)
    test = _held_out(lake, trained)
    for embedder, settings in zip(test.features.embedders, test.settings, strict=True):
        trained.check_vectors(embedder, settings, embedder)
    truth = true_classes(test, trained)
    probabilities = trained.probabilities(test.vectors)
    cuts = [float(cut) for cut in trained.card["scores"][IMAGE]]
    scores = {
        cut: score(
            trained.classes,
            truth,
            probabilities,
            test.night,
            cut,
            good_first=trained.good_first,
        )
        for cut in cuts
    }
    test_sets = keep_test_set(lake, trained, test)
    asked = _Asked(
        lake,
        model,
        {
            TABLE: test_sets.append_column(
                "model", pa.array([model] * len(test_sets), pa.string())
            ),
            "predictions": prediction_rows(trained, test, probabilities),
        },
    )
    answers = asked.every(0.0, per_class)
    evaluation = Evaluation(
        model=trained,
        scores=scores,
        split=str(trained.card["split"]["by"]),
        held_out=tuple(test.nights[index] for index in np.unique(test.night)),
        n_held_out=len(test),
        answers=answers,
        at_cut=asked.at(max(cuts)),
        exposures=_score_votes(lake, answers),
    )
    if n_seeds:
        evaluation = replace(
            evaluation, seeds=_other_splits(lake, trained, n_seeds, max(cuts), progress)
        )
    if output is not None:
        from classifiers.report import write_report

        return replace(evaluation, n_unreadable=write_report(evaluation, output, images))
    return evaluation


class _Asked:
    """The named queries, asked of a lake in which `given` stands for some tables.

    `AT_CUT` are those that take a least probability, `PLAIN` take none, `OF_VOTES` need votes.
    """

    AT_CUT = ("score_summary", "score_classes", "score_confusion", "score_groups")
    PLAIN = (
        "score_calibration",
        "score_thresholds",
        "score_average_precision",
        "score_top",
        "score_looks",
    )
    OF_VOTES = ("held_out_exposures", "score_exposures", "score_shares")

    def __init__(self, lake: Lake, model: str, given: Mapping[str, pa.Table]) -> None:
        self.lake, self.model, self.given = lake, model, given

    def every(self, min_probability: float, per_class: int) -> dict[str, Answer]:
        answers = self.at(min_probability)
        for query in self.PLAIN:
            answers[query] = self._ask(query)
        answers["score_mistakes"] = self._ask("score_mistakes", per_class=per_class)
        if self.lake.partitions("votes", model=self.model):
            of_votes = {query: self._ask(query) for query in self.OF_VOTES}
            # Votes may be of other nights alone.
            if of_votes["held_out_exposures"].rows.num_rows:
                answers |= of_votes
        return answers

    def at(self, min_probability: float) -> dict[str, Answer]:
        return {query: self._ask(query, min_probability=min_probability) for query in self.AT_CUT}

    def _ask(self, query: str, **parameters: float) -> Answer:
        bound: dict[str, str | float] = {"model": self.model, **parameters}
        rows = run_query(self.lake, query, bound, given=self.given)
        return Answer(query, bound, rows, filled_sql(self.lake, query, bound))


def _other_splits(
    lake: Lake, model: Model, n_seeds: int, cut: float, progress: Progress | None
) -> Comparison:
    from classifiers.validation.compare import compare, contender_of

    split = model.card["split"]
    return compare(
        lake,
        [contender_of(lake, model.name)],
        sample=SampleSpec.from_card(model.card),
        split=SplitSpec(split["by"], split["test_fraction"]),
        min_probability=cut,
        n_seeds=n_seeds,
        seed=model.card["seed"],
        progress=progress,
    )


def _held_out(lake: Lake, model: Model) -> Sample:
    training, split = model.card["training"], model.card["split"]
    sample = sample_of(lake, model)
    if split["by"] == "night":
        rows = sample.is_of(split["held_out"])
        if not rows.any():
            raise BadInput(
                f"the lake no longer has labelled vectors of the nights that model {model.name} "
                "held out; train again"
            )
        return sample.take(rows)
    if sample.fingerprint != training["fingerprint"]:
        raise BadInput(
            f"labels or vectors have changed since model {model.name} was trained with --split "
            f"{split['by']}: what it held out cannot be told any more; train again"
        )
    return sample.take(
        split_by_group(sample, split["by"], split["test_fraction"], model.card["seed"])
    )


def _score_votes(lake: Lake, answers: Mapping[str, Answer]) -> tuple[Scores, Scores] | None:
    """Return the scores of exposures by class, and of good or bad; None where none has voted."""
    if "held_out_exposures" not in answers:
        return None
    rows = answers["held_out_exposures"].rows
    order = Vocabulary.of_lake(lake.root).classes
    true, voted = rows["class"].to_pylist(), rows["voted"].to_pylist()
    classes = tuple(name for name in order if name in {*true, *voted})
    night = np.unique(rows["night"].to_numpy(), return_inverse=True)[1]
    by_class = score_decided(
        classes,
        np.array([classes.index(name) for name in true]),
        np.array([classes.index(name) for name in voted]),
        night,
    )
    good_or_bad = score_decided(
        ("good", ANY_BAD),
        np.array([name != "good" for name in true]).astype(int),
        np.array([name != "good" for name in voted]).astype(int),
        night,
    )
    return by_class, good_or_bad


def _check(output: Path | None, images: Path | None, per_class: int, n_seeds: int) -> None:
    """Raise `SurveyError` for what would otherwise be known only after the work."""
    if per_class < 0:
        raise BadInput(f"--mistakes {per_class}: give a number of mistakes of each class from 0")
    if n_seeds < 0:
        raise BadInput(f"--seeds {n_seeds}: give a number of trainings from 0")
    if images is not None and not images.is_dir():
        raise NotFound(f"--images {images}: no such folder")
    if output is not None and output.exists() and not output.is_dir():
        raise BadInput(f"--output {output}: is a file; name a folder for the report")
