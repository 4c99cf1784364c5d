"""A verdict is in the labels as it was said: class, quality and comment, whatever the comment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspector.closing import close, merge_round
from inspector.judgement import MAX_COMMENT, Judgement
from inspector.rounds import freeze, located
from inspector.service import InspectionService
from lake.record import Record
from lake.store import Lake
from lake.vocabulary import Vocabulary
from queries.engine import run_sql
from queries.merge_labels import merge_labels
from tests.safety.conftest import RELEASE

N_COMMENTS = 100
VOCABULARY = Vocabulary.load()
CLASSES = [None, *VOCABULARY.classes]
FIRST = 400_000
KEYS = {"camera": "decam", "night": "20200101", "release": RELEASE}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with an exposure for each class and comment."""
    lake = Lake(tmp_path_factory.mktemp("wide") / "lake", create=True)
    expnums = pa.array(range(FIRST, FIRST + N_COMMENTS * len(CLASSES)), pa.int64())
    ccdnums = pa.array([1] * len(expnums), pa.int16())
    lake.write("ccds", KEYS, pa.table({"expnum": expnums, "ccdnum": ccdnums}), Record("test"))
    lake.write("exposures", KEYS, pa.table({"expnum": expnums}), Record("test"))
    return lake.root


def comments() -> st.SearchStrategy[list[str]]:
    """Comments of anything, of the words that lists are read by, and of both."""
    words = [word for name in VOCABULARY.classes for word in (name, name.lower())]
    words += ["good", "not a ghost", "y?", "bad", "unsure", "clouds | PSF", "[survey-qa: model x]"]
    said = st.lists(st.one_of(st.sampled_from(words), st.text(max_size=30)), max_size=4)
    one = said.map(" ".join).map(lambda text: text[:MAX_COMMENT])
    return st.lists(one, min_size=N_COMMENTS, max_size=N_COMMENTS)


@given(said=comments(), verdicts=st.lists(st.sampled_from(["bad", "good", "unsure"]), min_size=1))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_class_quality_and_comment_arrive_as_said(
    wide: Path, tmp_path_factory: pytest.TempPathFactory, said: list[str], verdicts: list[str]
) -> None:
    root = tmp_path_factory.mktemp("said") / "lake"
    shutil.copytree(wide, root)
    lake = Lake(root)
    expnums = range(FIRST, FIRST + N_COMMENTS * len(CLASSES))
    round = freeze(lake, "said", located(lake, [{"expnum": number} for number in expnums]))
    expected, log = {}, round.log("ann")
    for number, subject in enumerate(round.subjects):
        # Most are bad, so that a label comes of them.
        verdict = verdicts[number // 7 % len(verdicts)] if number % 7 == 0 else "bad"
        name = CLASSES[number % len(CLASSES)]
        quality = [None, 0, 1, 2, 3, 4][number % 6]
        comment = said[number // len(CLASSES)]
        body = {"verdict": verdict, "class": name, "quality": quality, "comment": comment}
        judgement = InspectionService.parse_judgement(_Vocabulary(), json.loads(json.dumps(body)))  # type: ignore[arg-type]
        expected[subject.expnum] = judgement
        log.judge(subject.key, 0, judgement, "ann")
    close(round)
    verdict_rows = run_sql(lake, "select * from inspections").to_pylist()
    assert {row["expnum"]: _said(row, row["verdict"]) for row in verdict_rows} == expected
    merge_round(round, "any")
    merge_labels(lake, RELEASE)
    labels = run_sql(lake, "select * from labels").to_pylist()
    bad = {number: words for number, words in expected.items() if words.verdict == "bad"}
    assert {row["expnum"]: _said(row, "bad") for row in labels} == bad
    assert {row["inspector"] for row in labels} == {"ann"}
    shutil.rmtree(root)


class _Vocabulary:
    """What a service knows of the classes."""

    classes = VOCABULARY.classes


def _said(row: dict[str, object], verdict: str) -> Judgement:
    quality = row["quality"]
    return Judgement(
        verdict,  # type: ignore[arg-type]
        row["class"],  # type: ignore[arg-type]
        None if quality is None else int(quality),  # type: ignore[call-overload]
        row["comment"] or "",  # type: ignore[arg-type]
    )
