"""The native routes of schedules and retention: exact answers, and what they ask of the core."""

from __future__ import annotations

import aiohttp
import grpc
import pytest

from penstock.v1.message_pb2 import Role
from penstock.v1.retention_service_pb2 import DeleteRetentionRequest, RetentionPolicy, SetRetentionRequest
from penstock.v1.schedule_service_pb2 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    ListSchedulesRequest,
)
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore
from tests.edge.test_rest import SAID, asked, get, post

SCHEDULE = {
    "id": "sch_1",
    "cron": "0 9 * * *",
    "agent_id": "echo",
    "input": [SAID],
    "options": {"priority": 3},
    "metadata": {"a": "b"},
    "next_time": "2027-01-15T08:00:00Z",
}
POLICY = {"agent_id": "echo", "keep_events": 86_400.0, "keep_runs": 0.0}


# ── schedules ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_schedule_is_created_from_what_a_run_is_created_from(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    body = {
        "cron": "0 9 * * *",
        "time_zone": "Europe/Berlin",
        "name": "daily",
        "agent_id": "echo",
        "thread_id": "t",
        "input": "Hi",
        "options": {"webhook_url": "https://example.com/", "run_timeout": 2.5},
        "metadata": {"a": "b"},
    }
    async with http.post("/v1/schedules", json=body, headers={"Idempotency-Key": "k"}) as response:
        assert (response.status, response.headers["Location"]) == (201, "/v1/schedules/sch_1")
        assert await response.json() == SCHEDULE
    create = asked(core, CreateScheduleRequest)
    schedule = create.schedule
    assert create.request_id == "k"
    assert (schedule.cron, schedule.time_zone, schedule.name) == ("0 9 * * *", "Europe/Berlin", "daily")
    assert (schedule.agent_id, schedule.thread_id, dict(schedule.metadata)) == ("echo", "t", {"a": "b"})
    assert (schedule.input[0].role, schedule.input[0].parts[0].text.text) == (Role.ROLE_USER, "Hi")
    assert schedule.options.webhook_url == "https://example.com/"
    assert schedule.options.run_timeout.ToMilliseconds() == 2500


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"agent_id": "echo", "input": "x"}, "cron"),
        ({"cron": "* * * * *", "input": "x"}, "agent_id"),
        ({"cron": "* * * * *", "agent_id": "echo", "paused": True}, "paused"),
        ({"cron": 5, "agent_id": "echo"}, "cron"),
    ],
)
async def test_what_does_not_belong_into_a_schedule_is_refused(
    core: ScriptedCore, http: aiohttp.ClientSession, body: object, field: str
) -> None:
    status, problem = await post(http, "/v1/schedules", body)
    assert (status, problem["reason"], problem["field"]) == (400, "INVALID_ARGUMENT", field)
    assert core.requests == []


async def test_schedules_are_listed_read_paused_resumed_and_deleted(
    core: ScriptedCore, http: aiohttp.ClientSession
) -> None:
    page = await get(http, "/v1/schedules", page_size="1", page_token="t", agent_id="echo")
    assert page == (200, {"schedules": [SCHEDULE], "next_page_token": "more"})
    listed = asked(core, ListSchedulesRequest)
    assert (listed.page_size, listed.page_token, listed.agent_id) == (1, "t", "echo")
    assert await get(http, "/v1/schedules/sch_1") == (200, SCHEDULE)
    async with http.post("/v1/schedules/sch_1/pause") as response:
        assert (response.status, await response.json()) == (200, {"id": "sch_1", "paused": True})
    async with http.post("/v1/schedules/sch_1/resume") as response:
        assert (response.status, await response.json()) == (200, {"id": "sch_1"})
    async with http.delete("/v1/schedules/sch_1") as response:
        assert (response.status, await response.read()) == (204, b"")
    assert asked(core, DeleteScheduleRequest).schedule_id == "sch_1"


async def test_refusals_of_the_core_are_problems(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    core.script["GetSchedule"] = [Refuse(grpc.StatusCode.NOT_FOUND, "SCHEDULE_NOT_FOUND")]
    core.script["CreateSchedule"] = [Refuse(grpc.StatusCode.UNIMPLEMENTED, "WEBHOOKS_DISABLED")]
    core.script["DeleteRetention"] = [Refuse(grpc.StatusCode.NOT_FOUND, "RETENTION_NOT_FOUND")]
    status, problem = await get(http, "/v1/schedules/sch_9")
    assert (status, problem["reason"]) == (404, "SCHEDULE_NOT_FOUND")
    status, problem = await post(http, "/v1/schedules", {"cron": "* * * * *", "agent_id": "echo", "input": "x"})
    assert (status, problem["reason"]) == (501, "WEBHOOKS_DISABLED")
    async with http.delete("/v1/retention") as response:
        assert (response.status, (await response.json(content_type=None))["reason"]) == (404, "RETENTION_NOT_FOUND")


# ── retention ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_policies_are_listed(core: ScriptedCore, http: aiohttp.ClientSession) -> None:
    assert await get(http, "/v1/retention", page_size="5") == (200, {"policies": [POLICY], "next_page_token": ""})


@pytest.mark.parametrize("agent_id", ["", "echo"])
async def test_a_policy_is_set_for_an_agent_or_for_all(
    core: ScriptedCore, http: aiohttp.ClientSession, agent_id: str
) -> None:
    params = {"agent_id": agent_id} if agent_id else {}
    body = {"keep_events": 86_400, "keep_runs": 0, "keep_messages": None}
    async with http.put("/v1/retention", json=body, params=params) as response:
        assert response.status == 200
        assert await response.json() == {
            key: value for key, value in (POLICY | {"agent_id": agent_id}).items() if value != ""
        }
    policy: RetentionPolicy = asked(core, SetRetentionRequest).policy
    assert policy.agent_id == agent_id
    assert (policy.keep_events.seconds, policy.HasField("keep_runs")) == (86_400, True)
    assert not policy.HasField("keep_messages")
    async with http.delete("/v1/retention", params=params) as response:
        assert (response.status, await response.read()) == (204, b"")
    assert asked(core, DeleteRetentionRequest).agent_id == agent_id


@pytest.mark.parametrize(
    ("body", "field"),
    [({"keep_events": -1}, "keep_events"), ({"keep_events": "30d"}, "keep_events"), ({"agent_id": "x"}, "agent_id")],
)
async def test_a_bad_policy_is_refused_with_the_field(
    core: ScriptedCore, http: aiohttp.ClientSession, body: object, field: str
) -> None:
    async with http.put("/v1/retention", json=body) as response:
        problem = await response.json(content_type=None)
        assert (response.status, problem["reason"], problem["field"]) == (400, "INVALID_ARGUMENT", field)
    assert core.requests == []
