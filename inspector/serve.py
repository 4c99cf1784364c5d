"""Putting the page together, and serving it."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from inspector.cache import ImageCache
from inspector.connections import REQUEST_SECONDS, impatient
from inspector.facts import Facts, find_model
from inspector.guard import is_loopback
from inspector.names import Names
from inspector.neighbours import Neighbours
from inspector.render import Renderer
from inspector.rounds import Round
from inspector.server import make_app
from inspector.service import InspectionService
from inspector.sessions import Sessions, read_secret
from lake.errors import BadInput, NotFound

#: Folder of drawn images in a lake; its name keeps readers of Parquet out.
IMAGES = ".inspection-images"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_images(folder: Path) -> None:
    """Raise `SurveyError` where there is no folder of images."""
    if not folder.is_dir():
        raise NotFound(f"--images {folder}: no such folder")


def build_app(
    round: Round,
    images: Path,
    model: str | None = None,
    access: str | None = None,
    any_host: bool = False,
    cache_bytes: int = 2 << 30,
    workers: int = 2,
) -> Starlette:
    """Return the page of a round as an ASGI application.

    Parameters
    ----------
    images : folder that the CCD table's image files are relative to.
    model : whose predictions are shown; by default the round's own, or the lake's only one.
    access : token that signing in needs; None for none.
    any_host : whether the page may be asked for under any name, for servers beyond the loopback.

    Raises
    ------
    SurveyError : the image folder is missing, the model has no predictions, or the lake cannot be
        written.
    """
    check_images(images)
    lake = round.lake
    facts = Facts(lake, find_model(lake, model or round.origin.get("model")))
    listed = sorted({p["night"] for p in lake.partitions("labels")})
    neighbours = Neighbours(lake, facts.embedder, round.subjects, listed)
    service = InspectionService(lake, round, facts, neighbours)
    renderer = Renderer(images, ImageCache(lake.root / IMAGES, cache_bytes), workers)
    names = Names(lake.root)
    names.check()
    sessions = Sessions(read_secret(lake.root), access, round.name, names)
    return make_app(service, renderer, sessions, None if any_host else _LOOPBACK)


def serve(
    round: Round,
    images: Path,
    host: str = "127.0.0.1",
    port: int = 8642,
    token: str | None = None,
    model: str | None = None,
    cache_bytes: int = 2 << 30,
    workers: int = 2,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page of a round until interrupted.

    Beyond the loopback address a token is needed; without `token` one is made and told in the
    address that `say` is given.

    Raises
    ------
    SurveyError : the address cannot be served, or as `build_app`.
    """
    outside = not is_loopback(host)
    if outside and not token:
        token = secrets.token_urlsafe(24)
    app = build_app(round, images, model, token, outside, cache_bytes, workers)
    with _listen(host, port) as listening:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        say(
            f"round {round.name}: {len(round.subjects):,} to look at; open {address}"
            + (f"?token={token}" if token else "")
        )
        make_server(app).run([listening])


def make_server(app: Starlette, request_seconds: float = REQUEST_SECONDS) -> uvicorn.Server:
    """Return the server of an application; it logs warnings and errors alone.

    Parameters
    ----------
    request_seconds : that a request may take to become whole, see `inspector.connections`.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=impatient(request_seconds),
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # The event loop sends small answers at once only where the protocol is named.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(2048)  # whoever opens the address at once waits, and is not refused
        except BaseException:
            listening.close()
            raise
        return listening
    except (OSError, OverflowError, ValueError) as error:  # a name too long, or with a NUL
        raise BadInput(
            f"cannot serve on {host}:{port}: {_reason(error)}; choose another --host or --port"
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
