"""Lists as OpenAI pages them: by the id of the last item seen, in either order."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from edge import query
from edge.json_body import refused
from edge.protocols.openai_responses.items import Item

DEFAULT_LIMIT, MOST = 20, 100


def page(request: web.Request, found: Sequence[Item]) -> Item:
    """Return the page that a query asks for, of items in the order in which they came. Raises Refusal."""
    limit = query.integer(request, "limit") if "limit" in request.query else DEFAULT_LIMIT
    if not 1 <= limit <= MOST:
        raise refused("limit", f"limit must lie between 1 and {MOST}.")
    rest = _behind(request.query.get("after"), _ordered(request.query.get("order", "desc"), found))
    shown = rest[:limit]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(rest) > limit,
    }


def _ordered(order: str, found: Sequence[Item]) -> list[Item]:
    if order not in ("asc", "desc"):
        raise refused("order", "order must be asc or desc.")
    return list(found) if order == "asc" else list(reversed(found))


def _behind(after: str | None, found: list[Item]) -> list[Item]:
    if after is None:
        return found
    places = [place for place, item in enumerate(found) if item["id"] == after]
    if not places:
        raise refused("after", f"There is no item {after[:80]!r}.")
    return found[places[0] + 1 :]
