"""What a chat request asks of the core: a decision over the request and the conversation, without I/O.

The thread is believed, not the request: a client sends its whole history every time, and what of it is new is found by
the ids of its messages. An answer of the agent is never new to a thread that has messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
from msgspec import Raw

from edge.errors import Refusal
from edge.json_body import compact, refused
from edge.protocols.ai_sdk.conversation import ACTIVE, Conversation
from edge.protocols.ai_sdk.messages import UIMessage, UIPart, read_parts, to_messages, tool_result
from edge.protocols.ai_sdk.origin import origin_after, origin_of
from edge.protocols.ai_sdk.request import ChatRequest
from penstock.v1.message_pb2 import Message, Part, Role, ToolOutcome, ToolResultPart
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputOutcome, InputRequest, Run, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, SubmitInputRequest


@dataclass(frozen=True, slots=True)
class Ask:
    """A new run."""

    create: CreateRunRequest
    instead_of: Run | None = None
    """The run whose place it takes: its message is asked again before it has ended."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers to questions of the run that waits."""

    submit: SubmitInputRequest
    is_whole: bool
    """No question of the run stays open."""

    @property
    def inputs(self) -> frozenset[str]:
        """The questions."""
        return frozenset(answer.input_id for answer in self.submit.answers)


@dataclass(frozen=True, slots=True)
class Attach:
    """A run that there is already: the request was sent before, and its response was lost."""

    run_id: str
    behind: frozenset[str] = frozenset()
    """The questions that it answered."""


Turn: TypeAlias = Ask | Answer | Attach


def decide(chat: ChatRequest, held: Conversation) -> Turn:
    """Decide. Raises Refusal when nothing is new."""
    last = chat.messages[-1]
    if last.role == "assistant":
        return _go_on(chat, last, held.newest)
    run_id = held.runs.get(last.id)
    if run_id is None:
        return Ask(_create(chat, _new_messages(chat, held), key=[last.id] if last.id else []))
    if not chat.asks_again:
        return Attach(run_id)
    active = held.newest if held.newest is not None and held.newest.state in ACTIVE else None
    again = _create(chat, to_messages(last, _where(chat, last), client_id=""))
    again.metadata["asked_again"] = last.id
    return Ask(again, instead_of=active)


def _go_on(chat: ChatRequest, last: UIMessage, run: Run | None) -> Turn:
    """Go on with the agent's last message: with answers to its questions, or with results of the client's tools."""
    if run is None or origin_of(run).message_id != last.id:
        raise _nothing_new()
    parts = read_parts(last, _where(chat, last))
    if run.state == RunState.RUN_STATE_WAITING:
        return _answer(chat, run, parts)
    results = _pending_results(run, parts)
    if results:
        call_ids = [result.call_id for result in results]
        create = _create(chat, [_tool_message(results)], key=[last.id, *call_ids])
        create.origin_json = origin_after(run)
        return Ask(create)
    answered = {part.approval.id for part in parts if part.approval and part.state == "approval-responded"}
    if answered:
        return Attach(run.id, behind=frozenset(answered))
    raise _nothing_new()


def _answer(chat: ChatRequest, run: Run, parts: Sequence[UIPart]) -> Answer:
    found = (_answer_in(parts, asked) for asked in run.inputs if asked.id not in chat.answers)
    answers = [answer for answer in found if answer is not None]
    answers += [_plain_answer(input_id, raw) for input_id, raw in chat.answers.items()]
    if not answers:
        raise _nothing_new()
    submit = SubmitInputRequest(
        request_id=chat.idempotency_key,
        run_id=run.id,
        answers=answers,
        origin_json=run.origin_json,
    )
    open_after = {asked.id for asked in run.inputs} - {answer.input_id for answer in answers}
    return Answer(submit, is_whole=not open_after)


def _answer_in(parts: Sequence[UIPart], asked: InputRequest) -> InputAnswer | None:
    for part in parts:
        if asked.kind == InputKind.INPUT_KIND_APPROVAL and part.approval and part.approval.id == asked.id:
            if part.state == "approval-responded":
                comment = {"comment": part.approval.reason} if part.approval.reason else {}
                return _answered(asked.id, {"approved": bool(part.approval.approved), **comment})
        elif asked.kind == InputKind.INPUT_KIND_CLIENT_TOOL and part.tool_call_id == asked.call_id:
            result = tool_result(part)
            if result is not None:
                return _answered(asked.id, _told(result))
    return None


def _told(result: ToolResultPart) -> dict[str, object]:
    """Return a client tool's result as the answer to the question for it."""
    if result.outcome == ToolOutcome.TOOL_OUTCOME_SUCCEEDED:
        return {"output": Raw(result.output_json.encode())}
    return {"error_text": result.error_text}


def _answered(input_id: str, answer: dict[str, object]) -> InputAnswer:
    answer_json = msgspec.json.encode(answer).decode()
    return InputAnswer(input_id=input_id, outcome=InputOutcome.INPUT_OUTCOME_ANSWERED, answer_json=answer_json)


def _plain_answer(input_id: str, raw: Raw) -> InputAnswer:
    if bytes(raw) == b"null":
        return InputAnswer(input_id=input_id, outcome=InputOutcome.INPUT_OUTCOME_DECLINED)
    outcome = InputOutcome.INPUT_OUTCOME_ANSWERED
    return InputAnswer(input_id=input_id, outcome=outcome, answer_json=compact(raw))


def _new_messages(chat: ChatRequest, held: Conversation) -> list[Message]:
    """Return what the thread lacks: to an empty one all, else what stands behind the last answer and is not known."""
    if not held.has_messages:
        return _to_messages(chat, chat.messages)
    new = _to_messages(chat, [said for said in chat.tail if said.id not in held.runs])
    return [*_results_left(chat, held.newest), *new]


def _results_left(chat: ChatRequest, run: Run | None) -> list[Message]:
    """Return the results of the client's tools, if it says something before it has sent them."""
    if run is None or not run.pending_call_ids or len(chat.tail) == len(chat.messages):
        return []
    answer = chat.messages[-len(chat.tail) - 1]
    if origin_of(run).message_id != answer.id:
        return []
    results = _pending_results(run, read_parts(answer, _where(chat, answer)))
    return [_tool_message(results)] if results else []


def _pending_results(run: Run, parts: Sequence[UIPart]) -> list[ToolResultPart]:
    results = [tool_result(part) for part in parts if part.tool_call_id in run.pending_call_ids]
    return [result for result in results if result is not None]


def _tool_message(results: Sequence[ToolResultPart]) -> Message:
    return Message(role=Role.ROLE_TOOL, parts=[Part(tool_result=result) for result in results])


def _to_messages(chat: ChatRequest, said: Sequence[UIMessage]) -> list[Message]:
    return [message for one in said for message in to_messages(one, _where(chat, one))]


def _create(chat: ChatRequest, messages: Sequence[Message], *, key: Sequence[str] = ()) -> CreateRunRequest:
    """Return the request for a run. With a `key`, the same request sent twice at once is one run."""
    request_id = chat.idempotency_key
    if key and chat.thread_id and not request_id:
        digest = hashlib.sha256("\0".join([chat.thread_id, *key]).encode()).hexdigest()
        request_id = f"ai-sdk:{digest}"
    return CreateRunRequest(
        request_id=request_id,
        agent_id=chat.agent_id,
        thread_id=chat.thread_id,
        input=messages,
        options=chat.options,
    )


def _where(chat: ChatRequest, said: UIMessage) -> str:
    return f"messages[{chat.messages.index(said)}]"


def _nothing_new() -> Refusal:
    message = "The last message is an answer, and brings nothing that a run waits for: no result, no approval."
    return refused("messages", message)
