"""What clients ask of a run, read from the members of a JSON object: the bodies of REST, the frames of the WebSocket.

Owns which members each request has. It does not know how they came, nor where the idempotency key and the run's id do.
"""

from __future__ import annotations

import msgspec

from edge.json_body import Members, fill, refused, take
from edge.run_input import read_input
from penstock.v1.run_service_pb2 import CancelRunRequest, CreateRunRequest, SteerRunRequest, SubmitInputRequest

CREATE = ("agent_id", "thread_id", "input", "options", "metadata", "state", "parent_run_id", "parent_call_id")
STEER = ("input", "unread_policy")
ANSWER = ("answers", "answered_by")
CANCEL = ("reason",)


def read_create(members: Members, key: str) -> CreateRunRequest:
    """Read a new run. `key` makes a repeat harmless; may be empty. Raises Refusal, as all of these."""
    given = dict(take(members, *CREATE))
    raw_input = given.pop("input", None)
    create = CreateRunRequest(request_id=key)
    fill(create, given, "")
    if not create.agent_id:
        raise refused("agent_id", "agent_id is missing: which agent is to run?")
    if raw_input is not None:
        create.input.extend(read_input(raw_input))
    return create


def read_steer(members: Members, key: str, run_id: str) -> SteerRunRequest:
    """Read a message to a run that is under way."""
    steer = SteerRunRequest(request_id=key, run_id=run_id)
    given = dict(take(members, *STEER))
    messages = read_input(given.pop("input", msgspec.Raw(b'""')))
    if len(messages) != 1:
        raise refused("input", "input must be one message.")
    steer.message.CopyFrom(messages[0])
    fill(steer, given, "")
    return steer


def read_answers(members: Members, key: str, run_id: str) -> SubmitInputRequest:
    """Read answers to the questions of a run that waits."""
    submit = SubmitInputRequest(request_id=key, run_id=run_id)
    fill(submit, take(members, *ANSWER), "")
    return submit


def read_cancel(members: Members, key: str, run_id: str) -> CancelRunRequest:
    """Read the wish that a run ends."""
    cancel = CancelRunRequest(request_id=key, run_id=run_id)
    fill(cancel, take(members, *CANCEL), "")
    return cancel
