"""A name belongs to who first signs in with it, until it is freed."""

from __future__ import annotations

import multiprocessing
import re
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from starlette.testclient import TestClient

from inspector.judgement import Judgement
from inspector.names import NAMES, RESERVED, Names
from inspector.rounds import Round
from inspector.serve import build_app
from inspector.sessions import read_secret
from lake.errors import SurveyError
from lake.store import Lake
from queries.engine import run_sql
from tests.inspector.conftest import Survey, make_round

BASE = "http://127.0.0.1:8642"


class Browser:
    """A browser, as far as the server can tell: it keeps the cookies that it is given."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.cookies: dict[str, str] = {}

    def ask(self, method: str, path: str, **options: Any) -> Any:
        cookie = "; ".join(f"{name}={text}" for name, text in self.cookies.items())
        headers = {"origin": BASE, "cookie": cookie.encode("latin-1")}
        answer = self.client.request(
            method, path, headers=headers, follow_redirects=False, **options
        )
        self.client.cookies.clear()
        for line in answer.headers.get_list("set-cookie"):
            name, _, text = line.partition(";")[0].partition("=")
            self.cookies[name] = text
            if "max-age=0" in line.lower():
                del self.cookies[name]
        return answer

    def sign_in(self, name: str, **form: str) -> Any:
        return self.ask("POST", "/sign-in", data={"name": name} | form)

    def sign_out(self) -> None:
        assert self.ask("POST", "/sign-out").headers["location"] == "/sign-in"

    @property
    def is_in(self) -> bool:
        return bool(self.ask("GET", "/inspect/list").status_code == 200)

    def own_token(self, path: str = "/inspect") -> str:
        found = re.search(r'id="own">([a-z2-7-]+)<', self.ask("GET", path).text)
        assert found is not None
        return found[1]


def problem(answer: Any) -> str:
    found = re.search(r'role="alert">([^<]+)</p>', answer.text)
    assert found is not None, answer.text
    assert "\n" not in found[1]
    return found[1]


@pytest.fixture
def round(survey: Survey) -> Round:
    return make_round(survey.lake)


@pytest.fixture
def client(survey: Survey, round: Round) -> Iterator[TestClient]:
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as made:
        yield made


def file_of(lake: Lake, name: str) -> Path:
    return lake.root / NAMES / f"{name}.json"


def test_a_name_is_of_who_first_signs_in_with_it(client: TestClient) -> None:
    ann, other = Browser(client), Browser(client)
    assert ann.sign_in("ann").status_code == 303
    ann.sign_out()
    assert not ann.is_in
    refused = other.sign_in("ann")
    assert refused.status_code == 403
    assert "the name ann is taken by who first signed in with it" in problem(refused)
    assert "survey-qa inspections release-name ann" in problem(refused)
    assert not other.is_in
    assert ann.sign_in("ann").status_code == 303
    assert ann.is_in
    assert other.sign_in("bob").status_code == 303
    assert ann.sign_in("bob").status_code == 403


def test_the_owners_token_opens_another_browser(client: TestClient) -> None:
    ann, phone, other = Browser(client), Browser(client), Browser(client)
    ann.sign_in("ann")
    token = ann.own_token()
    assert len(token.replace("-", "")) == 24
    assert ann.own_token("/inspect/grid") == token
    form = phone.sign_in("ann").text
    assert re.search(r'<input id="own" name="own" type="password"', form)
    for wrong in ("x", token[:-1], secrets.token_hex(12)):
        answer = phone.sign_in("ann", own=wrong)
        assert answer.status_code == 403
        assert "not the token of ann" in problem(answer)
        assert wrong not in problem(answer)
    let_in = phone.sign_in("ann", own=f" {token.upper().replace('-', ' ')} ")
    assert let_in.headers["location"] == "/inspect"  # no token where a log might see it
    assert phone.own_token() == token
    phone.sign_out()
    assert phone.sign_in("ann").status_code == 303  # known from now on
    assert ann.is_in
    assert other.sign_in("ann").status_code == 403


def test_the_lake_keeps_no_token_and_readers_of_parquet_see_no_names(
    client: TestClient, survey: Survey
) -> None:
    ann = Browser(client)
    ann.sign_in("ann")
    file = file_of(survey.lake, "ann")
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_text()
    assert ann.own_token() not in content
    assert ann.own_token().replace("-", "") not in content
    assert not any(text in content for text in ann.cookies.values())
    assert file.parent.name.startswith(".")
    assert run_sql(survey.lake, "select count(*) as n from exposures").to_pylist() == [{"n": 30}]


def test_a_freed_name_is_the_next_ones_and_sessions_under_it_are_void(
    client: TestClient, survey: Survey, round: Round
) -> None:
    ann, phone, other = Browser(client), Browser(client), Browser(client)
    ann.sign_in("ann")
    token = ann.own_token()
    phone.sign_in("ann", own=token)
    round.log("ann").judge(round.subjects[0].key, 0, Judgement("good"))
    assert Names(survey.lake.root).release("ann") == "ann"
    assert not ann.is_in
    assert not phone.is_in
    assert ann.ask("POST", "/inspect/undo", json={"sequence": 1}).status_code == 401
    assert ann.ask("GET", "/inspect").headers["location"] == "/sign-in"
    assert other.sign_in("ann").status_code == 303
    assert other.is_in
    assert not ann.is_in
    assert ann.sign_in("ann").status_code == 403
    assert ann.sign_in("ann", own=token).status_code == 403
    assert other.own_token() != token
    assert other.ask("GET", "/inspect/list").json()["progress"]["done"] == 1


def test_who_claims_a_freed_name_again_does_not_revive_other_sessions(
    client: TestClient, survey: Survey
) -> None:
    ann, stolen = Browser(client), Browser(client)
    ann.sign_in("ann")
    stolen.sign_in("ann", own=ann.own_token())
    Names(survey.lake.root).release("ann")
    assert ann.sign_in("ann").status_code == 303
    assert ann.is_in
    assert not stolen.is_in
    assert stolen.sign_in("ann").status_code == 403


def test_names_that_differ_in_case_alone_are_one(client: TestClient) -> None:
    ann, other = Browser(client), Browser(client)
    ann.sign_in("Ann")
    for name in ("ann", "ANN", "aNN"):
        refused = other.sign_in(name)
        assert refused.status_code == 403
        assert f"the name {name} is taken (as Ann)" in problem(refused)
    assert ann.sign_in("ANN").status_code == 303
    assert ">Ann</button>" in ann.ask("GET", "/inspect").text


def test_names_hold_in_every_round_of_the_lake(survey: Survey, round: Round) -> None:
    kept: dict[str, str] = {}
    for count, name in enumerate(["first", "second"]):
        if count:
            round = make_round(survey.lake, name)
        with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as client:
            ann, other = Browser(client), Browser(client)
            ann.cookies |= kept
            assert not ann.is_in  # a session is of one round
            assert ann.sign_in("ann").status_code == 303
            assert other.sign_in("ann").status_code == 403
            kept = ann.cookies


def test_a_lake_without_owners_gives_a_name_to_the_first_who_signs_in(
    client: TestClient, round: Round
) -> None:
    round.log("Ann").judge(round.subjects[0].key, 0, Judgement("good"))
    ann, other = Browser(client), Browser(client)
    wrong = other.sign_in("ann")
    assert wrong.status_code == 403
    assert "verdicts of Ann: sign in under that spelling" in problem(wrong)
    assert ann.sign_in("Ann").status_code == 303
    assert ann.ask("GET", "/inspect/list").json()["progress"]["done"] == 1
    assert other.sign_in("Ann").status_code == 403


def test_words_with_a_meaning_are_no_names(client: TestClient, survey: Survey) -> None:
    names = Names(survey.lake.root)
    for name in (*RESERVED, "SURVEY-QA", "Unsure", "mL"):
        with pytest.raises(SurveyError, match="meaning of its own"):
            names.claim(name, "0", "token", "browser")
        assert names.find(name) is None
    answer = Browser(client).sign_in("Merged")
    assert answer.status_code == 400
    assert "take another" in problem(answer)


DAMAGED = [b"", b"{", b"[]", b"null", b'"ann"', b"\xff\x00", b"[" * 100_000, b'{"name": "ann"}\n',
    b'{"name": 1, "id": 2, "token": 3, "browsers": [4]}', b'{"name": "bob", "id": "0", "token": "'
    b'0", "browsers": []}', b'{"name": "ann", "id": "\\u00e9", "token": "0", "browsers": []}',
    b'{"name": "ann", "id": "0", "token": "0", "browsers": 3}',
]  # fmt: skip


def test_a_damaged_file_is_told_in_one_line_and_can_be_freed(
    client: TestClient, survey: Survey
) -> None:
    ann, bob = Browser(client), Browser(client)
    ann.sign_in("ann")
    bob.sign_in("bob")
    file = file_of(survey.lake, "ann")
    whole = file.read_bytes()
    for content in (*DAMAGED, whole[:-9]):
        file.write_bytes(content)
        assert ann.ask("GET", "/inspect/list").status_code == 401, content
        answer = ann.sign_in("ann")
        assert answer.status_code == 400, content
        assert "the file of the name ann is damaged" in problem(answer)
        assert "survey-qa inspections release-name ann" in problem(answer)
        assert bob.is_in
    file.write_bytes(whole)
    assert ann.is_in  # nothing was overwritten meanwhile
    file.unlink()
    file.mkdir()
    assert "cannot be read" in problem(ann.sign_in("ann"))
    with pytest.raises(SurveyError, match="cannot be removed"):
        Names(survey.lake.root).release("ann")
    file.rmdir()
    file.write_bytes(DAMAGED[1])
    Names(survey.lake.root).release("ann")
    assert ann.sign_in("ann").status_code == 303


def test_a_lake_that_cannot_be_written_is_told_in_one_line(
    client: TestClient, survey: Survey
) -> None:
    shutil.rmtree(survey.lake.root / NAMES)
    (survey.lake.root / NAMES).write_text("in the way")
    answer = Browser(client).sign_in("ann")
    assert answer.status_code == 400
    assert NAMES in problem(answer)
    for cannot in (lambda: Names(Path("/proc")).check(), lambda: read_secret(Path("/proc"))):
        with pytest.raises(SurveyError, match="cannot write /proc/"):
            cannot()


def claim_at_once(root: Path, count: int) -> list[str]:
    """Claim a name from as many threads; return the ids of whom each was told has it."""
    barrier = Barrier(count)

    def claim(number: int) -> tuple[str, bool]:
        mine = secrets.token_hex(16)
        barrier.wait()
        owner = Names(root).claim("ann", mine, f"token of {mine}", f"browser of {mine}")
        assert owner.knows(f"browser of {mine}") == (owner.id == mine)
        return owner.id, owner.id == mine

    with ThreadPoolExecutor(count) as pool:
        told = list(pool.map(claim, range(count)))
    return [owner for owner, is_mine in told if is_mine] + sorted({owner for owner, _ in told})


def test_of_many_who_claim_a_name_at_once_one_gets_it(tmp_path: Path) -> None:
    for number in range(5):
        root = tmp_path / str(number)
        root.mkdir()
        told = claim_at_once(root, 16)
        assert len(told) == 2 and told[0] == told[1]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(4, mp_context=context) as pool:
        told = [each for part in pool.map(claim_at_once, 4 * [tmp_path], 4 * [4]) for each in part]
    assert len(set(told)) == 1
    assert len(told) == 5  # four processes agree on who has it, and one of them holds it


def test_of_many_browsers_at_once_one_gets_in(client: TestClient) -> None:
    browsers = [Browser(client) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda browser: browser.sign_in("ann"), browsers))
    assert sorted(answer.status_code for answer in answers) == [303] + 11 * [403]


def test_who_asks_twice_because_an_answer_was_lost_gets_in(client: TestClient) -> None:
    ann = Browser(client)
    ann.ask("GET", "/sign-in")
    lost = Browser(client)
    lost.cookies |= ann.cookies
    assert lost.sign_in("ann").status_code == 303
    assert ann.sign_in("ann").status_code == 303


def test_the_cookies_of_a_browser_are_out_of_reach(client: TestClient) -> None:
    answer = Browser(client).sign_in("ann")
    lines = answer.headers.get_list("set-cookie")
    assert len(lines) == 2
    assert all("httponly" in line.lower() for line in lines)
    [known] = [line for line in lines if "browser" in line]
    assert "path=/sign-in" in known.lower()
    assert "samesite=strict" in known.lower()
    for guess in ("0", 32 * "0", "!!", "\u00fc"):
        forged = Browser(client)
        forged.cookies = {line.partition("=")[0]: guess for line in lines}
        assert not forged.is_in
        assert forged.sign_in("ann").status_code == 403


def test_a_token_of_the_server_is_asked_beside_the_owners(survey: Survey, round: Round) -> None:
    app = build_app(round, survey.images, access="sesame", any_host=True, workers=1)
    with TestClient(app, base_url=BASE) as client:
        ann, other = Browser(client), Browser(client)
        assert ann.sign_in("ann", token="sesame").status_code == 303
        own = ann.own_token()
        assert other.sign_in("ann", own=own).status_code == 403
        asked = other.sign_in("ann", token="sesame")
        assert "is taken" in problem(asked)
        assert 'value="sesame"' in asked.text  # what was given need not be given again
        assert other.sign_in("ann", token="sesame", own=own).status_code == 303


def test_a_lost_secret_signs_everybody_out_and_tokens_still_hold(
    survey: Survey, round: Round
) -> None:
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as client:
        ann = Browser(client)
        ann.sign_in("ann")
        token = ann.own_token()
    (survey.lake.root / ".inspection-secret").unlink()
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as client:
        ann.client = client
        assert not ann.is_in
        assert ann.sign_in("ann").status_code == 403
        assert ann.sign_in("ann", own=token).status_code == 303
        assert 'id="own"' not in ann.ask("GET", "/inspect").text  # another token than the one told


def test_servers_that_start_at_once_have_one_secret(tmp_path: Path) -> None:
    for number in range(20):
        root = tmp_path / str(number)
        root.mkdir()
        barrier = Barrier(8)

        def read(root: Path = root, barrier: Barrier = barrier) -> bytes:
            barrier.wait()
            return read_secret(root)

        with ThreadPoolExecutor(8) as pool:
            told = [each.result() for each in [pool.submit(read) for _ in range(8)]]
        assert set(told) == {read_secret(root)}


def test_a_name_that_nobody_has_cannot_be_freed(tmp_path: Path) -> None:
    names = Names(tmp_path)
    with pytest.raises(SurveyError, match="name ann: nobody has it$"):
        names.release("ann")
    names.claim("bob", "1", "token", "browser")
    with pytest.raises(SurveyError, match="nobody has it; taken: bob$"):
        names.release("ann")
    with pytest.raises(SurveyError, match="use letters"):
        names.release("../bob")
    assert names.release("BOB") == "bob"
    assert not list((tmp_path / NAMES).glob("*.json"))


def test_a_browser_too_many_is_forgotten_and_let_in_by_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspector.names.MAX_BROWSERS", 3)
    names = Names(tmp_path)
    owner = names.claim("ann", "1", "ab-cd", "browser 0")
    for number in range(1, 5):
        owner = names.admit(owner, f"browser {number}")
    assert [owner.knows(f"browser {number}") for number in range(5)] == 2 * [False] + 3 * [True]
    assert owner.has_token("ABCD")
    assert (tmp_path / NAMES / "ann.json").stat().st_mode & 0o777 == 0o600
    names.release("ann")
    names.admit(owner, "browser 9")  # whoever has lost the name gets nothing back
    assert names.find("ann") is None
