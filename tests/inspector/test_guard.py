"""What every request passes: odd bytes are refused, and what goes wrong is one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from inspector.guard import MAX_BODY, Guard
from inspector.rounds import Round
from inspector.serve import build_app
from tests.inspector.conftest import Survey, make_round
from tests.inspector.test_server import PIECES

BASE = "http://127.0.0.1:8642"
HOME = {b"host": b"127.0.0.1:8642", b"origin": BASE.encode()}


def scope(path: str, method: str = "GET", query: bytes = b"", **more: Any) -> Scope:
    """Return a request as a server hands it on: headers are bytes, whatever they hold."""
    headers = HOME | more.pop("headers", {})
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "replace"),
        "query_string": query,
        "root_path": "",
        "headers": list(headers.items()),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8642),
        "state": {},
    } | more


def ask(client: TestClient, app: Any, request: Scope, body: bytes = b"") -> tuple[int, bytes]:
    """Return status and body of the answer to a request; the client lends its event loop."""
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    answered: list[Message] = []

    async def receive() -> Message:
        return given.pop() if given else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        answered.append(message)

    assert client.portal is not None
    client.portal.call(app, request, receive, send)
    content = b"".join(each.get("body", b"") for each in answered[1:])
    return answered[0]["status"], content


@pytest.fixture
def round(survey: Survey) -> Round:
    return make_round(survey.lake)


@pytest.fixture
def client(survey: Survey, round: Round) -> Iterator[TestClient]:
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as made:
        yield made


@pytest.fixture
def cookie(client: TestClient) -> bytes:
    answer = client.post("/sign-in", data={"name": "ann"}, headers={"origin": BASE})
    assert answer.status_code == 200
    return "; ".join(f"{name}={text}" for name, text in client.cookies.items()).encode()


def test_what_a_handler_raises_is_logged_and_answered_in_one_line(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("a detail of ours")

    with caplog.at_level(logging.ERROR):
        status, body = ask(client, Guard(broken, None), scope("/inspect", query=b"token=sesame"))
    assert status == 500
    assert body == b"this went wrong; the log of the server says why"
    [record] = caplog.records
    assert record.exc_info is not None
    assert "/inspect" in caplog.text and "ZeroDivisionError" in caplog.text
    assert "sesame" not in caplog.text


def test_half_an_answer_is_not_ended_as_if_it_were_whole(client: TestClient) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(client, Guard(broken, None), scope("/inspect"))


def test_who_goes_away_is_no_error(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    async def nobody(_: Any = None) -> Message:
        raise AssertionError("there is nobody to answer")

    assert client.portal is not None
    client.portal.call(Guard(left, None), scope("/inspect"), nobody, nobody)
    assert not caplog.records


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"\xb2", 400), (b"-1", 400), (b"1e3", 400), (b"", 400), (b"+5", 400), (b"0x5", 400),
        (b"%d" % (MAX_BODY + 1), 413), (30 * b"0" + b"999999", 413), (5000 * b"9", 413),
        (30 * b"0" + b"9", 200), (b"0", 200),
    ],
)  # fmt: skip
def test_a_length_is_a_number(client: TestClient, length: bytes, status: int) -> None:
    request = scope("/sign-in", headers={b"content-length": length})
    assert ask(client, client.app, request)[0] == status


@pytest.mark.parametrize(
    "host",
    [b"", b"[", b"[::1", b"a:b", b"a:99999999", b"a/b", b"a?b", b"a#b", b"u@a", b":80", b"//a"],
)
def test_a_host_that_is_none_is_refused_also_by_servers_under_any_name(
    survey: Survey, round: Round, host: bytes
) -> None:
    app = build_app(round, survey.images, access="sesame", any_host=True, workers=1)
    with TestClient(app, base_url=BASE) as client:
        request = scope("/sign-in", headers={b"host": host})
        assert ask(client, app, request)[0] == 400
        assert ask(client, app, scope("/sign-in", headers={b"host": b"node7.example"}))[0] == 200


def test_this_machine_is_known_by_all_its_own_addresses(client: TestClient) -> None:
    for host in (b"localhost", b"127.0.0.2:80", b"[::1]:8642", b"LOCALHOST"):
        assert ask(client, client.app, scope("/sign-in", headers={b"host": host}))[0] == 200
    for host in (b"evil.example", b"127.0.0.1.evil.example", b"10.0.0.1", b"[::2]"):
        assert ask(client, client.app, scope("/sign-in", headers={b"host": host}))[0] == 400


def test_a_damaged_table_is_told(
    client: TestClient, cookie: bytes, survey: Survey, round: Round
) -> None:
    [partition] = survey.lake.partitions("predictions")
    partition.path.write_bytes(b"damaged")
    key = round.subjects[0].key
    request = scope(f"/inspect/panel/{key}", headers={b"cookie": cookie})
    status, body = ask(client, client.app, request)
    assert status == 503
    assert b"not a readable Parquet file" in body and b"\n" not in body
    for each in survey.lake.partitions("ccds"):
        each.path.write_bytes(b"damaged")
    key = round.subjects[1].key
    with TestClient(build_app(round, survey.images, workers=1), base_url=BASE) as other:
        request = scope(f"/image/{key}/zscale/mosaic", headers={b"cookie": cookie})
        status, body = ask(other, other.app, request)
    assert status == 503
    assert body.startswith(b"<svg")


ODD = st.sampled_from([
    b"\xff", b"\x00", b"%00", b"%ff", b"%", b"..", b"//", b"\\", 5000 * b"9", b"-1", 3000 * b"a",
    b"[", b"]", b"://", b"@", b"\xc3\xa9", b"'\"<>", b"\r\n", b"\t", b"!", b"=;=", b"\xed\xa0\x80",
    b"{}", b"bytes=0-", b"bytes=-" + 30 * b"9", b"bytes=" + 5000 * b"9" + b"-", b"bytes=0-9,3-1",
    b"Thu, 99 Jan 9999 99:99:99 GMT", b"127.0.0.1:x", b"null", b"",
]) | st.binary(max_size=12)  # fmt: skip
HEADERS = st.sampled_from([
    b"cookie", b"host", b"origin", b"range", b"if-range", b"if-none-match", b"if-modified-since",
    b"content-length", b"content-type", b"accept", b"x-session-token", b"transfer-encoding",
    b"x-forwarded-host", b"connection", b"upgrade",
])  # fmt: skip
QUERY = st.lists(
    st.tuples(
        st.sampled_from([b"sort", b"show", b"class", b"band", b"page", b"at", b"token", b"text"]),
        ODD,
    ),
    max_size=3,
)
PATHS = st.sampled_from([
    "/", "/sign-in", "/sign-out", "/inspect", "/merge", "/inspect/grid", "/merge/list", "/x/",
    "/inspect/verdict", "/inspect/undo", "/static/page.css", "/static", "/static/../guard.py",
    "/inspect/panel/{key}", "/image/{key}/zscale/whole/28", "/image/{key}/zscale/thumbnail",
]) | st.builds(
    "/{}{}".format,
    st.sampled_from(PIECES).map(lambda piece: piece.replace("%", "\ufffd")),
    ODD.map(lambda odd: odd.decode("utf-8", "replace")),
)  # fmt: skip
VALUES = st.sampled_from(
    ["{key}", "bad", "PSF", "\ud800", 0, 1, 10**30, -1, True, None, 1.5, [], {}, [[]]]
)
BODIES = ODD | st.dictionaries(
    st.sampled_from(["subject", "version", "verdict", "class", "quality", "comment", "sequence"]),
    VALUES,
).map(lambda body: json.dumps(body).encode()) | st.builds(
    b"name=%b&own=%b&token=%b".__mod__, st.tuples(ODD, ODD, ODD)
)  # fmt: skip


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=PATHS,
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "", "x"]),
    query=QUERY,
    headers=st.dictionaries(HEADERS, ODD, max_size=3),
    is_signed_in=st.booleans(),
    body=BODIES,
)
def test_no_bytes_are_a_defect(
    client: TestClient,
    cookie: bytes,
    round: Round,
    path: str,
    method: str,
    query: list[tuple[bytes, bytes]],
    headers: dict[bytes, bytes],
    is_signed_in: bool,
    body: bytes,
) -> None:
    key = round.subjects[0].key
    kept = {}
    if is_signed_in:
        page = ask(client, client.app, scope("/inspect", headers={b"cookie": cookie}))[1]
        token = page.partition(b'data-token="')[2].partition(b'"')[0]
        kept = {
            b"cookie": cookie,
            b"content-type": b"application/json",
            b"x-session-token": token,
        }
    path, body = path.replace("{key}", key), body.replace(b"{key}", key.encode())
    text = b"&".join(b"=".join(pair) for pair in query)
    request = scope(path, method, text, headers=kept | headers)
    status, said = ask(client, client.app, request, body)
    assert status < 500, (path, said)
    assert b"Traceback" not in said
    round.log("ann")  # which is whole
