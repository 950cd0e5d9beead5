"""The description of the routes: all of them, nothing else, and true to what they take and answer."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from edge.app import Edge, build
from edge.config import EdgeSettings
from edge.core import CoreClient
from edge.health import Readiness
from edge.openapi.schemas import Schemas
from edge.protocols.registry import PROTOCOLS
from edge.streams import Streams
from penstock.flat_json import flat
from penstock.v1.event_pb2 import Event
from penstock.v1.message_pb2 import Message
from tests.edge.conftest import StartEdge
from tests.edge.frames import ACCEPT, read
from tests.edge.scripted_core import ScriptedCore
from tests.golden.golden import VARIANTS

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
async def api(http: aiohttp.ClientSession) -> Any:
    async with http.get("/openapi.json") as response:
        assert response.status == 200
        return await response.json()


def routes_of(settings: EdgeSettings) -> set[tuple[str, str]]:
    """Method and path of each route of an application."""
    app = build(settings, CoreClient(settings.core), Streams(heartbeat=1, stall=1, retry=1, catch_ups=1), Readiness())
    return {
        (route.method.lower(), re.sub(r":[^}]*}", "}", route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"  # comes with every GET
    }


def described(api: Any) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in api["paths"].items() for method in methods}


async def test_it_describes_every_route_and_no_other(edge: Edge, api: Any) -> None:
    assert described(api) == routes_of(edge.settings)
    assert ("post", "/v1/runs") in described(api)
    assert {operation["tags"][0] for methods in api["paths"].values() for operation in methods.values()} == {
        "system",
        *(name for name, _ in PROTOCOLS),
    }


async def test_it_follows_the_settings(start_edge: StartEdge) -> None:
    edge = await start_edge(protocols_native_prefix="/api", protocols_ag_ui_enabled=False)
    async with aiohttp.request("GET", f"http://{edge.address}/openapi.json") as response:
        api = await response.json()

    assert described(api) == routes_of(edge.settings)
    assert ("post", "/api/runs") in described(api)
    assert not [path for path in api["paths"] if "ag-ui" in path]


async def test_it_is_valid_and_says_something_of_each_route(api: Any) -> None:
    validate(api)

    assert api["openapi"] == "3.1.0"
    operations = [operation for methods in api["paths"].values() for operation in methods.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert [operation["operationId"] for operation in operations if not operation.get("summary")] == []


async def test_the_parameters_are_those_that_the_native_routes_take(
    core: ScriptedCore, http: aiohttp.ClientSession, api: Any
) -> None:
    """Each handler lists what it takes when it is asked for something else."""
    native = [
        (method, path, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
        if operation["tags"] == ["native"]
    ]
    assert len(native) > 20
    for method, path, operation in native:
        url = re.sub(r"{\w+}", "x", path)
        async with http.request(method, url, params={"nonsense": "1"}) as response:
            problem = await response.json(content_type=None)
        assert problem["field"] == "nonsense", (method, path)
        taken = problem["detail"].partition("there are: ")[2].rstrip(".")
        said = ", ".join(parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query")
        assert taken == (said or "none"), (method, path)


def validator(api: Any, name: str) -> Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": api["components"]}
    return Draft202012Validator(schema)


@pytest.mark.parametrize("name", VARIANTS)
async def test_events_are_as_described(core: ScriptedCore, http: aiohttp.ClientSession, api: Any, name: str) -> None:
    core.append(*VARIANTS[name])
    check = validator(api, "Event")

    async with http.get("/v1/runs/run_1/events", headers=ACCEPT) as response:
        frames = (await read(response, until=len(VARIANTS[name]))).frames

    assert [error for frame in frames for error in check.iter_errors(frame.data)] == []
    assert list(check.iter_errors({"type": "no.event"}))
    assert list(check.iter_errors({"type": "part.delta", "seq": "one"}))


async def test_resources_are_as_described(core: ScriptedCore, http: aiohttp.ClientSession, api: Any) -> None:
    core.append(*VARIANTS["waiting"])
    for path, name in (("/v1/runs/run_1", "Run"), ("/v1/agents/echo", "Agent"), ("/v1/threads/thr_1", "Thread")):
        async with http.get(path) as response:
            resource = await response.json()
        assert [*validator(api, name).iter_errors(resource)] == []
        known = api["components"]["schemas"][name]["properties"]
        assert resource.keys() <= known.keys()


def test_what_is_described_of_a_message_is_what_is_written() -> None:
    schemas = Schemas()
    schemas.ref(Event.DESCRIPTOR)
    schemas.ref(Message.DESCRIPTOR)
    properties = schemas.components["Message"]["properties"]
    assert isinstance(properties, dict)

    for event in VARIANTS["everything"]:
        for message in event.run_queued.input:
            assert flat(message).keys() <= properties.keys()


async def test_a_body_has_the_fields_that_are_described_and_no_others(http: aiohttp.ClientSession, api: Any) -> None:
    schema = api["paths"]["/v1/runs"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    async with http.post("/v1/runs", json={"nonsense": 1}) as response:
        problem = await response.json(content_type=None)

    listed = problem["detail"].partition("there are ")[2].rstrip(".").split(", ")
    assert sorted(listed) == sorted(schema["properties"])


async def test_the_page_needs_nothing_from_elsewhere(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs") as response:
        page = await response.text()

    assert response.content_type == "text/html"
    assert "fetch('openapi.json')" in page
    assert "http://" not in page
    assert "https://" not in page
    assert " src=" not in page
