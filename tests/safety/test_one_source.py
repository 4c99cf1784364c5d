"""Each truth has one source: what a lake says of itself holds in every command that asks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inspector.facts import Facts
from inspector.neighbours import Neighbours
from inspector.rounds import load
from inspector.service import InspectionService
from lake.store import Lake
from tests.safety.command import done, rows

OWN = "Streaked_sky"
#: Exposures of four nights that no list of version 0.1.0 names: what is listed now has one class.
STREAKED = (349005, 349006, 349069, 349070, 349134, 349135, 349202, 349266)
TRAIN = ("train", "--embedder", "statistics", "--release", "dr10", "--test-fraction", 0.4)


def add_class(lake: Path, words: str = "streaked sky") -> None:
    """Give a lake a class of its own, and the words that mean it."""
    (lake / "vocabulary.toml").write_text(
        f'[[class]]\nname = "{OWN}"\nmeaning = "streaks all over"\nproject = ["{words}"]\n'
    )


@pytest.fixture
def streaked(golden: Path) -> Path:
    """A lake with a class of its own, and a list that names exposures of it."""
    lake = golden / "lake"
    add_class(lake)
    lines = [f"20140818 {expnum} streaked sky\n" for expnum in STREAKED]
    (golden / "problem-own.txt").write_text("".join(lines))
    done(lake, "ingest", "reports", golden / "problem-own.txt", "--source", "delve")
    done(lake, "merge-labels", "--release", "dr10")
    return lake


def test_a_class_of_the_lake_goes_all_the_way(streaked: Path, tmp_path: Path) -> None:
    lake = streaked
    said = rows(lake, f"select distinct expnum from labels where class = '{OWN}' order by 1")
    assert [row["expnum"] for row in said] == list(STREAKED)

    done(lake, *TRAIN, "--model", "own", "--good", 150)
    card = json.loads((lake / "models" / "own" / "model.json").read_text())
    assert OWN in card["classes"]
    done(lake, "predict", "--model", "own")
    done(lake, "vote", "--model", "own", "--min-probability", 0.3, "--min-fraction", 0.2)
    assert rows(lake, f"select 1 from predictions where model = 'own' and class = '{OWN}'")
    scores = done(lake, "evaluate", "--model", "own", "--seeds", 0, "--output", tmp_path / "report")
    assert OWN in scores.out
    assert OWN in (tmp_path / "report" / "index.html").read_text()
    assert OWN in done(lake, "query", "score_classes", "--param", "model=own").out

    maps = (
        "--embedder",
        "statistics",
        "--release",
        "dr10",
        "--sample",
        300,
        "--output",
        tmp_path / "maps",
    )
    silhouettes = json.loads(done(lake, "map", *maps, "--format", "json").out)
    # In the order of the lake's vocabulary, whose own classes come last; then over all.
    assert [row["class"] for row in silhouettes][-2:] == [OWN, "all"]
    assert OWN in (tmp_path / "maps" / "map.html").read_text()

    errors = done(lake, "label-errors", "--model", "own", "-n", 500, "--format", "json")
    suspects = json.loads(errors.out)
    assert OWN in {row[side] for row in suspects for side in ("label", "suggested")}

    opened = Lake(lake)
    service = InspectionService(
        opened, load(opened, "open"), Facts(opened), Neighbours(opened, None, (), ())
    )
    assert OWN in service.classes

    against = tmp_path / "bad.txt"
    against.write_text("1 a\n")
    patch = done(
        lake, "bad-expid", "diff", "--reports", "delve", "--reason", OWN, "--against", against
    )
    assert f"{STREAKED[0]} streaked sky [survey-qa: list delve]" in patch.out
    assert f"{len(STREAKED)} added" in patch.err
    against.write_text("".join(f"{expnum} {OWN} [survey-qa: model own]\n" for expnum in STREAKED))
    assert f"{len(STREAKED)} {OWN}" in done(lake, "bad-expid", "check", against).err


def test_an_edited_vocabulary_needs_no_list_ingested_again(golden: Path) -> None:
    lake = golden / "lake"
    listed = golden / "problem-own.txt"
    listed.write_text("20140818 349005 Zebra crossing\n")
    done(lake, "ingest", "reports", listed, "--source", "delve")
    done(lake, "merge-labels", "--release", "dr10")
    words = "reason = 'Zebra crossing'"
    stored = (lake / "reports" / "source=delve" / "part-0.parquet").read_bytes()

    def labelled() -> list[object]:
        return [
            row["class"] for row in rows(lake, f"select distinct class from labels where {words}")
        ]

    def stale() -> int:
        status = json.loads(done(lake, "status", "--format", "json").out)
        [labels] = [
            row for row in status if (row["table"], row["of"]) == ("labels", "release=dr10")
        ]
        return int(labels["stale"])

    assert (labelled(), stale()) == ([None], 0)
    add_class(lake, "zebra crossing")
    assert [row["classes"] for row in rows(lake, f"select classes from reports where {words}")] == [
        [OWN]
    ]
    assert stale() > 0
    done(lake, "merge-labels", "--release", "dr10")
    assert (labelled(), stale()) == ([OWN], 0)
    assert (lake / "reports" / "source=delve" / "part-0.parquet").read_bytes() == stored
