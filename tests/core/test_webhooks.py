"""Webhooks: each end is told, signed, at least once; and nobody can make the core call into its own network."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from standardwebhooks.webhooks import Webhook

from core_service.adapters.sql.webhooks import DELIVERED, GIVEN_UP, TO_DELIVER
from core_service.adapters.webhook_sender_aiohttp import open_sender
from core_service.domain.runs import CANCELLED, QUEUED
from penstock.flat_json import dumps, flat
from penstock.v1.run_pb2 import Run, RunOptions
from penstock.v1.run_service_pb2 import ListRunsRequest
from penstock.v1.schedule_pb2 import Schedule
from penstock.v1.schedule_service_pb2 import CreateScheduleRequest
from tests.core.hand_clock import HandClock
from tests.core.places import Place
from tests.core.receiver import SECRET, Receiver, receiving
from tests.core.refusals import refused
from tests.core.running_core import AGENT, RunningCore, user_message
from tests.core.scripted_worker import end_output
from tests.core.waits import until

OPEN = {"webhook_secret": SECRET, "webhook_allow_http": True, "webhook_allow_private": True}
"""Settings that let a core call the test's receiver."""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


def serving(place: Place, clock: HandClock | None = None, **settings: object) -> RunningCore:
    """A core that may call the receiver."""
    return RunningCore(place, clock=clock, **(OPEN | settings))


def told(url: str, **fields: Any) -> RunOptions:
    return RunOptions(webhook_url=url, **fields)


async def ended_run(core: RunningCore, url: str) -> Run:
    """A run that has ended, with a webhook."""
    worker = core.workers[0] if core.workers else await core.connected_worker()
    await worker.give_credit(1)
    job = await core.started(worker, options=told(url))
    await job.say_all("done")
    return await core.ended(job.run_id)


def outbox(core: RunningCore) -> list[tuple[Any, ...]]:
    """State, attempts and last error of all deliveries."""
    return core.place.rows("SELECT state, attempts, last_error FROM webhooks ORDER BY created, delivery_id")


async def until_states(core: RunningCore, *states: int) -> None:
    async def are_so() -> bool:
        return [row[0] for row in outbox(core)] == list(states)

    await until(are_so)


# ── delivery ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_end_is_told_at_once_signed_with_the_run_as_rest_shows_it(any_place: Place, receiver: Receiver) -> None:
    async with serving(any_place) as core:
        run = await ended_run(core, f"{receiver.url}?key=a%20b")
        [call] = await receiver.called()
        assert call.path == "/hook?key=a%20b"
        assert call.headers["content-type"] == "application/json"
        assert call.headers["user-agent"].startswith("penstock/")
        told = Webhook(SECRET).verify(call.body, call.headers)
        assert told == {
            "type": "run.ended",
            "timestamp": run.end_time.ToJsonString(),
            "data": json.loads(dumps(flat(run))),
        }
        await until_states(core, DELIVERED)
        assert len(receiver.calls) == 1


async def test_every_end_is_told_also_of_runs_that_never_started(any_place: Place, receiver: Receiver) -> None:
    async with serving(any_place) as core:
        await core.connected_worker(credit=0)
        run = await core.create(options=told(receiver.url))
        assert (await core.cancel(run.id)).state in (QUEUED, CANCELLED)
        [call] = await receiver.called()
        assert json.loads(call.body)["data"]["state"] == "cancelled"
        await until_states(core, DELIVERED)


async def test_runs_without_a_webhook_leave_the_outbox_empty(core: RunningCore) -> None:
    worker = await core.connected_worker()
    await (await core.started(worker)).say_all()
    assert outbox(core) == []


async def test_scheduled_runs_tell_their_ends_too(sqlite_place: Place, clock: HandClock, receiver: Receiver) -> None:
    async with serving(sqlite_place, clock) as core:
        worker = await core.connected_worker(credit=1)
        schedule = Schedule(cron="* * * * *", agent_id=AGENT, input=[user_message("x")], options=told(receiver.url))
        await core.schedules.CreateSchedule(CreateScheduleRequest(schedule=schedule))
        await clock.forward(61)
        job = await worker.take()
        await job.say_all()
        await clock.forward(3)
        [call] = await receiver.called()
        assert json.loads(call.body)["data"]["id"] == job.run_id


# ── failures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_failure_is_tried_again_with_the_same_id_and_a_new_timestamp(
    sqlite_place: Place, clock: HandClock, receiver: Receiver
) -> None:
    receiver.answers(500)
    receiver.answers(302, Location="/elsewhere")
    receiver.answers(404)
    async with serving(sqlite_place, clock) as core:
        await ended_run(core, receiver.url)
        await receiver.called(1)  # while the clock stands: the end woke the loop
        for times, pause in ((2, 8), (3, 27), (4, 99)):
            await clock.forward(pause)
            await receiver.called(times)
        calls = receiver.calls
        assert len({call.delivery_id for call in calls}) == 1
        assert len({call.headers["webhook-timestamp"] for call in calls}) == 4
        assert {call.path for call in calls} == {"/hook"}, "redirects are not followed"
        assert len({call.body for call in calls}) == 1
        await until_states(core, DELIVERED)
        assert outbox(core) == [(DELIVERED, 4, "")]


async def test_receiver_that_is_gone_is_asked_once(any_place: Place, receiver: Receiver) -> None:
    receiver.answers(410)
    async with serving(any_place) as core:
        await ended_run(core, receiver.url)
        await until_states(core, GIVEN_UP)
        assert outbox(core) == [(GIVEN_UP, 1, "The receiver answered with 410.")]


async def test_after_the_last_attempt_it_is_given_up(sqlite_place: Place, clock: HandClock, receiver: Receiver) -> None:
    receiver.answers(503, 503, 503)
    async with serving(sqlite_place, clock, webhook_attempts=2, webhook_backoff=1.0) as core:
        await ended_run(core, receiver.url)
        await clock.forward(3)
        await receiver.called(1)
        await clock.forward(5)
        await receiver.called(2)
        await until_states(core, GIVEN_UP)
        await clock.forward(120)
        assert len(receiver.calls) == 2


async def test_receiver_may_ask_for_a_longer_pause(sqlite_place: Place, clock: HandClock, receiver: Receiver) -> None:
    receiver.answers(429, Retry_After="60")
    async with serving(sqlite_place, clock) as core:
        await ended_run(core, receiver.url)
        await clock.forward(3)
        await receiver.called(1)
        await until(lambda: has_error(core))
        await clock.forward(50)
        assert len(receiver.calls) == 1
        await clock.forward(13)
        await receiver.called(2)


async def has_error(core: RunningCore) -> bool:
    return any(error for _, _, error in outbox(core))


async def test_receiver_that_does_not_answer_or_does_not_listen_is_a_failure(
    any_place: Place, receiver: Receiver
) -> None:
    receiver.gate.clear()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        async with serving(any_place, webhook_timeout=0.3) as core:
            await ended_run(core, receiver.url)
            await until(lambda: has_error(core))
            await ended_run(core, nobody)
            await until(lambda: have_errors(core, 2))
            (first, second) = outbox(core)
            assert first == (TO_DELIVER, 1, "There was no answer in time.")
            assert second[:2] == (TO_DELIVER, 1)
            assert second[2].startswith("ClientConnectorError: ")


async def have_errors(core: RunningCore, count: int) -> bool:
    return [bool(error) for _, _, error in outbox(core)] == [True] * count


async def test_slow_receivers_are_asked_by_so_many_at_a_time_and_nobody_is_forgotten(
    any_place: Place, receiver: Receiver
) -> None:
    receiver.gate.clear()
    async with serving(any_place, webhook_concurrency=3) as core:
        for _ in range(8):
            await ended_run(core, receiver.url)
        await receiver.called(3)
        assert receiver.at_once == 3
        receiver.gate.set()
        await receiver.called(8)
        await until_states(core, *[DELIVERED] * 8)
        assert receiver.most_at_once == 3
        assert len({call.delivery_id for call in receiver.calls}) == 8


# ── crashes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("lost", ["before the claim", "before the post", "before the note"])
async def test_core_that_dies_on_the_way_makes_the_next_one_deliver(
    sqlite_place: Place, clock: HandClock, receiver: Receiver, lost: str
) -> None:
    async with serving(sqlite_place, clock) as core:
        gate = {
            "before the claim": lambda: core.store.hold("webhooks.claim", when=lambda **given: bool(outbox(core))),
            "before the post": lambda: core.store.hold(
                "webhooks.claim", after=True, when=lambda **given: bool(outbox(core))
            ),
            "before the note": lambda: core.store.hold("webhooks.delivered"),
        }[lost]()
        await ended_run(core, receiver.url)
        await clock.forward(3)
        await gate.reached()
        await core.crash()
        calls = len(receiver.calls)
        assert calls == (lost == "before the note")
        await core.start()
        await clock.forward(50)
        await receiver.called(calls + 1)
        await until_states(core, DELIVERED)
        assert len({call.delivery_id for call in receiver.calls}) == 1
        assert len(receiver.calls) == calls + 1


async def test_end_that_a_crash_cut_off_is_told_once_it_is_stored(any_place: Place, receiver: Receiver) -> None:
    async with serving(any_place) as core:
        worker = await core.connected_worker()
        job = await core.started(worker, options=told(receiver.url))
        gate = core.store.hold("append")
        await job.end()
        await gate.reached()
        await core.crash()
        assert (outbox(core), receiver.calls) == ([], [])
        await core.start()
        await core.worker(worker_id=worker.worker_id).connect(job)
        await job.send(end_output(), first=1)
        await receiver.called()
        await until_states(core, DELIVERED)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_secret_webhooks_are_refused(core: RunningCore) -> None:
    await core.connected_worker(credit=0)
    with refused(grpc.StatusCode.UNIMPLEMENTED, "WEBHOOKS_DISABLED", field="options.webhook_url"):
        await core.create(options=told("https://example.com/"))
    assert list((await core.runs.ListRuns(ListRunsRequest())).runs) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.216.34/",
        "ftp://93.184.216.34/",
        "https://user@93.184.216.34/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://169.254.169.254/latest/meta-data/",
        "https://2130706433/",  # 127.0.0.1 in decimal
        "https://0x7f000001/",
        "https://127.1/",
        "https://[::ffff:10.0.0.1]/",
    ],
)
async def test_url_that_is_not_public_is_refused_and_no_run_is_made(sqlite_place: Place, url: str) -> None:
    core = RunningCore(sqlite_place, webhook_secret=SECRET)
    await core.start()
    await core.connected_worker(credit=0)
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="options.webhook_url"):
        await core.create(options=told(url))
    schedule = Schedule(cron="* * * * *", agent_id=AGENT, input=[user_message("x")], options=told(url))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", field="options.webhook_url"):
        await core.schedules.CreateSchedule(CreateScheduleRequest(schedule=schedule))
    assert list((await core.runs.ListRuns(ListRunsRequest())).runs) == []
    await core.create(options=told("https://93.184.216.34/"))
    await core.hang_up()
    await core.stop()


async def test_name_that_leads_inside_when_it_is_used_is_not_called(sqlite_place: Place, receiver: Receiver) -> None:
    """As with DNS rebinding: the create was allowed, and then the same name means another address."""
    async with serving(sqlite_place) as core:
        gate = core.store.fail("webhooks.claim", times=1_000)
        await ended_run(core, receiver.url.replace("127.0.0.1", "localhost"))
        assert outbox(core)
        gate.open()
        await core.restart(webhook_allow_private=False)
        await until(lambda: has_error(core))
        [(state, attempts, error)] = outbox(core)
        assert (state, attempts) == (TO_DELIVER, 1)
        assert "127.0.0.1 is not a public address" in error or "::1 is not a public address" in error
        assert receiver.calls == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_sender_connects_to_no_address_that_is_not_public(receiver: Receiver, host: str) -> None:
    url = receiver.url.replace("127.0.0.1", host)
    async with open_sender(allow_private=False, timeout=5.0) as sender:
        response = await sender.post(url, headers={}, body=b"{}")
        assert response.status is None
        assert "is not a public address" in response.error
    assert receiver.calls == []
    async with open_sender(allow_private=True, timeout=5.0) as sender:
        assert (await sender.post(url, headers={}, body=b"{}")).status == 200


async def test_sender_asks_no_proxy_of_the_environment(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with open_sender(allow_private=True, timeout=5.0) as sender:
        assert (await sender.post(receiver.url, headers={}, body=b"{}")).status == 200


async def test_sender_reads_no_more_than_the_head_of_an_answer(receiver: Receiver) -> None:
    receiver.answers(200, Content_Encoding="gzip")  # which it is not
    async with open_sender(allow_private=True, timeout=5.0) as sender:
        assert (await sender.post(receiver.url, headers={}, body=b"{}")).status == 200


async def test_slow_look_up_does_not_hold_up_a_create(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_sender(allow_private=False, timeout=5.0) as sender:
        monkeypatch.setattr("core_service.adapters.webhook_sender_aiohttp.LOOK_UP_SECONDS", 0.05)
        loop = asyncio.get_running_loop()

        async def never(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(loop, "getaddrinfo", never, raising=False)
        await sender.check("https://example.com/")
