"""Calls of a scripted peer: what was asked, and what is refused next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from penstock.v1.message_pb2 import Message, Part, Role, TextPart

Context = grpc.aio.ServicerContext[object, object]

SAID = Message(id="msg_9", role=Role.ROLE_ASSISTANT, parts=[Part(ordinal=1, text=TextPart(text="Said."))])


@dataclass(frozen=True, slots=True)
class Refuse:
    """A refusal, as scripted."""

    code: grpc.StatusCode
    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class ScriptedCalls:
    """Remembers unary calls and refuses those that a test wants refused."""

    def __init__(self) -> None:
        self.requests: list[object] = []
        """The requests, in order."""
        self.metadata: list[dict[str, str]] = []
        """The metadata of each of them."""
        self.script: dict[str, list[Refuse]] = {}
        """Refusals still to be given, by RPC; `WatchMany` means a watch."""

    async def note(self, rpc: str, request: object, context: Context) -> None:
        """Remember a call, and refuse it when the script says so."""
        metadata = {str(key): str(value) for key, value in context.invocation_metadata() or ()}
        refusal = await self.hear(rpc, request, metadata)
        if refusal is not None:
            await refuse(context, refusal)

    async def hear(self, rpc: str, request: object, metadata: Mapping[str, str]) -> Refuse | None:
        """Remember what is asked, by a call or on a stream, and return what the script says to it."""
        self.requests.append(request)
        self.metadata.append(dict(metadata))
        return self.script[rpc].pop(0) if self.script.get(rpc) else None


async def refuse(context: Context, refusal: Refuse) -> None:
    """Abort as the core does: a code, and one ErrorInfo."""
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=refusal.reason, domain="penstock", metadata=refusal.metadata))
    message = f"refused: {refusal.reason}"
    status = Status(code=refusal.code.value[0], message=message, details=[detail])
    trailer = ("grpc-status-details-bin", status.SerializeToString())
    await context.abort(refusal.code, message, (trailer,) if refusal.reason else ())
