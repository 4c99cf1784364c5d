"""Who sends nothing, or half a request, is cut off; who uses the page is not."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from inspector.connections import REQUEST_SECONDS
from inspector.guard import Guard
from inspector.serve import _listen, build_app, make_server
from tests.inspector.conftest import Survey, make_round

#: Seconds that a request has in these tests; a machine that is busy may need as many again.
PATIENCE = 1.0


@contextlib.contextmanager
def served(app: Any, seconds: float = PATIENCE) -> Iterator[int]:
    """Serve an application as `serve` does, on a free port."""
    with _listen("127.0.0.1", 0) as listening:
        server = make_server(app, seconds)
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def slow(request: Request) -> Response:
    await asyncio.sleep(3 * PATIENCE)
    return PlainTextResponse("at last")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    routes = [Route("/echo", echo, methods=["GET", "POST"]), Route("/slow", slow)]
    app = Starlette(routes=routes)
    with served(Guard(app, frozenset({"page"}))) as made:
        yield made


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def until_cut(connection: socket.socket) -> tuple[float, bytes]:
    """Return after how many seconds the server closes a connection, and what it said until then."""
    start, said = time.monotonic(), b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(4096):
            said += data
    return time.monotonic() - start, said


HEAD = b"POST /echo HTTP/1.1\r\nHost: page\r\nOrigin: http://page\r\n"
HALVES = {
    "nothing": b"",
    "a letter": b"G",
    "half a request line": b"GET /echo HT",
    "a request line": b"GET /echo HTTP/1.1\r\n",
    "half a header": b"GET /echo HTTP/1.1\r\nHos",
    "half the headers": b"GET /echo HTTP/1.1\r\nHost: page\r\n",
    "a body's headers": HEAD + b"Content-Length: 10\r\n\r\n",
    "half a body": HEAD + b"Content-Length: 10\r\n\r\n12345",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\n12345",
    "chunks without end": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n",
}


@pytest.mark.parametrize("name", HALVES)
def test_half_a_request_is_cut_off(port: int, name: str) -> None:
    with connect(port) as connection:
        connection.sendall(HALVES[name])
        seconds, said = until_cut(connection)
        assert 0.8 * PATIENCE < seconds < 5 * PATIENCE
        assert said == b""


def test_the_time_is_ten_seconds_where_nobody_says_otherwise() -> None:
    assert REQUEST_SECONDS == 10
    config = make_server(Starlette()).config
    config.load()
    assert config.http_protocol_class.patience == REQUEST_SECONDS


def drip(connection: socket.socket, data: bytes) -> float:
    """Send a byte again and again until the connection is closed; return after how many seconds."""
    start = time.monotonic()
    connection.settimeout(PATIENCE / 10)
    with contextlib.suppress(OSError):
        for byte in data:
            connection.sendall(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                if not connection.recv(4096):
                    break
    return time.monotonic() - start


@pytest.mark.parametrize("begun", [b"", b"GET /echo HTTP/1.1\r\nHost: page\r\nX: ",
                                   HEAD + b"Content-Length: 1000\r\n\r\n"])  # fmt: skip
def test_a_byte_now_and_then_gains_no_time(port: int, begun: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(begun)
        assert 0.8 * PATIENCE < drip(connection, 900 * b"x") < 5 * PATIENCE


def answer(connection: socket.socket, body: bytes) -> None:
    said = b""
    while not said.endswith(b"\r\n\r\n" + body):
        data = connection.recv(4096)
        assert data, said
        said += data
    assert said.startswith(b"HTTP/1.1 200")


def test_a_slow_answer_is_waited_for_and_the_connection_used_again(port: int) -> None:
    with connect(port) as connection:
        for _ in range(2):
            connection.sendall(b"GET /slow HTTP/1.1\r\nHost: page\r\n\r\n")
            answer(connection, b"at last")
        time.sleep(2 * PATIENCE)  # idle between requests: uvicorn's own time
        connection.sendall(HEAD + b"Content-Length: 5\r\n\r\n12345")
        answer(connection, b"12345")


def test_half_a_request_after_a_whole_one_is_cut_off(port: int) -> None:
    for half in (b"GET /ec", HEAD + b"Content-Length: 9\r\n\r\n123"):
        with connect(port) as connection:
            connection.sendall(HEAD + b"Content-Length: 5\r\n\r\n12345")
            answer(connection, b"12345")
            connection.sendall(half)
            seconds, said = until_cut(connection)
            assert 0.8 * PATIENCE < seconds < 5 * PATIENCE
            assert said == b""
        with connect(port) as connection:  # both at once, the answer to the first being slow
            connection.sendall(b"GET /slow HTTP/1.1\r\nHost: page\r\n\r\n" + half)
            answer(connection, b"at last")
            seconds, said = until_cut(connection)
            assert seconds < 8 * PATIENCE  # that of uvicorn, where it has begun
            assert said == b""


def test_a_request_in_two_halves_is_answered(port: int) -> None:
    with connect(port) as connection:
        time.sleep(0.6 * PATIENCE)
        connection.sendall(HEAD[:20])
        time.sleep(0.6 * PATIENCE)  # the first byte came in time, and so does the rest
        connection.sendall(HEAD[20:] + b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 100")
        connection.sendall(b"1234")
        answer(connection, b"1234")


def test_what_is_no_request_is_refused_at_once(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")  # TLS
        seconds, said = until_cut(connection)
        assert said.startswith(b"HTTP/1.1 400")
        assert seconds < 5 * PATIENCE


def test_no_bytes_on_the_wire_are_a_defect(capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    whole = [b"GET ", b"/echo", b" HTTP/1.1\r\n", b"Host: page\r\n", b"Connection: close\r\n"]
    pieces = [b"\xff", b"\x00", b"%", b"?\xff", b"?%ff", b"HTTP/9.9", b"\r\n", b"\n", b":", b" ",
              b"Host:\r\n", b"Content-Length: \xb2\r\n", b"Content-Length: 5\r\n", b"POST ",
              b"Cookie: \xe9=\xff\r\n", b"Range: \xff\r\n", b"Origin: http://page\r\n",
              b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", 70_000 * b"a",
              b"Connection: upgrade\r\nUpgrade: websocket\r\n"]  # fmt: skip
    requests = []
    for _ in range(300):
        parts = list(whole)
        for _ in range(rng.randrange(1, 4)):
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(pieces))
        requests.append(b"".join(parts) + b"\r\n")

    app = Starlette(routes=[Route("/echo", echo, methods=["GET", "POST"])])
    with served(Guard(app, frozenset({"page"})), 0.5) as port, ThreadPoolExecutor(30) as pool:

        def said(request: bytes) -> bytes:
            with connect(port) as connection:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(request)
                return until_cut(connection)[1]

        answers = list(pool.map(said, requests))
    statuses = {answer[9:12] for answer in answers}
    assert {b"200", b"400"} <= statuses
    assert not [status for status in statuses if status.startswith(b"5")]
    assert "Traceback" not in capfd.readouterr().err


def test_many_who_send_nothing_keep_nobody_out(
    survey: Survey, capfd: pytest.CaptureFixture[str]
) -> None:
    app = build_app(make_round(survey.lake), survey.images, workers=1)
    with served(app) as port, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(port)) for _ in range(200)]
        for place, connection in enumerate(idle):
            connection.sendall(list(HALVES.values())[place % len(HALVES)])
        with connect(port) as used:
            used.sendall(b"GET /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert until_cut(used)[1].startswith(b"HTTP/1.1 200")
        for connection in idle:
            until_cut(connection)
        form = b"name=ann"
        head = (
            f"POST /sign-in HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}"
        )
        with connect(port) as used:
            used.sendall(f"{head}\r\nContent-Length: {len(form)}\r\n\r\n".encode() + form)
            assert b"303" in used.recv(4096)
    assert "Traceback" not in capfd.readouterr().err
