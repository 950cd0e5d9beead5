"""The handlers of responses: parse, call, encode.

Owns which calls of the core each request needs. Nothing is kept between requests: a response id names its run and leg.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import msgspec
from aiohttp import web

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal
from edge.json_body import read_json
from edge.lifeline import run_of_client
from edge.openai.bodies import THREAD_HEADER
from edge.openai.errors import error_object
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.answers import answers
from edge.protocols.openai_responses.encoder import ResponsesEncoder
from edge.protocols.openai_responses.frames import frame
from edge.protocols.openai_responses.input import behind_last_answer
from edge.protocols.openai_responses.input_items import input_items
from edge.protocols.openai_responses.leg import Leg
from edge.protocols.openai_responses.lists import page
from edge.protocols.openai_responses.messages import to_messages
from edge.protocols.openai_responses.origin import instructions_message, read_origin
from edge.protocols.openai_responses.place import Place, find_place, fork_thread
from edge.protocols.openai_responses.request import ResponseRequest, parse
from edge.protocols.openai_responses.response import deleted, response
from edge.run_states import ENDED
from edge.sse import stream_run
from penstock.v1.run_pb2 import Run, RunState
from penstock.v1.run_service_pb2 import (
    CancelRunRequest,
    CreateRunRequest,
    DeleteRunRequest,
    GetRunRequest,
    SubmitInputRequest,
    WatchRunResponse,
)

CANCEL_SECONDS = 15.0
"""How long a cancel waits for the end that it asked for: longer than handlers usually get to clean up."""

BROKEN_OFF = Refusal(503, "CORE_UNAVAILABLE", "The stream broke off: the core cannot be reached. The response goes on.")


class Responses:
    """The handlers of responses."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Run an agent, or go on with a run that waits, and answer with what it says."""
        asked = parse(await read_json(request, max_depth=self._settings.max_json_depth), request.headers)
        place = await find_place(self._core, asked)
        if place.waiting is None:
            begin: CreateRunRequest | SubmitInputRequest = await self._create_request(asked, place)
        else:
            begin = _submit_request(asked, place.waiting)
        # Who waits for the whole answer, or does not want it stored, can never come back to it.
        ends_with_client = self._settings.openai_cancels_on_disconnect and not (
            asked.origin.store and (asked.is_stream or asked.origin.background)
        )
        async with run_of_client(self._core, begin, ends_with_client=ends_with_client) as run:
            return await self._deliver(request, asked, _begun(run, place.waiting), run.thread_id)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Show a response as it is now, or its events behind a cursor."""
        ref, run = await self._find(request)
        headers = _headers(run.id, run.thread_id)
        if request.query.get("stream") == "true":
            is_resumed = "starting_after" in request.query
            after = query.integer(request, "starting_after") if is_resumed else -1
            return await self._stream(request, ref, headers, starting_after=after)
        leg = Leg(ref.leg)
        await self._follow(run.id, leg, until_end=False)
        return _json(response(leg), headers)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Stop a response and show how it ended; one that has ended is shown as it is."""
        ref, run = await self._find(request)
        if run.state not in ENDED and run.leg <= ref.leg:  # else it goes on as another response
            await self._core.call(self._core.runs.CancelRun, CancelRunRequest(run_id=run.id))
        leg = Leg(ref.leg)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._follow(run.id, leg, until_end=True)
        return _json(response(leg), _headers(run.id, run.thread_id))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a response with its run, of which there may be other responses; stop it first when it goes on."""
        ref, run = await self._find(request)
        await self._core.call(self._core.runs.DeleteRun, DeleteRunRequest(run_id=run.id, cancel=True))
        return _json(deleted(ref))

    async def input_items(self, request: web.Request) -> web.StreamResponse:
        """List what a response was given."""
        ref, _ = await self._find(request)
        return _json(page(request, await input_items(self._core, ref)))

    async def _create_request(self, asked: ResponseRequest, place: Place) -> CreateRunRequest:
        new = await to_messages(self._core, asked.entries, last_run_id=place.last_run_id)
        instructions = [instructions_message(asked.instructions)] if asked.instructions else []
        return CreateRunRequest(
            request_id=asked.request_id,
            agent_id=asked.agent_id,
            thread_id=await fork_thread(self._core, place, asked),
            input=[*instructions, *new],
            options=asked.options,
            metadata=asked.metadata,
            origin_json=asked.origin.to_json(),
        )

    async def _find(self, request: web.Request) -> tuple[ids.ResponseRef, Run]:
        """Return the response of a path, and its run. Raises Refusal when there is none, or none that was stored."""
        response_id = request.match_info["response_id"]
        ref = ids.response_ref(response_id)
        if ref is None:
            raise _not_found(response_id)
        run = (await self._core.call(self._core.runs.GetRun, GetRunRequest(run_id=ref.run_id))).run
        if not _has_leg(run, ref.leg) or not read_origin(run.origin_json).store:
            raise _not_found(response_id)
        return ref, run

    async def _deliver(
        self, request: web.Request, asked: ResponseRequest, ref: ids.ResponseRef, thread_id: str
    ) -> web.StreamResponse:
        headers = _headers(ref.run_id, thread_id)
        if asked.is_stream:
            return await self._stream(request, ref, headers, starting_after=-1)
        leg = Leg(ref.leg, asked.origin)
        await self._follow(ref.run_id, leg, until_end=not asked.origin.background)
        return _json(response(leg), headers)

    async def _stream(
        self, request: web.Request, ref: ids.ResponseRef, headers: Mapping[str, str], *, starting_after: int
    ) -> web.StreamResponse:
        encoder = ResponsesEncoder(leg=ref.leg, starting_after=starting_after)
        answer = await stream_run(request, self._core, ref.run_id, encoder, from_start=True, headers=headers)
        if not encoder.ended:  # the core stayed away: a stream that just stops would look complete
            await answer.write(_error_frame(BROKEN_OFF, encoder))
        return answer

    async def _follow(self, run_id: str, leg: Leg, *, until_end: bool) -> None:
        """Fold a run to the end of a leg, or only as far as it has come. Raises Refusal when the core stays away."""
        with self._core.open_watch(run_id, after=0) as watch:
            async for batch in watch:
                for event in WatchRunResponse.FromString(batch.events).events:
                    leg.feed(event)
                if leg.has_ended or (batch.caught_up and not until_end):
                    return


def _submit_request(asked: ResponseRequest, waiting: Run) -> SubmitInputRequest:
    return SubmitInputRequest(
        request_id=asked.request_id,
        run_id=waiting.id,
        answers=answers(waiting, behind_last_answer(asked.entries)),
        origin_json=msgspec.structs.replace(asked.origin, metadata=dict(asked.metadata) or None).to_json(),
    )


def _begun(run: Run, waiting: Run | None) -> ids.ResponseRef:
    """Return the response that a request began. A run that was answered may resume a moment later."""
    if waiting is None:
        return ids.ResponseRef(run.id, 0)
    following = waiting.leg + 1 if waiting.state == RunState.RUN_STATE_WAITING else 0
    return ids.ResponseRef(run.id, max(run.leg, following))


def _has_leg(run: Run, leg: int) -> bool:
    """Tell whether a leg is there: one that answers have just begun may not be in the log yet."""
    is_answered = run.state == RunState.RUN_STATE_WAITING and not run.inputs
    return leg <= run.leg or (leg == run.leg + 1 and is_answered)


def _not_found(response_id: str) -> Refusal:
    return Refusal(404, "RUN_NOT_FOUND", f"There is no response {response_id[:80]!r}.", field="response_id")


def _error_frame(refusal: Refusal, encoder: ResponsesEncoder) -> bytes:
    """Return the last frame of a stream that broke off: flat for the types, nested for the clients, which then raise.

    It is no event of the response, so it takes no number of its own: a client that resumes behind it misses nothing.
    """
    error = error_object(refusal)
    flat = {"code": error["code"], "message": error["message"], "param": error["param"]}
    return frame("error", {**flat, "error": error}, number=max(encoder.frames.count - 1, 0))


def _headers(run_id: str, thread_id: str) -> dict[str, str]:
    return {"X-Run-Id": run_id, THREAD_HEADER: thread_id}


def _json(body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers)
