"""Which of a request's messages are new to the thread that it names.

A chat client sends the whole conversation every time; a thread holds it already. Owns the decision between the two: the
thread is believed, and what stands behind the client's last assistant message is new. A thread without messages takes
all of them, so a conversation that began elsewhere can be carried on.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from edge.core import CoreClient
from edge.json_body import refused
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_service_pb2 import CreateRunRequest
from penstock.v1.thread_service_pb2 import GetThreadRequest


async def leave_out_known(core: CoreClient, create: CreateRunRequest) -> None:
    """Take out of `create.input` what the thread holds already. Raises Refusal when nothing is left."""
    new = behind_last_answer(create.input)
    if not create.thread_id or len(new) == len(create.input):
        return
    if not await _has_messages(core, create.thread_id):
        return
    if not new:
        raise refused("messages", "Nothing follows the last assistant message, so there is nothing to answer.")
    del create.input[: len(create.input) - len(new)]


def behind_last_answer(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages behind the last one of the assistant; all when there is none."""
    answers = [place for place, message in enumerate(messages) if message.role == Role.ROLE_ASSISTANT]
    return messages[answers[-1] + 1 :] if answers else messages


async def _has_messages(core: CoreClient, thread_id: str) -> bool:
    try:
        answer = await core.call(core.threads.GetThread, GetThreadRequest(thread_id=thread_id))
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return False
        raise
    return answer.thread.message_count > 0
