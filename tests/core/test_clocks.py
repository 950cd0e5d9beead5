"""A core whose machine's clock is wrong: the database's counts, so nothing ends early or late."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from core_service.adapters.clock_store import EVERY_SECONDS, StoreClock
from core_service.adapters.clock_system import SystemClock
from core_service.domain.errors import StoreUnavailable
from core_service.domain.runs import FAILED, QUEUED
from penstock.v1.run_pb2 import EndReason, RunOptions
from tests.core.hand_clock import START, HandClock
from tests.core.places import Place
from tests.core.running_core import RunningCore
from tests.store.conftest import TEMPLATE, PostgresServer

HOUR = 3_600_000_000


class WrongClock(SystemClock):
    """A machine's clock that is off."""

    def __init__(self, off: int) -> None:
        self._off = off

    def now(self) -> int:
        return super().now() + self._off


@pytest.mark.parametrize("off", [-HOUR, HOUR])
async def test_times_of_a_run_go_by_the_databases_clock(postgres: PostgresServer, tmp_path: Path, off: int) -> None:
    place = Place(tmp_path, postgres.create(template=TEMPLATE))
    async with RunningCore(place, clock=WrongClock(off), queue_timeout=600.0, cancel_grace=0.2) as core:
        worker = await core.connected_worker(credit=2)
        limited = await core.started(worker, options=RunOptions(run_timeout=Duration(nanos=200_000_000)))
        stubborn = await core.started(worker)
        waiting = await core.create("waits for credit")
        await core.cancel(stubborn.run_id)

        async with asyncio.timeout(20):
            timed_out, cancelled = await core.ended(limited.run_id), await core.ended(stubborn.run_id)

        assert (timed_out.state, timed_out.reason) == (FAILED, EndReason.END_REASON_TIMEOUT)
        assert cancelled.reason == EndReason.END_REASON_USER
        assert place.runs()[waiting.id].state == QUEUED, "its queue timeout is ten minutes"
        assert abs(timed_out.end_time.ToMicroseconds() - time.time_ns() // 1_000) < HOUR / 60


async def test_clock_is_put_right_now_and_then_and_holds_while_the_store_is_away() -> None:
    machine, away = HandClock(), False
    store_is_ahead = 5_000_000

    async def ask() -> int:
        if away:
            raise StoreUnavailable("away")
        return machine.now() + store_is_ahead

    clock = StoreClock(machine, ask)
    await clock.align()
    assert clock.now() == START + 5_000_000
    keeping = asyncio.create_task(clock.keep_aligned())
    await asyncio.sleep(0)
    store_is_ahead = -7_000_000
    await machine.forward(EVERY_SECONDS)
    assert clock.now() == machine.now() - 7_000_000
    away, store_is_ahead = True, 0
    await machine.forward(EVERY_SECONDS)
    assert clock.now() == machine.now() - 7_000_000
    away = False
    await machine.forward(EVERY_SECONDS)
    assert clock.now() == machine.now()
    keeping.cancel()


async def test_answer_that_took_long_changes_nothing() -> None:
    machine = HandClock()

    async def ask() -> int:
        await machine.forward(3.0)
        return machine.now() + HOUR

    clock = StoreClock(machine, ask)
    await clock.align()
    assert clock.now() == machine.now()
