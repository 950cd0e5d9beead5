"""Calls of people to runs under way: answers to their questions, and messages that steer them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING

from penstock.client.caller import Caller, new_request_id
from penstock.input import to_messages
from penstock.json_text import to_json
from penstock.v1 import run_service_pb2
from penstock.v1.message_pb2 import Message
from penstock.v1.run_pb2 import Input, InputAnswer, InputOutcome, Run, UnreadPolicy
from penstock.v1.run_service_pb2 import InputState

if TYPE_CHECKING:
    from penstock.v1.run_service_pb2_grpc import RunServiceAsyncStub

_OPEN = InputState.INPUT_STATE_OPEN
_AS_THE_RUN_SAYS = UnreadPolicy.UNREAD_POLICY_UNSPECIFIED


class InputCalls:
    """The part of a client that is about questions and steering."""

    _caller: Caller
    _runs: RunServiceAsyncStub

    def inputs(
        self, *, run_id: str = "", agent_id: str = "", thread_id: str = "", state: InputState.ValueType = _OPEN
    ) -> AsyncIterator[Input]:
        """Yield questions, oldest first: those that wait for an answer, unless another state is named."""
        request = run_service_pb2.ListInputsRequest(run_id=run_id, agent_id=agent_id, thread_id=thread_id, state=state)
        return self._caller.pages(self._runs.ListInputs, request, lambda page: page.inputs)

    async def answer(
        self,
        run_id: str,
        input_id: str,
        value: object = None,
        *,
        declined: bool = False,
        answered_by: str = "",
        request_id: str = "",
    ) -> Run:
        """Answer a question by an object that fits its schema, or decline to. Returns the run as it goes on.

        A question is answered once; later answers raise NotPossible with the reason INPUT_ANSWERED.
        """
        if declined:
            answer = InputAnswer(input_id=input_id, outcome=InputOutcome.INPUT_OUTCOME_DECLINED)
        else:
            answer = InputAnswer(
                input_id=input_id, outcome=InputOutcome.INPUT_OUTCOME_ANSWERED, answer_json=to_json(value)
            )
        return await self.answers(run_id, [answer], answered_by=answered_by, request_id=request_id)

    async def answers(
        self, run_id: str, answers: Iterable[InputAnswer], *, answered_by: str = "", request_id: str = ""
    ) -> Run:
        """Answer several questions of one run, all or none."""
        request = run_service_pb2.SubmitInputRequest(
            request_id=request_id or new_request_id(), run_id=run_id, answers=answers, answered_by=answered_by
        )
        return (await self._caller.call(self._runs.SubmitInput, request)).run

    async def steer(
        self,
        run_id: str,
        message: object,
        *,
        unread_policy: UnreadPolicy.ValueType = _AS_THE_RUN_SAYS,
        request_id: str = "",
    ) -> Message:
        """Hand a text, a message or another JSON value to a run that is under way. Returns the message as stored."""
        given = to_messages(message)
        if len(given) != 1:
            raise ValueError(f"a run is steered by one message, not by {len(given)}")
        request = run_service_pb2.SteerRunRequest(
            request_id=request_id or new_request_id(), run_id=run_id, message=given[0], unread_policy=unread_policy
        )
        return (await self._caller.call(self._runs.SteerRun, request)).message
