"""What the server answers, and what it refuses: nothing but a verdict can be written."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient, httpx

from ingest.reports import ingest_reports
from inspector.closing import close
from inspector.guard import MAX_BODY, is_loopback
from inspector.keys import ACTIONS, class_keys
from inspector.rounds import Round
from inspector.serve import IMAGES, build_app, serve
from inspector.sessions import read_secret
from lake.errors import SurveyError
from lake.vocabulary import Vocabulary
from tests.inspector.conftest import Survey, make_round

BASE = "http://127.0.0.1:8642"


class Page:
    """A browser of one inspector, as far as the server can tell."""

    def __init__(self, client: TestClient, name: str, token: str = "") -> None:
        self.client = client
        answer = client.post(
            "/sign-in",
            data={"name": name, "token": token},
            headers={"origin": BASE},
            follow_redirects=False,
        )
        self.signed_in = answer.status_code == 303
        self.status = answer.status_code
        self.cookies = dict(answer.cookies)
        client.cookies.clear()
        html = self.get("/inspect").text if self.signed_in else ""
        found = re.search(r'data-token="([0-9a-f]+)"', html)
        self.token = found[1] if found else ""

    def get(self, path: str, **options: object):  # type: ignore[no-untyped-def]
        return self.client.get(path, headers=self._cookie(), **options)

    def post(self, path: str, body: object, **headers: str):  # type: ignore[no-untyped-def]
        sent = {"origin": BASE, "x-session-token": self.token, "content-type": "application/json"}
        sent |= self._cookie() | {name.replace("_", "-"): text for name, text in headers.items()}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name: text for name, text in sent.items() if text != "-"}
        return self.client.post(path, content=content, headers=sent)

    def judge(self, key: str, version: int = 0, mode: str = "inspect", **said: object):  # type: ignore[no-untyped-def]
        body = {"subject": key, "version": version, "verdict": "bad", "class": "PSF"} | said
        return self.post(f"/{mode}/verdict", body)

    def _cookie(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={text}" for name, text in self.cookies.items())}


@pytest.fixture
def round(survey: Survey) -> Round:
    return make_round(survey.lake)


@pytest.fixture
def client(survey: Survey, round: Round) -> Iterator[TestClient]:
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as made:
        yield made


@pytest.fixture
def page(client: TestClient) -> Page:
    return Page(client, "ann")


def test_a_verdict_is_on_disk_when_it_is_answered(page: Page, round: Round) -> None:
    key = round.subjects[0].key
    answer = page.judge(key, quality=2, comment=" a\tb\n")
    assert answer.status_code == 200
    assert answer.json()["entry"]["version"] == 1
    assert answer.json()["progress"] | {"seconds": 0} == {
        "done": 1,
        "total": 30,
        "seconds": 0,
        "sequence": 1,
        "closed": False,
    }
    saved = round.log("ann").entry(key)
    assert saved.judgement is not None
    assert (saved.judgement.class_name, saved.judgement.comment) == ("PSF", " a\tb\n")
    assert page.get(f"/inspect/panel/{key}").text.count("PSF") >= 1
    listing = page.get("/inspect/list").json()
    assert [judged for _, judged in listing["subjects"]] == [True] + 29 * [False]


def test_two_tabs_conflict_and_undo_goes_back(page: Page, round: Round) -> None:
    key = round.subjects[0].key
    assert page.judge(key).status_code == 200
    assert page.judge(key).status_code == 200  # the same again: an answer that was lost
    conflict = page.judge(key, verdict="good")
    assert conflict.status_code == 409
    assert conflict.json()["entry"]["judgement"]["verdict"] == "bad"
    assert page.judge(key, version=1, verdict="good").status_code == 200
    assert page.post("/inspect/undo", {"sequence": 1}).status_code == 409
    undone = page.post("/inspect/undo", {"sequence": 2}).json()
    assert undone["entry"]["judgement"]["verdict"] == "bad"
    assert page.post("/inspect/undo", {"sequence": 3}).json()["entry"]["judgement"] is None
    assert page.post("/inspect/undo", {"sequence": 4}).json()["subject"] is None


def test_inspectors_are_blind_until_the_round_is_closed(
    client: TestClient, page: Page, round: Round
) -> None:
    bob = Page(client, "bob")
    key = round.subjects[0].key
    page.judge(key, comment="only ann knows")
    bob.judge(key, verdict="good")
    for path in (f"/inspect/panel/{key}", "/inspect/grid", "/inspect/list", "/inspect"):
        assert "only ann knows" not in bob.get(path).text
    assert bob.get("/merge", follow_redirects=False).status_code == 303
    assert bob.get("/merge/list").json()["subjects"] == []
    assert bob.judge(key, mode="merge").status_code == 423
    assert bob.post("/merge/undo", {"sequence": 0}).status_code == 423
    close(round, unfinished=True)
    assert "only ann knows" in bob.get(f"/inspect/panel/{key}").text
    assert bob.judge(key, version=1).status_code == 423
    assert [name for name, _ in bob.get("/merge/list").json()["subjects"]] == [key]
    assert bob.judge(key, mode="merge", verdict="unsure").status_code == 200
    assert round.settlements().entry(key).by == "bob"


def test_images_come_and_unknown_ones_do_not(page: Page, round: Round) -> None:
    key = round.subjects[0].key
    image = page.get(f"/image/{key}/zscale/mosaic")
    assert image.headers["content-type"] == "image/jpeg"
    assert "max-age" in image.headers["cache-control"]
    assert page.get(f"/image/{key}/zscale/partial").status_code == 200
    assert page.get(f"/image/{key}/arcsinh/whole/28").status_code == 200
    for path in ("zscale/whole/99", "sepia/mosaic", "zscale/whole/-1", "zscale/whole/9" + 40 * "9"):
        assert page.get(f"/image/{key}/{path}").status_code == 404
    assert page.get("/image/decam-1-0/zscale/mosaic").status_code == 404
    assert page.get("/image/..%2f..%2fsecret/zscale/mosaic").status_code == 404


def test_neighbours_are_the_exposures_that_look_alike(page: Page, round: Round) -> None:
    key = round.subjects[0].key
    deadline = time.monotonic() + 10
    while "reading embeddings" in page.get(f"/inspect/panel/{key}").text:
        assert time.monotonic() < deadline
    found = re.findall(
        r"/image/decam-(\d+)-0/zscale/thumbnail", page.get(f"/inspect/panel/{key}").text
    )
    assert len(found) == 4
    is_good = {str(s.expnum): s.class_name == "good" for s in round.subjects}
    assert {is_good[number] for number in found} == {round.subjects[0].class_name == "good"}
    assert page.get(f"/image/decam-{found[0]}-0/zscale/thumbnail").status_code == 200


def test_sorting_and_filtering(page: Page, round: Round) -> None:
    def keys(query: str) -> list[str]:
        return [key for key, _ in page.get(f"/inspect/list?{query}").json()["subjects"]]

    everything = [subject.key for subject in round.subjects]
    assert keys("") == everything
    by_class = sorted(round.subjects, key=lambda s: str(s.class_name))
    first = str(by_class[0].class_name)
    assert keys(f"class={first}") == [s.key for s in by_class if s.class_name == first]
    assert sorted(keys("sort=seeing")) == sorted(everything)
    assert keys("sort=class") == [subject.key for subject in by_class]
    page.judge(everything[3], verdict="unsure")
    assert keys("show=unsure") == [everything[3]]
    assert everything[3] not in keys("show=open")
    assert keys("show=<script>&sort=%00") == everything
    assert len(keys("band=g")) + len(keys("band=r")) + len(keys("band=z")) == 30


def test_the_grid_opens_at_the_page_of_a_subject(
    page: Page, round: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.server.PAGE", 10)
    place = r'data-page="(\d+)" data-pages="3"'

    def opened(query: str) -> str:
        found = re.search(place, page.get(f"/inspect/grid?{query}").text)
        assert found is not None
        return found[1]

    assert opened(f"at={round.subjects[14].key}") == "2"
    assert opened(f"at={round.subjects[14].key}&page=3") == "3"
    assert opened("at=decam-1-0") == "1"


def test_text_of_others_is_escaped(survey: Survey, round: Round) -> None:
    subject = round.subjects[0]
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    path = survey.directory / "evil.txt"
    path.write_text(f"{subject.expnum} {evil}\n")
    ingest_reports(survey.lake, [path], "decals")
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as client:
        page = Page(client, "ann")
        page.judge(subject.key, comment=evil)
        for path in (f"/inspect/panel/{subject.key}", "/inspect/grid", "/inspect"):
            html = page.get(path).text
            assert "<script>alert" not in html
            assert "<img src=x" not in html
        panel = page.get(f"/inspect/panel/{subject.key}").text
        assert "&lt;script&gt;alert(1)" in panel


def test_other_sites_and_strangers_get_nothing(
    client: TestClient, page: Page, round: Round
) -> None:
    key = round.subjects[0].key
    body = {"subject": key, "version": 0, "verdict": "bad"}
    refused = [
        page.post("/inspect/verdict", body, origin="http://evil.example"),
        page.post("/inspect/verdict", body, origin="null"),
        page.post("/inspect/verdict", body, origin="-"),
        page.post("/inspect/verdict", body, origin="http://127.0.0.1:9999"),
        page.post("/inspect/verdict", body, origin="https://127.0.0.1:8642.evil.example"),
        page.post("/inspect/verdict", body, x_session_token="-"),
        page.post("/inspect/verdict", body, x_session_token=64 * "0"),
        page.post("/inspect/verdict", body, x_session_token="%FC"),
        page.post("/inspect/verdict", body, cookie="-"),
        page.post("/inspect/undo", {"sequence": 0}, origin="http://evil.example"),
    ]
    assert {answer.status_code for answer in refused} <= {401, 403}
    assert page.post("/inspect/verdict", body, host="evil.example").status_code == 400
    assert client.get("/sign-in", headers={"host": "rebound.example:8642"}).status_code == 400
    assert client.get(f"/image/{key}/zscale/mosaic").status_code == 401
    assert client.get(f"/inspect/panel/{key}").status_code == 401
    assert client.get("/inspect", follow_redirects=False).headers["location"] == "/sign-in"
    assert client.put("/inspect/verdict").status_code == 405
    forged = dict.fromkeys(page.cookies, "ann!0000000000000000!" + 64 * "0")
    assert client.get("/inspect/list", cookies=forged).status_code == 401
    assert round.log("ann").sequence == 0
    headers = client.get("/sign-in").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"


def test_bodies_that_make_no_sense_change_nothing(page: Page, round: Round) -> None:
    key = round.subjects[0].key
    good = {"subject": key, "version": 0, "verdict": "bad", "class": "PSF", "quality": 3}
    wrong = [
        {"verdict": "awful"}, {"class": "<b>"}, {"class": ["PSF"]}, {"quality": 5},
        {"quality": True}, {"quality": "3"}, {"version": -1}, {"version": "0"}, {"version": 1.0},
        {"subject": "../../etc/passwd"}, {"subject": None}, {"comment": 3000 * "x"},
        {"comment": {"a": 1}}, {"subject": "decam-1-0"}, {"version": None}, {"verdict": ["bad"]},
    ]  # fmt: skip
    for change in wrong:
        assert page.post("/inspect/verdict", good | change).status_code == 400, change
    raw = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 15_000, b'{"subject":"\\ud800"}']
    for body in raw:
        assert page.post("/inspect/verdict", body).status_code == 400, body[:20]
    assert page.post("/inspect/verdict", good, content_type="text/plain").status_code == 400
    huge = json.dumps(good | {"comment": MAX_BODY * "x"}).encode()
    assert page.post("/inspect/verdict", huge).status_code == 413
    assert page.post("/inspect/verdict", huge, content_length="-").status_code == 413
    assert round.log("ann").sequence == 0
    assert page.judge(key).status_code == 200


PIECES = [
    "..", ".", "%2e%2e", "%2f", "%00", "etc", "passwd", "inspect", "merge", "panel", "image",
    "zscale", "mosaic", "partial", "whole", "thumbnail", "grid", "list", "static", "page.css",
    "verdict", "undo", "decam-1-0", "\u00e9", "%ff", "%", "a" * 300, "-1", "0", "?sort=%ff&page=-9",
    "grid?page=99999999999", "sign-in", "sign-out", "//", "\\", "..%5c", "list?show[]=1", "{key}",
]  # fmt: skip


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=6),
    body=st.none() | st.binary(max_size=60) | st.dictionaries(
        st.sampled_from(["subject", "version", "verdict", "class", "quality", "sequence"]),
        st.none() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2),
        max_size=6,
    ),
)  # fmt: skip
def test_fuzzed_requests_change_nothing_and_break_nothing(
    page: Page, round: Round, pieces: list[str], body: object
) -> None:
    before = _snapshot(round.lake.root)
    path = "/" + "/".join(pieces)
    try:
        answers = [page.get(path, follow_redirects=False)]
        if body is not None:
            answers.append(page.post(path, body))
    except (httpx.InvalidURL, ValueError):  # the client itself refuses to send it
        return
    for answer in answers:
        assert answer.status_code < 500, (path, answer.text)
        assert "root:" not in answer.text
    assert _snapshot(round.lake.root) == before


def _snapshot(root: Path) -> dict[str, int]:
    """Size of every file of a lake, drawn images left out."""
    return {
        str(path.relative_to(root)): path.stat().st_size
        for path in root.rglob("*")
        if path.is_file() and IMAGES not in path.parts and not path.name.endswith("_verdicts.jsonl")
    } | {str(path): path.stat().st_size for path in root.rglob("_verdicts.jsonl")}


def test_a_storm_of_image_requests_does_not_slow_saving(page: Page, round: Round) -> None:
    keys = [subject.key for subject in round.subjects]
    with ThreadPoolExecutor(24) as storm:
        asked = [
            storm.submit(page.get, f"/image/{key}/{stretch}/whole/{number}")
            for stretch in ("zscale", "arcsinh")
            for key in keys[:12]
            for number in range(1, 12)
        ]
        slowest = 0.0
        for key in keys[:10]:
            start = time.monotonic()
            assert page.judge(key).status_code == 200
            slowest = max(slowest, time.monotonic() - start)
        for each in asked:
            each.cancel()
    assert slowest < 2
    assert round.log("ann").sequence == 10


def test_beyond_the_loopback_a_token_is_needed(survey: Survey, round: Round) -> None:
    app = build_app(round, survey.images, access="sesame", any_host=True, workers=1)
    base = "http://node7.example:8642"
    with TestClient(app, base_url=base) as client:
        headers = {"origin": base}
        for token in ("", "wrong", "sesame\u00fc"):
            answer = client.post("/sign-in", data={"name": "a", "token": token}, headers=headers)
            assert answer.status_code == 403
        assert client.get("/?token=sesame", follow_redirects=False).headers["location"] == (
            "/sign-in?token=sesame"
        )
        assert 'value="sesame"' in client.get("/sign-in?token=sesame").text
        form = {"name": "ann", "token": "sesame"}
        assert client.post("/sign-in", data=form, headers=headers).status_code == 200
        assert client.get("/inspect/list").status_code == 200


@pytest.mark.parametrize("name", ["", "../x", "a b", "a" * 65, "<b>", "a!b", "."])
def test_names_that_cannot_stand(client: TestClient, name: str) -> None:
    assert Page(client, name).status == 400


def test_a_session_outlives_a_restart(survey: Survey, round: Round) -> None:
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as client:
        page = Page(client, "ann")
        page.judge(round.subjects[0].key)
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as client:
        page.client = client
        assert page.judge(round.subjects[1].key).json()["progress"]["done"] == 2
    assert (survey.lake.root / ".inspection-secret").stat().st_mode & 0o077 == 0
    assert len(read_secret(survey.lake.root)) == 32


def test_what_cannot_be_served_is_told(survey: Survey, round: Round) -> None:
    with pytest.raises(SurveyError, match="no such folder"):
        build_app(round, survey.images / "none")
    with pytest.raises(SurveyError, match="model 'x' has no predictions"):
        build_app(round, survey.images, model="x")
    with pytest.raises(SurveyError, match="cannot serve on 203.0.113.1:1"):
        serve(round, survey.images, host="203.0.113.1", port=1, say=lambda _: None)
    assert is_loopback("127.8.0.1") and is_loopback("::1") and is_loopback("LocalHost")
    assert not is_loopback("0.0.0.0") and not is_loopback("example.org")


def test_every_class_has_a_key_of_its_own() -> None:
    classes = [name for name in Vocabulary.load().classes if name != "good"]
    keys = class_keys(classes)
    assert sorted(keys.values()) == sorted(classes)
    assert not set(keys) & set(ACTIONS)
    assert keys["1"] == "Saturated"
    assert keys["o"] == "Out_of_focus"
