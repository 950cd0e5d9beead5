"""A React page with `useChat` in a real Chromium, against a running Penstock."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SCRIPT_SECONDS = 100.0
SLOW = "The water comes down from the lake through a gate, and what passes the gate turns the wheels below it."
HTML = '<!doctype html><meta charset="utf-8"><div id="root"></div><script src="/page.js"></script>'
HOP_BY_HOP = {"transfer-encoding", "connection", "date", "server", "content-length"}


@pytest.fixture
def chromium() -> str:
    """Where there is no Chromium, the test is skipped and says so."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        pytest.skip("no Chromium here: the page cannot be looked at")
    return found


class Site:
    """Serves the page, and the API under the same origin, as a web server before both would."""

    def __init__(self, script: Path, api: str) -> None:
        self.requests: list[str] = []
        """What the page asked the API for, and the status that it got."""
        self._script = script
        self._api = api

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve inside of the `async with`; yields the address."""
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/page.js", self._bundle)
        app.router.add_route("*", "/v1/{path:.*}", self._relay)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=HTML, content_type="text/html")

    async def _bundle(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(self._script)

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, and the answer back as it comes. A page that goes away breaks off both."""
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        url = f"{self._api}{request.rel_url}"
        async with aiohttp.request(request.method, url, headers=headers, data=await request.read()) as answer:
            self.requests.append(f"{request.method} {answer.status}")
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response


async def test_a_page_that_is_loaded_again_in_the_middle_of_an_answer_goes_on_and_shows_it_once(
    penstock_up: Up, node: Node, chromium: str, tmp_path: Path
) -> None:
    script = tmp_path / "page.js"
    await asyncio.to_thread(node.run, "bundle.mjs", "ai_sdk_page.jsx", str(script))
    site = Site(script, penstock_up.base_url)
    async with site.serving() as address:
        url = f"{address}/?agent=slow&chat={uuid.uuid4()}"
        arguments = ("ai_sdk_browser.mjs", chromium, url, str(tmp_path))
        middle, whole, more, later = await asyncio.to_thread(node.run, *arguments, timeout=SCRIPT_SECONDS)

    assert (middle["status"], SLOW.startswith(middle["messages"][1]["text"])) == ("streaming", True)
    assert middle["messages"][1]["text"] != SLOW
    first, second = {"role": "user", "text": "go"}, {"role": "user", "text": "again"}
    answer = {"role": "assistant", "text": SLOW}
    assert whole["messages"] == [first, answer]
    assert more["messages"] == later["messages"] == [first, answer, second, answer]
    assert [stage["errors"] for stage in (middle, whole, more, later)] == [[], [], [], []]
    # Loaded: nothing to resume. Said. Loaded again: resumed. Said. Loaded again: nothing to resume.
    assert site.requests == ["GET 204", "POST 200", "GET 200", "POST 200", "GET 204"]
