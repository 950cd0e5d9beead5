"""What pages of other origins may do, and the methods that come with every route."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import pytest

from edge.app import Edge
from edge.config import EdgeSettings
from penstock.settings import SettingsError
from tests.edge.conftest import StartEdge
from tests.edge.frames import ACCEPT
from tests.edge.hello_log import whole
from tests.edge.scripted_core import ScriptedCore

APP = "https://app.example"
EXPOSED = (
    "ETag, Location, Retry-After, X-Request-Id, X-Run-Id, X-Run-Steered, X-Thread-Id, x-vercel-ai-ui-message-stream"
)
ASKED = {
    "Origin": APP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type,idempotency-key",
}


async def headers_of(edge: Edge, method: str, path: str, **headers: str) -> tuple[int, Mapping[str, str]]:
    """The status, and what the answer says about origins."""
    async with aiohttp.request(method, f"http://{edge.address}{path}", headers=headers) as response:
        told = {name: value for name, value in response.headers.items() if name.startswith(("Access-", "Vary"))}
        return response.status, told


@pytest.mark.parametrize("path", ["/v1/agents", "/v1/agents/nobody", "/nowhere", "/livez"])
async def test_without_the_setting_nothing_is_said(edge: Edge, path: str) -> None:
    assert (await headers_of(edge, "GET", path, Origin=APP))[1] == {}


@pytest.mark.parametrize(("path", "status"), [("/v1/agents", 200), ("/v1/agents/nobody", 404), ("/nowhere", 404)])
async def test_a_named_page_may_read_answers_and_refusals(start_edge: StartEdge, path: str, status: int) -> None:
    edge = await start_edge(cors_origins=f"http://localhost:3000, {APP}/")

    assert await headers_of(edge, "GET", path, Origin=APP) == (
        status,
        {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": APP,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": EXPOSED,
        },
    )
    assert (await headers_of(edge, "GET", path, Origin="https://evil.example"))[1] == {"Vary": "Origin"}
    assert (await headers_of(edge, "GET", path))[1] == {"Vary": "Origin"}


async def test_streams_may_be_read_too(core: ScriptedCore, start_edge: StartEdge) -> None:
    core.append(*whole(deltas=1))
    edge = await start_edge(cors_origins=APP)

    status, told = await headers_of(edge, "GET", "/v1/runs/run_1/events", Origin=APP, **ACCEPT)

    assert (status, told["Access-Control-Allow-Origin"]) == (200, APP)


async def test_every_page_may_call_when_all_are_named_but_without_credentials(start_edge: StartEdge) -> None:
    edge = await start_edge(cors_origins="*")

    assert (await headers_of(edge, "GET", "/v1/agents", Origin="https://any.example"))[1] == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": EXPOSED,
    }


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/runs", {"GET", "HEAD", "POST"}),
        ("/v1/chat/completions", {"POST"}),
        ("/v1/threads/t/state", {"GET", "HEAD", "PUT", "PATCH"}),
    ],
)
async def test_a_preflight_is_told_the_methods_of_the_path_and_the_headers_it_asks_for(
    start_edge: StartEdge, path: str, methods: set[str]
) -> None:
    edge = await start_edge(cors_origins=APP)

    status, told = await headers_of(edge, "OPTIONS", path, **ASKED)

    assert status == 204
    assert set(told["Access-Control-Allow-Methods"].split(",")) == methods
    assert {name: value for name, value in told.items() if name != "Access-Control-Allow-Methods"} == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": APP,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Headers": "content-type,idempotency-key",
        "Access-Control-Max-Age": "600",
    }


async def test_a_preflight_of_a_stranger_is_permitted_nothing(start_edge: StartEdge) -> None:
    edge = await start_edge(cors_origins="https://other.example")

    assert await headers_of(edge, "OPTIONS", "/v1/runs", **ASKED) == (204, {"Vary": "Origin"})


async def test_options_without_an_origin_tells_the_methods(http: aiohttp.ClientSession) -> None:
    async with http.options("/v1/runs") as response:
        assert (response.status, set(response.headers["Allow"].split(","))) == (204, {"GET", "HEAD", "POST"})


@pytest.mark.parametrize("path", ["/v1/agents", "/v1/runs/run_1", "/v1/models", "/v1/threads/thr_1/events", "/livez"])
async def test_head_is_get_without_a_body(core: ScriptedCore, http: aiohttp.ClientSession, path: str) -> None:
    core.append(*whole(deltas=1))

    async with http.head(path) as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize("origins", ["app.example", "https://app.example/path", "https://a.example b"])
def test_what_can_be_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(SettingsError, match="is no origin"):
        EdgeSettings.load(cors_origins=origins)
