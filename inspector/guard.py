"""What every request passes before it reaches the page, and what every answer has."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes that a request may bring.
MAX_BODY = 16 * 1024
#: Requests that bring an image and are served at once; more are told to come again.
MAX_IMAGES = 64
_LOG = logging.getLogger(__name__)
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what no page of ours sends; adds the headers that keep others out.

    What a handler raises is a defect of this program: it is logged, and answered in one line.

    Parameters
    ----------
    hosts : names under which the page may be asked for, beside this machine's own addresses; None
        for any, which is for servers that ask for a token: a page of another site then has no
        session to abuse.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self.app = app
        self.hosts = hosts
        self._images = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_image = str(scope["path"]).startswith("/image/")
        refusal = self._refusal(scope, headers)
        if refusal is None and is_image and self._images >= MAX_IMAGES:
            refusal = 503, "busy"
        if refusal is not None:
            status, text = refusal
            await PlainTextResponse(text, status)(scope, receive, _with_headers(send))
            return
        self._images += is_image
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, _limited(receive), _with_headers(answer))
        except _TooLarge:
            await PlainTextResponse("too large", 413)(scope, receive, _with_headers(send))
        except ClientDisconnect:
            pass  # nobody is left to be answered
        except Exception:
            if started:
                raise  # the server logs it and closes the connection: half an answer is none
            # Without its query, which may hold a token.
            _LOG.exception("%s %r", scope["method"], scope["path"])
            refused = PlainTextResponse("this went wrong; the log of the server says why", 500)
            await refused(scope, receive, _with_headers(send))
        finally:
            self._images -= is_image

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = _host_name(f"//{host}")
        if not name or not (self.hosts is None or name in self.hosts or is_loopback(name)):
            return 400, "this server is not known under that name"
        if not scope.get("query_string", b"").isascii():
            return 400, "a query is percent-encoded"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "no such method"
        if scope["method"] == "POST":
            origin = headers.get("origin", "")
            if not host or _origin_host(origin) != host.lower():
                return 403, "posts come from this server's own pages only"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return 400, "content-length: a number"
        if len(length.lstrip("0")) > len(str(MAX_BODY)) or int(length) > MAX_BODY:
            return 413, "too large"
        return None


class _TooLarge(Exception):  # noqa: N818
    pass


def _origin_host(origin: str) -> str | None:
    """Return host and port of an origin in lower case, None for what is no http origin."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.fragment:
        return None
    return parts.netloc.lower() or None


def _host_name(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which refuses what is none
    except ValueError:
        return None
    # Anything but a host and its port would give the server another address than the one asked.
    plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    return (parts.hostname or "").lower() if plain else None


def _limited(receive: Receive) -> Receive:
    total = 0

    async def limited() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY:
            raise _TooLarge
        return message

    return limited


def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return with_headers
