"""The edge process: its parts, put together here and nowhere else, from the first accept to the orderly end.

Owns construction, the HTTP server's settings, and the shutdown (ENGINE.md K2). It knows no protocol; the registry does.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from edge.config import EdgeSettings
from edge.core import CallLimits, CoreClient
from edge.cors import Cors
from edge.health import Health, Readiness
from edge.metrics import METRICS, Metrics
from edge.middleware import Surroundings, sign
from edge.origins import Origins
from edge.protocols.registry import all_routes
from edge.streams import STREAMS, Streams
from edge.watches import WatchLimits

log = structlog.get_logger(__name__)

BACKLOG = 4096
"""Connections that may wait to be accepted: five thousand clients come back at once after a restart."""
MAX_UNSENT = 128 << 10
"""Bytes that the kernel takes ahead of a client. By itself Linux takes up to 4 MB, and the edge would encode them at
full speed for a client that reads nothing."""
PARSER_MARGIN = 4
"""aiohttp's parser gives up, without a reason for the client, only this many times over our own limits."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A running edge."""

    address: str
    """`host:port`, as bound."""
    settings: EdgeSettings
    readiness: Readiness
    streams: Streams
    site: web.BaseSite

    async def leave(self) -> None:
        """Fail /readyz, let load balancers notice, accept no more, and close resumable streams little by little."""
        self.readiness.is_leaving = True
        log.info("leaving", streams=len(self.streams))
        await asyncio.sleep(self.settings.settle)
        await self.site.stop()
        await self.streams.drain(self.settings.drain)


def main(settings: EdgeSettings) -> None:
    """Run an edge until SIGTERM or SIGINT; a second signal ends it at once. The log is set up by the caller."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings))


async def _serve(settings: EdgeSettings) -> None:
    serving = asyncio.create_task(_serve_until_told(settings, told := asyncio.Event()))
    loop = asyncio.get_running_loop()

    def tell() -> None:
        if told.is_set():
            serving.cancel()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


async def _serve_until_told(settings: EdgeSettings, told: asyncio.Event) -> None:
    async with running(settings) as edge:
        log.info("ready", address=edge.address, core=settings.core)
        await told.wait()
        await edge.leave()
    log.info("stopped")


@asynccontextmanager
async def running(settings: EdgeSettings) -> AsyncIterator[Edge]:
    """Serve inside of the `async with`. At its end requests that still run get their grace, then are cut off."""
    async with _core_client(settings) as core, _streams(settings) as streams:
        readiness = Readiness()
        app = build(settings, core, streams, readiness)
        runner = web.AppRunner(
            app,
            handler_cancellation=True,  # a client that goes away stops its handler, and that its calls of the core
            shutdown_timeout=settings.request_grace / 2,  # aiohttp waits twice before it cancels a handler
            access_log=None,  # the middleware writes one line per request
            logger=_http_log(),
            max_line_size=settings.max_url * PARSER_MARGIN,
            max_field_size=settings.max_header * PARSER_MARGIN,
        )
        await runner.setup()
        try:
            site = web.SockSite(runner, _listen(settings.host, settings.port), backlog=BACKLOG)
            await site.start()
            host, port = runner.addresses[0][:2]
            yield Edge(f"{host}:{port}", settings, readiness, streams, site)
        finally:
            await runner.cleanup()


def build(settings: EdgeSettings, core: CoreClient, streams: Streams, readiness: Readiness) -> web.Application:
    """Return the application: all routes, behind one middleware."""
    metrics = Metrics(streams, core.watches)
    surroundings = Surroundings(settings, metrics)
    app = web.Application(middlewares=[surroundings.middleware], client_max_size=settings.max_body)
    app[STREAMS] = streams
    app[METRICS] = metrics
    app.on_response_prepare.extend((sign, Cors(Origins.parse(settings.cors_origins)).add))
    app.router.add_get("/metrics", metrics.show)
    app.router.add_routes(Health(core, readiness).routes())
    app.router.add_routes(list(all_routes(core, settings)))
    return app


def _core_client(settings: EdgeSettings) -> CoreClient:
    return CoreClient(
        settings.core,
        calls=CallLimits(call_timeout=settings.call_timeout, repeat_for=settings.repeat_for),
        watches=WatchLimits(
            buffer=settings.watch_buffer,
            silence=settings.watch_silence,
            reattach_for=settings.reattach_for,
        ),
    )


def _streams(settings: EdgeSettings) -> Streams:
    return Streams(
        heartbeat=settings.heartbeat,
        stall=settings.stall,
        retry=settings.sse_retry,
        catch_ups=settings.catch_ups,
    )


def _listen(host: str, port: int) -> socket.socket:
    """Bind the server's socket; what is set here, its connections inherit."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # not on Windows
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT)
    return listener


def _http_log() -> logging.Logger:
    """aiohttp's log, without tracebacks of requests that are no HTTP: that is nobody's error here."""
    http_log = logging.getLogger("aiohttp.server")
    http_log.addFilter(_is_ours)
    return http_log


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop
