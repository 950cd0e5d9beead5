"""Answers to a run that waits, out of the items of a request.

Owns which item answers which question: an `mcp_approval_response` an approval, a `function_call_output` a call that the
run waits for, a message any other question. All questions of a run are answered at once, since the answers begin the
next response.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from edge.errors import Refusal
from edge.json_body import refused
from edge.openai.tools import compact_json
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.input import Approved, Entry, Said
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputOutcome, InputRequest, Run

Questions = dict[str, InputRequest]

_NOT_IN_WORDS = {InputKind.INPUT_KIND_APPROVAL, InputKind.INPUT_KIND_CLIENT_TOOL}


def answers(run: Run, entries: Sequence[Entry]) -> list[InputAnswer]:
    """Return an answer to each open question. Raises Refusal for what answers none, and for questions left open."""
    open_questions = {question.id: question for question in run.inputs}
    given = []
    for entry in entries:
        given.append(_answer(entry, run, open_questions))
        open_questions.pop(given[-1].input_id, None)
    if open_questions:
        raise refused("input", f"The response waits for {_wanted(run, open_questions.values())}.")
    return given


def _answer(entry: Entry, run: Run, open_questions: Questions) -> InputAnswer:
    if isinstance(entry, Approved):
        return _verdict(entry, run)
    message = entry.messages[0] if isinstance(entry, Said) and entry.messages else Message()
    if message.role == Role.ROLE_TOOL:
        return _output(message, entry.where, open_questions)
    if message.role == Role.ROLE_USER:
        return _words(message, entry.where, open_questions)
    raise _no_answer(entry.where)


def _verdict(entry: Approved, run: Run) -> InputAnswer:
    """Answer an approval. Whether it is still open is for the core to say: the request may be a repeated one."""
    ref = ids.question_ref(entry.approval_id)
    if ref is None or ref.run_id != run.id:
        raise _no_answer(f"{entry.where}.approval_request_id")
    verdict: dict[str, object] = {"approved": entry.approve}
    return _given(ref.input_id, verdict | ({"comment": entry.reason} if entry.reason else {}))


def _output(message: Message, where: str, open_questions: Questions) -> InputAnswer:
    result = message.parts[0].tool_result
    for question in open_questions.values():
        if question.kind == InputKind.INPUT_KIND_CLIENT_TOOL and question.call_id == result.call_id:
            return _given(question.id, {"output": msgspec.Raw(result.output_json.encode())})
    raise _no_answer(f"{where}.call_id")


def _words(message: Message, where: str, open_questions: Questions) -> InputAnswer:
    """Answer the oldest question that is asked in words: with the JSON that it asks for, or in its one text field."""
    text = "".join(part.text.text for part in message.parts)
    question = next((asked for asked in open_questions.values() if asked.kind not in _NOT_IN_WORDS), None)
    if question is None:
        raise _no_answer(where)
    whole = compact_json(text)
    if whole.startswith("{"):
        return _given(question.id, msgspec.Raw(whole.encode()))
    field = _text_field(question.schema_json)
    if field is None:
        raise refused(where, f"The answer must be a JSON object that fits {question.schema_json}.")
    return _given(question.id, {field: text})


class _Property(msgspec.Struct):
    type: msgspec.Raw = msgspec.Raw(b"null")


class _Schema(msgspec.Struct):
    properties: dict[str, _Property] = {}


def _text_field(schema_json: str) -> str | None:
    """Return the one property of a schema, when it is text."""
    try:
        properties = msgspec.json.decode(schema_json, type=_Schema).properties
    except msgspec.MsgspecError:
        return None
    texts = [name for name, schema in properties.items() if bytes(schema.type) == b'"string"']
    return texts[0] if len(texts) == len(properties) == 1 else None


def _given(input_id: str, answer: object) -> InputAnswer:
    answered = InputOutcome.INPUT_OUTCOME_ANSWERED
    return InputAnswer(input_id=input_id, outcome=answered, answer_json=msgspec.json.encode(answer).decode())


def _no_answer(where: str) -> Refusal:
    return refused(where, f"{where} answers no open question of this response.")


def _wanted(run: Run, questions: Iterable[InputRequest]) -> str:
    """Name the items that are missing, for people."""
    return ", ".join(_name(run, question) for question in questions)


def _name(run: Run, question: InputRequest) -> str:
    if question.kind == InputKind.INPUT_KIND_APPROVAL:
        return f"an mcp_approval_response to {ids.approval_id(run.id, question.id)}"
    if question.kind == InputKind.INPUT_KIND_CLIENT_TOOL:
        return f"a function_call_output of {question.call_id}"
    return f"a message that answers {question.message!r}"
