"""Who is at the page: signing in, and the signed cookies by which a browser stays signed in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from inspector.names import Names, Owner, Taken, check_inspector, token_hash
from lake.errors import BadInput, SurveyError
from lake.store import hold

#: Seconds that a session lasts.
SESSION_AGE = 30 * 86400
#: Seconds for which a browser is asked to keep what it is known by: the most that browsers grant.
BROWSER_AGE = 400 * 86400
_SECRET = ".inspection-secret"
_SECRET_BYTES = 32
_BROWSER = re.compile(r"[0-9a-f]{32}")


def read_secret(root: Path) -> bytes:
    """Return the lake's secret, made when there is none; sessions outlive a restart by it.

    Raises `SurveyError` when it can be neither read nor made.
    """
    path = root / _SECRET
    try:
        secret = _read(path)
        if len(secret) >= _SECRET_BYTES:
            return secret
        # Two servers that start at once must not make two secrets.
        with hold(path.with_name(f"{_SECRET}.lock")):
            secret = _read(path)
            if len(secret) < _SECRET_BYTES:
                secret = secrets.token_bytes(_SECRET_BYTES)
                path.unlink(missing_ok=True)
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(secret)
                    file.flush()
                    os.fsync(file.fileno())
            return secret
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror or error}; inspecting keeps sessions and verdicts in the lake"
        ) from error


def _read(path: Path) -> bytes:
    """Return what a file holds, nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@dataclass(frozen=True)
class Session:
    """Who is at the page.

    Attributes
    ----------
    token : that the session's posts must carry.
    own : the token with which the inspector signs in from another browser; empty where the lake's
        secret is not the one that it was made with.
    """

    inspector: str
    token: str
    own: str


class Sessions:
    """Signed cookies: nothing is kept here, so that a restart signs nobody out.

    Parameters
    ----------
    secret : of the lake.
    access : token that is needed to sign in; None for none. A session of another token is void.
    scope : the round; its sessions are void in another.
    names : whose the inspectors' names are. A session is void once its owner has lost the name.

    Attributes
    ----------
    cookie : name of the cookie that holds a session.
    browser_cookie : name of the cookie by which a browser is known, in every round of the lake.
    """

    def __init__(self, secret: bytes, access: str | None, scope: str, names: Names) -> None:
        self._secret = secret
        self._key = hmac.digest(secret, f"{scope}\0{access or ''}".encode(), hashlib.sha256)
        self.access = access
        self.names = names
        self.cookie = f"survey-qa-{self._sign('cookie')[:12]}"
        lake = hmac.new(secret, b"browser", hashlib.sha256).hexdigest()
        self.browser_cookie = f"survey-qa-browser-{lake[:12]}"

    def browser(self, cookie: str | None) -> str:
        """Return what a browser is known by: its cookie, something new where that is none."""
        return cookie if cookie and _BROWSER.fullmatch(cookie) else secrets.token_hex(16)

    def sign_in(self, inspector: str, browser: str, own: str = "", access: str = "") -> str:
        """Return the cookie of a new session; whoever is the first under a name takes it.

        Parameters
        ----------
        browser : as `browser` returned it.
        own : the inspector's own token, from a browser that they have not signed in from.
        access : the server's token.

        Raises
        ------
        PermissionError : not the access token.
        Taken : the name belongs to somebody else.
        SurveyError : a name that cannot stand, or the lake cannot be read or written.
        """
        if self.access is not None and not hmac.compare_digest(
            access.encode("utf-8", "replace"), self.access.encode()
        ):
            raise PermissionError
        name = check_inspector(inspector.strip())
        new = secrets.token_hex(16)
        owner = self.names.claim(name, new, self._own_token(new), browser)
        if not owner.knows(browser):
            if not owner.has_token(own):
                raise _taken(name, owner, own)
            owner = self.names.admit(owner, browser)
        body = f"{owner.name}!{owner.id}!{secrets.token_hex(8)}"
        return f"{body}!{self._sign(body)}"

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie, None for one that is not ours or is void."""
        body, _, signature = (cookie or "").rpartition("!")
        if not body or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign(body).encode()
        ):
            return None
        name, _, rest = body.partition("!")
        try:
            owner = self.names.find(name)
        except SurveyError:
            return None  # signing in again says what is wrong
        if owner is None or owner.id != rest.partition("!")[0]:
            return None
        own = self._own_token(owner.id)
        if token_hash(own) != owner.token:
            own = ""
        return Session(name, self._sign(f"post\0{body}"), own)

    def _own_token(self, owner: str) -> str:
        """Return the token of an owner: made of the lake's secret, so that it is kept nowhere."""
        code = base64.b32encode(hmac.digest(self._secret, f"own\0{owner}".encode(), "sha256")[:15])
        text = code.decode().lower()
        return "-".join(text[start : start + 4] for start in range(0, len(text), 4))

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _taken(name: str, owner: Owner, own: str) -> Taken:
    whose = "" if owner.name == name else f" (as {owner.name})"
    if own:
        return Taken(f"that is not the token of {owner.name}")
    return Taken(
        f"the name {name} is taken{whose} by who first signed in with it: give its token, which "
        f"their page shows under ?, or free it: survey-qa inspections release-name {owner.name}"
    )
