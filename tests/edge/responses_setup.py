"""What tests of the responses over HTTP share: a scripted core that tells of cancels, a client, and logs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from edge.protocols.openai_responses.origin import Origin
from penstock.v1.run_pb2 import EndReason, InputRequest, Run
from penstock.v1.run_service_pb2 import CancelRunRequest
from tests.edge.handmade_log import RUN, HandmadeLog
from tests.edge.scripted_calls import Context
from tests.edge.scripted_core import ScriptedCore

LIMIT = 10.0
URL = "/v1/responses"

Request = TypeVar("Request")


class TellingCore(ScriptedCore):
    """A core that tells when it is asked to cancel a run, and can end it then."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: asyncio.Future[CancelRunRequest] = asyncio.get_running_loop().create_future()
        self.after_cancel: HandmadeLog | None = None

    async def note(self, rpc: str, request: object, context: Context) -> None:
        await super().note(rpc, request, context)
        if isinstance(request, CancelRunRequest):
            self.cancelled.set_result(request)
            if self.after_cancel is not None:
                self.after_cancel.ended(EndReason.END_REASON_USER)
                self.append(self.after_cancel.events[-1])


@dataclass(frozen=True, slots=True)
class Setup:
    """A core, and a client of the edge before it."""

    core: TellingCore
    http: aiohttp.ClientSession

    def asked(self, kind: type[Request]) -> list[Request]:
        """The requests of one RPC that reached the core."""
        return [request for request in self.core.requests if isinstance(request, kind)]

    async def post(self, path: str = URL, **fields: Any) -> tuple[int, dict[str, Any]]:
        body = {"model": "echo", "input": "Hello", **fields} if path == URL else fields
        async with asyncio.timeout(LIMIT), self.http.post(path, json=body) as response:
            return response.status, await response.json()

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
        async with asyncio.timeout(LIMIT), self.http.request(method, path) as response:
            return response.status, await response.json()

    async def stream(self, path: str) -> list[dict[str, Any]]:
        async with asyncio.timeout(LIMIT), self.http.get(path) as response:
            assert response.status == 200
            return frames(await response.text())


def frames(stream: str) -> list[dict[str, Any]]:
    return [json.loads(frame.partition("data: ")[2]) for frame in stream.split("\n\n") if "data: " in frame]


def finished(origin: Origin | None = None) -> HandmadeLog:
    log = HandmadeLog(with_origin(origin or Origin()))
    log.text("Hi ", "there")
    log.ended()
    return log


def with_origin(origin: Origin) -> Run:
    run = Run(origin_json=origin.to_json())
    run.MergeFrom(RUN)
    return run


def waiting(*questions: InputRequest) -> HandmadeLog:
    log = HandmadeLog(with_origin(Origin()))
    log.text("Well. ")
    log.waiting(*questions)
    return log
