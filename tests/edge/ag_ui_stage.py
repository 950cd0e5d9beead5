"""Where the routes of AG-UI are tried: a real edge before a scripted core, and requests as its clients send them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from penstock.v1.run_pb2 import InputRequest, Run
from penstock.v1.thread_pb2 import Thread
from tests.edge.ag_ui_client import frames_of
from tests.edge.handmade_log import HandmadeLog
from tests.edge.scripted_core import ScriptedCore

LIMIT = 10.0
HI = {"id": "u1", "role": "user", "content": "Hi"}
URL = "/v1/ag-ui/echo"
Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class Stage:
    """A scripted core, an edge before it, and the requests that reached it."""

    core: ScriptedCore
    http: aiohttp.ClientSession

    def requests(self, kind: type[Request]) -> list[Request]:
        """The requests of a kind that the core got, in order."""
        return [request for request in self.core.requests if isinstance(request, kind)]

    async def ask(self, url: str = URL, **fields: Any) -> list[Any]:
        """Send a request and return the events of its stream."""
        async with asyncio.timeout(LIMIT), self.http.post(url, json=body(**fields)) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            return frames_of(await response.read())

    def thread(self, **fields: Any) -> Thread:
        """Put a thread in the core."""
        thread = Thread(id="t", **fields)
        self.core.threads.known["t"] = thread
        return thread

    def waiting(self, *questions: InputRequest, log: HandmadeLog | None = None) -> HandmadeLog:
        """Put a run in the core that waits for answers on the thread."""
        log = log or HandmadeLog()
        log.waiting(*questions)
        self.core.append(*log.events)
        self.core.log().run.thread_id = "t"
        self.thread(active_run_id="run_1")
        return log


def body(**fields: Any) -> dict[str, Any]:
    """A request, with what every request has."""
    return {"threadId": "t", "runId": "r1", "messages": [HI], "protocolVersion": "1.0", **fields}


def finished(*pieces: str) -> HandmadeLog:
    """The log of a run that said something and ended well."""
    log = HandmadeLog()
    log.text(*(pieces or ("Hi ", "there")))
    log.ended()
    return log


def put_run(core: ScriptedCore, run_id: str, client_id: str) -> Run:
    """Put a run in the core that a client of AG-UI called so."""
    run = core.log(run_id).run
    run.thread_id = "t"
    run.origin_json = f'{{"ag_ui":{{"run_id":"{client_id}"}}}}'
    return run
