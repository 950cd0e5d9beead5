"""How a client calls: one channel, deadlines, repeats while a failure is one that passes, pages."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.calls import Patience, call
from penstock.grpc_options import CHANNEL_OPTIONS


class _ListRequest(Protocol):
    page_token: str


class _ListResponse(Protocol):
    next_page_token: str


RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
PageRequest = TypeVar("PageRequest", bound=_ListRequest)
PageResponse = TypeVar("PageResponse", bound=_ListResponse)
Item = TypeVar("Item")


class Caller:
    """Made in a running event loop; `close` ends it."""

    def __init__(self, address: str, *, timeout: float, patience: float) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._timeout = timeout
        self._patience = patience

    async def close(self) -> None:
        await self.channel.close()

    def patience(self) -> Patience:
        """How long a failure of a stream is borne."""
        return Patience(self._patience)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        extra: float = 0.0,
    ) -> ResponseT:
        """What the core answers; `extra` seconds are added to the deadline."""
        return await call(lambda: method(request, timeout=self._timeout + extra), patience=self._patience)

    async def pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[PageRequest, PageResponse],
        request: PageRequest,
        items: Callable[[PageResponse], Iterable[Item]],
    ) -> AsyncIterator[Item]:
        """Everything that a list shows, page after page."""
        while True:
            page = await self.call(method, request)
            for item in items(page):
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def new_request_id() -> str:
    """Makes the repeats of one call harmless."""
    return uuid.uuid4().hex


def duration(seconds: float) -> Duration:
    whole = int(seconds)
    return Duration(seconds=whole, nanos=int((seconds - whole) * 1e9))


def timestamp(when: datetime | None) -> Timestamp | None:
    """An instant of the contract. Raises ValueError for a time that does not say where on earth it is meant."""
    if when is None:
        return None
    if when.tzinfo is None:
        raise ValueError(f"{when} has no time zone")
    instant = Timestamp()
    instant.FromDatetime(when)
    return instant
