"""Protocols that are moved, and protocols that are switched off."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from edge.app import Edge
from edge.config import EdgeSettings
from penstock.settings import SettingsError
from tests.edge.conftest import StartEdge

AT_HOME = {
    "native": ("GET", "/v1/agents"),
    "websocket": ("GET", "/v1/ws"),
    "openai": ("GET", "/v1/models"),
    "ai_sdk": ("GET", "/v1/ai-sdk/chat/c/stream"),
    "ag_ui": ("GET", "/v1/ag-ui/info"),
}
"""A route of each protocol, where it usually is."""


async def status(edge: Edge, path: str, method: str = "GET") -> int:
    async with aiohttp.request(method, f"http://{edge.address}{path}") as response:
        return response.status


@pytest.mark.parametrize("name", AT_HOME)
async def test_a_protocol_that_is_switched_off_is_not_there_and_the_others_are(
    start_edge: StartEdge, name: str
) -> None:
    edge = await start_edge(**{f"protocols_{name}_enabled": False})

    there = {other: await status(edge, path, method) for other, (method, path) in AT_HOME.items()}

    assert {other for other, answered in there.items() if answered == 404} == {name}


@pytest.mark.parametrize("name", AT_HOME)
async def test_a_protocol_that_is_moved_is_there_and_nowhere_else(start_edge: StartEdge, name: str) -> None:
    usual = EdgeSettings.usual_prefix(name)
    edge = await start_edge(**{f"protocols_{name}_prefix": "/api/x"})

    moved = AT_HOME[name][1].replace(usual, "/api/x", 1)
    there = {other: await status(edge, path, method) for other, (method, path) in AT_HOME.items()}

    assert await status(edge, moved) != 404
    assert {other for other, answered in there.items() if answered == 404} == {name}


async def test_aliases_of_a_moved_protocol_are_not_served(start_edge: StartEdge) -> None:
    edge = await start_edge(protocols_openai_prefix="/api/v1", protocols_ag_ui_prefix="/agents")

    assert await status(edge, "/api/v1/models") == 200
    assert await status(edge, "/openai/v1/models") == 404
    assert await status(edge, "/ag-ui/agent", "POST") == 404


async def test_locations_lead_to_where_the_resources_are(start_edge: StartEdge) -> None:
    edge = await start_edge(protocols_native_prefix="/penstock")

    async with aiohttp.ClientSession(f"http://{edge.address}") as http:
        async with http.post("/penstock/runs", json={"agent_id": "echo"}) as response:
            assert response.headers["Location"] == "/penstock/runs/run_1"
        async with http.post("/penstock/threads", json={"thread_id": "mine"}) as response:
            assert response.headers["Location"] == "/penstock/threads/mine"


async def test_the_file_has_a_table_for_each_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = '[edge]\nport = 1\n[protocols.openai]\nprefix = "/api/v1"\n[protocols.ai_sdk]\nenabled = false\n'
    Path("penstock.toml").write_text(text, encoding="utf-8")

    settings = EdgeSettings.load()

    assert settings.place_of("openai").prefix == "/api/v1"
    assert not settings.place_of("ai_sdk").is_enabled
    assert settings.place_of("native").is_enabled
    monkeypatch.setenv("PENSTOCK_PROTOCOLS_OPENAI_PREFIX", "/elsewhere")
    assert EdgeSettings.load().place_of("openai").prefix == "/elsewhere"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[protocols.opnai]\nprefix = '/x'\n", "unknown table protocols.opnai. Known: protocols.native, "),
        ("[protocols.openai]\nperfix = '/x'\n", r"unknown key \[protocols.openai\] perfix. Known: enabled, prefix."),
        ("[protocols]\nopenai = 7\n", r"`protocols.openai` must be a table: \[protocols.openai\]."),
        ("[protocols.openai]\nprefix = 'api/'\n", "String should match pattern"),
        ("[protocols.openai]\nprefix = '/{x}'\n", "String should match pattern"),
        ("[protocols.openai]\nprefix = '/'\n", "String should match pattern"),
    ],
)
def test_what_cannot_be_served_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("penstock.toml").write_text(text, encoding="utf-8")

    with pytest.raises(SettingsError, match=complaint):
        EdgeSettings.load()
