"""What ordinary use lost in version 0.1.0, each way of losing it a test that fails there."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import fitsio
import pytest

from inspector import closing as closing_module
from inspector.closing import close
from inspector.judgement import Judgement, VerdictLog
from inspector.rounds import freeze, load, located
from lake.errors import SurveyError
from lake.store import Lake
from tests.safety.command import count, done, exits_with, rows, survey_qa, vectors
from tests.safety.conftest import RELEASE, World

N_CCDS = 6 * 62
EMBED = ("embed", "--embedder", "statistics", "--images")


# --- vectors


def test_1_a_wrong_folder_of_images_takes_no_vector(world: World, tmp_path: Path) -> None:
    before = vectors(world.lake)
    (tmp_path / "empty").mkdir()
    with exits_with(1, survey_qa(world.lake, *EMBED, tmp_path / "empty")) as line:
        assert "none of the 6 images" in line
    assert vectors(world.lake) == before
    # Of another release's folder, which has one of the exposures and another one besides.
    other = tmp_path / "other"
    shutil.copytree(world.images, other)
    for file in sorted(other.rglob("*.fz"))[1:]:
        file.unlink()
    ended = done(world.lake, *EMBED, other)
    assert f"{5 * 62:,} vectors kept: their images are not under {other}" in ended.err
    assert vectors(world.lake) == before
    assert count(world.lake, "failures") == 0


def test_2_the_run_after_missing_images_works(world: World, tmp_path: Path) -> None:
    lake = tmp_path / "fresh"
    done(lake, "ingest", "ccds", world.table, "--release", RELEASE)
    images = sorted(world.images.rglob("*.fz"))
    kept = [file.read_bytes() for file in images]
    for file in images:
        file.write_bytes(b"nothing")
    done(lake, *EMBED, world.images)
    assert (count(lake, "embeddings"), count(lake, "failures")) == (0, N_CCDS)
    for file, content in zip(images, kept, strict=True):
        file.write_bytes(content)
    done(lake, *EMBED, world.images)
    assert (count(lake, "embeddings"), count(lake, "failures")) == (N_CCDS, 0)


@pytest.mark.parametrize("narrower", [("--ccds-per-exposure", 2), ("--release", "dr9")])
def test_3_a_narrower_run_takes_no_vector(world: World, narrower: tuple[object, ...]) -> None:
    table = fitsio.read(str(world.table), ext=1)
    less = world.folder / "less.fits"
    fitsio.write(str(less), table[table["ccdname"] == table["ccdname"][0]])
    done(world.lake, "ingest", "ccds", less, "--release", "dr9")
    before = vectors(world.lake)
    ended = done(world.lake, *EMBED, world.images, *narrower)
    assert "vectors kept: not asked for by this run" in ended.err
    assert vectors(world.lake) == before
    assert "0 images" in done(world.lake, *EMBED, world.images).err


def test_4_copied_images_are_the_same_images(world: World, tmp_path: Path) -> None:
    before = vectors(world.lake)
    shutil.copytree(world.images, tmp_path / "copy", copy_function=shutil.copyfile)
    ended = done(world.lake, *EMBED, tmp_path / "copy")
    assert " 0 images in" in ended.err and f"{N_CCDS} kept from before" in ended.err
    assert vectors(world.lake) == before
    # What was looked at once is known by its time from then on.
    again = done(world.lake, *EMBED, tmp_path / "copy")
    assert "0 partitions embedded, 2 unchanged; 0 images" in again.err
    # A copy of the lake as well.
    shutil.copytree(world.lake, tmp_path / "lake", copy_function=shutil.copyfile)
    assert " 0 images in" in done(tmp_path / "lake", *EMBED, tmp_path / "copy").err


def test_4_an_image_that_has_changed_is_read_again(world: World) -> None:
    before = vectors(world.lake)
    path = sorted(world.images.rglob("*.fz"))[0]
    content = path.read_bytes()
    time = path.stat().st_mtime_ns
    # The same size, another byte of one CCD's pixels.
    with fitsio.FITS(str(path)) as file:
        at = file[5].get_offsets()["data_start"] + 2000
    changed = bytearray(content)
    changed[at] ^= 0x55
    path.write_bytes(bytes(changed))
    os.utime(path, ns=(time + 10**9, time + 10**9))
    done(world.lake, *EMBED, world.images)
    after = vectors(world.lake)
    assert after.keys() == before.keys()
    assert after != before


def test_5_a_new_version_of_the_tool_makes_nothing_stale(world: World, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.metadata as m\n"
        "_version = m.version\n"
        "m.version = lambda name: '9.9.9' if name == 'survey-qa' else _version(name)\n"
    )

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).resolve().parents[2]
        return subprocess.run(
            [sys.executable, "-c", "from cli.main import main; main()", "--lake", world.lake]
            + [str(word) for word in words],
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{root}"},
            capture_output=True,
            text=True,
            check=True,
        )

    assert "survey-qa 9.9.9" in run("--version").stdout
    assert "0 partitions embedded, 2 unchanged" in run(*EMBED, world.images).stderr
    stale = [row["stale"] for row in json.loads(run("status", "--format", "json").stdout)]
    assert set(stale) == {0}
    assert "up to date" in run("merge-labels", "--release", RELEASE).stderr


def test_6_no_vectors_give_no_empty_patch(golden: Path) -> None:
    lake = golden / "lake"
    shutil.rmtree(lake / "predictions")
    shutil.rmtree(lake / "votes")
    keep = Lake(lake)
    for partition in keep.partitions("embeddings", embedder="statistics"):
        empty = keep.read("embeddings", dict(partition.keys)).slice(0, 0)
        record = partition.record()
        assert record is not None
        keep.write("embeddings", dict(partition.keys), empty, record)
    with exits_with(1, survey_qa(lake, "predict", "--model", "knn")) as line:
        assert "statistics has no vector in any of the 5 nights" in line
    with exits_with(1, survey_qa(lake, "vote", "--model", "knn")):
        pass
    against = golden / "decam-bad_expid.txt"
    with exits_with(
        1, survey_qa(lake, "bad-expid", "diff", "--model", "knn", "--against", against)
    ):
        pass


# --- tables and lists


def test_7_a_shorter_ccd_table_takes_no_night(world: World) -> None:
    lake, path = world.folder / "new", world.table
    table = fitsio.read(str(path), ext=1)
    done(lake, "ingest", "ccds", path, "--release", RELEASE)
    for rows_left in (100, 0):
        fitsio.write(str(path), table[:rows_left], clobber=True)
        survey_qa(lake, "ingest", "ccds", path, "--release", RELEASE)
        assert count(lake, "ccds") == N_CCDS
        assert count(lake, "exposures") == 6
    fitsio.write(str(path), table[:100], clobber=True)
    ended = done(lake, "ingest", "ccds", path, "--release", RELEASE, "--prune")
    assert ended.err.startswith(f"--prune: {N_CCDS - 100} CCDs of 2 nights")
    assert count(lake, "ccds") == 100


def test_7_a_table_with_fewer_columns_takes_no_value(world: World) -> None:
    table = fitsio.read(str(world.table), ext=1)
    names = [name for name in table.dtype.names if name.lower() not in ("ebv", "ccdskycounts")]
    path = world.folder / "narrower.fits"
    fitsio.write(str(path), table[names])
    done(world.lake, "ingest", "ccds", path, "--release", RELEASE)
    known = "ebv is not null and ccdskycounts is not null and table_file like '%narrower%'"
    assert count(world.lake, "ccds", known) == N_CCDS


@pytest.mark.parametrize("left", [0, 20])
def test_8_a_shorter_list_takes_no_report(world: World, left: int) -> None:
    before, labels = count(world.lake, "reports", "is_bad"), count(world.lake, "labels")
    assert before > 40
    lines = world.bad_list.read_text().splitlines(keepends=True)
    world.bad_list.write_text("".join(lines[:left]))
    ended = done(world.lake, "ingest", "reports", world.bad_list, "--source", "decals")
    done(world.lake, "merge-labels", "--release", RELEASE)
    assert count(world.lake, "labels") == labels
    assert "so does not count; --prune lets it count" in ended.err
    assert count(world.lake, "reports", "is_bad and is_current") == before
    strict = survey_qa(
        world.lake, "ingest", "reports", world.bad_list, "--source", "decals", "--strict"
    )
    assert strict.code == 1
    ended = done(world.lake, "ingest", "reports", world.bad_list, "--source", "decals", "--prune")
    assert ended.err.startswith("--prune: ") and "no longer count" in ended.err
    assert count(world.lake, "reports", "is_current") == max(left - 2, 0)


def test_8_a_table_of_verdicts_that_is_only_a_header_takes_none(world: World) -> None:
    path = world.folder / "seen.csv"
    path.write_text("expnum,ann_badexp\n" + "".join(f"{n},y\n" for n in range(1, 181)))
    done(world.lake, "ingest", "reports", path, "--source", "inspection")
    path.write_text("expnum,ann_badexp\n")
    done(world.lake, "ingest", "reports", path, "--source", "inspection")
    assert count(world.lake, "reports", "source = 'inspection'") == 180
    assert count(world.lake, "reports", "source = 'inspection' and is_current") == 180


@pytest.mark.parametrize("camera", ["decam", "mosaic"])
def test_9_two_lists_of_one_name_both_count(world: World, camera: str) -> None:
    for folder, numbers in (("a", range(1, 181)), ("b", range(301, 316))):
        path = world.folder / folder / "list.txt"
        path.parent.mkdir()
        path.write_text("".join(f"{number} clouds\n" for number in numbers))
        name = camera if folder == "b" else "decam"
        done(world.lake, "ingest", "reports", path, "--source", "decals", "--camera", name)
    assert count(world.lake, "reports", "file = 'list.txt'") == 195
    assert count(world.lake, "reports", "file = 'list.txt' and is_current") == 195


def test_10_lists_that_are_gone_take_no_label(world: World) -> None:
    before = count(world.lake, "labels")
    assert before
    shutil.rmtree(world.lake / "reports")
    ended = done(world.lake, "merge-labels", "--release", RELEASE)
    assert f"{before:,} kept: gone from the lake are decals" in ended.err
    assert count(world.lake, "labels") == before
    ended = done(world.lake, "merge-labels", "--release", RELEASE, "--prune")
    assert ended.err.startswith(f"--prune: {before:,} labels of {RELEASE}")
    assert count(world.lake, "labels") == 0


def test_11_one_dangling_image_takes_no_ccd(world: World, tmp_path: Path) -> None:
    lake, folder = tmp_path / "lake", tmp_path / "incoming"
    folder.mkdir()
    for file in sorted(world.images.rglob("*.fz"))[:2]:
        shutil.copy(file, folder)
    done(lake, "ingest", "images", folder, "--release", "night")
    before = count(lake, "ccds")
    first = sorted(folder.iterdir())[0]
    first.unlink()
    first.symlink_to(tmp_path / "nowhere")
    ended = done(lake, "ingest", "images", folder, "--release", "night")
    assert "62 CCDs kept that their files no longer give" in ended.err
    assert count(lake, "ccds") == before == 124
    assert count(lake, "exposures") == 2


# --- what people said


def test_12_an_import_that_was_interrupted_is_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = world.folder / "seen.csv"
    path.write_text("expnum,ann_badexp,bob_badexp\n" + "".join(f"{n},y,n\n" for n in range(1, 61)))
    write, left = Lake.write, [1]

    def fails(lake: Lake, name: str, *arguments: object, **named: object) -> Path:
        if name in ("inspections", "rounds") and not left[0]:
            raise SurveyError("disk full")
        left[0] -= name in ("inspections", "rounds")
        return write(lake, name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "write", fails)
    with pytest.raises(SurveyError):
        closing_module.import_csv(Lake(world.lake), path, "seen")
    monkeypatch.undo()
    assert count(world.lake, "inspections") == 0
    done(world.lake, "inspections", "import", path)
    assert count(world.lake, "inspections") == 120
    done(world.lake, "inspections", "close", "seen")
    done(world.lake, "inspections", "merge", "seen", "--rule", "any")
    assert len(done(world.lake, "inspections", "export", "seen").out.splitlines()) == 61


def test_12_closing_an_imported_round_again_keeps_its_verdicts(golden: Path) -> None:
    lake = golden / "lake"
    before = rows(lake, "select * from inspections where round = 'imported' order by all")
    # As version 0.1.0 left an import that was killed: not closed, and somebody has signed in.
    (lake / "inspections" / "round=imported" / "_closed.json").unlink()
    round = load(Lake(lake), "imported")
    said = Judgement("good", None, 4, "looked again")
    round.log("alice").judge(round.subjects[0].key, 0, said, "alice")
    close(round, unfinished=True)
    after = rows(lake, "select * from inspections where round = 'imported' order by all")
    assert len(after) == len(before)
    changed = [row for row in after if row["comment"] == "looked again"]
    assert [row["inspector"] for row in changed] == ["alice"]


def judged(lake: Path, name: str = "first", who: str = "ann", n: int = 3) -> None:
    """Make a round of exposures that `who` calls bad."""
    expnums = [row["expnum"] for row in rows(lake, "select distinct expnum from ccds order by 1")]
    round = freeze(Lake(lake), name, located(Lake(lake), [{"expnum": e} for e in expnums[:n]]))
    for subject in round.subjects:
        round.log(who).judge(subject.key, 0, Judgement("bad", "PSF", 3, "not a ghost"), who)


def test_13_closing_that_was_interrupted_says_so_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(world.lake)
    round = load(Lake(world.lake), "first")
    round.log("bob").judge(round.subjects[0].key, 0, Judgement("good"), "bob")
    write, left = Lake.write, [1]

    def fails(lake: Lake, name: str, *arguments: object, **named: object) -> Path:
        if name in ("inspections", "reports") and not left[0]:
            raise SurveyError("disk full")
        left[0] -= name in ("inspections", "reports")
        return write(lake, name, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Lake, "write", fails)
    with pytest.raises(SurveyError):
        close(round, unfinished=True)
    monkeypatch.undo()
    # The round is seen as a whole or not at all.
    assert count(world.lake, "inspections") == 0
    assert count(world.lake, "reports", "round = 'first'") == 0
    assert "interrupted" in done(world.lake, "inspections", "status").out
    diff = ("bad-expid", "diff", "--inspections", "first", "--against", world.bad_list)
    with exits_with(1, survey_qa(world.lake, *diff)) as line:
        assert "the closing of round first was interrupted" in line
    done(world.lake, "inspections", "close", "first")
    assert count(world.lake, "inspections") == 4
    assert count(world.lake, "reports", "round = 'first'") == 4


def test_14_a_list_and_a_round_never_share_a_name(world: World) -> None:
    judged(world.lake)
    path = world.folder / "old.csv"
    path.write_text("expnum,zoe_badexp,zoe_reason\n1,y,Ghosting\n")
    words = ("ingest", "reports", path, "--source", "inspection", "--round", "first")
    with exits_with(1, survey_qa(world.lake, *words)) as line:
        assert "first is a round of inspection" in line
    done(world.lake, "ingest", "reports", path, "--source", "inspection", "--round", "listed")
    with pytest.raises(SurveyError, match="listed is the name of a list"):
        judged(world.lake, "listed")
    with exits_with(1, survey_qa(world.lake, "inspections", "import", path, "--round", "listed")):
        pass


@pytest.mark.parametrize(
    ("verdict", "name", "comment"),
    [
        ("bad", "Clouds_transparency", "not a ghost"),
        ("bad", "Noise", "looks good to me"),
        ("bad", "PSF", "Out of focus? no, trails and clouds"),
        ("bad", None, "Saturated"),
    ],
)
def test_15_a_comment_is_no_class(
    world: World, verdict: str, name: str | None, comment: str
) -> None:
    expnum = rows(world.lake, "select min(expnum) as n from ccds")[0]["n"]
    round = freeze(Lake(world.lake), "said", located(Lake(world.lake), [{"expnum": expnum}]))
    judgement = Judgement(verdict, name, 2, comment)  # type: ignore[arg-type]
    round.log("ann").judge(round.subjects[0].key, 0, judgement, "ann")
    done(world.lake, "inspections", "close", "said")
    done(world.lake, "inspections", "merge", "said", "--rule", "any")
    done(world.lake, "merge-labels", "--release", RELEASE)
    classes = rows(world.lake, "select distinct class from labels where source = 'inspection'")
    assert classes == [{"class": name}]
    said = rows(
        world.lake,
        "select distinct class, quality, comment, inspector from labels where source='inspection'",
    )
    assert said == [{"class": name, "quality": 2.0, "comment": comment, "inspector": "ann"}]


def test_16_a_table_under_a_rounds_name_takes_no_verdict(world: World) -> None:
    judged(world.lake)
    done(world.lake, "inspections", "close", "first")
    done(world.lake, "inspections", "merge", "first")
    before = rows(world.lake, "select * from reports where round = 'first' order by all")
    path = world.folder / "first.csv"
    path.write_text("expnum,merged_badexp,merged_reason\n")
    ended = survey_qa(world.lake, "ingest", "reports", path, "--source", "inspection")
    assert ended.code == 1
    assert rows(world.lake, "select * from reports where round = 'first' order by all") == before
    assert len(before) == 3


def test_17_a_merger_undoes_only_what_is_theirs(world: World) -> None:
    judged(world.lake)
    round = load(Lake(world.lake), "first")
    mine, theirs = (round.subjects[number].key for number in (0, 1))
    log = round.settlements()
    log.judge(mine, 0, Judgement("bad", "PSF"), "mia")
    log.judge(theirs, 0, Judgement("good"), "max")
    assert log.undo(log.sequence, "mia") == mine
    assert log.undo(log.sequence, "mia") is None
    assert log.entry(theirs).judgement == Judgement("good")
    # What another has said of the same subject since stands.
    log.judge(mine, log.entry(mine).version, Judgement("bad", "PSF"), "mia")
    log.judge(mine, log.entry(mine).version, Judgement("unsure"), "max")
    assert log.undo(log.sequence, "mia") is None
    assert log.undo(log.sequence, "max") == mine
    assert (log.entry(mine).judgement, log.entry(mine).by) == (Judgement("bad", "PSF"), "mia")
    assert round.settlements().entries() == log.entries()


def test_18_a_first_verdict_given_while_a_round_closes_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(world.lake, n=2)
    round = load(Lake(world.lake), "first")
    entries = VerdictLog.entries
    spoken = threading.Event()

    def slow(log: VerdictLog) -> dict[str, object]:
        found = entries(log)
        if not spoken.is_set() and not round.is_closed:
            spoken.set()
            # Bob, who has said nothing before, speaks after everybody was counted.
            round.log("bob").judge(round.subjects[0].key, 0, Judgement("good"), "bob")
        return found  # type: ignore[return-value]

    monkeypatch.setattr(VerdictLog, "entries", slow)
    close(round)
    monkeypatch.undo()
    assert count(world.lake, "inspections", "inspector = 'bob'") == 1


def test_19_export_has_class_and_comment_both(world: World) -> None:
    judged(world.lake)
    done(world.lake, "inspections", "close", "first")
    heading, *lines = done(world.lake, "inspections", "export", "first").out.splitlines()
    columns = heading.split(",")
    cells = dict(zip(columns, lines[0].split(","), strict=True))
    assert (cells["ann_class"], cells["ann_quality"]) == ("PSF", "3")
    assert cells["ann_comment"] == "not a ghost"
    path = world.folder / "again.csv"
    path.write_text("\n".join([heading, *lines]) + "\n")
    done(world.lake, "inspections", "import", path)
    fields = "expnum, inspector, verdict, class, quality, comment, round(time, 2) as time"
    first, again = (
        rows(world.lake, f"select {fields} from inspections where round = '{name}' order by all")
        for name in ("first", "again")
    )
    assert first == again


# --- models


def test_21_a_model_is_replaced_only_when_told_and_its_votes_are_stale(golden: Path) -> None:
    lake, against = golden / "lake", golden / "decam-bad_expid.txt"
    train = ("train", "--embedder", "statistics", "--model", "knn", "--release", "dr10")
    options = ("--test-fraction", 0.4, "--good", 150, "--seed", 3)
    with exits_with(1, survey_qa(lake, *train, *options)) as line:
        assert "there is a model knn" in line and "--force" in line
    ended = done(lake, *train, *options, "--force")
    assert "out of date now: 5 partitions of predictions, 5 partitions of votes" in ended.err
    status = json.loads(done(lake, "status", "--format", "json").out)
    stale = {row["table"]: row["stale"] for row in status if row["of"] == "model=knn"}
    assert (stale["predictions"], stale["votes"]) == (5, 5)
    for words in (
        ("bad-expid", "diff", "--model", "knn", "--against", against),
        ("crossmatch", "--model", "knn", "--release", "dr10"),
        ("evaluate", "--model", "knn"),
    ):
        with exits_with(1, survey_qa(lake, *words)) as line:
            assert "model knn was trained anew" in line
            assert "`survey-qa predict --model knn` and then `survey-qa vote --model knn" in line
        done(lake, *words, "--stale-ok")
    done(lake, "predict", "--model", "knn")
    done(lake, "vote", "--model", "knn")
    done(lake, "bad-expid", "diff", "--model", "knn", "--against", against)


def changes(card: dict) -> list[dict]:  # type: ignore[type-arg]
    """Cards that are not the model's."""
    return [
        card | {"classes": ["good", *reversed(card["classes"][1:])]},
        card | {"classes": list(reversed(card["classes"]))},
        card | {"scores": {}},
        card | {"classes": 7},
        card | {"embedders": [{"name": "statistics"}]},
        card | {"exposures": {"threshold": "high"}},
        card | {"training": []},
        card | {"sha256": "0" * 64},
        {key: value for key, value in card.items() if key != "columns"},
        {},
        [],  # type: ignore[list-item]
    ]


def test_22_a_changed_card_is_refused(golden: Path) -> None:
    lake = golden / "lake"
    train = ("train", "--embedder", "statistics", "--model", "new", "--release", "dr10")
    done(lake, *train, "--test-fraction", 0.4, "--good", 150)
    path = lake / "models" / "new" / "model.json"
    text = path.read_text()
    for changed in changes(json.loads(text)):
        path.write_text(json.dumps(changed))
        for words in (("predict", "--model", "new"), ("models", "new")):
            with exits_with(1, survey_qa(lake, *words)) as line:
                assert "model.json: not " in line
        done(lake, "models")
    path.write_text(text)
    done(lake, "predict", "--model", "new")


def test_22_a_training_that_was_killed_between_model_and_card_is_whole(golden: Path) -> None:
    lake = golden / "lake"
    train = ("train", "--embedder", "statistics", "--release", "dr10", "--test-fraction", 0.4)
    done(lake, *train, "--good", 150, "--model", "new")
    done(lake, *train, "--good", 120, "--model", "other")
    new, other = (lake / "models" / name for name in ("new", "other"))
    # As after a kill: the file and the card of the second training, the card not in its place.
    card = json.loads((other / "model.json").read_text()) | {"name": "new"}
    (new / "_model.json").write_text(json.dumps(card))
    shutil.copy(other / "model.skops", new / "model.skops")
    done(lake, "predict", "--model", "new")
    assert json.loads((new / "model.json").read_text())["sha256"] == card["sha256"]
    assert not (new / "_model.json").exists()


# --- files, and what the tool itself has said


def test_20_an_output_replaces_no_input_and_nothing_of_the_lake(golden: Path) -> None:
    lake, against = golden / "lake", golden / "decam-bad_expid.txt"
    diff = ("bad-expid", "diff", "--model", "two", "--against", against, "--output")
    listed = against.read_bytes()
    with exits_with(1, survey_qa(lake, *diff, against)) as line:
        assert "this command reads it" in line
    assert against.read_bytes() == listed
    vote = sorted((lake / "votes").rglob("*.parquet"))[0]
    stored = vote.read_bytes()
    for words in (
        (*diff, vote),
        ("sql", "select 1 as a", "--output", vote),
        ("sql", "select 1 as a", "--output", lake / "new.csv"),
        ("inspections", "export", "looked", "--output", lake / "vocabulary.toml"),
    ):
        with exits_with(1, survey_qa(lake, *words)) as line:
            assert "it lies in the lake" in line
    assert vote.read_bytes() == stored
    assert not (lake / "new.csv").exists()


def test_20_a_full_disk_leaves_the_patch_that_was_there(golden: Path) -> None:
    patch = golden / "change.patch"
    done(golden / "lake", *(words := diff_of("two", golden)), "--output", patch)
    before = patch.read_bytes()
    command = [sys.executable, "-c", "from cli.main import main; main()", "--lake", "lake"]
    ended = subprocess.run(
        [*command, *map(str, words), "--heading", "more", "--output", "change.patch"],
        cwd=golden,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, len(before) > 500) == (1, True), ended.stderr
    assert patch.read_bytes() == before
    assert sorted(golden.glob(".*")) == []


def diff_of(model: str, golden: Path) -> tuple[object, ...]:
    """Words of the command that writes a model's patch."""
    return ("bad-expid", "diff", "--model", model, "--against", golden / "decam-bad_expid.txt")


def test_23_a_model_does_not_learn_from_what_the_tool_has_said(golden: Path) -> None:
    lake, against = golden / "lake", golden / "decam-bad_expid.txt"
    train = ("train", "--embedder", "statistics", "--release", "dr10", "--test-fraction", 0.4)
    train = (*train, "--good", 150, "--model")
    done(lake, *train, "without")
    for origin in (("--model", "knn"), ("--inspections", "looked"), ("--reports", "delve")):
        patch = golden / "change.patch"
        done(lake, "bad-expid", "diff", *origin, "--against", against, "--output", patch)
        subprocess.run(["git", "apply", patch.name], cwd=golden, check=True)
    checked = done(lake, "bad-expid", "check", against)
    assert "unknown" not in checked.err
    done(lake, "ingest", "reports", against, "--source", "decals")
    done(lake, "merge-labels", "--release", "dr10")
    own = "source = 'decals' and is_current and origin is not null"
    said = rows(lake, f"select origin, count(*) as n from reports where {own} group by all")
    assert {row["origin"] for row in said} == {"model knn", "round looked", "list delve"}
    assert count(lake, "reports", f"{own} and len(classes) = 0") == 0
    assert count(lake, "labels", "source = 'decals' and origin is not null") > 0
    assert count(lake, "labels", "source = 'decals' and origin is not null and class is null") == 0
    done(lake, *train, "with")
    content = {
        name: (lake / "models" / name / "model.skops").read_bytes() for name in ("with", "without")
    }
    assert content["with"] == content["without"]
    done(lake, *train, "trusting", "--trust-own-lines")
    trusting = json.loads((lake / "models" / "trusting" / "model.json").read_text())
    without = json.loads((lake / "models" / "without" / "model.json").read_text())
    assert trusting["training"]["n_train"] > without["training"]["n_train"]
