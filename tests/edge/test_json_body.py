import msgspec
import pytest

from edge.errors import Refusal
from edge.json_body import checked_json, fill, is_deeper, read_members
from edge.run_input import read_input
from penstock.v1.message_pb2 import Message, Part, Role
from penstock.v1.run_pb2 import BusyPolicy, DisconnectPolicy, RunOptions


def options_of(text: str) -> RunOptions:
    options = RunOptions()
    fill(options, read_members(msgspec.Raw(text.encode()), "options"), "options")
    return options


def test_all_options_of_a_run_are_read() -> None:
    options = options_of(
        """{"busy_policy": "interrupt", "tools": [{"name": "t", "schema": {"type":  "object"}}], "run_timeout": 1.5,
            "queue_timeout": 0, "max_attempts": 2, "retry_after_output": false, "on_disconnect": "cancel",
            "token_budget": 1000, "start_time": "2030-01-02T03:04:05.5+02:00", "priority": -7,
            "agent_options": {"temperature": 1.0}, "webhook_url": null}"""
    )

    assert options.busy_policy == BusyPolicy.BUSY_POLICY_INTERRUPT
    assert options.tools[0].schema_json == '{"type":"object"}'
    assert options.run_timeout.ToMilliseconds() == 1500
    assert options.HasField("queue_timeout")
    assert options.HasField("retry_after_output")
    assert options.on_disconnect == DisconnectPolicy.DISCONNECT_POLICY_CANCEL
    assert options.start_time.ToJsonString() == "2030-01-02T01:04:05.500Z"
    assert options.priority == -7
    assert options.agent_options_json == '{"temperature":1.0}'


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"busy": 1}', "options.busy"),
        ('{"busy_policy": "maybe"}', "options.busy_policy"),
        ('{"busy_policy": "unspecified"}', "options.busy_policy"),
        ('{"busy_policy": 1}', "options.busy_policy"),
        ('{"tools": {}}', "options.tools"),
        ('{"tools": [{"name": "t"}, {"nam": "t"}]}', "options.tools[1].nam"),
        ('{"tools": [3]}', "options.tools[0]"),
        ('{"run_timeout": "5s"}', "options.run_timeout"),
        ('{"run_timeout": -1}', "options.run_timeout"),
        ('{"run_timeout": 1e300}', "options.run_timeout"),
        ('{"max_attempts": 1.5}', "options.max_attempts"),
        ('{"max_attempts": 2147483648}', "options.max_attempts"),
        ('{"max_attempts": true}', "options.max_attempts"),
        ('{"retry_after_output": "no"}', "options.retry_after_output"),
        ('{"start_time": "2030-01-02T03:04:05"}', "options.start_time"),
        ('{"start_time": "tomorrow"}', "options.start_time"),
        ('{"webhook_url": 5}', "options.webhook_url"),
        ("[]", "options"),
    ],
)
def test_what_an_option_cannot_be_is_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        options_of(text)

    assert (refused.value.status, refused.value.reason) == (400, "INVALID_ARGUMENT")
    assert refused.value.metadata["field"] == field
    assert field in refused.value.message


def said(text: str) -> list[Message]:
    return read_input(msgspec.Raw(text.encode()))


def test_a_string_is_one_user_message() -> None:
    [message] = said('"Hi \\n π"')

    assert message.role == Role.ROLE_USER
    assert [part.text.text for part in message.parts] == ["Hi \n π"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"deltas": 3,\n "rate": 1.0, "big": 12345678901234567890123}',
         '{"deltas":3,"rate":1.0,"big":12345678901234567890123}'),
        ("[1, [2]]", "[1,[2]]"),
        ('[{"content": "no role"}]', '[{"content":"no role"}]'),
        ("5e400", "5e400"),
        ("true", "true"),
    ],
)  # fmt: skip
def test_any_other_json_is_a_data_part_with_its_text_untouched(text: str, value: str) -> None:
    [message] = said(text)

    assert message.role == Role.ROLE_USER
    assert [part.data.value_json for part in message.parts] == [value]


def test_a_list_of_messages_is_itself() -> None:
    messages = said(
        """[{"role": "system", "content": "Be brief."},
            {"role": "user", "client_id": "c1", "metadata": {"a": 1.0},
             "parts": [{"kind": "text", "text": "Look:"}, {"kind": "file", "url": "https://a/b.png", "name": "b.png"}]},
            {"role": "user", "content": [{"type": "text", "text": "And?"}, {"text": "So?"}]},
            {"role": "tool", "parts": [{"kind": "tool_result", "call_id": "c", "outcome": "failed", "error_text": "no",
                                        "content": [{"kind": "file", "data": "AP8="}]}]},
            {"role": "assistant", "parts": [{"kind": "tool_call", "call_id": "c", "arguments": {"n": 1},
                                             "ordinal": 3, "completion": "complete", "provider": [1.0]}]}]"""
    )

    assert [Role.Name(message.role) for message in messages] == [
        "ROLE_SYSTEM", "ROLE_USER", "ROLE_USER", "ROLE_TOOL", "ROLE_ASSISTANT",
    ]  # fmt: skip
    assert (messages[1].client_id, messages[1].metadata_json) == ("c1", '{"a":1.0}')
    assert messages[1].parts[1].file.url == "https://a/b.png"
    assert [part.text.text for part in messages[2].parts] == ["And?", "So?"]
    assert messages[3].parts[0].tool_result.content[0].file.data == b"\x00\xff"
    call = messages[4].parts[0]
    assert (call.ordinal, call.tool_call.arguments_json, call.provider_json) == (3, '{"n":1}', "[1.0]")


def test_an_empty_list_brings_no_message() -> None:
    assert said("[]") == []


def test_a_part_without_content_keeps_its_kind() -> None:
    [message] = said('[{"role": "user", "parts": [{"kind": "reasoning"}]}]')

    assert message.parts[0] == Part(reasoning=message.parts[0].reasoning)
    assert message.parts[0].WhichOneof("content") == "reasoning"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[{"role": "user", "content": "a"}, {"content": "b"}]', "input[1].role"),
        ('[{"role": "user"}, "b"]', "input[1]"),
        ('[{"role": "boss", "content": "a"}]', "input[0].role"),
        ('[{"role": "user", "content": 5}]', "input[0].content"),
        ('[{"role": "user", "content": "a", "parts": []}]', "input[0].content"),
        ('[{"role": "user", "contents": "a"}]', "input[0].contents"),
        ('[{"role": "user", "parts": [{"kind": "song"}]}]', "input[0].parts[0].kind"),
        ('[{"role": "user", "parts": [{"kind": "text", "txt": ""}]}]', "input[0].parts[0].txt"),
        ('[{"role": "user", "parts": [{"kind": "file", "data": "%%"}]}]', "input[0].parts[0].data"),
        ('[{"role": "user", "parts": "a"}]', "input[0].parts"),
    ],
)
def test_what_is_nearly_a_list_of_messages_is_refused_by_name(text: str, field: str) -> None:
    with pytest.raises(Refusal) as refused:
        said(text)

    assert refused.value.metadata["field"] == field


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":1,}',
        b'{"a":NaN}',
        b'{"a":01}',
        b'"\n"',
        b"\xff",
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"{} {}",
        b'{"a":"\\x"}',
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        checked_json(body, max_depth=64)

    assert (refused.value.status, refused.value.reason) == (400, "INVALID_JSON")


def test_text_that_is_not_unicode_is_refused_where_it_is_read() -> None:
    with pytest.raises(Refusal) as refused:
        said('"\\ud800 alone"')

    assert refused.value.reason == "INVALID_JSON"


def test_depth_is_known_without_parsing() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a":[' * (depth // 2) + b"]}" * (depth // 2)

    assert not is_deeper(nested(64), 64)
    assert is_deeper(nested(66), 64)
    assert is_deeper(b"[" * 1_000_000, 64)
    assert not is_deeper(b"[" + b'"[[[[\\"[[[[{{",' * 100 + b"1]", 64), "brackets in text do not nest"
    assert not is_deeper(b"[],{}," * 1000, 64)
    with pytest.raises(Refusal) as refused:
        checked_json(b"[" * 100_000 + b"]" * 100_000, max_depth=64)
    assert refused.value.reason == "JSON_TOO_DEEP"
