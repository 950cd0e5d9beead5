"""Answers to questions of a run, in the forms that OpenAI's protocols have: a tool's result, or words.

Owns which open question such a message answers, and the JSON that the answer becomes.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from edge.errors import Refusal
from edge.json_body import refused
from edge.openai.tools import compact_json
from penstock.v1.message_pb2 import Message, ToolResultPart
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputOutcome, InputRequest

_NOT_IN_WORDS = {InputKind.INPUT_KIND_APPROVAL, InputKind.INPUT_KIND_CLIENT_TOOL}


def given(input_id: str, answer: object) -> InputAnswer:
    """Return an answer of this content."""
    answered = InputOutcome.INPUT_OUTCOME_ANSWERED
    return InputAnswer(input_id=input_id, outcome=answered, answer_json=msgspec.json.encode(answer).decode())


def of_tool(result: ToolResultPart, questions: Iterable[InputRequest], *, where: str) -> InputAnswer:
    """Answer the question that waits for this call. Raises Refusal when none does."""
    for question in questions:
        if question.kind == InputKind.INPUT_KIND_CLIENT_TOOL and question.call_id == result.call_id:
            return given(question.id, {"output": Raw(result.output_json.encode())})
    raise no_answer(where)


def in_words(message: Message, questions: Iterable[InputRequest], *, where: str) -> InputAnswer:
    """Answer the oldest question that is asked in words: with the JSON that it asks for, or in its one text field."""
    text = "".join(part.text.text for part in message.parts)
    question = next((asked for asked in questions if asked.kind not in _NOT_IN_WORDS), None)
    if question is None:
        raise no_answer(where)
    whole = compact_json(text)
    if whole.startswith("{"):
        return given(question.id, Raw(whole.encode()))
    field = _text_field(question.schema_json)
    if field is None:
        raise refused(where, f"The answer must be a JSON object that fits {question.schema_json}.")
    return given(question.id, {field: text})


def no_answer(where: str) -> Refusal:
    """Return the refusal of something that answers nothing."""
    return refused(where, f"{where} answers no open question.")


class _Property(Struct):
    type: Raw = Raw(b"null")


class _Schema(Struct):
    properties: dict[str, _Property] = {}


def _text_field(schema_json: str) -> str | None:
    """Return the one property of a schema, when it is text."""
    try:
        properties = msgspec.json.decode(schema_json, type=_Schema).properties
    except msgspec.MsgspecError:
        return None
    texts = [name for name, schema in properties.items() if bytes(schema.type) == b'"string"']
    return texts[0] if len(texts) == len(properties) == 1 else None
