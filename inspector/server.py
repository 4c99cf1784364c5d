"""The web server: routes, and nothing that a test of the service would want."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from images.stretch import STRETCHES, Stretch
from inspector.focal_plane import MOSAIC_SIZE, THUMBNAIL_SIZE
from inspector.guard import Guard
from inspector.judgement import QUALITIES, VERDICTS, Closed, Conflict, VerdictLog
from inspector.keys import ACTIONS, QUALITY_KEYS
from inspector.names import MAX_LENGTH, Taken
from inspector.notice import MEDIA_TYPE as NOTICE_TYPE
from inspector.notice import draw_notice
from inspector.render import Busy, NoImage, Renderer
from inspector.rounds import Subject
from inspector.service import SHOWN, SORTS, InspectionService, Refused, View, entry_json
from inspector.sessions import BROWSER_AGE, SESSION_AGE, Session, Sessions
from lake.errors import SurveyError

#: Exposures of the grid at once.
PAGE = 50
#: Seconds for which a browser keeps an image: its address does not tell a new version of the file.
_KEEP_IMAGE = 3600
_MODES = ("inspect", "merge")

Handler = Callable[[Request, Session], Awaitable[Response]]


def make_app(
    service: InspectionService, renderer: Renderer, sessions: Sessions, hosts: frozenset[str] | None
) -> Starlette:
    """Return the ASGI application.

    Parameters
    ----------
    hosts : names under which the page may be asked for; None for any, see `Guard`.
    """
    return _Server(service, renderer, sessions).app(hosts)


class _Server:
    def __init__(self, service: InspectionService, renderer: Renderer, sessions: Sessions) -> None:
        self.service = service
        self.renderer = renderer
        self.sessions = sessions
        # Threads of its own: whatever else the server is busy with, saving goes on.
        self.saving = ThreadPoolExecutor(4, "save")
        self.reading = ThreadPoolExecutor(4, "read")
        self.templates = Environment(
            loader=PackageLoader("inspector"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals |= {"round": service.round, "keys": _key_of(service)}

    def app(self, hosts: frozenset[str] | None) -> Starlette:
        """Return the application with its routes."""
        static = StaticFiles(directory=Path(__file__).with_name("static"))
        routes = [
            Route("/", self._home),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._sign_out, methods=["POST"]),
            Route("/{mode}", self._signed(self._page)),
            Route("/{mode}/grid", self._signed(self._grid)),
            Route("/{mode}/list", self._signed(self._list)),
            Route("/{mode}/panel/{key}", self._signed(self._panel)),
            Route("/{mode}/verdict", self._signed(self._verdict), methods=["POST"]),
            Route("/{mode}/undo", self._signed(self._undo), methods=["POST"]),
            Route("/image/{key}/{stretch}/mosaic", self._signed(self._mosaic)),
            Route("/image/{key}/{stretch}/thumbnail", self._signed(self._thumbnail)),
            Route("/image/{key}/{stretch}/partial", self._signed(self._partial)),
            Route("/image/{key}/{stretch}/whole/{ccdnum}", self._signed(self._whole)),
        ]
        app = Starlette(
            routes=[Mount("/static", static), *routes],
            middleware=[Middleware(Guard, hosts=hosts)],
            lifespan=self._lifespan,
            exception_handlers={SurveyError: _survey_error},
        )
        app.router.redirect_slashes = False  # our pages link to no other address than their own
        return app

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        await self.renderer.start()
        self.service.neighbours.start()
        try:
            yield
        finally:
            await self.renderer.stop()
            self.saving.shutdown(wait=True)
            self.reading.shutdown(wait=False, cancel_futures=True)

    # --- who is there

    def _signed(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Let in only who has signed in, posts only with the session's token."""

        async def signed(request: Request) -> Response:
            mode = request.path_params.get("mode", _MODES[0])
            if mode not in _MODES:
                return PlainTextResponse("no such page", 404)
            session = self.sessions.find(request.cookies.get(self.sessions.cookie))
            if session is None:
                if request.method == "GET" and request.scope["path"].count("/") == 1:
                    return _redirect("/sign-in")
                return PlainTextResponse("sign in first", 401)
            if request.method == "POST" and not _same(
                request.headers.get("x-session-token", ""), session.token
            ):
                return PlainTextResponse("posts come from this server's own pages only", 403)
            return await handler(request, session)

        return signed

    async def _home(self, request: Request) -> Response:
        token = request.query_params.get("token")
        if token and self.sessions.find(request.cookies.get(self.sessions.cookie)) is None:
            return _redirect(f"/sign-in?{urlencode({'token': token})}")
        return _redirect("/inspect")

    async def _sign_in(self, request: Request) -> Response:
        browser = self.sessions.browser(request.cookies.get(self.sessions.browser_cookie))
        if request.method == "POST":
            response = await self._signing_in(request, browser)
        else:
            response = self._sign_in_page(token=request.query_params.get("token", ""))
        # Known before there is a name to take: who signs in twice, the answer to the first having
        # been lost, is still the one who took it.
        response.set_cookie(
            self.sessions.browser_cookie,
            browser,
            max_age=BROWSER_AGE,
            path="/sign-in",
            httponly=True,
            samesite="strict",
        )
        return response

    async def _signing_in(self, request: Request, browser: str) -> Response:
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        name, token, own = (form.get(field, [""])[0].strip() for field in ("name", "token", "own"))
        try:
            cookie = await self._in(
                self.saving, lambda: self.sessions.sign_in(name, browser, own, token)
            )
        except PermissionError:
            problem = "This server asks for its token: open the address that it printed."
            return self._sign_in_page(403, name=name, problem=problem)
        except Taken as error:
            return self._sign_in_page(403, name=name, token=token, problem=str(error), taken=True)
        except SurveyError as error:
            return self._sign_in_page(400, name=name, token=token, problem=str(error))
        response = _redirect("/inspect")
        response.set_cookie(
            self.sessions.cookie, cookie, max_age=SESSION_AGE, httponly=True, samesite="lax"
        )
        return response

    def _sign_in_page(
        self,
        status: int = 200,
        name: str = "",
        token: str = "",
        problem: str = "",
        taken: bool = False,
    ) -> Response:
        """Return the page that asks for a name, and for its owner's token where it is taken."""
        return self._html(
            "sign_in.html",
            status,
            name=name,
            token=token,
            problem=problem,
            taken=taken,
            max_length=MAX_LENGTH,
        )

    async def _sign_out(self, request: Request) -> Response:
        response = _redirect("/sign-in")
        response.delete_cookie(self.sessions.cookie)
        return response

    # --- pages

    async def _page(self, request: Request, session: Session) -> Response:
        mode = request.path_params["mode"]
        if mode == "merge" and not self.service.round.is_closed:
            return _redirect("/inspect")
        return self._html(
            "page.html", mode=mode, session=session, **self._choices(View.of(request.query_params))
        )

    async def _grid(self, request: Request, session: Session) -> Response:
        mode, view = request.path_params["mode"], View.of(request.query_params)

        def read() -> dict[str, Any]:
            log = self._log(mode, session)
            subjects = self.service.listing(log, view, mode == "merge")
            pages = max(1, -(-len(subjects) // PAGE))
            at = request.query_params.get("at", "")
            places = {subject.key: place for place, subject in enumerate(subjects)}
            wanted = places[at] // PAGE + 1 if at in places else 1
            page = min(max(_integer(request.query_params.get("page"), wanted), 1), pages)
            shown = subjects[(page - 1) * PAGE : page * PAGE]
            cards = [(subject, entry_json(log.entry(subject.key))) for subject in shown]
            progress = self.service.progress(log, mode == "merge")
            return {"cards": cards, "pages": pages, "page": page, "at": at, "progress": progress}

        found = await self._in(self.reading, read)
        return self._html("grid.html", mode=mode, session=session, **found, **self._choices(view))

    async def _list(self, request: Request, session: Session) -> Response:
        mode, view = request.path_params["mode"], View.of(request.query_params)

        def read() -> dict[str, Any]:
            log = self._log(mode, session)
            log.refresh()
            entries = log.entries()
            subjects = self.service.listing(log, view, mode == "merge")
            return {
                "subjects": [[subject.key, subject.key in entries] for subject in subjects],
                "progress": self.service.progress(log, mode == "merge"),
            }

        return JSONResponse(await self._in(self.reading, read))

    async def _panel(self, request: Request, session: Session) -> Response:
        mode, subject = request.path_params["mode"], self._subject(request)
        if subject is None:
            return PlainTextResponse("not in this round", 404)
        stretch = _stretch(request.query_params.get("stretch", ""))

        def read() -> dict[str, Any]:
            layout = self.service.layout(subject)
            ready = layout is not None and self.renderer.is_ready(layout, MOSAIC_SIZE, stretch)
            return {
                "subject": subject,
                "summary": self.service.summaries[subject.key],
                "exposure": self.service.exposure(subject),
                "layout": layout,
                "neighbours": self.service.neighbours.of(subject),
                "neighbours_ready": self.service.neighbours.ready.is_set(),
                "entry": entry_json(self._log(mode, session).entry(subject.key)),
                "others": self.service.others(subject.key),
                "opinions_of": self._opinions_of,
                "ready": ready,
                "mode": mode,
            }

        return self._html("panel.html", **await self._in(self.reading, read))

    def _opinions_of(self, camera: str, expnum: int) -> str:
        """Return the classes that lists give an exposure, for the caption of a thumbnail."""
        found = self.service.facts.labels_of(camera, expnum)
        return ", ".join(found) or "in no list"

    # --- verdicts

    async def _verdict(self, request: Request, session: Session) -> Response:
        mode = request.path_params["mode"]
        try:
            body = await _json(request)
            subject = self.service.subject(str(body.get("subject", "")))
            if subject is None:
                raise Refused("subject: not in this round")
            version = body.get("version")
            if type(version) is not int or version < 0:
                raise Refused("version: a number")
            judgement = self.service.parse_judgement(body)
        except Refused as refusal:
            return JSONResponse({"problem": str(refusal)}, 400)
        key = subject.key

        def save() -> dict[str, Any]:
            log = self._log(mode, session)
            entry = log.judge(key, version, judgement, session.inspector)
            return {
                "entry": entry_json(entry),
                "progress": self.service.progress(log, mode == "merge"),
            }

        return await self._save(save, mode)

    async def _undo(self, request: Request, session: Session) -> Response:
        mode = request.path_params["mode"]
        try:
            sequence = (await _json(request)).get("sequence")
            if type(sequence) is not int:
                raise Refused("sequence: a number")
        except Refused as refusal:
            return JSONResponse({"problem": str(refusal)}, 400)

        def save() -> dict[str, Any]:
            log = self._log(mode, session)
            key = log.undo(sequence, session.inspector)
            progress = self.service.progress(log, mode == "merge")
            if key is None:
                return {"subject": None, "progress": progress}
            return {"subject": key, "entry": entry_json(log.entry(key)), "progress": progress}

        return await self._save(save, mode)

    async def _save(self, save: Callable[[], dict[str, Any]], mode: str) -> Response:
        if mode == "merge" and not self.service.round.is_closed:
            return JSONResponse({"problem": "the round is still open"}, 423)
        try:
            return JSONResponse(await self._in(self.saving, save))
        except Conflict as conflict:
            return JSONResponse(
                {
                    "problem": "another tab has changed this since",
                    "subject": conflict.subject,
                    "entry": entry_json(conflict.entry),
                },
                409,
            )
        except Closed:
            return JSONResponse({"problem": "the round is closed: nothing more is taken"}, 423)
        except SurveyError as error:
            return JSONResponse({"problem": str(error)}, 507)

    # --- images

    async def _mosaic(self, request: Request, session: Session) -> Response:
        ahead = "ahead" in request.query_params
        return await self._image(
            request, lambda layout, s: self.renderer.mosaic(layout, MOSAIC_SIZE, s, ahead)
        )

    async def _thumbnail(self, request: Request, session: Session) -> Response:
        return await self._image(
            request, lambda layout, s: self.renderer.mosaic(layout, THUMBNAIL_SIZE, s, ahead=True)
        )

    async def _partial(self, request: Request, session: Session) -> Response:
        response = await self._image(
            request, lambda layout, s: self.renderer.partial(layout, MOSAIC_SIZE, s)
        )
        response.headers["cache-control"] = "no-store"
        return response

    async def _whole(self, request: Request, session: Session) -> Response:
        number = _integer(request.path_params["ccdnum"], -1)
        return await self._image(request, lambda layout, s: self.renderer.whole(layout, number, s))

    async def _image(
        self, request: Request, draw: Callable[[Any, Stretch], Awaitable[bytes]]
    ) -> Response:
        """Answer with an image, or with a picture that says why there is none.

        Who asks for text (``?text``: a script, which shows it elsewhere) is told in text.
        """
        stretch = request.path_params["stretch"]
        try:
            subject = self.service.pictured(request.path_params["key"])
            if subject is None or stretch not in STRETCHES:
                raise NoImage("no such image")
            layout = await self._in(self.reading, lambda: self.service.layout(subject))
            if layout is None:
                raise NoImage("no CCD table of the lake knows this exposure")
            image = await draw(layout, stretch)
        except NoImage as problem:
            return _no_image(request, str(problem), problem.status)
        except SurveyError as error:
            return _no_image(request, str(error), 503)
        except Busy:
            # No picture: a browser would keep it, where our scripts ask again.
            return PlainTextResponse("busy", 503, {"retry-after": "2"})
        headers = {"cache-control": f"private, max-age={_KEEP_IMAGE}"}
        return Response(image, media_type="image/jpeg", headers=headers)

    # --- small things

    def _subject(self, request: Request) -> Subject | None:
        return self.service.subject(request.path_params["key"])

    def _log(self, mode: str, session: Session) -> VerdictLog:
        return (
            self.service.settlements() if mode == "merge" else self.service.log(session.inspector)
        )

    def _choices(self, view: View) -> dict[str, Any]:
        service = self.service
        return {
            "view": view,
            "sorts": SORTS,
            "shown": SHOWN,
            "bands": service.bands(),
            "proposed": service.proposed(),
            "classes": service.classes,
            "class_keys": {name: key for key, name in service.keys.items()},
            "qualities": list(zip(QUALITIES, QUALITY_KEYS, strict=True)),
            "verdicts": VERDICTS,
            "actions": ACTIONS,
            "stretches": STRETCHES,
            "is_closed": service.round.is_closed,
        }

    def _html(self, template: str, status: int = 200, /, **values: Any) -> HTMLResponse:
        return HTMLResponse(self.templates.get_template(template).render(**values), status)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work)


def _key_of(service: InspectionService) -> str:
    """Return the keyboard as the script reads it."""
    return json.dumps(
        {
            "classes": service.keys,
            "quality": dict(zip(QUALITY_KEYS, QUALITIES, strict=True)),
            "stretches": STRETCHES,
        }
    )


async def _json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused("a JSON body is expected")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused("a JSON body is expected") from None
    if not isinstance(body, dict):
        raise Refused("a JSON object is expected")
    return body


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _stretch(text: str) -> Stretch:
    return next((stretch for stretch in STRETCHES if stretch == text), STRETCHES[0])


def _integer(text: str | None, default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def _no_image(request: Request, why: str, status: int) -> Response:
    headers = {"cache-control": "no-store"}
    if "text" in request.query_params:
        return PlainTextResponse(why, status, headers)
    return Response(draw_notice(why), status, headers, NOTICE_TYPE)


def _redirect(where: str) -> Response:
    return Response(status_code=303, headers={"location": where})


async def _survey_error(request: Request, error: Exception) -> Response:
    """Answer with what is wrong with the lake: a person can mend it, and ask again."""
    return PlainTextResponse(str(error), 503)
