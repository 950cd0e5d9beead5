"""The routes of this protocol, as one table."""

from __future__ import annotations

from aiohttp import web

from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.errors import Refusal
from edge.openai.routes import below_prefixes
from edge.protocols.openai_responses.conversations import Conversations
from edge.protocols.openai_responses.responses import Responses


def routes(core: CoreClient, settings: EdgeSettings) -> list[web.RouteDef]:
    """Return the routes of this protocol."""
    responses, conversations = Responses(core, settings), Conversations(core, settings)
    return below_prefixes(
        ("POST", "/responses", responses.create),
        ("POST", "/responses/compact", not_served),
        ("POST", "/responses/input_tokens", not_served),
        ("GET", "/responses/{response_id}", responses.get),
        ("DELETE", "/responses/{response_id}", responses.delete),
        ("POST", "/responses/{response_id}/cancel", responses.cancel),
        ("GET", "/responses/{response_id}/input_items", responses.input_items),
        ("POST", "/conversations", conversations.create),
        ("GET", "/conversations/{conversation_id}", conversations.get),
        ("POST", "/conversations/{conversation_id}", not_served),
        ("DELETE", "/conversations/{conversation_id}", conversations.delete),
        ("GET", "/conversations/{conversation_id}/items", conversations.items),
        ("POST", "/conversations/{conversation_id}/items", not_served),
        ("GET", "/conversations/{conversation_id}/items/{item_id}", conversations.item),
        ("DELETE", "/conversations/{conversation_id}/items/{item_id}", not_served),
    )


async def not_served(request: web.Request) -> web.StreamResponse:
    """Refuse what no core does: what is said in a thread is said by its runs, and nobody counts tokens beforehand."""
    raise Refusal(501, "NOT_SERVED", f"{request.method} {request.path} is not served here.")
