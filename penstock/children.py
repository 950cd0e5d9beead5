"""Runs of other agents that a run starts: each is a durable step, so that it is started once (ENGINE.md D8).

The child lives on its own: the core cancels it when its parent ends. Here it is created, watched and told of.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from penstock.begun import Begun
from penstock.calls import Patience
from penstock.client.run_text import RunText
from penstock.client.watches import OpenWatch, events
from penstock.errors import RunFailed
from penstock.input import to_messages
from penstock.json_text import from_json, mend
from penstock.line import Line, cuts_pass
from penstock.reasons import reason_name, reason_number
from penstock.relay import Relay
from penstock.scopes import Scope
from penstock.steps import recall, record, to_record
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.run_pb2 import RunError, RunOptions, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, CreateRunResponse, WatchRunRequest, WatchRunResponse
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.worker_service_pb2 import ChildEndedOutput, ChildStartedOutput, Output

if TYPE_CHECKING:
    import grpc.aio

MAX_REQUEST_ID = 128


@dataclass(frozen=True, slots=True)
class ChildRun:
    """How a run that was called has ended."""

    run_id: str
    agent_id: str
    state: Literal["succeeded", "failed", "cancelled"]
    reason: str
    """COMPLETED, TIMEOUT … as in EndReason."""
    text: str
    """What it answered."""
    result_json: str = ""
    error_code: str = ""
    error_message: str = ""

    @property
    def result(self) -> object:
        """What it returned, when that was not text; None when it returned nothing."""
        return from_json(self.result_json)


def call(
    scope: Scope,
    agent_id: str,
    given: object,
    *,
    thread_id: str,
    stream: bool,
    name: str,
    call_id: str,
    options: RunOptions | None,
    metadata: Mapping[str, str] | None,
    check: bool,
    caller: object = None,
) -> Coroutine[object, object, ChildRun]:
    """Call an agent now; what is returned starts its run and waits for the end of it."""
    request = CreateRunRequest(
        agent_id=agent_id,
        thread_id=thread_id,
        input=to_messages(given),
        options=options,
        metadata=metadata,
        parent_call_id=call_id,
    )
    args_hash = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()[:16]
    key = scope.begin(agent_id)
    request.parent_run_id = scope.attempt.run_id
    request.request_id = _request_id(scope.attempt.run_id, key)
    child = _Child(scope, key, request, args_hash=args_hash, name=name, stream=stream)
    return Begun(_perform(child, caller, check=check), lambda: scope.over(key))


async def _perform(child: _Child, caller: object, *, check: bool) -> ChildRun:
    recorded = recall(child.scope, child.key, child.args_hash)
    if recorded is None:
        recorded = await child.run(caller or asyncio.current_task())
    ended = msgspec.json.decode(recorded, type=ChildRun)
    if check and ended.state != "succeeded":
        raise RunFailed(ended.run_id, _end(ended))
    return ended


class _Child:
    """One call of an agent."""

    def __init__(
        self, scope: Scope, key: str, request: CreateRunRequest, *, args_hash: bytes, name: str, stream: bool
    ) -> None:
        self.scope = scope
        self.key = key
        self.args_hash = args_hash
        self._attempt = scope.attempt
        self._request = request
        self._name = name
        self._stream = stream

    async def run(self, caller: object) -> str:
        """Start it, wait for its end, and record how it ended. Returns what is recorded."""
        created = await self._attempt.line.call(self._create)
        # Its lane is also that of the step: so what it says lies inside the step, whatever runs beside it.
        with self.scope.open(
            self.key,
            name=self._name or self._request.agent_id,
            args_hash=self.args_hash,
            caller=caller,
            lane=created.run.id,
        ) as step:
            ended = await self._follow(step, created.run.id)
            result_json = to_record(step, asdict(ended))
            await record(step, result_json)
        return result_json

    async def _create(self, channel: grpc.aio.Channel) -> CreateRunResponse:
        return await RunServiceStub(channel).CreateRun(self._request)

    async def _follow(self, step: Scope, run_id: str) -> ChildRun:
        request = self._request
        started = ChildStartedOutput(
            child_run_id=run_id, agent_id=request.agent_id, name=mend(self._name), call_id=request.parent_call_id
        )
        self._attempt.add(Output(lane=step.lane, child_started=started))
        told, relay = RunText(), Relay(run_id)
        with step.calling():
            async for event in events(_watch(self._attempt.line), run_id=run_id, patience=Patience(float("inf"))):
                told.feed(event)
                for output in relay.outputs(event) if self._stream else ():
                    await self._attempt.outbox.room()
                    self._attempt.add(output)
        end = told.end
        ended = ChildEndedOutput(child_run_id=run_id, state=end.state, reason=end.reason)
        self._attempt.add(Output(lane=step.lane, child_ended=ended))
        return ChildRun(
            run_id=run_id,
            agent_id=request.agent_id,
            state=_STATES.get(end.state, "failed"),
            reason=reason_name(end.reason),
            text=told.text,
            result_json=end.result_json,
            error_code=end.error.code,
            error_message=end.error.message,
        )


def _watch(line: Line) -> OpenWatch:
    """Calls for the events of a run, on the worker's own connection."""

    async def open_watch(run_id: str, after: int) -> AsyncGenerator[WatchRunResponse, None]:
        channel = await line.channel()
        with cuts_pass():
            batches = RunServiceStub(channel).WatchRun(WatchRunRequest(run_id=run_id, after_seq=after))
            try:
                async for batch in batches:
                    yield batch
            finally:
                batches.cancel()

    return open_watch


def _request_id(run_id: str, key: str) -> str:
    """The same in every attempt: so that the child is started once."""
    whole = f"{run_id}/{key}"
    return whole if len(whole) <= MAX_REQUEST_ID else f"{run_id}/{hashlib.sha256(key.encode()).hexdigest()}"


def _end(child: ChildRun) -> RunEnded:
    return RunEnded(
        state=next(state for state, name in _STATES.items() if name == child.state),
        reason=reason_number(child.reason),
        error=RunError(code=child.error_code, message=child.error_message),
        result_json=child.result_json,
    )


_STATES: Mapping[RunState.ValueType, Literal["succeeded", "failed", "cancelled"]] = {
    RunState.RUN_STATE_SUCCEEDED: "succeeded",
    RunState.RUN_STATE_FAILED: "failed",
    RunState.RUN_STATE_CANCELLED: "cancelled",
}
