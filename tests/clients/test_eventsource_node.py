"""The `eventsource` package, a browser's EventSource for Node, against a running Penstock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

WORDS = "one two three four"


async def test_an_event_source_reads_a_run_to_its_end_and_then_stops(penstock_up: Up, node: Node) -> None:
    create = {"agent_id": "echo", "input": WORDS}
    async with aiohttp.request("POST", f"{penstock_up.base_url}/v1/runs?wait=10", json=create) as answer:
        run_id = answer.headers["X-Run-Id"]
    seen = node.run("eventsource.mjs", f"{penstock_up.base_url}/v1/runs/{run_id}/events")
    *events, last = seen
    assert [int(event["id"]) for event in events] == list(range(1, len(events) + 1))
    assert "".join(event["data"].get("text", "") for event in events if event["name"] == "part.delta").strip() == WORDS
    assert events[-1]["data"]["state"] == "succeeded"
    assert last == {"name": "stopped", "code": 204}  # it came back behind the end, and was told to stop
