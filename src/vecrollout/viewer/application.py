"""What the viewer's server answers: pages, and the data of a trace as JSON and images."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vecrollout.errors import OptionError, VecrolloutError
from vecrollout.report.theme import THEME
from vecrollout.storage.dataset import TraceDataset
from vecrollout.viewer.extra import plotly_script, style_guards
from vecrollout.viewer.session import Session

_STATIC = Path(__file__).parent / "static"

_HEADERS = {
    # No inline script or style, no plug-in, no frame, and no request to any other host.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def application(dataset: TraceDataset, token: str) -> Starlette:
    """The viewer of a data set. It answers only below `/<token>/`.

    All answers about the data are made on the one thread of the event loop, which owns the data set.
    """
    session, script = Session(dataset), plotly_script()
    routes = [
        Route("/", _index(script)),
        Route("/theme.css", _file(THEME)),
        Route("/plotly.js", _file(script, keep=True)),
        Mount("/static", StaticFiles(directory=_STATIC)),
        _route("/api/status", lambda request: session.status()),
        _route("/api/overview", lambda request: session.overview()),
        _route("/api/columns", lambda request: session.columns()),
        _route("/api/episodes", lambda request: session.page(dict(request.query_params))),
        _route("/api/selection", lambda request: session.selection(dict(request.query_params))),
        _route("/api/episodes/{number:int}", lambda request: session.episode(_number(request), request.query_params)),
        _route(
            "/api/episodes/{number:int}/steps/{step:int}",
            lambda request: session.step(_number(request), request.path_params["step"], request.query_params),
        ),
        Route("/api/episodes/{number:int}/steps/{step:int}/image", _image(session)),
        Route("/api/episodes/{number:int}/flag", _flag(session), methods=["POST"]),
    ]
    return Starlette(
        routes=[Mount("/{token}", routes=routes)],
        middleware=[
            Middleware(_WithHeaders),
            # A name that another site has resolve to this machine.
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]),
            Middleware(_Guarded, token=token),
        ],
        exception_handlers={VecrolloutError: _refusal, IndexError: _refusal},
    )


class _WithHeaders:
    """Adds the headers that keep a page to itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, sending)


class _Guarded:
    """Knows nothing without the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = scope.get("path", "").split("/")[1:2] or [""]
        if scope["type"] == "lifespan" or secrets.compare_digest(given[0].encode(), self._token.encode()):
            await self._app(scope, receive, send)
        else:
            await Response("Not found. Use the whole URL that the viewer printed.", 404)(scope, receive, send)


Answer = Callable[[Request], Awaitable[Response]]


def _index(script: Path) -> Answer:
    guards = "".join(f'<meta id="{guard}">' for guard in style_guards(script))
    text = (_STATIC / "index.html").read_text("utf-8").replace("<!-- guards -->", guards)

    async def answer(request: Request) -> Response:
        return Response(text, media_type="text/html", headers={"cache-control": "no-cache"})

    return answer


def _file(path: Path, *, keep: bool = False) -> Answer:
    headers = {"cache-control": "private, max-age=86400" if keep else "no-cache"}

    async def answer(request: Request) -> Response:
        return FileResponse(path, headers=headers)

    return answer


def _route(path: str, answer: Callable[[Request], Any]) -> Route:
    async def answering(request: Request) -> Response:
        return _as_json(answer(request))

    return Route(path, answering)


def _image(session: Session) -> Answer:
    async def answer(request: Request) -> Response:
        step, source = request.path_params["step"], request.query_params.get("source", "")
        image = session.image(_number(request), step, source)
        # The page names the state of the trace in the URL, as numbers of episodes can change while it grows.
        return Response(image, media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    return answer


def _flag(session: Session) -> Answer:
    async def answer(request: Request) -> Response:
        try:
            wanted = json.loads(await request.body())
        except ValueError as error:
            raise OptionError(f"flag: expected JSON: {error}") from error
        if not isinstance(wanted, bool):
            raise OptionError("flag: expected true or false")
        return _as_json(session.flag(_number(request), wanted))

    return answer


def _number(request: Request) -> int:
    number: int = request.path_params["number"]
    return number


def _as_json(value: Any, status: int = 200) -> Response:
    # ASCII, so that text with lone surrogates can be sent too.
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json", headers={"cache-control": "no-store"})


async def _refusal(request: Request, error: Exception) -> Response:
    details: Mapping[str, str] = {"error": str(error), "kind": type(error).__name__}
    return _as_json(details, 404 if isinstance(error, IndexError) else 400)
