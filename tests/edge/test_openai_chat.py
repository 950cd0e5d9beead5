"""Chat completions: exact frames of the encoder, the same at every cut, and the object of a blocking call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from edge.fold import Fold
from edge.protocols.openai_chat import ChatEncoder
from edge.protocols.openai_chat.answer import completion
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import ToolRunner
from penstock.v1.run_pb2 import EndReason, InputKind, InputRequest, RunError, Usage
from tests.edge.handmade_log import HandmadeLog

HEAD = '"id":"chatcmpl-run_1","object":"chat.completion.chunk","created":1700000000,"model":"echo"'
ROLE = f'data: {{{HEAD},"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},' + (
    '"logprobs":null,"finish_reason":null}]}\n\n'
)
DONE = "data: [DONE]\n\n"


def chunk(delta: str, finish_reason: str = "null") -> str:
    choice = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish_reason}}}'
    return f'data: {{{HEAD},"choices":[{choice}]}}\n\n'


def finish(reason: str) -> str:
    return chunk("{}", f'"{reason}"') + DONE


def frames(events: Sequence[Event], encoder: ChatEncoder | None = None, *, after: int = 0) -> str:
    encoder = encoder or ChatEncoder()
    made = [(event.seq, encoder.feed(event)) for event in events]
    return b"".join(frame for seq, frame in made if seq > after).decode()


def deltas(stream: str) -> list[Any]:
    return [json.loads(line[6:])["choices"][0]["delta"] for line in stream.split("\n\n") if "delta" in line]


def blocking(events: Sequence[Event]) -> dict[str, Any]:
    fold = Fold()
    for event in events:
        fold.feed(event)
        if fold.has_leg_ended:
            break
    answer: dict[str, Any] = json.loads(json.dumps(completion(fold, shows_reasoning=True)))
    return answer


def test_text_becomes_a_chunk_per_delta_between_role_and_finish_reason() -> None:
    log = HandmadeLog()
    log.text("It ", 'is "ä"\n')
    log.ended()

    assert frames(log.events) == (
        ROLE + chunk('{"content":"It "}') + chunk('{"content":"is \\"ä\\"\\n"}') + finish("stop")
    )


def test_messages_follow_each_other_without_anything_between() -> None:
    log = HandmadeLog()
    log.text("one")
    log.text("two")
    log.ended()

    assert blocking(log.events)["choices"][0]["message"]["content"] == "onetwo"
    assert deltas(frames(log.events))[1:3] == [{"content": "one"}, {"content": "two"}]


def test_reasoning_is_shown_unless_it_is_switched_off() -> None:
    log = HandmadeLog()
    log.reasoning("hm")
    log.text("yes")
    log.ended()

    shown = ROLE + chunk('{"reasoning_content":"hm"}') + chunk('{"content":"yes"}') + finish("stop")
    hidden = ROLE + chunk('{"content":"yes"}') + finish("stop")

    assert frames(log.events) == shown
    assert frames(log.events, ChatEncoder(shows_reasoning=False)) == hidden
    assert blocking(log.events)["choices"][0]["message"]["reasoning_content"] == "hm"


def test_usage_is_null_in_every_chunk_and_comes_in_one_of_its_own() -> None:
    log = HandmadeLog()
    log.text("a")
    log.ended(usage=[Usage(input_tokens=7, output_tokens=3, cached_input_tokens=2, reasoning_tokens=1)])

    stream = frames(log.events, ChatEncoder(includes_usage=True))
    chunks = [json.loads(line[6:]) for line in stream.split("\n\n")[:-2]]

    assert [made["usage"] for made in chunks[:-1]] == [None, None, None]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert stream.endswith(DONE)
    assert blocking(log.events)["usage"] == chunks[-1]["usage"]


def test_usage_is_zero_when_the_agent_reported_none() -> None:
    log = HandmadeLog()
    log.ended()

    usage = blocking(log.events)["usage"]

    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (0, 0, 0)


def call_begins(index: int, call_id: str, name: str) -> str:
    function = f'"function":{{"name":"{name}","arguments":""}}'
    return chunk(f'{{"tool_calls":[{{"index":{index},"id":"{call_id}","type":"function",{function}}}]}}')


def call_goes_on(index: int, piece: str) -> str:
    return chunk(f'{{"tool_calls":[{{"index":{index},"function":{{"arguments":{json.dumps(piece)}}}}}]}}')


def test_calls_of_the_clients_tools_come_one_after_the_other() -> None:
    log = HandmadeLog()
    log.text("Let me see. ")
    log.calls({"call_a": ("look", '{"at"', ':"x"}'), "call_b": ("find", "{}"), "call_c": ("find", "{", "}")})
    log.calls({"call_d": ("look", "{}")})
    log.ended(EndReason.END_REASON_CLIENT_TOOLS)

    assert frames(log.events) == (
        ROLE
        + chunk('{"content":"Let me see. "}')
        + call_begins(0, "call_a", "look")
        + call_goes_on(0, '{"at"')
        + call_goes_on(0, ':"x"}')
        + call_begins(1, "call_b", "find")
        + call_goes_on(1, "{}")
        + call_begins(2, "call_c", "find")
        + call_goes_on(2, "{")
        + call_goes_on(2, "}")
        + call_begins(3, "call_d", "look")
        + call_goes_on(3, "{}")
        + finish("tool_calls")
    )


def test_a_call_that_was_held_goes_on_live_once_the_one_before_it_has_ended() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}"), "call_b": ("find", "{", "}")})
    ends = [event for event in log.events if event.WhichOneof("payload") == "part_ended"]
    last_piece = next(event for event in reversed(log.events) if event.WhichOneof("payload") == "part_delta")
    early = [event for event in log.events if event.seq < last_piece.seq]

    stream = frames([*early, ends[0], last_piece, ends[1]])

    assert stream.endswith(call_begins(1, "call_b", "find") + call_goes_on(1, "{") + call_goes_on(1, "}"))


def test_a_blocking_answer_with_calls_alone_has_no_content() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")})
    log.ended(EndReason.END_REASON_CLIENT_TOOLS)

    choice = blocking(log.events)["choices"][0]

    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ]


def test_the_agents_own_tools_and_other_lanes_stay_out() -> None:
    log = HandmadeLog()
    log.step(1)
    log.calls({"call_a": ("look", "{}")}, ToolRunner.TOOL_RUNNER_AGENT)
    log.result("call_a", "look", '{"seen":1}')
    log.text("from a child", lane="run_2")
    log.asides()
    log.step_end(1)
    log.text("seen")
    log.ended()

    assert frames(log.events) == ROLE + chunk('{"content":"seen"}') + finish("stop")
    message = blocking(log.events)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "seen", "refusal": None}


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        (EndReason.END_REASON_COMPLETED, "stop"),
        (EndReason.END_REASON_LENGTH, "length"),
        (EndReason.END_REASON_CONTENT_FILTER, "content_filter"),
        (EndReason.END_REASON_USER, "stop"),
        (EndReason.END_REASON_DISCONNECTED, "stop"),
        (EndReason.END_REASON_CLIENT_TOOLS, "stop"),  # a call that was retracted is nothing to wait for
    ],
)
def test_the_end_reason_gives_the_finish_reason(reason: EndReason.ValueType, finish_reason: str) -> None:
    log = HandmadeLog()
    log.text("a")
    log.ended(reason)

    assert frames(log.events).endswith(finish(finish_reason))
    assert blocking(log.events)["choices"][0]["finish_reason"] == finish_reason


def test_a_failed_run_ends_with_an_error_frame() -> None:
    log = HandmadeLog()
    log.text("so ")
    log.ended(EndReason.END_REASON_AGENT_ERROR, error=RunError(code="NO_LUCK", message="It broke."))

    error = '{"error":{"message":"It broke.","type":"server_error","param":null,"code":"NO_LUCK"}}'
    assert frames(log.events) == ROLE + chunk('{"content":"so "}') + f"data: {error}\n\n" + DONE


def test_a_failure_without_words_is_told_by_its_reason() -> None:
    log = HandmadeLog()
    log.ended(EndReason.END_REASON_WORKER_LOST)

    assert '"code":"WORKER_LOST"' in frames(log.events)


def test_a_run_that_waits_answers_with_its_questions() -> None:
    log = HandmadeLog()
    log.text("I could delete it.")
    approval = InputRequest(id="inp_2", kind=InputKind.INPUT_KIND_APPROVAL, tool_name="delete")
    log.waiting(InputRequest(id="inp_1", message="Shall I?"), approval)
    until_here = frames(log.events)
    log.resumed()
    log.text("Done.")
    log.ended()

    words = '{"content":"\\n\\nShall I?\\n\\ndelete"}'
    assert until_here == ROLE + chunk('{"content":"I could delete it."}') + chunk(words) + finish("stop")
    assert frames(log.events) == until_here
    content = blocking(log.events)["choices"][0]["message"]["content"]
    assert content == "I could delete it.\n\nShall I?\n\ndelete"


def test_the_answer_begins_a_completion_of_its_own() -> None:
    log = HandmadeLog()
    log.text("I could.")
    log.usage(read=5, written=5)
    log.waiting(InputRequest(id="inp_1", message="Shall I?"))
    log.resumed()
    log.text("Done.")
    log.ended(usage=[Usage(input_tokens=6, output_tokens=7)])

    stream = frames(log.events, ChatEncoder(leg=1, includes_usage=True))
    chunks = [json.loads(line[6:]) for line in stream.split("\n\n")[:-2]]

    assert {made["id"] for made in chunks} == {"chatcmpl-run_1-1"}
    assert deltas(stream) == [{"role": "assistant", "content": ""}, {"content": "Done."}, {}]
    assert chunks[-1]["usage"]["total_tokens"] == 3


def test_a_run_that_waits_for_the_clients_tool_hands_over_the_call() -> None:
    log = HandmadeLog()
    log.calls({"call_a": ("look", "{}")})
    log.waiting(InputRequest(id="inp_1", kind=InputKind.INPUT_KIND_CLIENT_TOOL, call_id="call_a", message="Run it."))

    assert frames(log.events).endswith(finish("tool_calls"))
    assert "Run it." not in frames(log.events)


def test_a_result_that_is_not_text_is_the_content_when_there_is_no_text() -> None:
    silent, talking = HandmadeLog(), HandmadeLog()
    talking.text("Here.")
    for log in (silent, talking):
        log.ended(result_json='{"total":3}')

    assert frames(silent.events) == ROLE + chunk('{"content":"{\\"total\\":3}"}') + finish("stop")
    assert blocking(silent.events)["choices"][0]["message"]["content"] == '{"total":3}'
    assert blocking(talking.events)["choices"][0]["message"]["content"] == "Here."


def test_retracted_text_stays_in_a_stream_and_is_missing_from_a_blocking_answer() -> None:
    log = HandmadeLog()
    taken_back = log.text("no ")
    log.retrying(taken_back)
    log.text("yes")
    log.ended()

    assert deltas(frames(log.events))[1:3] == [{"content": "no "}, {"content": "yes"}]
    assert blocking(log.events)["choices"][0]["message"]["content"] == "yes"


def test_the_frames_are_the_same_at_every_cut() -> None:
    log = HandmadeLog()
    log.reasoning("hm ", "so")
    taken_back = log.calls({"call_a": ("look", "{", "}"), "call_b": ("find", "{}")})
    log.retrying(*taken_back)
    log.asides()
    log.calls({"call_a-2": ("look", "{", "}")})
    log.usage(read=1, written=1)
    log.ended(EndReason.END_REASON_CLIENT_TOOLS)
    whole = frames(log.events, ChatEncoder(includes_usage=True))

    for cut in range(len(log.events) + 1):
        head = frames(log.events[:cut], ChatEncoder(includes_usage=True))
        assert head + frames(log.events, ChatEncoder(includes_usage=True), after=cut) == whole


def test_no_frame_has_an_id() -> None:
    log = HandmadeLog()
    log.text("a")
    log.ended()

    assert all(line.startswith("data: ") for line in frames(log.events).split("\n\n")[:-1])
