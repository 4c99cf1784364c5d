"""The change to the bad-exposure list, as git and patch take it, and what is wrong with a list."""

from __future__ import annotations

import datetime
import shutil
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import badlist.proposal
import classifiers.exposures.vote
from badlist.decisions import CONFIRMS
from badlist.diff import Addition, ListDiff, make_diff, patch_name
from badlist.format import Key, read_bad_list
from badlist.proposal import (
    additions_from_inspections,
    additions_from_reports,
    additions_from_votes,
    check,
)
from ingest.reports import ingest_reports
from lake.errors import SurveyError
from lake.own_lines import read_own_line
from lake.record import Record
from lake.store import Lake

TODAY = datetime.date(2024, 8, 29)
COMMANDS = {
    "git": ["git", "-c", "core.autocrlf=false", "apply", "change.patch"],
    "patch": ["patch", "-p0", "--no-backup-if-mismatch", "-i", "change.patch"],
}


@pytest.fixture(params=COMMANDS)
def tool(request: pytest.FixtureRequest) -> str:
    """A program that applies patches; skipped where it is not installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def apply(tool: str, folder: Path, patch: bytes) -> None:
    (folder / "change.patch").write_bytes(patch)
    done = subprocess.run(COMMANDS[tool], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def diff(content: bytes, *additions: Addition, **options: object) -> ListDiff:
    return make_diff(read_bad_list(content), "bad.txt", additions, today=TODAY, **options)  # type: ignore[arg-type]


LISTS = {
    "plain": b"# head\n1 a\n2  b\t c \n\n3\n",
    "no final newline": b"1 a\n2 b",
    "windows": b"1 a\r\n\r\n2 b\r\n",
    "windows, no final newline": b"1 a\r\n2 b",
    "latin-1": b"1 caf\xe9\n2 b\n",
    "form feed and nul": b"1 a\x0c\n2 \x00b\n3 c\x1c\n",
    "bare carriage return": b"1 a\r2 b\n3 c\r4 d",
    "one line": b"1",
    "long": b"".join(b"%d reason  %d\n" % (n, n % 7) for n in range(1, 400)),
}


@pytest.mark.parametrize("content", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("folder", ["", "a folder/py"])
def test_git_and_patch_make_the_list_that_the_diff_says(
    tool: str, tmp_path: Path, content: bytes, folder: str
) -> None:
    name = Path(folder) / "bad list.txt"
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(content)
    made = make_diff(
        read_bad_list(content), name, [Addition(500, None, "new"), Addition(7000, "N4")], ["1"]
    )
    apply(tool, tmp_path, made.patch)
    assert (tmp_path / name).read_bytes() == made.content
    before, after = read_bad_list(content).keys(), read_bad_list(tmp_path / name).keys()
    assert set(after) == set(before) - {(1, None)} | {(500, None), (7000, "N4")}
    assert {after[key] for key in after.keys() & before.keys()} <= set(before.values())


def test_the_form_of_an_addition() -> None:
    made = diff(
        b"1 a\n",
        Addition(9, "N4", "streak:  Airplane\n"),
        Addition(9, "S29"),
        Addition(8, None, "clouds"),
        origin="inspections dr11",
    )
    assert made.content == (
        b"1 a\n\n# 2024-08-29 inspections dr11\n8 clouds\n9-S29\n9-N4 streak: Airplane\n"
    )
    assert made.patch == (
        b"--- ./bad.txt\n+++ ./bad.txt\n@@ -1,1 +1,6 @@\n 1 a\n+\n"
        b"+# 2024-08-29 inspections dr11\n+8 clouds\n+9-S29\n+9-N4 streak: Airplane\n"
    )


def test_a_heading_of_ones_own() -> None:
    made = diff(b"1\n\n", Addition(2, None), heading="ODIN\nsecond line")
    assert made.content == b"1\n\n# ODIN\n# second line\n2\n"


def test_line_ends_follow_the_list_and_a_missing_one_is_added() -> None:
    assert diff(b"1\r\n2", Addition(3, None), heading="x").content == b"1\r\n2\r\n\r\n# x\r\n3\r\n"
    assert b"\\ No newline at end of file" in diff(b"1\r\n2", Addition(3, None)).patch


def test_nothing_is_added_that_the_list_has() -> None:
    made = diff(
        b"1\n2-N4 x\n3\n",
        Addition(1, None),
        Addition(1, "N5"),
        Addition(2, "N4"),
        Addition(2, "n4"),
        Addition(3, "S1"),
        Addition(4, "S1", "first"),
        Addition(4, "S1", "second"),
        Addition(4, None),
        Addition(4, "S2"),
    )
    assert [addition.key for addition in made.added] == [(2, "n4"), (4, None)]
    assert [addition.key for addition in made.already_listed] == [
        (1, None), (1, "N5"), (2, "N4"), (3, "S1"),
    ]  # fmt: skip


def test_an_exposure_whose_ccd_is_listed_can_be_added_whole() -> None:
    assert [a.key for a in diff(b"2-N4 x\n", Addition(2, None)).added] == [(2, None)]


def test_no_change_is_an_empty_patch() -> None:
    made = diff(b"1\n2", Addition(1, None))
    assert (made.patch, made.content) == (b"", b"1\n2")


def test_retraction_comments_out_every_line_of_the_key_under_a_note() -> None:
    content = b"1 a\n  2 b\n2-N4 c\n3\n2 d"
    made = diff(content, retractions=["2", "2"])
    assert made.content == (
        b"1 a\n# 2024-08-29 retracted\n# 2 b\n# 2-N4 c\n3\n# 2024-08-29 retracted\n# 2 d"
    )
    assert made.retracted == [(2, None), (2, "N4")]
    only = diff(content, retractions=["2-N4"], heading="Fixed in LS9")
    assert only.content == b"1 a\n  2 b\n# Fixed in LS9\n# 2-N4 c\n3\n2 d"


def test_a_retraction_twice_changes_nothing_more() -> None:
    once = diff(b"1 a\n2 b\n", retractions=["2"])
    twice = diff(once.content, retractions=["2"])
    assert (twice.patch, twice.already_retracted) == (b"", [(2, None)])


def test_what_is_retracted_is_not_added_in_the_same_breath() -> None:
    made = diff(b"1\n2\n", Addition(2, None), Addition(2, "N4"), retractions=["2"])
    assert made.added == []
    assert set(read_bad_list(made.content).keys()) == {(1, None)}


def test_an_addition_that_somebody_took_off_is_pointed_out() -> None:
    made = diff(b"# fixed\n# 7 ghost\n", Addition(7, None), Addition(8, None))
    assert [addition.key for addition in made.readded] == [(7, None)]
    assert [addition.key for addition in made.added] == [(7, None), (8, None)]


@pytest.mark.parametrize(
    ("retraction", "what"),
    [
        ("5", "no such entry$"),
        ("1-N4", r"no such entry; the exposure has line 1 \(1\)"),
        ("1-2-3", "more than one '-'"),
        ("abc", "not an exposure number"),
        ("", "not an exposure number|one key"),
    ],
)
def test_a_retraction_that_cannot_be_is_one_clear_line(retraction: str, what: str) -> None:
    with pytest.raises(SurveyError, match=what) as error:
        diff(b"1 a\n", retractions=[retraction])
    assert "\n" not in str(error.value)


def test_words_that_the_lists_encoding_lacks_do_not_break_it() -> None:
    made = diff(b"1 caf\xe9\n", Addition(2, None, "≥ 3″"))
    assert made.content.startswith(b"1 caf\xe9\n")
    assert set(read_bad_list(made.content).keys()) == {(1, None), (2, None)}


def test_names_in_the_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert patch_name("py/list.txt") == "./py/list.txt"
    assert patch_name(tmp_path / "py" / "list.txt") == "./py/list.txt"
    assert patch_name("../other/list.txt") == "./list.txt"
    with pytest.raises(SurveyError, match="control characters"):
        patch_name("a\nb")


KEYS = st.tuples(st.integers(1, 9), st.sampled_from([None, "N4", "S29", "n4"]))
LINES = st.one_of(
    KEYS.map(lambda key: f"{key[0]}" + (f"-{key[1]}" if key[1] else "") + " why"),
    st.sampled_from(["", "# note", "# 3", "x y", "5-N4-S1", "#", "  ", "4\tt", " 6 six"]),
)


@given(
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\n", "\r"])), max_size=25),
    st.booleans(),
    st.lists(KEYS.map(lambda key: Addition(*key, "r")), max_size=6),
    st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_change_of_any_list(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, str]],
    ended: bool,
    additions: list[Addition],
    data: st.DataObject,
) -> None:
    text = "".join(line + end for line, end in lines)
    content = (text if ended else text.rstrip("\r\n")).encode()
    before = read_bad_list(content).keys()
    words = [f"{key[0]}-{key[1]}" if key[1] else str(key[0]) for key in before]
    retract = data.draw(st.lists(st.sampled_from(words), max_size=3)) if words else []
    made = diff(content, *additions, retractions=retract)
    after = read_bad_list(made.content).keys()

    def covered(key: Key, keys: set[Key]) -> bool:
        return key in keys or (key[0], None) in keys

    gone = {key for key in before if covered(key, {k for k in before if _word(k) in retract})}
    for key in before:
        assert (key in after) == (key not in gone) or key in {a.key for a in made.added}
    for addition in additions:
        assert covered(addition.key, set(after)) or covered(addition.key, gone)
    assert set(after) <= set(before) | {addition.key for addition in additions}
    again = diff(made.content, *additions, retractions=retract)
    assert again.patch == b""
    if made.patch and shutil.which("git"):
        folder = tmp_path_factory.mktemp("patched")
        (folder / "bad.txt").write_bytes(content)
        apply("git", folder, made.patch)
        assert (folder / "bad.txt").read_bytes() == made.content


def _word(key: Key) -> str:
    return f"{key[0]}-{key[1]}" if key[1] else str(key[0])


# --- From the lake ---

RECORD = Record("test")


def inspect(lake: Lake, folder: Path, content: str) -> None:
    path = folder / "seen.csv"
    path.write_text(content)
    ingest_reports(lake, [path], "inspection", round="dr11")


def test_agreement_counts_those_who_looked(lake: Lake, tmp_path: Path) -> None:
    inspect(
        lake,
        tmp_path,
        "expnum,a_badexp,a_reason,b_badexp,b_reason,c_badexp,c_reason\n"
        "1,y,ghost,n,,n,\n"
        "2,y,ghost,y,,n,\n"
        "3,y,ghost,y,,y,noise\n"
        "4,n,,n,,n,\n"
        "5,y,ghost,,,,\n"
        "6,y,ghost,?,,y,\n"
        "7,y,,n,,,\n"
        "8,y,old,,,,\n"
        "8,n,new,,,,\n",
    )

    def agreed(agree: str) -> list[int]:
        return [a.expnum for a in additions_from_inspections(lake, "dr11", agree)]  # type: ignore[arg-type]

    assert agreed("any") == [1, 2, 3, 5, 6, 7]
    assert agreed("majority") == [2, 3, 5, 6]
    assert agreed("all") == [3, 5]
    found = {a.expnum: a.reason for a in additions_from_inspections(lake, "dr11")}
    assert found[3] == "Ghost_scatter + Noise [survey-qa: round dr11, a: ghost; b; c: noise]"
    assert found[7] == "[survey-qa: round dr11, a]"


def test_a_round_that_is_not_there_names_those_that_are(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="ingest reports"):
        additions_from_inspections(lake, "dr12")
    inspect(lake, tmp_path, "expnum,a_badexp\n1,y\n")
    with pytest.raises(SurveyError, match="it has dr11"):
        additions_from_inspections(lake, "dr12")
    with pytest.raises(SurveyError, match="choose any, majority, all"):
        additions_from_inspections(lake, "dr11", "some")  # type: ignore[arg-type]


def ingest_delve(lake: Lake, folder: Path) -> None:
    ccds = "".join(f"20130101 20 nan nan {number}\n" for number in range(1, 63))
    files = {
        "ccd41-y00.txt": "20130101 7 nan N10 41\n20130101 7 nan N10 41\n",
        "streak-y00.txt": "# Airplane\n20130101 8 nan nan 1\n20130101 8 nan nan 2\n",
        "noise-y00.txt": ccds + "20130101 8 nan nan 1\n",
        "problem-y00.txt": "20130101  9  Telescope Moving\n20130101  7  Clouds\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    ingest_reports(lake, [folder / name for name in files], "delve")


def test_reports_become_lines_of_ccds(lake: Lake, tmp_path: Path) -> None:
    ingest_delve(lake, tmp_path)

    def lines(*reasons: str, collapse: bool = False) -> dict[Key, str]:
        found = additions_from_reports(lake, "delve", reasons, collapse)
        own = {addition.key: read_own_line(addition.reason) for addition in found}
        assert {line.origin for line in own.values() if line} <= {"list delve"}
        return {key: line.words for key, line in own.items() if line}

    assert lines("bad ccd", "Telescope Moving") == {
        (7, "N10"): "ccd41",
        (9, None): "Telescope Moving",
    }
    assert lines("AIRPLANE ") == {(8, "S29"): "streak: Airplane", (8, "S30"): "streak: Airplane"}
    assert lines()[8, "S29"] == "noise, streak: Airplane"
    assert len(lines("noise")) == 63
    assert lines("noise", collapse=True) == {(8, "S29"): "noise", (20, None): "noise"}


def test_collapse_asks_the_tables_which_ccds_an_exposure_has(lake: Lake, tmp_path: Path) -> None:
    ingest_delve(lake, tmp_path)
    rows = pa.table(
        {"expnum": [8, 8, 7, 7], "ccdnum": [1, 2, 41, 1], "ccdname": ["S29", "S30", "N10", "S29"]}
    )
    lake.write("ccds", {"release": "dr10", "camera": "decam", "night": "20130101"}, rows, RECORD)
    found = additions_from_reports(lake, "delve", ["streak", "Bad CCD"], collapse=True)
    assert {addition.key for addition in found} == {(8, None), (7, "N10")}


def test_a_reason_that_nobody_gives_is_told_with_those_that_are(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(SurveyError, match="no report of source delve"):
        additions_from_reports(lake, "delve")
    ingest_delve(lake, tmp_path)
    with pytest.raises(SurveyError, match="'Frost': no report of delve says so; it says 'noise'"):
        additions_from_reports(lake, "delve", ["noise", "Frost"])


def test_votes_and_single_ccds_of_good_exposures(lake: Lake) -> None:
    keys = {"model": "knn", "camera": "decam", "night": "20130101"}
    votes = pa.table({
        "expnum": [1, 2], "n_ccds": [20, 20], "n_bad": [14, 1], "class": ["PSF", "good"],
        "probability": [0.9, 0.9], "is_bad": [True, False],
    })  # fmt: skip
    predictions = pa.table({
        "expnum": [1, 2, 2, 2], "ccdnum": [1, 1, 35, 62],
        "class": ["PSF", "Noise", "good", "Noise"],
        "probability": pa.array([0.99, 0.95, 0.99, 0.5], pa.float32()),
    })  # fmt: skip
    with pytest.raises(SurveyError, match="survey-qa vote --model knn"):
        additions_from_votes(lake, "knn")
    lake.write("votes", keys, votes, RECORD)
    lake.write("predictions", keys, predictions, RECORD)
    whole = Addition(1, None, "PSF [survey-qa: model knn, 14 of 20 CCDs]")
    assert additions_from_votes(lake, "knn") == [whole]
    assert additions_from_votes(lake, "knn", 0.9) == [
        whole,
        Addition(2, "S29", "Noise [survey-qa: model knn, probability 0.95]"),
    ]


def test_single_ccds_are_spelled_as_the_ccd_tables_spell_them(lake: Lake) -> None:
    place = {"camera": "90prime", "night": "20160101"}
    ccds = pa.table({"expnum": [7, 7], "ccdnum": [1, 2], "ccdname": ["CCD1", "CCD2"]})
    lake.write("ccds", {"release": "dr9", **place}, ccds, RECORD)
    predictions = pa.table({
        "expnum": [7, 8], "ccdnum": [2, 3], "class": ["Noise", "Noise"],
        "probability": pa.array([0.95, 0.95], pa.float32()),
    })  # fmt: skip
    votes = pa.table({"expnum": [7, 8], "class": ["good", "good"], "is_bad": [False, False]})
    lake.write("predictions", {"model": "knn", **place}, predictions, RECORD)
    lake.write("votes", {"model": "knn", **place}, votes, RECORD)
    assert additions_from_votes(lake, "knn", 0.9, "90prime") == [
        Addition(7, "CCD2", "Noise [survey-qa: model knn, probability 0.95]"),
        Addition(8, "ccd3", "Noise [survey-qa: model knn, probability 0.95]"),
    ]


def test_what_is_added_is_bad_when_the_list_is_read_again(lake: Lake, tmp_path: Path) -> None:
    inspect(lake, tmp_path, "expnum,a_badexp,a_reason\n1,y,ring pattern\n2,y,\n3,y,seeing\n")
    path = tmp_path / "bad.txt"
    path.write_bytes(diff(b"9 clouds\n", *additions_from_inspections(lake, "dr11")).content)
    ingest_reports(lake, [path], "decals")
    rows = lake.read("reports", {"source": "decals"}).to_pylist()
    assert {row["expnum"]: row["is_bad"] for row in rows} == {1: True, 2: True, 3: True, 9: True}


def test_check_tells_what_is_wrong(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(b"# x\n1 clouds\n1-N4\n2\n2 PSF\n\n3-n4 y\n3-N77\n4-S29\n4-N4\nwhat ever\n")
    report = check(path)
    assert (report.lines, report.entries, report.comments, report.blank) == (11, 8, 1, 1)
    assert (report.exposures, report.ccds) == (2, 5)
    assert report.classes == {"Clouds_transparency": 1, "PSF": 1, None: 5}
    assert report.duplicates == [((2, None), [4, 5])]
    assert report.whole_and_ccd == [((1, "N4"), 3, 2)]
    assert report.skipped == [(11, "what ever", "'what' is not an exposure number")]
    assert report.unknown_names == [(7, (3, "n4")), (8, (3, "N77"))]
    assert report.unknown_keys is None
    assert check(path, lake).unknown_keys is None
    rows = pa.table({"expnum": [1, 4], "ccdnum": [35, 35], "ccdname": ["N4", "N4"]})
    lake.write("ccds", {"release": "dr10", "camera": "decam", "night": "20130101"}, rows, RECORD)
    unknown = check(path, lake).unknown_keys
    assert unknown == [(5, (2, None)), (7, (3, "n4")), (8, (3, "N77")), (9, (4, "S29"))]
    with pytest.raises(SurveyError, match="camera 'lsst' is not known: the cameras are"):
        check(path, camera="lsst")


# --- Must show: the list of 2024-08-29 comes out of that of 2024-08-28 and the inspections ---


def test_the_survey_s_own_update_is_reproduced(
    lake: Lake, tmp_path: Path, shared_data: Path, tool: str
) -> None:
    legacypipe = shared_data / "legacypipe"
    inspections = legacypipe / "dr11_final_selected_bad_exposures.csv"
    ingest_reports(lake, [inspections], "inspection", round="dr11")
    path = tmp_path / "decam-bad_expid.txt"
    counts = {}
    for agree in ("all", "majority", "any"):
        path.write_bytes((legacypipe / "decam-bad_expid.2024-08-28.txt").read_bytes())
        additions = additions_from_inspections(lake, "dr11", agree)  # type: ignore[arg-type]
        made = make_diff(read_bad_list(path), path.name, additions, origin="inspections dr11")
        apply(tool, tmp_path, made.patch)
        counts[agree] = len(made.added)
        again = make_diff(read_bad_list(path), path.name, additions, origin="inspections dr11")
        assert again.patch == b""
    wanted = read_bad_list(legacypipe / "decam-bad_expid.2024-08-29.txt").keys()
    assert set(read_bad_list(path).keys()) == set(wanted)
    assert counts["all"] < counts["majority"] < counts["any"] == 938


def test_a_long_list_is_quick(tmp_path: Path) -> None:
    content = b"".join(b"%d expfactor=0.2  seeing=1.%d\n" % (n, n % 9) for n in range(1, 16001))
    additions = [Addition(expnum, None, "x") for expnum in range(15000, 21000)]
    start = time.process_time()
    made = diff(content, *additions, retractions=[str(n) for n in range(1, 15000, 50)])
    assert time.process_time() - start < 1.0
    assert len(made.added) == 4999
    assert len(made.retracted) == 300


def test_single_ccds_are_listed_by_the_number_by_which_the_vote_finds_them(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an exposure that a learned vote calls bad in part, 0.5 or whatever `CONFIRMS` is."""
    assert classifiers.exposures.vote.CONFIRMS == badlist.proposal.CONFIRMS == CONFIRMS
    keys = {"model": "two", "camera": "decam", "night": "20130101"}
    votes = pa.table({"expnum": [1], "class": ["Noise"], "is_bad": [False]})
    predictions = pa.table({
        "expnum": [1, 1, 1], "ccdnum": [1, 2, 3], "class": ["Noise"] * 3,
        "probability": pa.array([0.3, CONFIRMS, 0.8], pa.float32()),
    })  # fmt: skip
    lake.write("votes", keys, votes, RECORD)
    lake.write("predictions", keys, predictions, RECORD)
    listed = {}
    for confirms in (0.2, CONFIRMS, 0.7):
        monkeypatch.setattr(badlist.proposal, "CONFIRMS", confirms)
        listed[confirms] = [one.ccdname for one in additions_from_votes(lake, "two", 0.9)]
    assert listed == {0.2: ["S29", "S30", "S31"], CONFIRMS: ["S30", "S31"], 0.7: ["S31"]}
