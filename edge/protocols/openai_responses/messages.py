"""The entries of a request as the messages of a run: references looked up, results named, turns put together.

Owns what needs the core for that: what an agent said in an earlier run is known by the id of its item, and the name of
a tool by the call that a result answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import grpc

from edge.core import CoreClient
from edge.json_body import refused
from edge.protocols.openai_responses import contents, ids
from edge.protocols.openai_responses.input import Approved, Entry, Referred, Said
from penstock.v1.message_pb2 import Message, Part, Role
from penstock.v1.run_service_pb2 import GetRunRequest, RunView


class EarlierRuns:
    """What the agents of earlier runs said. Each run is read once, and nothing is said twice."""

    def __init__(self, core: CoreClient) -> None:
        self._core = core
        self._parts: dict[str, dict[int, Part]] = {}
        self._said: set[tuple[str, int]] = set()

    async def said(self, entry: Referred) -> Iterable[Message]:
        """Return what a reference stands for. Raises Refusal."""
        ref = ids.item_ref(entry.item_id)
        parts = {} if ref is None else await self.parts(ref.run_id)
        if ref is None or ref.ordinal not in parts:
            raise refused(f"{entry.where}.id", f"There is no item {entry.item_id[:80]!r}.")
        together = _together(parts, parts[ref.ordinal])
        key = ref.run_id, min(part.ordinal for part in together)
        if key in self._said:  # some clients refer to a call, and to its result by the same id
            return ()
        self._said.add(key)
        return [_message(part) for part in together]

    async def parts(self, run_id: str) -> dict[int, Part]:
        """Return the parts of a run by ordinal; none when there is no such run."""
        if run_id not in self._parts:
            self._parts[run_id] = await self._read(run_id)
        return self._parts[run_id]

    async def _read(self, run_id: str) -> dict[int, Part]:
        asked = GetRunRequest(run_id=run_id, view=RunView.RUN_VIEW_FULL)
        try:
            answer = await self._core.call(self._core.runs.GetRun, asked)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise
        parts = {part.ordinal: part for message in answer.messages for part in message.parts}
        result = answer.run.result_json
        return {ids.RESULT_ORDINAL: contents.text(result), **parts} if result else parts


async def to_messages(core: CoreClient, entries: Sequence[Entry], *, last_run_id: str) -> list[Message]:
    """Return what a request says. `last_run_id`: the run whose calls it may answer. Raises Refusal."""
    runs = EarlierRuns(core)
    said = [message for entry in entries for message in await _said(runs, entry)]
    await _name_results(runs, said, last_run_id)
    return _joined(said)


async def _said(runs: EarlierRuns, entry: Entry) -> Iterable[Message]:
    if isinstance(entry, Said):
        return entry.messages
    if isinstance(entry, Approved) or ids.is_question(entry.item_id):
        return ()  # a question and an answer of an earlier turn: the agent has acted on them since
    return await runs.said(entry)


def _together(parts: dict[int, Part], part: Part) -> list[Part]:
    """Return what one item stands for: a call of the agent's own tool has its result with it."""
    call_id = part.tool_call.call_id or part.tool_result.call_id
    if not call_id:
        return [part]
    calls = [other for other in parts.values() if other.tool_call.call_id == call_id]
    results = [other for other in parts.values() if other.tool_result.call_id == call_id]
    return calls[-1:] + results[-1:]


def _message(part: Part) -> Message:
    role = Role.ROLE_TOOL if part.HasField("tool_result") else Role.ROLE_ASSISTANT
    return Message(role=role, parts=[part])


async def _name_results(runs: EarlierRuns, said: Sequence[Message], last_run_id: str) -> None:
    """Set the names of tools in results that came without: from the calls of the request, else of the last run."""
    unnamed = [part.tool_result for part in _parts(said) if part.HasField("tool_result")]
    unnamed = [result for result in unnamed if not result.tool_name]
    names = {part.tool_call.call_id: part.tool_call.tool_name for part in _parts(said) if part.HasField("tool_call")}
    if last_run_id and not names.keys() >= {result.call_id for result in unnamed}:
        earlier = (await runs.parts(last_run_id)).values()
        names |= {part.tool_call.call_id: part.tool_call.tool_name for part in earlier if part.HasField("tool_call")}
    for result in unnamed:
        result.tool_name = names.get(result.call_id, "")


def _parts(said: Iterable[Message]) -> Iterable[Part]:
    return (part for message in said for part in message.parts)


def _joined(said: Iterable[Message]) -> list[Message]:
    """Put what an agent said in a row into one message: it was one turn, though OpenAI makes an item of each part."""
    joined: list[Message] = []
    for message in said:
        if joined and message.role == joined[-1].role == Role.ROLE_ASSISTANT:
            joined[-1].parts.extend(message.parts)
        else:
            joined.append(message)
    return joined
