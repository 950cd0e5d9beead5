"""Which of a request's messages are new to the thread that it names, and whether they answer a run that waits there.

A chat client sends the whole conversation every time; a thread holds it already. Owns the decision between the two: the
thread is believed, and what stands behind the client's last assistant message is new. A thread without messages takes
all of them, so a conversation that began elsewhere can be carried on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from edge.core import CoreClient
from edge.json_body import refused
from edge.lists import find_thread
from edge.openai import answers
from penstock.v1.message_pb2 import Message, Role
from penstock.v1.run_pb2 import InputAnswer, InputKind, InputRequest, Run, RunState
from penstock.v1.run_service_pb2 import CreateRunRequest, GetRunRequest


async def leave_out_known(core: CoreClient, create: CreateRunRequest) -> Run | None:
    """Take out of `create.input` what the thread holds already, and return the run that waits there, if one does.

    Raises Refusal when nothing is left.
    """
    thread = await find_thread(core, create.thread_id) if create.thread_id else None
    if thread is None or not thread.message_count:
        return None
    new = behind_last_answer(create.input)
    if not new:
        raise refused("messages", "Nothing follows the last assistant message, so there is nothing to answer.")
    del create.input[: len(create.input) - len(new)]
    return await _waiting_run(core, thread.active_run_id) if thread.active_run_id else None


def behind_last_answer(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages behind the last one of the assistant; all when there is none."""
    said = [place for place, message in enumerate(messages) if message.role == Role.ROLE_ASSISTANT]
    return messages[said[-1] + 1 :] if said else messages


def answers_to(run: Run, messages: Sequence[Message]) -> list[InputAnswer]:
    """Return what messages answer a run that waits; nothing when they do not fit: then the core says that it waits.

    Results of tools answer calls, the user's words answer questions. There is no way to approve anything here.
    """
    if Counter(map(_wanted, run.inputs)) != Counter(map(_offered, messages)):
        return []
    questions = {question.id: question for question in run.inputs}
    given = []
    for message in messages:
        given.append(_answer(message, questions.values()))
        del questions[given[-1].input_id]
    return given


def _wanted(question: InputRequest) -> str:
    kinds = {
        InputKind.INPUT_KIND_CLIENT_TOOL: f"result of {question.call_id}",
        InputKind.INPUT_KIND_APPROVAL: "approval",
    }
    return kinds.get(question.kind, "words")


def _offered(message: Message) -> str:
    if message.role == Role.ROLE_TOOL:
        return f"result of {message.parts[0].tool_result.call_id}"
    return "words" if message.role == Role.ROLE_USER else "instructions"


def _answer(message: Message, questions: Iterable[InputRequest]) -> InputAnswer:
    if message.role == Role.ROLE_TOOL:
        return answers.of_tool(message.parts[0].tool_result, questions, where="messages")
    return answers.in_words(message, questions, where="messages")


async def _waiting_run(core: CoreClient, run_id: str) -> Run | None:
    run = (await core.call(core.runs.GetRun, GetRunRequest(run_id=run_id))).run
    return run if run.state == RunState.RUN_STATE_WAITING else None
