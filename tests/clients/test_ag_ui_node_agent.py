"""AG-UI's official clients before an agent that keeps state and says more than text."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.up import penstock_up
from tests.clients.test_ag_ui_node import CONNECT, PACKAGES, RUN, Client, kinds, new, say

if TYPE_CHECKING:
    from tests.cli.up import Up
    from tests.clients.conftest import Node

AGENTS = Path(__file__).with_name("agents.py")


@pytest.fixture(scope="module")
def planning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with penstock_up(tmp_path_factory.mktemp("planning"), str(AGENTS)) as up:
        yield up


@pytest.fixture(params=PACKAGES)
def client(request: pytest.FixtureRequest, node: Node, planning: Up) -> Client:
    return Client(node, planning.base_url, request.param)


def test_state_grows_by_patches_on_both_sides_and_is_there_for_who_comes_later(client: Client) -> None:
    thread = uuid.uuid4().hex

    first, second, later, fresh = client.play(
        "planner",
        *(new(thread), say("one"), RUN, say("two"), RUN),
        *(new(thread), CONNECT),
        *(new(thread), say("three"), RUN),
    )

    assert first["state"] == {"plan": ["one"]}
    assert second["state"] == later["state"] == {"plan": ["one", "two"]}
    assert "STATE_DELTA" in kinds(second)
    assert kinds(fresh)[:2] == ["RUN_STARTED", "STATE_SNAPSHOT"]  # it came with nothing, and patches need something
    assert fresh["state"] == {"plan": ["one", "two", "three"]}


def test_all_that_an_agent_says_beside_text_reaches_the_client(client: Client) -> None:
    thread = uuid.uuid4().hex
    told = {"context": [{"description": "page", "value": "home"}], "forwardedProps": {"mood": "good"}}

    ran, later = client.play("planner", new(thread), say("one"), RUN | {"parameters": told}, new(thread), CONNECT)

    activities = [message for message in ran["messages"] if message["role"] == "activity"]
    assert [activity["activityType"] for activity in activities] == ["penstock:source", "penstock:file", "client"]
    assert activities[2]["content"] == told
    assert [event["name"] for event in ran["events"] if event["type"] == "CUSTOM"] == ["progress"]
    assert [event["stepName"] for event in ran["events"] if "stepName" in event] == ["plan", "plan"]
    assert ran["events"][-1]["usage"] == [
        {"provider": "maker", "model": "m", "inputTokens": 12, "outputTokens": 3, "totalTokens": 15}
    ]
    assert later["messages"] == ran["messages"]
