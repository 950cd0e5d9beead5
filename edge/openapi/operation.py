"""What a handler says of itself, for the description of the routes.

Owns a mark on the handler, so that the description stands where the work does. Handlers without one are described by
their docstring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

F = TypeVar("F", bound=Callable[..., object])
_MARK = "__operation__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of the native protocol."""

    summary: str = ""
    query: tuple[str, ...] = ()
    body: tuple[type[Message], tuple[str, ...]] | None = None
    """A message, and which of its fields the body may have, by their names in JSON."""
    answer: type[Message] | None = None
    """What is answered, alone or …"""
    page_of: str = ""
    """… as a list under this name, with `next_page_token`."""
    status: int = 200
    streams: bool = False
    """Also answers with Server-Sent Events, when they are accepted."""


def operation(
    summary: str,
    *,
    query: tuple[str, ...] = (),
    body: tuple[type[Message], tuple[str, ...]] | None = None,
    answer: type[Message] | None = None,
    page_of: str = "",
    status: int = 200,
    streams: bool = False,
) -> Callable[[F], F]:
    """Describe a handler."""
    described = Operation(
        summary=summary, query=query, body=body, answer=answer, page_of=page_of, status=status, streams=streams
    )

    def mark(handler: F) -> F:
        setattr(handler, _MARK, described)
        return handler

    return mark


def operation_of(handler: object) -> Operation:
    """Return what a handler says of itself; else the first line of its docstring."""
    marked = getattr(handler, _MARK, None)
    if isinstance(marked, Operation):
        return marked
    doc = getattr(handler, "__doc__", None) or ""
    return Operation(summary=doc.strip().partition("\n")[0])
