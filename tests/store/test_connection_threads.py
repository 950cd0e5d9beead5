"""The threads between the event loop and the connections of a database."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from core_service.adapters.sql.connection_threads import ConnectionThreads

LIMIT = 10.0


class Connection:
    """Notes its thread, and its end."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Made:
    """All connections that were made."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def connect(self) -> Connection:
        self.connections.append(Connection())
        return self.connections[-1]


@pytest.fixture
def made() -> Made:
    return Made()


@pytest.fixture
async def threads(made: Made) -> AsyncIterator[ConnectionThreads[Connection]]:
    pool = ConnectionThreads("test", 3, made.connect)
    yield pool
    pool.close()


async def test_one_thread_does_what_is_asked_for_one_after_another(
    threads: ConnectionThreads[Connection], made: Made
) -> None:
    used = {await threads.run(threads.connection) for _ in range(20)}
    assert used == {*made.connections}
    assert len(used) == 1
    assert made.connections[0].thread is not threading.current_thread()


async def test_what_is_asked_for_at_once_is_done_at_once_up_to_the_size(
    threads: ConnectionThreads[Connection], made: Made
) -> None:
    together = threading.Barrier(3)

    def meet() -> Connection:
        together.wait(LIMIT)
        return threads.connection()

    async with asyncio.timeout(LIMIT):
        used = await asyncio.gather(*(threads.run(meet) for _ in range(9)))
    assert set(used) == set(made.connections)
    assert len(made.connections) == 3


async def test_errors_are_for_who_asked(threads: ConnectionThreads[Connection]) -> None:
    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError, match="not there"):
        await threads.run(fail)
    assert await threads.run(lambda: 1) == 1


async def test_work_whose_caller_has_gone_is_done_all_the_same(threads: ConnectionThreads[Connection]) -> None:
    gate, done, faults = threading.Event(), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    asking = asyncio.create_task(threads.run(lambda: done.append(gate.wait(LIMIT))))
    await asyncio.sleep(0)  # it is under way
    asking.cancel()
    await asyncio.wait([asking])
    gate.set()
    for _ in range(3):
        await threads.run(lambda: None)
    threads.close()
    await asyncio.sleep(0)  # its answer, too, has come back
    assert (done, faults) == ([True], [])


async def test_a_discarded_connection_is_closed_and_replaced(
    threads: ConnectionThreads[Connection], made: Made
) -> None:
    pool = ConnectionThreads("alone", 1, made.connect)
    first = await pool.run(pool.connection)
    await pool.run(pool.discard)
    second = await pool.run(pool.connection)
    pool.close()
    assert (first.closed, second.closed, first is second) == (True, True, False)


async def test_closing_waits_for_what_was_given(made: Made) -> None:
    pool = ConnectionThreads("closing", 2, made.connect)
    done: list[int] = []
    asked = [asyncio.create_task(pool.run(lambda n=n: done.append(n))) for n in range(50)]  # type: ignore[misc]
    await asyncio.sleep(0)  # all are under way
    pool.close()
    assert sorted(done) == list(range(50))
    await asyncio.gather(*asked)


async def test_idle_threads_hold_nothing_of_what_they_returned(threads: ConnectionThreads[Connection]) -> None:
    class Rows:
        pass

    left = weakref.ref(await threads.run(Rows))
    async with asyncio.timeout(LIMIT):
        while left() is not None:
            await asyncio.sleep(0.001)
