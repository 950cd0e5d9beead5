"""An ended run's segments become a few compressed ones; no reader can tell."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from core_service.domain.errors import LogDamaged
from core_service.ports import Segment
from penstock.v1.run_pb2 import Run
from tests.store.world import World, output, records, seqs

LAST = 43


async def long_run(world: World) -> Run:
    run = await world.running()
    for expected in range(2, LAST - 1, 4):
        await world.append(output(run.id, expected=expected, count=4))
    await world.end(run)
    return run


def chunks(*borders: int) -> list[Segment]:
    return [Segment(first + 1, last, records(first + 1, last)) for first, last in pairwise(borders)]


async def test_a_folded_log_reads_the_same_from_any_cursor(world: World) -> None:
    run = await long_run(world)
    await world.store.fold(run.id, chunks(0, 20, LAST))
    rows = await world.store.read_segments(run.id, after_seq=0, limit=10)
    assert [(row.first_seq, row.last_seq) for row in rows] == [(1, 20), (21, LAST)]
    for cursor in range(LAST + 1):
        rows = await world.store.read_segments(run.id, after_seq=cursor, limit=100)
        found = [seq for row in rows for seq in seqs(row.data) if seq > cursor]
        assert found == list(range(cursor + 1, LAST + 1))


async def test_reads_are_cut_at_their_limit(world: World) -> None:
    run = await long_run(world)
    first = await world.store.read_segments(run.id, after_seq=0, limit=3)
    second = await world.store.read_segments(run.id, after_seq=first[-1].last_seq, limit=3)
    assert [(row.first_seq, row.last_seq) for row in [*first, *second]] == [
        (1, 2),
        (3, 6),
        (7, 10),
        (11, 14),
        (15, 18),
        (19, 22),
    ]


async def test_ended_runs_are_foldable_once_oldest_first(sqlite_world: World) -> None:
    world = sqlite_world
    running = await world.running()
    ended = []
    for _ in range(3):
        world.clock.forward(1)
        ended.append(await long_run(world))
    assert await world.store.foldable(ended_before=world.clock.now(), limit=10) == [run.id for run in ended[:2]]
    world.clock.forward(1)
    now = world.clock.now()
    assert await world.store.foldable(ended_before=now, limit=1) == [ended[0].id]
    await world.store.fold(ended[0].id, chunks(0, LAST))
    assert await world.store.foldable(ended_before=now, limit=10) == [run.id for run in ended[1:]]
    await world.store.fold(running.id, chunks(0, 1))
    assert await world.log(running.id) == [1, 2]


async def test_two_cores_that_fold_the_same_run_leave_one_log(world: World) -> None:
    run = await long_run(world)
    async with asyncio.timeout(30):
        await asyncio.gather(*(world.store.fold(run.id, chunks(0, 10 + number, LAST)) for number in range(6)))
    assert await world.log(run.id) == list(range(1, LAST + 1))


@pytest.mark.parametrize("borders", [(0, LAST - 1), (1, LAST), (0, LAST + 1)])
async def test_a_fold_that_would_lose_events_is_refused(world: World, borders: tuple[int, ...]) -> None:
    run = await long_run(world)
    with pytest.raises(LogDamaged):
        await world.store.fold(run.id, chunks(*borders))
    assert await world.log(run.id) == list(range(1, LAST + 1))
    await world.store.fold(run.id, chunks(0, LAST))
