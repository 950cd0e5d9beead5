"""The routes of chat completions and models: parse, call, encode.

Owns which calls of the core each request needs. Nothing is kept between requests.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal
from edge.fold import Fold
from edge.json_body import read_json
from edge.lifeline import run_of_client, watch_of_client
from edge.lists import all_agents
from edge.openai.bodies import THREAD_HEADER
from edge.openai.routes import below_prefixes
from edge.protocols.openai_chat import answer, errors
from edge.protocols.openai_chat.encoder import DONE, ChatEncoder
from edge.protocols.openai_chat.history import answers_to, leave_out_known
from edge.protocols.openai_chat.request import ChatRequest, parse
from edge.sse import stream
from edge.watch import Watch
from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import GetAgentRequest
from penstock.v1.run_pb2 import Run
from penstock.v1.run_service_pb2 import CreateRunRequest, SubmitInputRequest, WatchRunResponse

OWNER = "penstock"
"""Owner of agents that name none: clients expect a name."""

BROKEN_OFF = Refusal(503, "CORE_UNAVAILABLE", "The stream broke off: the core cannot be reached. The run goes on.")


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of this protocol."""
    chat = Chat(core, settings)
    return below_prefixes(
        ("POST", "/chat/completions", chat.complete),
        ("GET", "/models", chat.list_models),
        ("GET", "/models/{model:.+}", chat.get_model),
    )


class Chat:
    """The handlers."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Run an agent on the conversation and answer with what it says."""
        chat = parse(await read_json(request, max_depth=self._settings.max_json_depth), request.headers)
        waiting = await leave_out_known(self._core, chat.create)
        answers = answers_to(waiting, chat.create.input) if waiting is not None else []
        begin: CreateRunRequest | SubmitInputRequest = chat.create
        if waiting is not None and answers:
            begin = SubmitInputRequest(request_id=chat.create.request_id, run_id=waiting.id, answers=answers)
        ends_with_client = self._settings.openai_cancels_on_disconnect
        if chat.is_stream and begin is chat.create:
            async with watch_of_client(self._core, chat.create, ends_with_client=ends_with_client) as (run, watch):
                return await self._stream(request, chat, run, 0, watch)
        async with run_of_client(self._core, begin, ends_with_client=ends_with_client) as run:
            leg = waiting.leg + 1 if waiting is not None and answers else 0
            if chat.is_stream:
                return await self._stream(request, chat, run, leg, self._core.open_watch(run.id, after=0))
            return await self._wait(run, leg)

    async def list_models(self, _request: web.Request) -> web.StreamResponse:
        """List the agents."""
        models = [_model(agent) async for agent in all_agents(self._core)]
        return _json({"object": "list", "data": models})

    async def get_model(self, request: web.Request) -> web.StreamResponse:
        """Show one agent."""
        wanted = GetAgentRequest(agent_id=request.match_info["model"])
        return _json(_model((await self._core.call(self._core.agents.GetAgent, wanted)).agent))

    async def _stream(
        self, request: web.Request, chat: ChatRequest, run: Run, leg: int, watch: Watch
    ) -> web.StreamResponse:
        shows_reasoning = self._settings.openai_shows_reasoning
        encoder = ChatEncoder(leg=leg, includes_usage=chat.includes_usage, shows_reasoning=shows_reasoning)
        response = await stream(request, watch, encoder, from_start=True, headers=_headers(run))
        if not encoder.ended:  # the core stayed away: a stream that just stops would look complete
            await response.write(errors.frame(BROKEN_OFF) + DONE)
        return response

    async def _wait(self, run: Run, leg: int) -> web.StreamResponse:
        fold = await _folded(self._core, run.id, leg)
        if fold.end is not None and answer.has_failed(fold.end):
            raise errors.failure(fold.end)
        completion = answer.completion(fold, shows_reasoning=self._settings.openai_shows_reasoning)
        return _json(completion, headers=_headers(run))


async def _folded(core: CoreClient, run_id: str, leg: int) -> Fold:
    """Return the run as it is at the end of a leg. Raises Refusal when the core stays away."""
    fold = Fold()
    with core.open_watch(run_id, after=0) as watch:
        async for batch in watch:
            for event in WatchRunResponse.FromString(batch.events).events:
                fold.feed(event)
                if fold.has_leg_ended and fold.leg == leg:
                    return fold
    return fold


def _headers(run: Run) -> dict[str, str]:
    return {"X-Run-Id": run.id, THREAD_HEADER: run.thread_id}


def _model(agent: Agent) -> dict[str, object]:
    created = agent.create_time.seconds
    return {"id": agent.id, "object": "model", "created": created, "owned_by": agent.owner or OWNER}


def _json(body: dict[str, object], *, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json", headers=headers)
