"""The routes of conversations: a conversation is a thread, and its items are what the runs of the thread said.

Owns their handlers. What is said in a thread is said by its runs, so items can be read here and not be written.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal
from edge.json_body import read_json
from edge.lists import all_messages
from edge.openai.bodies import IDEMPOTENCY_HEADER, read_body
from edge.protocols.openai_responses import ids
from edge.protocols.openai_responses.history import items_of
from edge.protocols.openai_responses.items import Item
from edge.protocols.openai_responses.lists import page
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import CreateThreadRequest, DeleteThreadRequest, GetThreadRequest


class Body(Struct):
    metadata: dict[str, str] | None = None
    items: Sequence[Raw] | None = None


class Conversations:
    """The handlers of conversations."""

    def __init__(self, core: CoreClient, settings: EdgeSettings) -> None:
        self._core = core
        self._settings = settings

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Make an empty conversation."""
        body = Body()
        if request.can_read_body:
            body = read_body(await read_json(request, max_depth=self._settings.max_json_depth), Body)
        if body.items:
            message = "A conversation begins empty: send the items as the input of its first response."
            raise Refusal(501, "NOT_SERVED", message, field="items")
        create = CreateThreadRequest(request_id=request.headers.get(IDEMPOTENCY_HEADER, ""), metadata=body.metadata)
        return _json(_conversation((await self._core.call(self._core.threads.CreateThread, create)).thread))

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Show a conversation."""
        return _json(_conversation(await self._thread(request)))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Delete a conversation with all that was said in it, and the responses too; what goes on is stopped."""
        thread = await self._thread(request)
        await self._core.call(self._core.threads.DeleteThread, DeleteThreadRequest(thread_id=thread.id, cancel=True))
        return _json({"id": ids.conversation_id(thread.id), "object": "conversation.deleted", "deleted": True})

    async def items(self, request: web.Request) -> web.StreamResponse:
        """List what was said."""
        return _json(page(request, await self._items(request)))

    async def item(self, request: web.Request) -> web.StreamResponse:
        """Show one item."""
        wanted = request.match_info["item_id"]
        for item in await self._items(request):
            if item["id"] == wanted:
                return _json(item)
        raise Refusal(404, "ITEM_NOT_FOUND", f"There is no item {wanted[:80]!r}.", field="item_id")

    async def _items(self, request: web.Request) -> list[Item]:
        return items_of([message async for message in all_messages(self._core, (await self._thread(request)).id)])

    async def _thread(self, request: web.Request) -> Thread:
        wanted = GetThreadRequest(thread_id=ids.thread_id(request.match_info["conversation_id"]))
        return (await self._core.call(self._core.threads.GetThread, wanted)).thread


def _conversation(thread: Thread) -> Item:
    return {
        "id": ids.conversation_id(thread.id),
        "object": "conversation",
        "created_at": thread.create_time.seconds,
        "metadata": dict(thread.metadata),
    }


def _json(body: Item) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")
