"""A report that follows its runs: a page from this machine's own server, on a loopback address, for GET alone."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import RequestResponseEndpoint

from flows.report.document import Document, TreeOf
from flows.report.pack import compact
from flows.report.render import policy, render

LOOPBACK = ("127.0.0.1", "::1", "localhost")
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
NOTHING = "default-src 'none'"


def serve(
    make: Callable[[], Document],
    tree: Callable[[int], TreeOf | None],
    version: Callable[[], str],
    port: int,
    started: Callable[[str], None],
    host: str = "127.0.0.1",
) -> None:
    """Serves the page until Ctrl-C or SIGTERM. `make` gives its document, and is called again when what `version` answers has
    changed; `tree` gives that of an attempt, None where there is none. All three are called from threads, `make` one at a time.
    `port` 0: a free one. `started` gets the address once it is listened to. ValueError where it cannot be."""
    with _listening(host, port) as listener:
        taken = int(listener.getsockname()[1])
        server = answering(application(make, tree, version, taken))
        started(f"http://{f'[{host}]' if ':' in host else host}:{taken}/")
        with _quietly():
            asyncio.run(server.serve([listener]))


def answering(app: FastAPI) -> uvicorn.Server:
    """A server that writes no log, and ends within seconds whatever it is answering."""
    config = uvicorn.Config(app, access_log=False, log_level="critical", lifespan="off", timeout_graceful_shutdown=2)
    return uvicorn.Server(config)


def application(
    make: Callable[[], Document], tree: Callable[[int], TreeOf | None], version: Callable[[], str], port: int
) -> FastAPI:
    """What answers on this port."""
    pages = _Pages(make, version)
    hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    app = FastAPI(openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, answer: RequestResponseEndpoint) -> Response:
        # a name that its owner has pointed to this machine must not read what is here
        if request.headers.get("host", "") not in hosts:
            response: Response = PlainTextResponse("this address is not served here", 421)
        elif request.method != "GET":
            response = PlainTextResponse("only GET is answered", 405, {"Allow": "GET"})
        else:
            response = await _answered(request, answer)
        response.headers.update(HEADERS)
        response.headers.setdefault("Content-Security-Policy", NOTHING)
        return response

    @app.get("/")
    def page() -> Response:
        made = pages.now()
        return HTMLResponse(made.text, headers={"Content-Security-Policy": policy(made.nonce, live=True)})

    @app.get("/version")
    async def told() -> Response:
        return JSONResponse({"version": await run_in_threadpool(version)})

    @app.get("/tree/{attempt}")
    def branches(attempt: str) -> Response:
        known = attempt.isascii() and attempt.isdigit() and len(attempt) < 19
        found = tree(int(attempt)) if known else None
        if found is None:
            return JSONResponse({"error": "there is no tree of this attempt"}, 404)
        return Response(compact(found), media_type="application/json")

    return app


async def _answered(request: Request, answer: RequestResponseEndpoint) -> Response:
    """What went wrong is said to the reader: this server has no log."""
    try:
        return await answer(request)
    except Exception as error:
        return PlainTextResponse(f"{type(error).__name__}: {error}", 500)


@dataclass(frozen=True, slots=True)
class _Page:
    version: str
    nonce: str
    text: str


class _Pages:
    """The page of the last version that was asked for."""

    def __init__(self, make: Callable[[], Document], version: Callable[[], str]) -> None:
        self._make, self._version = make, version
        self._last: _Page | None = None
        self._making = threading.Lock()

    def now(self) -> _Page:
        """The version is read before the document: what changes between the two is seen by the next question."""
        with self._making:
            version = self._version()
            if self._last is None or self._last.version != version:
                nonce = secrets.token_urlsafe(16)
                text = render(self._make(), live=True, nonce=nonce, version=version)
                self._last = _Page(version, nonce, text)
            return self._last


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    if host not in LOOPBACK:
        raise ValueError(f"the page is served on this machine alone, not on '{host}': give one of {', '.join(LOOPBACK)}")
    if not 0 <= port < 65536:
        raise ValueError(f"there is no port {port}: give one from 1 to 65535, or 0 for a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(64)
        except OSError as error:
            reason = error.strerror or error
            told = f"cannot listen on {host}, port {port}: {reason}; give another port, or 0 for a free one"
            raise ValueError(told) from error
        yield listener


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """uvicorn ends on a signal, and then raises it again: nobody hears it here. Other threads than the main one get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda *_: None) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


__all__ = ["answering", "application", "serve"]
