"""A receiver of webhooks: a real HTTP server on loopback that remembers what came and answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.core.faults import WAIT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Call:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def delivery_id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """The server. Answers with the statuses in `script`, then with 200; holds answers while `gate` is closed."""

    url: str = ""
    script: list[web.Response] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def answers(self, *statuses: int, **headers: str) -> None:
        """What to answer next."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script += [web.Response(status=status, headers=named, body=b"x" * 100_000) for status in statuses]

    async def called(self, times: int = 1) -> list[Call]:
        """Return all calls, once there are so many."""
        async with asyncio.timeout(WAIT), self._news:
            await self._news.wait_for(lambda: len(self.calls) >= times)
        return self.calls

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.path_qs, headers, await request.read())
        answer = self.script.pop(0) if self.script else web.Response(text="thanks")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        async with self._news:
            self.calls.append(call)
            self._news.notify_all()
        try:
            await self.gate.wait()
        finally:
            self.at_once -= 1
        return answer


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver while the context is open."""
    receiver = Receiver()
    receiver.gate.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook"
    try:
        yield receiver
    finally:
        receiver.gate.set()
        await runner.cleanup()
