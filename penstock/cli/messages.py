"""Messages and their parts in words for a terminal: what `penstock run` tells as it happens, and `runs show` later."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import assert_never

import click

from penstock.flat_json import enum_names
from penstock.v1.message_pb2 import Message, Part, Role, ToolOutcome

_ROLES = enum_names(Role.DESCRIPTOR)
_OUTCOMES = enum_names(ToolOutcome.DESCRIPTOR)

_CONTROLS = dict.fromkeys(code for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t")


def show_messages(messages: Iterable[Message]) -> None:
    """Writes a conversation to standard output: who speaks on a line of its own, then what is said."""
    for message in messages:
        click.echo()
        click.secho(_speaker(message), bold=True)
        for part in message.parts:
            text = part.text.text or part.reasoning.text or described(part)
            click.secho(harmless(text) if sys.stdout.isatty() else text, dim=part.HasField("reasoning") or None)


def _speaker(message: Message) -> str:
    role = _ROLES.get(message.role, "unknown").upper()
    return " ".join(filter(None, (role, message.author.name, "(taken back)" if message.retracted else "")))


def described(part: Part, *, longest: int = sys.maxsize) -> str:
    """A part in one line, its values cut at `longest` characters; empty for text and reasoning."""
    match part.WhichOneof("content"):
        case "tool_call":
            call = part.tool_call
            return f"{call.title or call.tool_name} {shortened(call.arguments_json or call.raw_arguments, longest)}"
        case "tool_result":
            result = part.tool_result
            outcome = _OUTCOMES.get(result.outcome, "unknown")
            return f"{result.tool_name} {outcome}: {shortened(result.output_json or result.error_text, longest)}"
        case "file":
            return f"file {part.file.name} {part.file.url}"
        case "data":
            return f"data {part.data.name} {shortened(part.data.value_json, longest)}"
        case "source":
            return f"source {part.source.title} {part.source.url or part.source.filename}"
        case "text" | "reasoning" | None:
            return ""
        case unheard_of:
            assert_never(unheard_of)


def harmless(text: str) -> str:
    """Without control characters: what an agent says must not command the terminal."""
    return text.translate(_CONTROLS)


def shortened(text: str, longest: int) -> str:
    """At most so many characters, and a sign that there are more."""
    return text if len(text) <= longest else text[:longest] + " …"
