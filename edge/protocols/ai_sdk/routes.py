"""The routes of a chat: parse, decide, call, encode.

Owns which calls of the core each request needs. Nothing is kept between requests: what a response needs to know of an
earlier one stands in the run. A client that goes away stops nothing; stopping is a route.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
from aiohttp import web

from edge import query
from edge.answering import answering
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.json_body import read_json
from edge.protocols.ai_sdk import chunks, errors
from edge.protocols.ai_sdk.conversation import active_runs, read_conversation
from edge.protocols.ai_sdk.encoder import MessageEncoder, Prelude
from edge.protocols.ai_sdk.origin import origin_of
from edge.protocols.ai_sdk.request import ChatRequest, parse
from edge.protocols.ai_sdk.text import TextEncoder
from edge.protocols.ai_sdk.turns import Answer, Ask, Attach, decide
from edge.protocols.ai_sdk.window import Window
from edge.sse import stream_run
from edge.streams import STREAMS
from penstock.v1.run_pb2 import EndReason, Run, RunState, Usage
from penstock.v1.run_service_pb2 import CancelRunRequest, GetRunRequest, WatchRunResponse

APIS = (
    "/v1/ai-sdk/chat",
    "/v1/ai-sdk/agents/{agent}/runs",
    "/v1/ai-sdk/threads/{thread}/runs",
    "/v1/ai-sdk/{agent}",
)
"""What a client may be given as its `api`."""

MOST_ACTIVE = 1000
"""Runs of one chat that one stop cancels; a thread takes far fewer."""

STREAM_HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
TEXT_HEADERS = {"Content-Type": "text/plain; charset=utf-8"}

BROKEN_OFF = chunks.frame("error", errorText="The stream broke off: the server cannot be reached. The run goes on.")


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of this protocol."""
    chats = Chats(core, settings)
    handlers = (
        ("POST", "", chats.submit),
        ("GET", "/{chat}/stream", chats.resume),
        ("DELETE", "/{chat}/stream", chats.stop),
        ("POST", "/{chat}/stop", chats.stop),
    )
    return [
        web.route(method, api + path, answering(handler, errors.response))
        for api in APIS
        for method, path, handler in handlers
    ]


class Chats:
    """The handlers."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Take what is new in a chat to the core, and answer with what the agent says to it."""
        chat = await self._parse(request)
        turn = decide(chat, await read_conversation(self._core, chat.thread_id, with_ids=chat.needs_ids))
        match turn:
            case Ask():
                run = await self._ask(turn)
                return await self._tell(request, run, Window(last_leg=run.leg))  # it may have been asked before
            case Answer():
                return await self._answer(request, turn)
            case Attach():
                run = (await self._core.call(self._core.runs.GetRun, GetRunRequest(run_id=turn.run_id))).run
                return await self._tell(request, run, Window(behind=turn.behind, last_leg=run.leg))
            case unheard_of:
                assert_never(unheard_of)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Tell the message that is being written, from its start; 204 when none is."""
        runs = await active_runs(self._core, _thread(request), most=MOST_ACTIVE)
        if not runs:
            return web.Response(status=204)
        run = runs[0]
        async with request.app[STREAMS].catch_ups:
            earlier = [await self._prelude(run_id) for run_id in origin_of(run).earlier_runs]
        return await self._tell(request, run, Window(last_leg=run.leg), earlier=b"".join(earlier))

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """Cancel what runs or waits in a chat."""
        runs = await active_runs(self._core, _thread(request), most=MOST_ACTIVE)
        for run in runs:
            await self._cancel(run.id, EndReason.END_REASON_USER)
        body = msgspec.json.encode({"stopped": [run.id for run in runs]})
        return web.Response(body=body, content_type="application/json")

    async def _parse(self, request: web.Request) -> ChatRequest:
        return parse(
            await read_json(request, max_depth=self._settings.max_json_depth),
            agent_id=request.match_info.get("agent", ""),
            thread_id=_thread(request),
            default_agent=self._settings.default_agent,
            idempotency_key=query.idempotency_key(request),
        )

    async def _ask(self, turn: Ask) -> Run:
        """Make the run. The one whose place it takes is cancelled once it is made; one that waits lets no other in."""
        old = turn.instead_of
        if old is not None and old.state == RunState.RUN_STATE_WAITING:
            await self._cancel(old.id, EndReason.END_REASON_SUPERSEDED)
        run = (await self._core.call(self._core.runs.CreateRun, turn.create)).run
        if old is not None and old.state != RunState.RUN_STATE_WAITING:
            await self._cancel(old.id, EndReason.END_REASON_SUPERSEDED)
        return run

    async def _answer(self, request: web.Request, turn: Answer) -> web.StreamResponse:
        run = (await self._core.call(self._core.runs.SubmitInput, turn.submit)).run
        if turn.is_whole:
            return await self._tell(request, run, Window(behind=turn.inputs, last_leg=run.leg))
        body = chunks.start(run) + chunks.finish(chunks.TOOL_CALLS, Usage()) + chunks.DONE
        return web.Response(body=body, headers={"Content-Type": "text/event-stream", **STREAM_HEADERS, **_names(run)})

    async def _cancel(self, run_id: str, reason: EndReason.ValueType) -> None:
        await self._core.call(self._core.runs.CancelRun, CancelRunRequest(run_id=run_id, reason=reason))

    async def _prelude(self, run_id: str) -> bytes:
        encoder, frames = Prelude(), []
        async for batch in self._core.watch(run_id, after=0):
            frames += [encoder.feed(event) for event in WatchRunResponse.FromString(batch.events).events]
        return b"".join(frames)

    async def _tell(
        self, request: web.Request, run: Run, window: Window, *, earlier: bytes | None = None
    ) -> web.StreamResponse:
        if _wants_text(request):
            return await self._tell_text(request, run, window)
        encoder = MessageEncoder(window, earlier=earlier)
        headers = {**STREAM_HEADERS, **_names(run)}
        response = await stream_run(request, self._core, run.id, encoder, from_start=True, headers=headers)
        if not encoder.ended:  # the core stayed away: a stream that just stops would look complete
            await response.write(BROKEN_OFF + chunks.DONE)
        return response

    async def _tell_text(self, request: web.Request, run: Run, window: Window) -> web.StreamResponse:
        encoder = TextEncoder(window)
        headers = {**TEXT_HEADERS, **_names(run)}
        response = await stream_run(request, self._core, run.id, encoder, from_start=True, headers=headers, comment=b"")
        if encoder.has_failed or not encoder.ended:
            raise ConnectionResetError("text cannot tell a failure: the connection is cut instead")
        return response


def _thread(request: web.Request) -> str:
    """Return the thread that the path names: as such, or as the chat."""
    return request.match_info.get("thread") or request.match_info.get("chat", "")


def _wants_text(request: web.Request) -> bool:
    return request.query.get("protocol") == "text" or request.headers.get("Accept", "").startswith("text/plain")


def _names(run: Run) -> dict[str, str]:
    return {"X-Run-Id": run.id, "X-Thread-Id": run.thread_id}
