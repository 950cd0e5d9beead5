"""What surrounds every request: who calls, what is refused before anybody looks, how failures are told, one log line.

Owns the translation of everything that a handler may raise; handlers themselves catch nothing. It does not know routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import grpc
import structlog
from aiohttp import web

from edge import caller
from edge.config import EdgeSettings
from edge.errors import Refusal, problem, refusal_of
from edge.metrics import STARTED, Metrics

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Asked every few seconds by machines: their lines are for debugging only."""

CLIENT_WENT_AWAY = 499
"""No status was sent; the customary number in logs and metrics."""

_HTTP_REASONS: Mapping[int, str] = {404: "NO_SUCH_ROUTE", 413: "BODY_TOO_LARGE"}


class Surroundings:
    """The middleware of an edge."""

    def __init__(self, settings: EdgeSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handle one request, whatever it meets."""
        started = asyncio.get_running_loop().time()
        request[STARTED] = started
        header = request.headers.get
        who = caller.Caller(
            caller.request_id_from(header(caller.REQUEST_ID_HEADER, "")),
            caller.authorization_from(header("Authorization", "")),
        )
        caller.current.set(who)  # the request has a task of its own, and so this context
        structlog.contextvars.bind_contextvars(request_id=who.request_id)
        status = CLIENT_WENT_AWAY
        try:
            response = await self._answer(request, handler)
            status = response.status
            return response
        finally:
            self._metrics.count_request(request, status)
            _log_access(request, status, asyncio.get_running_loop().time() - started)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check_size(request, self._settings)
            return await handler(request)
        except Refusal as refusal:
            return problem(refusal)
        except grpc.aio.AioRpcError as error:
            return problem(refusal_of(error))
        except web.HTTPException as error:
            return _of_http(request, error)
        except ConnectionError:
            raise  # the client went away in the middle of a write
        except Exception:
            log.exception("request failed", path=request.rel_url.raw_path)
            if request.writer.output_size:
                raise ConnectionResetError("the response had begun") from None  # cut it off, visibly
            return problem(Refusal(500, "INTERNAL", "Something went wrong on the server."))


async def sign(_request: web.Request, response: web.StreamResponse) -> None:
    """Echo the request id, on streams too: a signal of aiohttp, sent before the headers are."""
    response.headers[caller.REQUEST_ID_HEADER] = caller.current.get().request_id
    response.headers["Server"] = "penstock"  # aiohttp would tell its version and Python's


def check_size(request: web.Request, settings: EdgeSettings) -> None:
    """Refuse what is too large before anything of it is read or routed."""
    if len(request.raw_path) > settings.max_url:
        raise Refusal(414, "URL_TOO_LONG", f"Path and query are longer than {settings.max_url} bytes.")
    sizes = [len(name) + len(value) for name, value in request.raw_headers]
    if max(sizes, default=0) > settings.max_header or sum(sizes) > settings.max_headers:
        raise Refusal(431, "HEADERS_TOO_LARGE", f"A header is longer than {settings.max_header} bytes, or all are.")
    if (request.content_length or 0) > settings.max_body:
        raise Refusal(413, "BODY_TOO_LARGE", f"The body is larger than {settings.max_body} bytes.")


def _of_http(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Translate what aiohttp itself raises: no route, another method, a body over the limit."""
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    if isinstance(error, web.HTTPMethodNotAllowed) and request.method == "OPTIONS":
        return web.Response(status=204, headers=allow)
    phrase = HTTPStatus(error.status)
    reason = _HTTP_REASONS.get(error.status, phrase.name)
    return problem(Refusal(error.status, reason, f"{request.method} {request.path}: {phrase.phrase}."), allow)


def _log_access(request: web.Request, status: int, seconds: float) -> None:
    write = log.debug if request.path in QUIET_PATHS else log.info
    write("request", method=request.method, path=request.rel_url.raw_path, status=status, seconds=round(seconds, 4))
