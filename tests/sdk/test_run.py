"""What a handler reads of its run."""

import pytest
from google.protobuf.json_format import ParseDict

from penstock import Run
from penstock.v1.worker_service_pb2 import Assignment


def user(text: str) -> dict[str, object]:
    return {"role": "ROLE_USER", "parts": [{"text": {"text": text}}]}


def assistant(text: str) -> dict[str, object]:
    return {"role": "ROLE_ASSISTANT", "parts": [{"text": {"text": text}}]}


def assigned(**fields: object) -> Run:
    return Run(ParseDict(fields, Assignment()))


async def test_a_run_knows_who_it_is_and_what_was_wished() -> None:
    run = assigned(
        run={
            "id": "run_1",
            "agent_id": "echo",
            "thread_id": "thr_1",
            "attempt": 2,
            "depth": 1,
            "parent_run_id": "run_0",
            "metadata": {"team": "a"},
            "options": {
                "tools": [{"name": "look", "schema_json": "{}"}],
                "max_steps": 3,
                "agent_options_json": '{"temperature":0.5}',
            },
        }
    )

    assert (run.id, run.agent_id, run.thread, run.attempt) == ("run_1", "echo", "thr_1", 2)
    assert (run.depth, run.parent) == (1, "run_0")
    assert run.metadata == {"team": "a"}
    assert run.options.max_steps == 3
    assert run.agent_options == {"temperature": 0.5}
    assert [tool.name for tool in run.tools] == ["look"]


async def test_new_messages_are_the_last_of_all() -> None:
    run = assigned(messages=[user("one"), assistant("two"), user("three")], new_messages=1)

    assert [message.parts[0].text.text for message in run.messages] == ["one", "two", "three"]
    assert [message.parts[0].text.text for message in run.new_messages] == ["three"]
    assert run.text == "three"


async def test_text_is_what_the_user_says_after_the_last_answer_that_came_along() -> None:
    system: dict[str, object] = {"role": "ROLE_SYSTEM", "parts": [{"text": {"text": "be brief"}}]}
    both: dict[str, object] = {"role": "ROLE_USER", "parts": [{"text": {"text": "b"}}, {"text": {"text": "c"}}]}
    messages = [system, user("old"), assistant("answer"), user("a"), both]

    assert assigned(messages=messages, new_messages=5).text == "a\nbc"
    assert assigned(messages=messages).text == ""


async def test_input_is_the_newest_data_part() -> None:
    data = [{"role": "ROLE_USER", "parts": [{"data": {"value_json": value}}]} for value in ("1", '{"deltas":2}')]

    assert assigned(messages=[*data, user("x")], new_messages=3).input == {"deltas": 2}
    assert assigned(messages=[*data, user("x")], new_messages=1).input is None


async def test_state_is_a_copy_and_empty_when_it_was_never_set() -> None:
    run = assigned(state_json='{"a":1}')
    run.state["a"] = 2

    assert run.state == {"a": 2}
    assert assigned().state == {}
    assert assigned(state_json="7").state == {}


async def test_a_run_that_nobody_serves_can_only_be_looked_at() -> None:
    with pytest.raises(RuntimeError, match="nobody serves run_1"):
        _ = assigned(run={"id": "run_1"}).ask("?")
