"""A round from the first key to the change of the list, in a real browser.

Skipped where there is no Chromium. The pictures of the README are taken here, when
``SURVEY_QA_SCREENSHOTS`` names a folder for them.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inspector.facts import Facts
from inspector.judgement import Entry
from inspector.rounds import Round
from tests.inspector.conftest import MODEL, Survey, make_round

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).resolve().parent.parent.parent
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
#: Milliseconds that the page may take for anything, on a busy machine.
PATIENCE = 30_000

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


class Server:
    """The command, as a person runs it."""

    def __init__(self, survey: Survey, round: str) -> None:
        self.survey = survey
        self.round = round
        self.port = "0"
        self.process: subprocess.Popen[str] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli.main", "--lake", str(self.survey.lake.root), *arguments]

    def start(self) -> str:
        """Start and return the page's address; the same one every time."""
        images = str(self.survey.images)
        options = ["--images", images, "--port", self.port, "--workers", "1"]
        self.process = subprocess.Popen(
            self.command("inspect", "--round", self.round, *options),
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"open http://127\.0\.0\.1:(\d+)/", line):
                self.port = found[1]
                return f"http://127.0.0.1:{self.port}"
        raise AssertionError("the server has not started")

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.process = None

    def run(self, *arguments: str) -> str:
        result = subprocess.run(
            self.command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def server(survey: Survey) -> Iterator[Server]:
    made = Server(survey, "first")
    yield made
    made.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        launched = play.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open the page as an inspector, in a window of 1280 x 800; errors of scripts fail the test."""
    contexts, errors = [], []

    def opened(address: str, name: str, wait: bool = True) -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#name:focus")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        if wait:
            shown(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def shown(page: Any, what: str = "") -> None:
    """Wait until the subject on screen has its image."""
    page.wait_for_function(
        """(what) => {
            const at = document.body.dataset.at;
            const shown = document.getElementById("sky")?.dataset.shown ?? "";
            return at && shown.startsWith(at) && shown.includes(what);
        }""",
        arg=what,
    )


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def judge(page: Any, *keys: str) -> None:
    """Press keys, the last of which gives the verdict, and wait until it is saved."""
    before = page.evaluate("document.getElementById('progress').textContent")
    press(page, *keys)
    page.wait_for_function(
        "(before) => document.getElementById('progress').textContent !== before"
        " && document.getElementById('saved').textContent.startsWith('saved')",
        arg=before,
    )


def picture(page: Any, name: str) -> None:
    folder = os.environ.get("SURVEY_QA_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(1500)
        page.screenshot(path=str(Path(folder) / f"{name}.jpg"), quality=82)


def done(page: Any) -> str:
    return str(page.text_content("#progress")).partition(" /")[0]


def said(round: Round, who: str, place: int) -> Entry:
    return round.log(who).entry(round.subjects[place].key)


def test_thirty_exposures_with_the_keyboard_a_kill_in_the_middle_and_the_lists_change(
    server: Server, open_page: Callable[..., Any]
) -> None:
    round = make_round(server.survey.lake)
    address = server.start()
    page = open_page(address, "ann")
    page.wait_for_selector(".neighbours img")
    for number in range(12):
        judge(page, "b" if number % 3 == 0 else "g")
    judge(page, "2", "r", "c", *"thin", "Enter", "b")
    entry = said(round, "ann", 12).judgement
    assert entry is not None
    assert (entry.class_name, entry.quality, entry.comment) == ("Clouds_transparency", 3, "thin")
    press(page, "z")
    page.wait_for_selector("#saved:has-text('undone')")
    assert said(round, "ann", 12).judgement is None
    judge(page, "u")
    page.reload()
    shown(page)
    assert done(page) == "13"
    server.kill()
    press(page, "g")
    page.wait_for_selector("#saved:has-text('trying again')")
    assert server.start() == address
    page.wait_for_selector("#saved.ok")
    assert done(page) == "14"
    page.goto(address + "/inspect/grid?show=open")
    assert page.locator(".card").count() == 16
    for _ in range(16):
        judge(page, "g")
    assert page.text_content("#progress") == "30 / 30 · all done"
    assert len(round.log("ann").entries()) == 30

    other = open_page(address, "bob")
    assert done(other) == "0"
    press(other, "l")
    other.wait_for_selector(".card:focus")
    for number in range(30):
        judge(other, "8" if number % 6 == 0 else "g")
    picture(other, "grid")
    server.run("inspections", "close", "first")
    other.goto(address + "/merge")
    shown(other)
    # Ann's 0, 3, 6, 9, 12 against Bob's 0, 6, 12, 18, 24; where both say bad, classes differ.
    assert other.text_content("#progress").startswith("0 / 7")
    other.wait_for_selector(".others .bad")
    picture(other, "merge")
    judge(other, "8", "b")
    judge(other, "g")
    rows = server.run("inspections", "merge", "first", "--rule", "any", "--format", "csv")
    assert '"ann"' in rows and '"bob"' in rows
    path = server.survey.directory / "bad_expid.txt"
    path.write_text("1 old\n")
    diff = server.run("bad-expid", "diff", "--against", str(path), "--inspections", "first")
    added = [line[1:] for line in diff.splitlines() if re.match(r"\+\d", line)]
    numbers = [round.subjects[place].expnum for place in (0, 6, 9, 12, 18, 24)]
    assert [int(line.split()[0]) for line in added] == sorted(numbers)
    assert "Noise" in added[0]


def test_the_next_image_is_there_when_it_was_fetched_ahead(
    server: Server, open_page: Callable[..., Any]
) -> None:
    make_round(server.survey.lake)
    page = open_page(server.start(), "ann")
    took = []
    for _ in range(5):
        page.wait_for_timeout(1500)
        press(page, "ArrowRight")
        shown(page)
        took.append(int(page.evaluate("document.getElementById('sky').dataset.milliseconds")))
    assert sorted(took)[2] < 150


def test_a_ccd_at_full_resolution_stretches_zoom_and_marks(
    server: Server, open_page: Callable[..., Any]
) -> None:
    round = make_round(server.survey.lake)
    bad = next(subject.key for subject in round.subjects if subject.class_name == "Out_of_focus")
    address = server.start()
    page = open_page(address, "ann")
    page.goto(f"{address}/inspect?at={bad}")
    shown(page, bad)
    assert page.locator("#marks .ccd.bad").count() > 0
    page.wait_for_selector(".neighbours img")
    picture(page, "one")
    press(page, "s")
    shown(page, "arcsinh")
    press(page, "x")
    shown(page, "whole")
    picture(page, "ccd")
    first = page.evaluate("document.getElementById('sky').dataset.shown")
    press(page, "ArrowRight")
    page.wait_for_function(
        "(first) => document.getElementById('sky').dataset.shown !== first", arg=first
    )
    box = page.get_attribute("#sky", "viewBox")
    press(page, "+", "Shift+ArrowLeft")
    assert page.get_attribute("#sky", "viewBox") != box
    press(page, "Escape")
    shown(page, "arcsinh")
    page.wait_for_selector("#sky:not(.whole)")
    page.mouse.click(400, 400)
    shown(page, "whole")
    press(page, "Escape", "m")
    page.wait_for_selector("#sky.unmarked")
    press(page, "?")
    page.wait_for_selector("#help[open]")
    press(page, "g", "Escape")
    assert round.log("ann").sequence == 0


def test_two_tabs_see_each_other_and_nothing_needs_a_scroll_bar(
    server: Server, open_page: Callable[..., Any]
) -> None:
    round = make_round(server.survey.lake)
    address = server.start()
    page = open_page(address, "ann")
    tab = page.context.new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(address)
    shown(tab)
    judge(page, "g")
    press(tab, "b")
    tab.wait_for_selector("#conflict:not([hidden])")
    entry = said(round, "ann", 0).judgement
    assert entry is not None and entry.verdict == "good"
    press(tab, "Enter")  # keeps the other
    tab.wait_for_selector("#conflict[hidden]", state="attached")
    tab.wait_for_selector("[data-verdict=good][aria-pressed=true]")
    assert done(tab) == "1"
    assert said(round, "ann", 0).version == 1
    press(page, "ArrowLeft")
    shown(page, round.subjects[0].key)
    press(page, "u")
    page.wait_for_selector("#saved:has-text('unsure')")
    press(tab, "b")
    tab.click("#conflict button:has-text('save mine')")
    tab.wait_for_selector("#saved.ok")
    entry = said(round, "ann", 0).judgement
    assert entry is not None and entry.verdict == "bad"
    overflow = "document.documentElement.scrollHeight > 800 || document.body.scrollWidth > 1280"
    assert not tab.evaluate(overflow)
    assert tab.locator("#undo").bounding_box()["y"] < 780
    assert not [each for each in tab.context.cookies() if not each["httpOnly"]]
    tab.click("button.who")
    tab.wait_for_selector("#name:focus")
    assert [each["path"] for each in tab.context.cookies()] == ["/sign-in"]  # no session


def test_a_name_is_kept_for_its_owner_until_it_is_freed(
    server: Server, open_page: Callable[..., Any]
) -> None:
    make_round(server.survey.lake)
    address = server.start()
    page = open_page(address, "ann")
    page.click("button.who")
    page.wait_for_selector("#name:focus")
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    shown(page)
    press(page, "?")
    token = page.inner_text("#help[open] #own")
    picture(page, "help")
    press(page, "Escape")

    other = open_page(address, "ann", wait=False)
    other.wait_for_selector("[role=alert]:has-text('release-name ann')")
    picture(other, "taken")
    assert other.input_value("#name") == "ann"
    other.wait_for_selector("#own:focus")
    other.keyboard.type(token)
    other.keyboard.press("Enter")
    shown(other)
    assert other.inner_text("button.who") == "ann"
    assert token not in other.url
    judge(other, "g")

    server.run("inspections", "release-name", "ann")
    press(page, "g")
    page.wait_for_selector("#saved:has-text('signed out')")
    page.reload()
    page.wait_for_selector("#name:focus")
    third = open_page(address, "ann")
    assert done(third) == "1"
    page.keyboard.type("ann")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=alert]:has-text('is taken')")


def test_the_grid_opens_where_one_is_and_goes_back_there(
    server: Server, open_page: Callable[..., Any]
) -> None:
    round = make_round(server.survey.lake)
    address = server.start()
    page = open_page(address, "ann")
    here = round.subjects[7].key
    page.goto(f"{address}/inspect?at={here}")
    shown(page, here)
    press(page, "l")
    page.wait_for_selector(f".card:focus[data-key={here}]")
    press(page, "ArrowRight")
    page.click("nav a:has-text('One')")
    shown(page, round.subjects[8].key)


def test_a_phone_shows_the_image_and_needs_no_keyboard(
    server: Server, open_page: Callable[..., Any]
) -> None:
    round = make_round(server.survey.lake)
    page = open_page(server.start(), "ann")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/inspect", "/inspect/grid"):
        page.goto(page.url.partition("/inspect")[0] + path)
        page.wait_for_selector("#progress:has-text('/')")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.click("nav a:has-text('One')")
    shown(page)
    assert page.locator("#stage").bounding_box()["width"] == 390
    page.click("#next")
    shown(page, round.subjects[1].key)
    verdict = page.locator("[data-verdict=bad]")
    assert verdict.bounding_box()["y"] < 844
    verdict.click()
    page.wait_for_selector("#saved.ok")
    assert said(round, "ann", 1).judgement is not None
    shown(page, round.subjects[2].key)
    page.click("#previous")
    shown(page, round.subjects[1].key)


def test_a_missing_image_is_told_and_judged_all_the_same(
    server: Server, open_page: Callable[..., Any]
) -> None:
    round = make_round(server.survey.lake, count=2)
    layout = Facts(server.survey.lake).layout(round.subjects[0])
    assert layout is not None
    missing = layout.places[0].file
    images = server.survey.directory / "images"
    shutil.copytree(server.survey.images, images, ignore=lambda _, names: {Path(missing).name})
    server.survey = replace(server.survey, images=images)
    address = server.start()
    page = open_page(address, "ann", wait=False)
    page.wait_for_selector("#image-state:has-text('no such file in the image folder')")
    judge(page, "u")
    page.goto(address + "/inspect/grid")
    # A picture that says why, whatever the status it came with; no broken-image sign.
    page.wait_for_function("() => [...document.images].every((each) => each.naturalWidth > 0)")
    picture(page, "undrawable")
    lit = page.evaluate(
        """() => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [320, 286];
            const context = canvas.getContext("2d");
            context.drawImage(document.querySelector(".card img"), 0, 0);
            const { data } = context.getImageData(0, 0, 320, 286);
            return data.filter((value, index) => index % 4 === 0 && value > 100).length;
        }"""
    )
    assert 1000 < lit < 0.5 * 320 * 286
    told = page.goto(f"{address}/image/{round.subjects[0].key}/zscale/mosaic")
    assert told.status == 404
    text = page.text_content("svg")
    assert "no image" in text and "no such file" in text
    within = "() => [...document.querySelectorAll('text, tspan')].every((each) => {"
    within += (
        " const box = each.getBoundingClientRect(); return box.right < 320 && box.bottom < 286; })"
    )
    assert page.evaluate(within)


def test_the_model_that_made_the_round_is_shown(
    server: Server, open_page: Callable[..., Any]
) -> None:
    listed = server.run("inspections", "status", "--format", "csv")
    assert listed.count("\n") == 1
    server.kill()
    options = ["--images", str(server.survey.images), "--port", "0", "--model", MODEL]
    command = server.command("inspect", "--round", "made", *options)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    server.process = process
    assert process.stderr is not None
    lines = [process.stderr.readline(), process.stderr.readline()]
    [partition] = server.survey.lake.partitions("votes")
    votes = server.survey.lake.read("votes", dict(partition.keys)).to_pylist()
    bad = [vote["class"].replace("_", " ") for vote in votes if vote["is_bad"]]
    assert f"{len(bad)} frozen" in lines[0]
    found = re.search(r"http://\S+", lines[1])
    assert found is not None
    page = open_page(found[0], "ann")
    assert "voted bad by made-up" in page.text_content("#panel")
    assert page.locator("[data-class][aria-pressed=true]").inner_text().endswith(bad[0])
