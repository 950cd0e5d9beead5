"""Answers to a run that waits, out of the items of a request.

Owns which item answers which question: an `mcp_approval_response` an approval, a `function_call_output` a call that the
run waits for, a message any other question. All questions of a run are answered at once, since the answers begin the
next response.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge.json_body import refused
from edge.openai.answers import given, in_words, no_answer, of_tool
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.input import Approved, Entry, Said
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputRequest, Run


def answers(run: Run, entries: Sequence[Entry]) -> list[InputAnswer]:
    """Return an answer to each open question. Raises Refusal for what answers none, and for questions left open."""
    open_questions = {question.id: question for question in run.inputs}
    answered = []
    for entry in entries:
        answered.append(_answer(entry, run, open_questions.values()))
        open_questions.pop(answered[-1].input_id, None)
    if open_questions:
        raise refused("input", f"The response waits for {_wanted(run, open_questions.values())}.")
    return answered


def _answer(entry: Entry, run: Run, questions: Iterable[InputRequest]) -> InputAnswer:
    if isinstance(entry, Approved):
        return _verdict(entry, run)
    message = entry.messages[0] if isinstance(entry, Said) and entry.messages else Message()
    if message.role == Role.ROLE_TOOL:
        return of_tool(message.parts[0].tool_result, questions, where=f"{entry.where}.call_id")
    if message.role == Role.ROLE_USER:
        return in_words(message, questions, where=entry.where)
    raise no_answer(entry.where)


def _verdict(entry: Approved, run: Run) -> InputAnswer:
    """Answer an approval. Whether it is still open is for the core to say: the request may be a repeated one."""
    ref = ids.question_ref(entry.approval_id)
    if ref is None or ref.run_id != run.id:
        raise no_answer(f"{entry.where}.approval_request_id")
    verdict: dict[str, object] = {"approved": entry.approve}
    return given(ref.input_id, verdict | ({"comment": entry.reason} if entry.reason else {}))


def _wanted(run: Run, questions: Iterable[InputRequest]) -> str:
    """Name the items that are missing, for people."""
    return ", ".join(_name(run, question) for question in questions)


def _name(run: Run, question: InputRequest) -> str:
    if question.kind == InputKind.INPUT_KIND_APPROVAL:
        return f"an mcp_approval_response to {ids.approval_id(run.id, question.id)}"
    if question.kind == InputKind.INPUT_KIND_CLIENT_TOOL:
        return f"a function_call_output of {question.call_id}"
    return f"a message that answers {question.message!r}"
