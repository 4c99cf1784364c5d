"""What every request passes before it reaches the page: host, origin, size, session."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lake.errors import SurveyError
from lake.paths import check_name

#: Bytes that a request may bring.
MAX_BODY = 16 * 1024
#: Requests that bring an image and are served at once; more are told to come again.
MAX_IMAGES = 64
_SECRET = ".inspection-secret"
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


def read_secret(root: Path) -> bytes:
    """Return the lake's secret, made when there is none; sessions outlive a restart by it.

    Raises `SurveyError` when it can be neither read nor made.
    """
    path = root / _SECRET
    try:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
            if len(secret) < 32:
                path.unlink()
                return read_secret(root)
            return secret
        with os.fdopen(handle, "wb") as file:
            secret = secrets.token_bytes(32)
            file.write(secret)
            return secret
    except OSError as error:
        raise SurveyError(
            f"{path}: {error.strerror or error}; inspecting keeps sessions and verdicts in the lake"
        ) from error


@dataclass(frozen=True)
class Session:
    """Who is at the page, and the token that their posts must carry."""

    inspector: str
    token: str


class Sessions:
    """Signed cookies: nothing is kept here, so that a restart signs nobody out.

    Parameters
    ----------
    secret : of the lake.
    access : token that is needed to sign in; None for none. A session of another token is void.
    """

    def __init__(self, secret: bytes, access: str | None, scope: str) -> None:
        self._key = hmac.digest(secret, f"{scope}\0{access or ''}".encode(), hashlib.sha256)
        self.access = access
        self.cookie = f"survey-qa-{self._sign('cookie')[:12]}"

    def sign_in(self, inspector: str, access: str) -> str:
        """Return the cookie of a new session.

        Raises
        ------
        PermissionError : not the access token.
        SurveyError : a name that cannot stand.
        """
        if self.access is not None and not hmac.compare_digest(
            access.encode(), self.access.encode()
        ):
            raise PermissionError
        name = check_name("inspector", inspector.strip())
        if len(name) > 64:
            raise SurveyError("inspector: a name of at most 64 characters")
        body = f"{name}!{secrets.token_hex(8)}"
        return f"{body}!{self._sign(body)}"

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, None for one that is not ours."""
        body, _, signature = (cookie or "").rpartition("!")
        if not body or not hmac.compare_digest(signature.encode(), self._sign(body).encode()):
            return None
        return Session(body.partition("!")[0], self._sign(f"post\0{body}"))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


class Guard:
    """Refuses what no page of ours sends; adds the headers that keep others out.

    Parameters
    ----------
    hosts : names under which the page may be asked for; None for any, which is for servers that
        ask for a token: a page of another site then has no session to abuse.
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
        try:
            await self.app(scope, _limited(receive), _with_headers(send))
        except _TooLarge:
            await PlainTextResponse("too large", 413)(scope, receive, _with_headers(send))
        finally:
            self._images -= is_image

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts is not None and _host_name(f"//{host}") not in self.hosts:
            return 400, "this server is not known under that name"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "no such method"
        if scope["method"] == "POST":
            origin = headers.get("origin", "")
            if not host or _origin_host(origin) != host.lower():
                return 403, "posts come from this server's own pages only"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:12]) > MAX_BODY:
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
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return None


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
