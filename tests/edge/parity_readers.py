"""A small reader for each protocol: what its client has of a run in the end. They know frames, not their making."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge.event_json import NativeEncoder
from edge.protocols.ai_sdk import MessageEncoder
from edge.protocols.ai_sdk.window import Window
from edge.protocols.openai_chat import ChatEncoder
from edge.protocols.openai_responses import ResponsesEncoder
from edge.protocols.websocket import SocketEncoder
from penstock.v1.event_pb2 import Event
from tests.edge.ag_ui_client import AgUiClient

Frame = dict[str, Any]


@dataclass(slots=True)
class Call:
    """A tool call and what came of it."""

    tool: str
    arguments: object
    """The JSON value; the text where it is not one."""
    result: object = None
    """None: there is none. FAILED, whatever went wrong. Else the text of the result."""


FAILED = object()


@dataclass(slots=True)
class Told:
    """What a client has in the end."""

    text: str = ""
    calls: list[Call] = field(default_factory=list)
    ending: str = ""


def frames(stream: bytes) -> Iterator[Frame]:
    """The JSON objects of an event stream."""
    for block in stream.decode().split("\n\n"):
        data = block.partition("data: ")[2]
        if data and data != "[DONE]":
            yield json.loads(data)


def value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def plain(output: object) -> str:
    """A result as text: the text itself, else compact JSON."""
    return output if isinstance(output, str) else json.dumps(output, separators=(",", ":"), ensure_ascii=False)


def native(events: Sequence[Event]) -> list[Frame]:
    encoder = NativeEncoder()
    return list(frames(b"".join([encoder.feed(event) for event in events])))


def websocket(events: Sequence[Event]) -> list[Frame]:
    """The messages of a socket, cut by their headers."""
    encoder = SocketEncoder("run_1")
    stream, messages = b"".join([encoder.feed(event) for event in events]), []
    while stream:
        size, head = stream[1], 2
        if size >= 126:
            head += 2 if size == 126 else 8
            size = int.from_bytes(stream[2:head])
        messages.append(json.loads(stream[head : head + size]))
        assert messages[-1].pop("run_id") == "run_1"
        stream = stream[head + size :]
    return messages


@dataclass(frozen=True, slots=True)
class Manner:
    """What a protocol cannot leave out, or cannot say."""

    keeps_retracted: bool = False
    """What a retry took back stays."""
    asks_in_text: bool = False
    """Approvals are asked for in words."""
    result_is_text: bool = False
    """The result of a run that said nothing is its text."""
    failures_are_words: bool = False
    """A result that is a failure cannot be told from another."""
    own_calls: bool = True
    """Calls that the agent runs are shown."""


def read_native(told: Sequence[Frame], manner: Manner) -> Told:
    """Read the events; they say everything, so other protocols are held against what this makes of them."""
    lanes = {each["message"]["id"]: each.get("lane", "") for each in told if each["type"] == "message.started"}
    retracted = {ordinal for each in told for ordinal in each.get("retracted_ordinals", ())}
    read, calls, texts = Told(), {}, []
    for each in told:
        match each["type"]:
            case "part.ended" if not lanes[each["message_id"]]:
                part = each["part"]
                if part["ordinal"] in retracted and not manner.keeps_retracted:
                    continue
                match part["kind"]:
                    case "text":
                        texts.append(part.get("text", ""))
                    case "tool_call" if manner.own_calls or part.get("runner") == "client":
                        arguments = part["arguments"] if "arguments" in part else part.get("raw_arguments", "")
                        given_up = FAILED if part["ordinal"] in retracted else None
                        calls[part["call_id"]] = part["ordinal"], Call(part["tool_name"], arguments, given_up)
                    case "tool_result" if part["call_id"] in calls:
                        calls[part["call_id"]][1].result = result_of(part, manner)
            case "run.waiting":
                read.ending = "waiting"
                if manner.asks_in_text:
                    texts += [f"\n\n{question['message']}" for question in each["inputs"]]
            case "run.ended":
                read.ending = each["reason"] if each["state"] == "succeeded" else each["state"]
                if manner.result_is_text and "result" in each and not texts:
                    texts.append(plain(each["result"]))
    read.text = "".join(texts)
    read.calls = [call for _, call in sorted(calls.values(), key=lambda known: known[0])]
    return read


def result_of(part: Frame, manner: Manner) -> object:
    if part["outcome"] == "succeeded":
        return plain(part["output"])
    return part["error_text"] if manner.failures_are_words else FAILED


def read_chat(events: Sequence[Event], leg: int) -> Told:
    encoder = ChatEncoder(leg=leg)
    read = Told()
    pieces: list[str] = []
    for frame in frames(b"".join([encoder.feed(event) for event in events if not encoder.ended])):
        if "error" in frame:
            read.ending = "error"
            continue
        [choice] = frame["choices"]
        read.text += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", ()):
            if "id" in call:
                read.calls.append(Call(call["function"]["name"], ""))
                pieces.append("")
            pieces[call["index"]] += call["function"].get("arguments", "")
        read.ending = choice["finish_reason"] or read.ending
    for call, piece in zip(read.calls, pieces, strict=True):
        call.arguments = value(piece)
    return read


def read_ai_sdk(events: Sequence[Event], legs: int) -> Told:
    encoder = MessageEncoder(Window(last_leg=legs - 1))
    read, calls = Told(), dict[str, Call]()
    for frame in frames(b"".join([encoder.feed(event) for event in events if not encoder.ended])):
        match frame["type"]:
            case "text-delta":
                read.text += frame["delta"]
            case "tool-input-start":
                calls[frame["toolCallId"]] = Call(frame["toolName"], None)
            case "tool-input-available":
                calls[frame["toolCallId"]].arguments = frame["input"]
            case "tool-input-error":
                calls[frame["toolCallId"]].arguments = frame["input"]
            case "tool-output-available":
                calls[frame["toolCallId"]].result = plain(frame["output"])
            case "tool-output-error" | "tool-output-denied":
                calls[frame["toolCallId"]].result = FAILED
            case "finish":
                read.ending = frame["finishReason"]
            case "error" | "abort":
                read.ending = frame["type"]
    read.calls = list(calls.values())
    return read


def read_ag_ui(client: AgUiClient) -> Told:
    read, calls = Told(), dict[str, Call]()
    for message in client.messages:
        if message["role"] == "assistant" and "subagentRunId" not in message:
            read.text += message.get("content") or ""
            for call in message.get("toolCalls", ()):
                function = call["function"]
                calls[call["id"]] = Call(function["name"], value(function["arguments"]))
        elif message["role"] == "tool" and message["toolCallId"] in calls:
            content = message["content"]
            words = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
            calls[message["toolCallId"]].result = words
    read.calls = list(calls.values())
    outcome = client.end.get("outcome") or {}
    read.ending = outcome.get("type", "") if client.end["type"] == "RUN_FINISHED" else "error"
    return read


def read_responses(events: Sequence[Event], legs: int) -> Told:
    """Read the final object of each leg's stream."""
    read, calls = Told(), dict[str, Call]()
    for leg in range(legs):
        encoder = ResponsesEncoder(leg=leg)
        made = b"".join([encoder.feed(event) for event in events if not encoder.ended])
        last = list(frames(made))[-1]["response"]
        for item in last["output"]:
            match item["type"]:
                case "message":
                    read.text += "".join(part["text"] for part in item["content"])
                case "mcp_approval_request":
                    calls[item["id"]] = Call(item["name"], value(item["arguments"]))
                case "function_call" | "mcp_call":
                    output = FAILED if item.get("error") else item.get("output")
                    key = item.get("approval_request_id") or item["id"]
                    calls[key] = Call(item["name"], value(item["arguments"]), output)
        reason = (last["incomplete_details"] or {}).get("reason")
        read.ending = last["status"] if last["status"] != "incomplete" else f"incomplete {reason}"
    read.calls = list(calls.values())
    return read
