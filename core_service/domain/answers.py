"""What an answer to a question must look like: JSON that fits the question's schema (CONTRACT.md 2.3)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from core_service.domain.errors import InvalidAnswer, InvalidArgument
from core_service.domain.json_text import compact
from penstock.v1.run_pb2 import InputAnswer, InputOutcome, InputRequest

MAX_ANSWERS = 100
"""In one request."""

MAX_ANSWER_BYTES = 256 << 10

NOTHING_REMOTE: Registry[Any] = Registry()
"""A schema refers to itself only: nothing is ever fetched for it."""


def check_answers(answers: Sequence[InputAnswer]) -> None:
    """Refuse a request that answers nothing, or one question twice, or settles one as nobody may."""
    if not 0 < len(answers) <= MAX_ANSWERS:
        raise InvalidArgument(f"answers must be 1 to {MAX_ANSWERS}.", field="answers")
    if len({answer.input_id for answer in answers}) != len(answers):
        raise InvalidArgument("A question has one answer.", field="answers")
    for answer in answers:
        if answer.outcome not in (
            InputOutcome.INPUT_OUTCOME_UNSPECIFIED,
            InputOutcome.INPUT_OUTCOME_ANSWERED,
            InputOutcome.INPUT_OUTCOME_DECLINED,
        ):
            raise InvalidArgument("outcome must be answered or declined.", field="answers.outcome")


def checked_answer(answer: InputAnswer, question: InputRequest) -> InputAnswer:
    """Return the answer with compact JSON. Refuses one that does not fit the question's schema."""
    outcome = answer.outcome or InputOutcome.INPUT_OUTCOME_ANSWERED
    if outcome == InputOutcome.INPUT_OUTCOME_DECLINED:
        return InputAnswer(input_id=answer.input_id, outcome=outcome)
    try:
        text = compact(answer.answer_json or "null")
    except ValueError as error:
        raise InvalidAnswer(f"The answer is not JSON: {error}", field="answer", input_id=answer.input_id) from error
    if len(text.encode()) > MAX_ANSWER_BYTES:
        raise InvalidAnswer(f"An answer may have {MAX_ANSWER_BYTES:,} bytes.", field="answer", input_id=answer.input_id)
    if problem := _misfit(text, question.schema_json):
        raise InvalidAnswer(f"The answer does not fit: {problem}", field="answer", input_id=answer.input_id)
    return InputAnswer(input_id=answer.input_id, outcome=outcome, answer_json=text)


def schema_problem(schema_json: str) -> str:
    """Return what is wrong with a schema; empty when nothing is."""
    try:
        Draft202012Validator.check_schema(json.loads(schema_json))
    except SchemaError as error:
        return error.message
    return ""


def _misfit(text: str, schema_json: str) -> str:
    """Return the first thing that does not fit, with its place; empty when everything does."""
    validator = Draft202012Validator(json.loads(schema_json or "{}"), registry=NOTHING_REMOTE)
    try:
        error = next(iter(validator.iter_errors(json.loads(text))), None)
    except Unresolvable as missing:
        return f"its schema refers to {missing.ref}, which is not part of it"
    return f"{error.json_path}: {error.message}"[:300] if error is not None else ""
