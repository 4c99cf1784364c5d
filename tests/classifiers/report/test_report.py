"""The report: one page that needs nothing else, and numbers that its own SQL gives again."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa
import pytest

from classifiers.predict import predict
from classifiers.report.page import render
from classifiers.report.thumbnails import thumbnails
from classifiers.train import train
from classifiers.validation.evaluate import evaluate
from classifiers.validation.splits import SplitSpec
from classifiers.validation.tables import Evaluation
from classifiers.vote import vote
from lake.errors import SurveyError
from lake.store import Lake
from queries.engine import run_sql
from tests.classifiers.conftest import MakeSurvey, fill_survey

HOSTILE = "<script>alert('&quot;')</script>"
VIEWER = "https://www.legacysurvey.org/viewer/ccd/"


@dataclass
class Reported:
    """An evaluation with its report."""

    lake: Lake
    images: Path
    folder: Path
    evaluation: Evaluation

    @property
    def page(self) -> str:
        """The text of the page."""
        return (self.folder / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    folder = tmp_path_factory.mktemp("report")
    lake = Lake(folder / "survey.lake", create=True)
    fill_survey(lake, n_nights=8, n_exposures=8, n_ccds=8, signal=0.7)
    _name_images(lake, folder / "images")
    train(lake, "toy", "m", seed=1)
    predict(lake, "m")
    vote(lake, "m", min_probability=0.5, min_fraction=0.4)
    evaluation = evaluate(lake, "m", folder / "report", images=folder / "images")
    return Reported(lake, folder / "images", folder / "report", evaluation)


def _name_images(lake: Lake, images: Path) -> None:
    """Name an image of every exposure, write all but a few of them; lists have hostile words."""
    rng = np.random.default_rng(0)
    images.mkdir()
    for table in ("ccds", "labels"):
        for partition in lake.partitions(table):
            keys, record = dict(partition.keys), partition.record()
            assert record is not None
            rows = lake.read(table, keys)
            expnum = rows["expnum"].to_numpy()
            if table == "labels":
                column, values = "reason", [HOSTILE] * len(rows)
            else:
                column, values = "image_filename", [f"{e // 100}/{e}.fits" for e in expnum]
                hdu = rows.column_names.index("image_hdu")
                rows = rows.set_column(hdu, "image_hdu", [np.zeros(len(rows), np.int16)])
                for number in np.unique(expnum)[:-1]:  # of the last exposure there is none
                    path = images / f"{number // 100}/{number}.fits"
                    path.parent.mkdir(exist_ok=True)
                    fitsio.write(path, rng.normal(size=(40, 20)).astype(np.float32), clobber=True)
            index = rows.column_names.index(column)
            lake.write(table, keys, rows.set_column(index, column, [values]), record)


class _Page(HTMLParser):
    """What a page holds: tags, and whatever a tag refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.references: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"<{tag} {name}> runs something"
            if name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
                self.references.append((tag, name, value or ""))


def _statements(page: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]


def _same(rows: pa.Table, expected: pa.Table) -> None:
    assert rows.column_names == expected.column_names
    assert rows.num_rows == expected.num_rows
    for name in rows.column_names:
        found, wanted = rows[name].to_pylist(), expected[name].to_pylist()
        for one, other in zip(found, wanted, strict=True):
            assert one == (pytest.approx(other, abs=1e-6) if isinstance(other, float) else other)


def test_the_sql_beside_a_table_gives_its_numbers(reported: Reported) -> None:
    answers = {
        answer.sql: answer
        for group in (reported.evaluation.answers, reported.evaluation.at_cut)
        for answer in group.values()
    }
    printed = set(_statements(reported.page))
    for statement in printed:
        _same(run_sql(reported.lake, statement), answers[statement].rows)
    asked = {answers[statement].query for statement in printed}
    unasked = {"held_out_exposures"}  # its rows stand in no table of the page
    assert asked | unasked == {answer.query for answer in answers.values()}
    # Every table is followed by SQL: its own, or that of the next one, of the same query.
    assert reported.page.count("<table") <= len(_statements(reported.page)) + 3


def test_numbers_on_the_page_are_those_of_the_answers(reported: Reported) -> None:
    section = reported.page.split('<section id="classes">')[1].split("<h3>Probability")[0]
    cells = re.findall(r"<t[hd][^>]*>([^<]*)", section.split("<tbody>")[1].split("</tbody>")[0])
    found = {
        tuple(cells[start].strip() for start in range(row, row + 5))
        for row in range(0, len(cells), 5)
    }
    expected = {
        (
            row["class"],
            *(f"{row[n]:.3f}" for n in ("precision", "recall", "f1")),
            f"{row['support']:,}",
        )
        for row in reported.evaluation.answers["score_classes"].rows.to_pylist()
        if row["split"] == "night"
    }
    assert found == expected


def test_classes_of_sql_are_those_of_the_intervals(reported: Reported) -> None:
    for answers, cut in ((reported.evaluation.answers, 0.0), (reported.evaluation.at_cut, 0.9)):
        rows = answers["score_classes"].rows.to_pylist()
        by_sql = {row["class"]: row for row in rows if row["split"] == "night"}
        for one in reported.evaluation.scores[cut].classes:
            if one.name not in by_sql:
                assert one.support == 0
                continue
            row = by_sql[one.name]
            for name in ("precision", "recall", "f1"):
                value = getattr(one, name)
                assert row[name] == (None if np.isnan(value) else pytest.approx(value, abs=1e-9))
            assert row["support"] == one.support
        total = next(
            row for row in answers["score_summary"].rows.to_pylist() if row["split"] == "night"
        )
        scores = reported.evaluation.scores[cut]
        assert total["accuracy"] == pytest.approx(scores.accuracy)
        assert total["macro_f1"] == pytest.approx(scores.macro_f1)
        assert total["coverage"] == pytest.approx(scores.coverage)


def test_exposures_of_sql_are_those_of_the_intervals(reported: Reported) -> None:
    assert reported.evaluation.exposures is not None
    by_class, good_or_bad = reported.evaluation.exposures
    expected = {one.name: one for one in (*by_class.classes, good_or_bad.classes[1])}
    rows = reported.evaluation.answers["score_exposures"].rows.to_pylist()
    assert {row["class"] for row in rows} == set(expected)
    for row in rows:
        one = expected[row["class"]]
        for name in ("precision", "recall", "f1"):
            value = getattr(one, name)
            assert row[name] == (None if np.isnan(value) else pytest.approx(value))
        assert row["support"] == one.support


def test_the_page_needs_no_network_and_runs_nothing(reported: Reported) -> None:
    page = _Page(reported.page)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for tag, _, value in page.references:
        if tag == "a":
            assert value.startswith(("#", VIEWER))
        else:
            assert value.startswith(("data:image/jpeg;base64,", "#"))
    assert not re.search(r"url\((?!#)|@import|http-equiv", reported.page)
    assert reported.page.count("<svg") >= 6
    assert any(value.startswith(VIEWER) for _, _, value in page.references)
    assert len(reported.page) < 5e6


def test_words_of_lists_are_only_words(reported: Reported) -> None:
    assert HOSTILE not in reported.page
    assert html.escape(HOSTILE, quote=False)[:20] in reported.page


def test_mistakes_are_shown_or_said_why_not(reported: Reported) -> None:
    rows = reported.evaluation.answers["score_mistakes"].rows.to_pylist()
    assert rows
    missing = sum(not (reported.images / row["image_filename"]).exists() for row in rows)
    assert reported.page.count("<img ") == len(rows) - missing
    assert reported.page.count("no such file") == missing
    assert reported.evaluation.n_unreadable == missing
    by_class: dict[str, list[float]] = {}
    for row in rows:
        assert row["predicted"] != row["class"]
        by_class.setdefault(row["class"], []).append(row["probability"])
    assert all(len(chances) <= 6 for chances in by_class.values())


def test_without_images_there_are_no_pictures(reported: Reported, tmp_path: Path) -> None:
    result = evaluate(reported.lake, "m", tmp_path / "r", per_class=1)
    page = (tmp_path / "r/index.html").read_text(encoding="utf-8")
    assert "<img" not in page
    assert result.n_unreadable == 0
    assert result.answers["score_mistakes"].rows.num_rows <= 4
    with pytest.raises(SurveyError, match="--images nowhere: no such folder"):
        evaluate(reported.lake, "m", tmp_path / "r", images=Path("nowhere"))
    with pytest.raises(SurveyError, match=r"index.html: is a file; name a folder"):
        evaluate(reported.lake, "m", tmp_path / "r/index.html")
    with pytest.raises(SurveyError, match="--mistakes -1"):
        evaluate(reported.lake, "m", per_class=-1)


def test_the_same_evaluation_gives_the_same_bytes(reported: Reported, tmp_path: Path) -> None:
    evaluate(reported.lake, "m", tmp_path / "again", images=reported.images)
    for file in sorted(reported.folder.iterdir()):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_leak_stands_on_the_page(make_survey: MakeSurvey, tmp_path: Path) -> None:
    """Nothing but the exposure can be recognised: by night chance, by image nearly all right."""
    survey = make_survey(n_nights=12, n_exposures=12, signal=0.0, scatter=4.0)
    train(survey.lake, "toy", "m")
    result = evaluate(survey.lake, "m", tmp_path)
    rows = {row["split"]: row for row in result.answers["score_summary"].rows.to_pylist()}
    assert rows["night"]["accuracy"] < rows["night"]["by_chance"] + 0.1
    assert rows["image"]["accuracy"] > 0.95
    assert result.leak is not None and result.leak > 0.5
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    leak = page.split('<section id="leak">')[1].split("</section>")[0]
    assert f"{result.leak:+.3f}" in leak
    for row in rows.values():
        assert f">{row['accuracy']:.3f}" in leak
    assert json.loads((tmp_path / "scores.json").read_text())["leak"] == result.leak


def test_deviation_over_seeds_stands_on_the_page(make_survey: MakeSurvey, tmp_path: Path) -> None:
    survey = make_survey(n_nights=6, n_exposures=4, signal=0.8)
    train(survey.lake, "toy", "m")
    result = evaluate(survey.lake, "m", tmp_path, n_seeds=3)
    assert result.seeds is not None
    row = result.seeds.table().to_pylist()[0]
    assert row["n_seeds"] == 3
    # The first seed is the model's own split.
    assert result.seeds.values("accuracy")[0, 0] == pytest.approx(result.scores[0.0].accuracy)
    section = (tmp_path / "index.html").read_text().split('<section id="seeds">')[1]
    assert f">{row['accuracy']:.3f}<" in section
    assert f">{row['accuracy_sd']:.3f}<" in section
    assert (tmp_path / "seeds.csv").exists()
    with pytest.raises(SurveyError, match="--seeds -1"):
        evaluate(survey.lake, "m", n_seeds=-1)


def test_how_exposures_are_classified_as_a_whole_stands_on_the_page(reported: Reported) -> None:
    judged = {
        "exposures": 1105,
        "bad": 35,
        "precision": 0.8123,
        "recall": None,
        "brier": 0.0905,
        "brier_of_share": 0.2222,
        "calibration": [{"from": 0.8, "exposures": 32, "probability": 0.9712, "share_bad": 0.8125}],
    }
    model = reported.evaluation.model
    classifying = replace(model, card=model.card | {"exposure_scores": judged})
    page = render(replace(reported.evaluation, model=classifying), ())
    section = page.partition('<section id="exposure-classifier">')[2].partition("</section>")[0]
    assert "1,105 exposures" in section
    for text in ("0.812", "–", "0.090", "0.222", "from 0.8", "0.971"):
        assert f">{text}<" in section, text
    assert '<section id="exposure-classifier">' not in reported.page


def test_a_model_divided_by_image_says_so(make_survey: MakeSurvey, tmp_path: Path) -> None:
    survey = make_survey(n_nights=4, signal=1.0)
    train(survey.lake, "toy", "m", split=SplitSpec("image"), min_probability=0.0)
    result = evaluate(survey.lake, "m", tmp_path)
    assert result.leak is None
    assert set(result.scores) == {0.0}
    assert "these scores are too good" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_thumbnails_are_upright_and_stay_in_the_folder(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    pixels = np.random.default_rng(0).normal(100, 1, (90, 60)).astype(np.float32)
    pixels[:30] += 50  # the bottom of the image
    fitsio.write(images / "a.fits", pixels, extname="N1")
    fitsio.write(tmp_path / "secret.fits", pixels, extname="N1")
    (images / "b.fits").write_text("no image")
    names = ["a.fits", "b.fits", "../secret.fits", None, "a.fits"]
    rows = [{"image_filename": name, "image_hdu": 1, "ccdname": "N1"} for name in names]
    rows[-1] = {"image_filename": "a.fits", "image_hdu": 7, "ccdname": "S9"}
    drawn = thumbnails(images, rows, longest=30)
    image = Image.open(io.BytesIO(base64.b64decode(drawn[0].url.partition(",")[2])))
    levels = np.asarray(image)
    assert levels.shape == (30, 20) == (drawn[0].height, drawn[0].width)
    assert levels[-8:].mean() > levels[:15].mean() + 50
    problems = [one.problem for one in drawn[1:]]
    assert "not a readable FITS file" in problems[0]
    assert "not in the image folder" in problems[1]
    assert "does not say" in problems[2]
    assert "no such HDU" in problems[3]
    assert not any(one.url for one in drawn[1:])
