"""The socket before a running Penstock: two clients that know nothing of each other's code."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

WORDS = "one two three four"
BOUND = 20.0


async def _until(ws: aiohttp.ClientWebSocketResponse, kind: str, run_id: str = "") -> list[dict[str, Any]]:
    """Hear up to a message of this type, of this run if one is named."""
    heard: list[dict[str, Any]] = []
    async with asyncio.timeout(BOUND):
        while not heard or heard[-1]["type"] != kind or run_id not in ("", heard[-1].get("run_id")):
            heard.append(json.loads(await ws.receive_str()))
    return heard


def _text(events: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "part.delta" and event["kind"] == "text")


async def test_one_socket_runs_agents_answers_their_questions_and_stops_them(penstock_up: Up) -> None:
    async with (
        aiohttp.ClientSession(penstock_up.base_url) as http,
        http.ws_connect("/v1/ws", origin=penstock_up.base_url) as ws,
    ):
        ids = {}
        for agent, said in (("echo", WORDS), ("approve", "book it"), ("slow", "for ever")):
            await ws.send_json({"type": "create", "id": agent, "agent_id": agent, "input": said, "watch": False})
            [result] = await _until(ws, "result")
            assert result["id"] == agent
            ids[agent] = result["run"]["id"]
        await ws.send_json({"type": "watch", "run_id": ids["echo"]})
        echo = await _until(ws, "run.ended")
        await ws.send_json({"type": "watch", "run_id": ids["approve"]})
        await ws.send_json({"type": "watch", "run_id": ids["slow"]})
        [question] = (await _until(ws, "run.waiting", ids["approve"]))[-1]["inputs"]
        answer = {"input_id": question["id"], "outcome": "answered", "answer": {"approved": True}}
        await ws.send_json({"type": "answer", "run_id": ids["approve"], "answers": [answer]})
        approved = (await _until(ws, "run.ended", ids["approve"]))[-1]
        await ws.send_json({"type": "cancel", "run_id": ids["slow"]})
        cancelled = (await _until(ws, "run.ended", ids["slow"]))[-1]

    assert _text(echo).strip() == WORDS
    assert (approved["state"], cancelled["state"]) == ("succeeded", "cancelled")


def test_a_browsers_socket_goes_on_in_the_middle_of_an_answer(penstock_up: Up, node: Node) -> None:
    url = penstock_up.base_url.replace("http", "ws") + "/v1/ws"

    result, *events = node.run("websocket.mjs", url, "echo", WORDS)

    assert result == {"type": "result", "id": 1, "of": "create"}
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert _text(events).strip() == WORDS
    assert events[-1]["state"] == "succeeded"
