"""Runs by the clock: each due time makes one run, whoever dies in between; what was missed is run once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from core_service.domain.errors import StoreUnavailable
from core_service.domain.runs import SUCCEEDED
from penstock.v1.run_pb2 import BusyPolicy, Run, RunOptions
from penstock.v1.run_service_pb2 import ListRunsRequest
from penstock.v1.schedule_pb2 import Schedule
from penstock.v1.schedule_service_pb2 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListSchedulesRequest,
    PauseScheduleRequest,
)
from tests.core.hand_clock import START, HandClock
from tests.core.places import Place
from tests.core.refusals import refused
from tests.core.running_core import AGENT, RunningCore, user_message
from tests.core.waits import until
from tests.store.conftest import TEMPLATE, PostgresServer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = EPOCH + timedelta(microseconds=START)  # 2027-01-15 08:00
MINUTELY = "* * * * *"


async def create(core: RunningCore, cron: str = MINUTELY, *, request_id: str = "", **fields: object) -> Schedule:
    schedule = Schedule(**{"cron": cron, "agent_id": AGENT, "input": [user_message("tick")]} | fields)  # type: ignore[arg-type]
    request = CreateScheduleRequest(schedule=schedule, request_id=request_id)
    return (await core.schedules.CreateSchedule(request)).schedule


async def get(core: RunningCore, schedule: Schedule) -> Schedule:
    return (await core.schedules.GetSchedule(GetScheduleRequest(schedule_id=schedule.id))).schedule


async def pause(core: RunningCore, schedule: Schedule, *, paused: bool = True) -> Schedule:
    request = PauseScheduleRequest(schedule_id=schedule.id, paused=paused)
    return (await core.schedules.PauseSchedule(request)).schedule


async def runs(core: RunningCore) -> list[Run]:
    """All runs, oldest first."""
    return list((await core.runs.ListRuns(ListRunsRequest())).runs)[::-1]


def times(found: list[Run]) -> list[str]:
    return [f"{run.create_time.ToDatetime(UTC):%H:%M}" for run in found]


@pytest.fixture
async def known_agent(timed_core: RunningCore) -> RunningCore:
    """A core on the test's clock that knows the agent; its worker takes nothing unless it is given credit."""
    await timed_core.connected_worker(credit=0)
    return timed_core


async def test_each_due_time_makes_a_run_with_the_input_of_the_schedule(
    timed_core: RunningCore, clock: HandClock
) -> None:
    worker = await timed_core.connected_worker(credit=3)
    schedule = await create(timed_core, thread_id="daily", metadata={"team": "blue"})
    assert schedule.next_time.ToDatetime(UTC) == NOW + timedelta(minutes=1)
    await clock.forward(59)
    assert await runs(timed_core) == []
    await clock.forward(2)
    job = await worker.take()
    assert [part.text.text for message in job.assignment.messages for part in message.parts] == ["tick"]
    assert job.assignment.run.thread_id == "daily"
    assert dict(job.assignment.run.metadata) == {"team": "blue", "schedule_id": schedule.id}
    await job.say_all("tock")
    now = await get(timed_core, schedule)
    assert (now.last_run_id, now.last_refusal) == (job.run_id, "")
    assert now.last_time == schedule.next_time
    assert now.next_time.ToDatetime(UTC) == NOW + timedelta(minutes=2)
    await clock.forward(60)
    await (await worker.take()).say_all()
    assert times(await runs(timed_core)) == ["08:01", "08:02"]


async def test_due_schedule_makes_one_run_on_each_database(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=5)
    schedule = await create(any_core, "0 0 1 1 *")
    an_hour_ago = round((datetime.now(UTC) - timedelta(hours=1)).timestamp()) * 1_000_000
    any_core.place.execute(f"UPDATE schedules SET next_time = {an_hour_ago}")
    job = await worker.take()
    await job.say_all()
    await until(lambda: is_noted(any_core, schedule, job.run_id))
    now = await get(any_core, schedule)
    assert now.last_time.ToMicroseconds() == an_hour_ago
    assert now.next_time == schedule.next_time
    assert (await any_core.ended(job.run_id)).state == SUCCEEDED


async def is_noted(core: RunningCore, schedule: Schedule, run_id: str) -> bool:
    return (await get(core, schedule)).last_run_id == run_id


async def test_what_was_missed_while_no_core_ran_is_run_once(known_agent: RunningCore, clock: HandClock) -> None:
    core = known_agent
    schedule = await create(core)
    await core.hang_up()
    await core.stop()
    await clock.forward(5 * 60 + 30)
    await core.start()
    await clock.forward(10)
    assert times(await runs(core)) == ["08:05"]
    now = await get(core, schedule)
    assert now.last_time.ToDatetime(UTC) == NOW + timedelta(minutes=1)
    assert now.next_time.ToDatetime(UTC) == NOW + timedelta(minutes=6)
    await clock.forward(60)
    assert times(await runs(core)) == ["08:05", "08:06"]


@pytest.mark.parametrize("is_stored", [False, True])
async def test_core_that_dies_while_a_schedule_is_due_loses_no_run_and_makes_no_second_one(
    known_agent: RunningCore, clock: HandClock, *, is_stored: bool
) -> None:
    core = known_agent
    schedule = await create(core)
    gate = core.store.hold("create_run", after=is_stored)
    await clock.forward(61)
    await gate.reached()
    await core.crash()
    await core.start()
    await clock.forward(10)
    [run] = await runs(core)
    now = await get(core, schedule)
    assert (now.last_run_id, now.next_time.ToDatetime(UTC)) == (run.id, NOW + timedelta(minutes=2))


async def test_two_cores_that_find_the_same_schedule_due_make_one_run(postgres: PostgresServer, tmp_path: Path) -> None:
    place = Place(tmp_path, postgres.create(template=TEMPLATE))
    first, second = RunningCore(place), RunningCore(place)
    await first.start()
    await second.start()
    await first.connected_worker(credit=0)
    schedule = await create(first, "0 0 1 1 *")
    gates = [core.store.hold("create_run") for core in (first, second)]
    first.place.execute("UPDATE schedules SET next_time = 1")
    await asyncio.gather(*(gate.reached() for gate in gates))
    for gate in gates:
        gate.open()
    await until(lambda: is_done(first, schedule))
    assert len(await runs(second)) == 1
    for core in (first, second):
        await core.hang_up()
        await core.stop()
    first.check()


async def is_done(core: RunningCore, schedule: Schedule) -> bool:
    return (await get(core, schedule)).last_run_id != ""


async def test_run_that_is_refused_is_told_and_the_schedule_goes_on(timed_core: RunningCore, clock: HandClock) -> None:
    worker = await timed_core.connected_worker(credit=1)
    job = await timed_core.started(worker, thread_id="busy")
    options = RunOptions(busy_policy=BusyPolicy.BUSY_POLICY_REJECT)
    schedule = await create(timed_core, thread_id="busy", options=options)
    await clock.forward(61)
    now = await get(timed_core, schedule)
    assert (now.last_run_id, now.last_refusal) == ("", "THREAD_BUSY")
    assert now.next_time.ToDatetime(UTC) == NOW + timedelta(minutes=2)
    await job.say_all()
    await clock.forward(60)
    now = await get(timed_core, schedule)
    assert (now.last_run_id != "", now.last_refusal) == (True, "")


async def test_store_that_is_away_delays_a_run_and_refuses_nothing(known_agent: RunningCore, clock: HandClock) -> None:
    core = known_agent
    schedule = await create(core)
    away = core.store.fail("create_run", times=3, error=StoreUnavailable("away"))
    await clock.forward(62)
    assert away.hits
    assert (await get(core, schedule)).last_refusal == ""
    await clock.forward(10)
    assert len(await runs(core)) == 1
    assert (await get(core, schedule)).last_refusal == ""


async def test_paused_schedule_makes_no_runs_and_continues_from_then_on(
    known_agent: RunningCore, clock: HandClock
) -> None:
    core = known_agent
    schedule = await create(core)
    paused = await pause(core, schedule)
    assert (paused.paused, paused.HasField("next_time")) == (True, False)
    await clock.forward(3 * 60 + 30)
    assert await runs(core) == []
    resumed = await pause(core, schedule, paused=False)
    assert resumed.next_time.ToDatetime(UTC) == NOW + timedelta(minutes=4)
    assert await pause(core, schedule, paused=False) == resumed
    await clock.forward(60)
    assert times(await runs(core)) == ["08:04"]


async def test_schedule_that_is_paused_while_its_run_is_made_makes_none(
    known_agent: RunningCore, clock: HandClock
) -> None:
    core = known_agent
    schedule = await create(core)
    gate = core.store.hold("create_run")
    await clock.forward(61)
    await gate.reached()
    await pause(core, schedule)
    gate.open()
    await clock.forward(5)
    assert await runs(core) == []
    now = await get(core, schedule)
    assert (now.paused, now.last_refusal, now.HasField("next_time")) == (True, "", False)


async def test_deleted_schedule_makes_no_runs_and_its_runs_stay(known_agent: RunningCore, clock: HandClock) -> None:
    core = known_agent
    schedule = await create(core)
    await clock.forward(61)
    await core.schedules.DeleteSchedule(DeleteScheduleRequest(schedule_id=schedule.id))
    await clock.forward(3 * 60)
    assert times(await runs(core)) == ["08:01"]
    with refused(grpc.StatusCode.NOT_FOUND, "SCHEDULE_NOT_FOUND", schedule_id=schedule.id):
        await get(core, schedule)


async def test_more_schedules_than_one_turn_takes_are_all_run(known_agent: RunningCore, clock: HandClock) -> None:
    core = known_agent
    made = [await create(core) for _ in range(60)]
    await clock.forward(62)
    found = {run.metadata["schedule_id"] for run in await runs(core)}
    assert found == {schedule.id for schedule in made}


async def test_schedules_are_listed_in_pages(any_core: RunningCore) -> None:
    await any_core.connected_worker(credit=0)
    made = [await create(any_core, name=str(number)) for number in range(3)]
    first = await any_core.schedules.ListSchedules(ListSchedulesRequest(page_size=2, agent_id=AGENT))
    request = ListSchedulesRequest(page_size=2, page_token=first.next_page_token, agent_id=AGENT)
    second = await any_core.schedules.ListSchedules(request)
    assert [*first.schedules, *second.schedules] == made[::-1]
    assert second.next_page_token == ""


async def test_repeated_create_makes_one_schedule(any_core: RunningCore) -> None:
    await any_core.connected_worker(credit=0)
    first = await create(any_core, request_id="k")
    assert await create(any_core, request_id="k") == first
    with refused(grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH"):
        await create(any_core, "0 0 * * *", request_id="k")


async def test_bad_schedules_are_refused_with_the_field(core: RunningCore) -> None:
    await core.connected_worker(credit=0)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="cron"):
        await create(core, "every day")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="cron"):
        await create(core, "* * */20 * 1L")
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="time_zone"):
        await create(core, time_zone="Mars/Olympus")
    with refused(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND", agent_id="nobody"):
        await create(core, agent_id="nobody")
    assert list((await core.schedules.ListSchedules(ListSchedulesRequest())).schedules) == []
