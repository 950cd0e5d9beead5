"""/v1/ws: opening, listening, closing.

Owns the handshake and the translation of what a request may raise. Nothing is kept when a socket is gone: its runs go
on, and their cursors are the client's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import structlog
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal, problem, refusal_of
from edge.json_body import Members
from edge.origins import Origins, is_same
from edge.protocols.websocket import frames
from edge.protocols.websocket.requests import Requests
from edge.protocols.websocket.socket import Socket
from edge.streams import STREAMS

log = structlog.get_logger(__name__)

PATH = "/v1/ws"
MESSAGE_MARGIN = 2
"""A message over the limit is refused, and ends the socket (code 1009) only when it is this many times over."""
CLOSE_SECONDS = 1.0
"""How long a client may take to close its side."""
COME_BACK = b"The server restarts: connect again, and watch from your cursors."

NO_UPGRADE = Refusal(426, "UPGRADE_REQUIRED", "This is a WebSocket: connect with `Upgrade: websocket`.")


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the route of this protocol."""
    return [web.get(PATH, WebSockets(core, settings).connect, allow_head=False)]


class WebSockets:
    """The handler."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings
        self._origins = Origins.parse(settings.cors_origins)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve a socket until one side closes it."""
        self._check_origin(request)
        # Frames are written by socket.py: a compressed message would need aiohttp's own writer, and memory.
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=self._settings.max_body * MESSAGE_MARGIN, timeout=CLOSE_SECONDS
        )
        if not socket.can_prepare(request):
            return problem(NO_UPGRADE, {"Upgrade": "websocket"})
        await self._serve(request, socket)
        return socket

    def _check_origin(self, request: web.Request) -> None:
        """Refuse foreign pages: browsers let every page open a socket, and ask nobody first."""
        origin = request.headers.get("Origin", "")
        if origin and not is_same(origin, request.host) and not self._origins.admit(origin):
            raise Refusal(403, "ORIGIN_NOT_ALLOWED", "Pages of that origin may not call: see the setting cors_origins.")

    async def _serve(self, request: web.Request, connection: web.WebSocketResponse) -> None:
        writer = await connection.prepare(request)
        streams = request.app[STREAMS]
        async with asyncio.TaskGroup() as tasks:
            with Socket(request, writer, streams, tasks, self._settings.socket_watches) as socket:
                closer = tasks.create_task(_close_when_told(connection, socket))
                with streams.opened(socket.stream), suppress(ConnectionError):  # the client went away
                    await self._listen(connection, socket)
                if not socket.closing.is_set():
                    closer.cancel()

    async def _listen(self, connection: web.WebSocketResponse, socket: Socket) -> None:
        """Answer what the client asks, in its order: what it asks for is done before the next message is read."""
        requests = Requests(self._core, socket)
        async for message in connection:
            await socket.send(await self._answer(requests, message))

    async def _answer(self, requests: Requests, message: WSMessage) -> bytes:
        request = frames.Request()
        try:
            members = self._parse(request, message)
            return frames.result(request, await requests.carry_out(request, members))
        except Refusal as refusal:
            return frames.error(refusal, request)
        except grpc.aio.AioRpcError as error:
            return frames.error(refusal_of(error), request)
        except Exception:
            log.exception("request failed", type=request.type)
            return frames.error(Refusal(500, "INTERNAL", "Something went wrong on the server."), request)

    def _parse(self, request: frames.Request, message: WSMessage) -> Members:
        if message.type is not WSMsgType.TEXT:
            raise Refusal(400, "INVALID_FRAME", "Send text messages: each one JSON object.")
        settings = self._settings
        return request.parse(message.data, max_bytes=settings.max_body, max_depth=settings.max_json_depth)


async def _close_when_told(connection: web.WebSocketResponse, socket: Socket) -> None:
    await socket.closing.wait()
    socket.unwatch_all()
    await connection.close(code=WSCloseCode.SERVICE_RESTART, message=COME_BACK)
