"""Tools as OpenAI's clients write them: offers, calls and results, as parts of a message.

Owns the forms of arguments and outputs, which are text to OpenAI and JSON to everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Raw

from edge.json_body import compact
from penstock.v1.message_pb2 import Part, ToolCallPart, ToolOutcome, ToolResultPart, ToolRunner
from penstock.v1.run_pb2 import ClientTool


def offer(name: str, description: str | None, parameters: Mapping[str, Raw] | None) -> ClientTool:
    """Return a tool that the client offers."""
    schema = "" if parameters is None else compact(Raw(msgspec.json.encode(parameters)))
    return ClientTool(name=name, description=description or "", schema_json=schema)


def call(
    call_id: str, name: str, arguments: str, *, runner: ToolRunner.ValueType = ToolRunner.TOOL_RUNNER_CLIENT
) -> Part:
    """Return a call of an earlier answer. Arguments that are not a JSON object stay as the model wrote them."""
    part = ToolCallPart(call_id=call_id, tool_name=name, runner=runner)
    written = arguments.strip() or "{}"  # some models write nothing when a tool takes nothing
    normal = compact_json(written)
    if normal.startswith("{"):
        part.arguments_json = normal
    else:
        part.raw_arguments = written
    return Part(tool_call=part)


def result(call_id: str, name: str, output: str, *, content: Sequence[Part] = ()) -> Part:
    """Return a result that a client sent. OpenAI has no word for a call that failed."""
    succeeded = ToolOutcome.TOOL_OUTCOME_SUCCEEDED
    return Part(
        tool_result=ToolResultPart(
            call_id=call_id, tool_name=name, outcome=succeeded, output_json=output_json(output), content=content
        )
    )


def output_json(text: str) -> str:
    """Return a tool's output as JSON: objects and arrays are taken as such, everything else is the string it is."""
    normal = compact_json(text)
    return normal if normal.startswith(("{", "[")) else msgspec.json.encode(text).decode()


def compact_json(text: str) -> str:
    """Return JSON text without white space and with its numbers as written; empty when it is not JSON."""
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return ""
