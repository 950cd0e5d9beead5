"""The routes of AG-UI: parse, call, encode.

Owns which calls of the core each request needs. Nothing is kept between requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from msgspec import Raw, Struct
from msgspec.json import Decoder

from edge import query
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal
from edge.json_body import read_json, refused
from edge.protocols.ag_ui.capabilities import capabilities_of
from edge.protocols.ag_ui.conversation import entries_of, put_aside
from edge.protocols.ag_ui.encoder import AgUiEncoder, View
from edge.protocols.ag_ui.frames import to_json
from edge.protocols.ag_ui.history import History, compare
from edge.protocols.ag_ui.origin import ids_of, origin_json, request_key, thread_id_of
from edge.protocols.ag_ui.refusals import error_frame
from edge.protocols.ag_ui.replay import whole_thread
from edge.protocols.ag_ui.request import AgUiRequest, decode, parse
from edge.protocols.ag_ui.resume import run_to_resume, submit_answers
from edge.protocols.ag_ui.state import state_for_run, unknown_to_client
from edge.protocols.ag_ui.threads import active_runs, look_up
from edge.sse import HEADERS, stream_run
from penstock.v1.agent_service_pb2 import GetAgentRequest
from penstock.v1.run_pb2 import EndReason, Run, RunState
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest

BROKEN_OFF = Refusal(503, "CORE_UNAVAILABLE", "The stream broke off: the core cannot be reached. The run goes on.")


class StopBody(Struct, rename="camel"):
    """What a stop may name: one run instead of all."""

    run_id: str | None = None


_STOP = Decoder(StopBody)


@dataclass(frozen=True, slots=True)
class Shown:
    """A run, and what its client is to see of it."""

    run_id: str
    view: View
    after: int = 0
    """Seq behind which the stream begins, at the earliest."""


class AgUi:
    """The handlers."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def run(self, request: web.Request) -> web.StreamResponse:
        """Run an agent on what is new in the conversation, or go on with the run that waits for this request."""
        match = request.match_info
        return await self.run_agent(request, await self.body(request), match.get("agent", ""), match.get("thread"))

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Replay a thread, then show what runs on it."""
        return await self.connect_thread(request, await self.body(request))

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """Cancel what runs and waits on a thread."""
        body = decode(await self.body(request), _STOP) if request.can_read_body else StopBody()
        return await self.stop_thread(request.match_info["thread"], body.run_id)

    async def capabilities(self, request: web.Request) -> web.StreamResponse:
        """Tell what an agent can do."""
        wanted = GetAgentRequest(agent_id=request.match_info["agent"])
        return json_response(capabilities_of((await self._core.call(self._core.agents.GetAgent, wanted)).agent))

    async def body(self, request: web.Request) -> Raw:
        """Return the body as JSON of good syntax."""
        return await read_json(request, max_depth=self._settings.max_json_depth)

    async def run_agent(
        self, request: web.Request, body: Raw, agent_id: str, thread_id: str | None = None
    ) -> web.StreamResponse:
        """Run the agent that the path names, else the body, else the settings."""
        shown = await self._begin(request, parse(body, thread_id=thread_id), agent_id)
        del body  # a stream is long
        return await self._stream(request, shown)

    async def connect_thread(self, request: web.Request, body: Raw) -> web.StreamResponse:
        """Answer with the thread in snapshots, and the rest of its active run as it comes."""
        asked = parse(body)
        known = await look_up(self._core, thread_id_of(asked.thread_id))
        if known is None or known.active is None:
            return web.Response(body=whole_thread(asked, known), headers=HEADERS)
        last_seq = known.active.last_seq
        view = View(
            asked.thread_id,
            asked.dialect,
            joins_at=last_seq,
            earlier=put_aside(entries_of(known.messages, asked.dialect)),
            state_json=known.thread.state_json,
            state_version=known.thread.state_version,
        )
        shown = Shown(known.active.id, view, last_seq - 1)
        del body, asked, known  # a stream is long
        return await self._stream(request, shown)

    async def stop_thread(self, client_thread_id: str, client_run_id: str | None) -> web.StreamResponse:
        """Cancel the runs of a thread, the one that is named or all: the newest first, so that none moves up."""
        runs = await active_runs(self._core, thread_id_of(client_thread_id))
        stopped = [run.id for run in runs if client_run_id in (None, run.id, _client_run_id(run))]
        for run_id in stopped:
            cancel = CancelRunRequest(run_id=run_id, reason=EndReason.END_REASON_USER)
            await self._core.call(self._core.runs.CancelRun, cancel)
        return json_response({"stopped": bool(stopped), "runs": stopped})

    async def _begin(self, request: web.Request, asked: AgUiRequest, agent_id: str) -> Shown:
        known = await look_up(self._core, thread_id_of(asked.thread_id))
        history = compare(asked, known)
        waiting = await run_to_resume(self._core, history)
        request_id = query.idempotency_key(request) or request_key(asked.thread_id, asked.ids.run_id)
        if waiting is not None:
            return await self._resume(waiting, history, request_id)
        agent_id = agent_id or asked.agent_id or self._settings.default_agent
        if not agent_id:
            raise refused("agentId", "Which agent is to run? Name it in the path, or as agentId.")
        return await self._create(history, agent_id, request_id)

    async def _create(self, history: History, agent_id: str, request_id: str) -> Shown:
        asked = history.asked
        create = CreateRunRequest(
            request_id=request_id,
            agent_id=agent_id,
            thread_id=thread_id_of(asked.thread_id),
            input=history.input(),
            options=asked.options,
            origin_json=origin_json(asked.ids),
        )
        create.state_json = state_for_run(asked, history.known)
        is_carried = bool(create.state_json)
        run = (await self._core.call(self._core.runs.CreateRun, create)).run
        return Shown(run.id, _view(history, earlier_without="", has_state=is_carried))

    async def _resume(self, waiting: Run, history: History, request_id: str) -> Shown:
        run = await submit_answers(self._core, waiting, history, request_id)
        after = waiting.last_seq if waiting.state == RunState.RUN_STATE_WAITING else 0
        return Shown(run.id, _view(history, leg=run.leg, earlier_without=run.id), after)

    async def _stream(self, request: web.Request, shown: Shown) -> web.StreamResponse:
        encoder = AgUiEncoder(shown.view)
        headers = {"X-Run-Id": shown.run_id}
        response = await stream_run(
            request, self._core, shown.run_id, encoder, after=shown.after, from_start=True, headers=headers
        )
        if not encoder.ended:  # the core stayed away: a stream that just stops would look complete
            await response.write(error_frame(BROKEN_OFF))
        return response


def json_response(body: object) -> web.Response:
    """Answer with an object."""
    return web.Response(body=to_json(body), content_type="application/json")


def _view(history: History, *, leg: int = 0, earlier_without: str, has_state: bool = False) -> View:
    asked = history.asked
    state = unknown_to_client(None if has_state else history.known, asked.state_json)
    earlier = history.earlier(without=earlier_without)
    return View(asked.thread_id, asked.dialect, leg, 0, earlier, state.json, state.version)


def _client_run_id(run: Run) -> str:
    return ids_of(run.origin_json, otherwise=run.id).run_id
