"""Questions of a run to people, clients and sign-ins: asked once, answered once, over all attempts (ENGINE.md F1).

Owns who waits for which answer. How a waiting run is parked is `parking.py`; that a run waits at all, `idleness.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from google.protobuf.duration_pb2 import Duration

from penstock.errors import InvalidOutput
from penstock.json_text import from_json, mend, to_json
from penstock.scopes import Scope
from penstock.v1.run_pb2 import ExpiryAction, InputKind, InputOutcome
from penstock.v1.worker_service_pb2 import AnswerRecord, AskOutput, Output

Kind = Literal["question", "approval", "client_tool", "auth"]
Outcome = Literal["answered", "declined", "expired", "withdrawn"]
OnExpiry = Literal["fail", "continue"]

_KINDS: Mapping[str, InputKind.ValueType] = {
    "question": InputKind.INPUT_KIND_QUESTION,
    "approval": InputKind.INPUT_KIND_APPROVAL,
    "client_tool": InputKind.INPUT_KIND_CLIENT_TOOL,
    "auth": InputKind.INPUT_KIND_AUTH,
}
_OUTCOMES: Mapping[InputOutcome.ValueType, Outcome] = {
    InputOutcome.INPUT_OUTCOME_ANSWERED: "answered",
    InputOutcome.INPUT_OUTCOME_DECLINED: "declined",
    InputOutcome.INPUT_OUTCOME_EXPIRED: "expired",
}
_ACTIONS: Mapping[str, ExpiryAction.ValueType] = {
    "fail": ExpiryAction.EXPIRY_ACTION_FAIL,
    "continue": ExpiryAction.EXPIRY_ACTION_CONTINUE,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a question was settled. True when it was answered, and for an approval: approved."""

    kind: Kind
    outcome: Outcome
    value: object
    """The answer, an object that fits the question's schema; None unless there is one."""
    input_id: str
    """The question in the log."""

    @property
    def declined(self) -> bool:
        """Somebody did not want to answer."""
        return self.outcome == "declined"

    @property
    def expired(self) -> bool:
        """Nobody answered in time."""
        return self.outcome == "expired"

    @property
    def approved(self) -> bool:
        """Somebody answered `{"approved": true}`."""
        return isinstance(self.value, dict) and self.value.get("approved") is True

    @property
    def text(self) -> str:
        """The text of an answer to a question without a schema; empty when there is none."""
        text = self.value.get("answer") if isinstance(self.value, dict) else None
        return text if isinstance(text, str) else ""

    def __bool__(self) -> bool:
        return self.approved if self.kind == "approval" else self.outcome == "answered"


class Questions:
    """The answers of one attempt: those that earlier ones left, and those that come."""

    def __init__(self, known: Mapping[str, AnswerRecord]) -> None:
        self._settled = {key: answer for key, answer in known.items() if answer.outcome}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._stopped: Callable[[], BaseException] | None = None

    def get(self, key: str) -> AnswerRecord | None:
        """How a question was settled."""
        return self._settled.get(key)

    def settle(self, key: str, answer: AnswerRecord) -> None:
        """An answer has come."""
        self._settled[key] = answer
        for waiter in self._waiters.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def stop(self, error: Callable[[], BaseException]) -> None:
        """No answer will come any more: whoever waits for one gets an error."""
        self._stopped = error
        for waiter in (waiter for waiters in self._waiters.values() for waiter in waiters):
            if not waiter.done():
                waiter.set_exception(error())
        self._waiters.clear()

    async def settled(self, key: str) -> AnswerRecord:
        """Return how a question was settled, once it is."""
        while key not in self._settled:
            if self._stopped is not None:
                raise self._stopped()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(key, []).append(waiter)
            await waiter
        return self._settled[key]


def ask(
    scope: Scope,
    message: str,
    *,
    schema: Mapping[str, object] | None,
    kind: Kind,
    call_id: str,
    expires_in: float | timedelta | None,
    on_expiry: OnExpiry,
    metadata: Mapping[str, object] | None,
    key: str,
) -> Coroutine[object, object, Answer]:
    """Ask now; what is returned waits for the answer. A question that an earlier attempt asked is not asked again."""
    attempt = scope.attempt
    attempt.check()
    path = _path(scope, key)
    output = AskOutput(
        key=path,
        kind=_KINDS[kind],
        message=mend(message),
        schema_json=_json(schema, "schema") if schema is not None else "",
        expire_in=_duration(expires_in),
        call_id=call_id,
        metadata_json=_json(metadata, "metadata") if metadata else "",
        on_expiry=_ACTIONS[on_expiry],
    )
    attempt.replay.ask_for(path)
    if attempt.questions.get(path) is None:
        scope.end_parts(own=False)
        attempt.add(Output(lane=scope.lane, ask=output))
    scope.refresh()
    return _answer(scope, path, kind)


async def _answer(scope: Scope, key: str, kind: Kind) -> Answer:
    questions = scope.attempt.questions
    record = questions.get(key)
    if record is None:
        with scope.waits():
            record = await questions.settled(key)  # only a question that is stored has an answer
    outcome = _OUTCOMES.get(record.outcome, "withdrawn")
    return Answer(kind, outcome, from_json(record.answer_json), record.input_id)


def _path(scope: Scope, key: str) -> str:
    if not key:
        return scope.next_key("ask", what="question")
    if "/" in key:
        raise ValueError(f"the key {key!r} of a question has a `/`")
    return scope.path(key)


def _json(value: object, what: str) -> str:
    try:
        return to_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOutput(f"the {what} of a question cannot be written as JSON: {error}") from error


def _duration(given: float | timedelta | None) -> Duration | None:
    if given is None:
        return None
    duration = Duration()
    duration.FromTimedelta(given if isinstance(given, timedelta) else timedelta(seconds=given))
    return duration
