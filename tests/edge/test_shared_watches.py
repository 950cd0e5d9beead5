"""Watches of one run on one edge: the core serves them as one, and each of them sees what it would see alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import grpc
import pytest

from edge.core import CoreClient
from edge.errors import Refusal
from edge.watch import Watch
from edge.watches import WatchLimits
from penstock.v1.run_service_pb2 import WatchRunResponse
from tests.edge.hello_log import beginning, delta, ending
from tests.edge.scripted_calls import Refuse
from tests.edge.scripted_core import ScriptedCore

LIMIT = 20.0
HEAD = 4
"""Events of `beginning()`."""


@pytest.fixture
async def client(core: ScriptedCore) -> AsyncIterator[CoreClient]:
    async with CoreClient(core.address) as opened:
        yield opened


class Viewer:
    """One watch, and the seqs that it brought."""

    def __init__(self, client: CoreClient, after: int = 0, run_id: str = "run_1") -> None:
        self.after = after
        self.seqs: list[int] = []
        self.watch: Watch = client.open_watch(run_id, after=after)

    async def read_to(self, seq: int) -> None:
        """Read until this event has come."""
        async with asyncio.timeout(LIMIT):
            while not self.seqs or self.seqs[-1] < seq:
                batch = await anext(self.watch)
                self.seqs += [event.seq for event in WatchRunResponse.FromString(batch.events).events]

    def close(self) -> None:
        self.watch.__exit__(None, None, None)

    def check(self, last: int) -> None:
        assert self.seqs == list(range(self.after + 1, last + 1))


async def level(core: ScriptedCore, client: CoreClient, count: int, *, seq: int) -> list[Viewer]:
    """Viewers that are served together, all of them at this event."""
    viewers = [Viewer(client) for _ in range(count)]
    await asyncio.gather(*(viewer.read_to(seq) for viewer in viewers))
    core.append(delta(seq + 1))
    await asyncio.gather(*(viewer.read_to(seq + 1) for viewer in viewers))
    assert client.watches.following == count - 1
    return viewers


async def test_viewers_of_a_run_cost_the_core_one_watch(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    viewers = await level(core, client, 5, seq=HEAD)
    before = core.sent["run_1"]

    core.append(*(delta(HEAD + 2 + n) for n in range(10)))
    await asyncio.gather(*(viewer.read_to(HEAD + 11) for viewer in viewers))

    alone = Viewer(client)
    await alone.read_to(HEAD + 11)
    assert core.sent["run_1"] - before < 2 * before, "the ten came once, and then with the history of the last"
    for viewer in (*viewers, alone):
        viewer.check(HEAD + 11)
    assert len(core.starts) - len(core.stops) <= 2
    assert len(client.watches) == 6


async def test_whoever_leads_may_leave(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    viewers = await level(core, client, 4, seq=HEAD)
    starts = len(core.starts)

    for number, viewer in enumerate(viewers[:-1]):
        viewer.close()
        core.append(delta(HEAD + 2 + number))
        await asyncio.gather(*(other.read_to(HEAD + 2 + number) for other in viewers[number + 1 :]))

    viewers[-1].check(HEAD + 4)
    assert (len(core.starts), len(client.watches), client.watches.following) == (starts, 1, 0)
    viewers[-1].close()
    assert len(client.watches) == 0


async def test_a_viewer_that_does_not_read_is_on_its_own_until_it_is_level_again(core: ScriptedCore) -> None:
    core.append(*beginning())
    async with CoreClient(core.address, watches=WatchLimits(buffer=4096)) as client:
        slow, fast = await level(core, client, 2, seq=HEAD)
        for number in range(200):
            core.append(delta(HEAD + 2 + number, "x" * 100))
            await fast.read_to(HEAD + 2 + number)
        assert (client.watches.overflows, len(client.watches)) == (1, 1)

        last = HEAD + 201
        await slow.read_to(last)
        core.append(delta(last + 1))
        await asyncio.gather(slow.read_to(last + 1), fast.read_to(last + 1))

        assert client.watches.following == 1
        core.append(*ending(last + 2))
        await asyncio.gather(slow.read_to(last + 4), fast.read_to(last + 4))
    slow.check(last + 4)
    fast.check(last + 4)
    assert len(client.watches) == 0


async def test_a_restart_is_asked_once_for_all_of_them(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    viewers = await level(core, client, 5, seq=HEAD)
    core.starts.clear()

    await core.stop()
    core.append(*ending(HEAD + 2))
    await core.start()
    await asyncio.gather(*(viewer.read_to(HEAD + 4) for viewer in viewers))

    for viewer in viewers:
        viewer.check(HEAD + 4)
    assert [start.after_seq for start in core.starts] == [HEAD + 1]


async def test_a_refusal_reaches_all_of_them(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    viewers = await level(core, client, 3, seq=HEAD)

    core.script["WatchMany"] = [Refuse(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")]
    core.append(delta(HEAD + 2))

    for viewer in viewers:
        with pytest.raises(Refusal) as refused:
            await viewer.read_to(HEAD + 2)
        assert refused.value.reason == "RUN_NOT_FOUND"
    assert len(client.watches) == 0


@pytest.mark.parametrize("seed", range(5))
async def test_whoever_comes_and_goes_sees_every_event_once(core: ScriptedCore, seed: int) -> None:
    chance = random.Random(seed)
    core.append(*beginning())
    last = HEAD
    viewers: list[Viewer] = []
    async with CoreClient(core.address, watches=WatchLimits(buffer=2048)) as client:
        for _ in range(150):
            match chance.choice(["open", "append", "append", "read", "leave", "forget", "restart"]):
                case "open":
                    viewers.append(Viewer(client, after=chance.randint(0, last)))
                case "append":
                    count = chance.randint(1, 20)
                    core.append(*(delta(last + 1 + n, "y" * chance.choice([1, 200])) for n in range(count)))
                    last += count
                case "read" if viewers:
                    readers = chance.sample(viewers, chance.randint(1, len(viewers)))
                    await asyncio.gather(*(one.read_to(last) for one in readers if one.after < last))
                case "leave" if viewers:
                    gone = viewers.pop(chance.randrange(len(viewers)))
                    gone.close()
                    gone.check(gone.seqs[-1] if gone.seqs else gone.after)
                case "forget" if viewers:
                    chance.choice(viewers).watch.drop()
                case "restart" if chance.random() < 0.2:
                    await core.stop()
                    await core.start()
                case _:
                    continue
        core.append(*ending(last + 1))
        await asyncio.gather(*(viewer.read_to(last + 3) for viewer in viewers))
        for viewer in viewers:
            viewer.check(last + 3)
        assert len(client.watches) == 0


async def test_nobody_follows_a_watch_that_is_behind(core: ScriptedCore) -> None:
    core.append(*beginning())
    async with CoreClient(core.address, watches=WatchLimits(buffer=64 << 20)) as client:
        (slow,) = await level(core, client, 1, seq=HEAD)
        last = HEAD + 9_000
        core.append(*(delta(seq, "z" * 1_000) for seq in range(HEAD + 2, last + 1)))
        late = Viewer(client, after=last - 1)
        await late.read_to(last)
        core.append(*ending(last + 1))
        await asyncio.gather(slow.read_to(last + 3), late.read_to(last + 3))

    slow.check(last + 3)
    late.check(last + 3)


async def test_nobody_follows_a_watch_that_was_refused_for_now(core: ScriptedCore, client: CoreClient) -> None:
    core.append(*beginning())
    viewers = await level(core, client, 2, seq=HEAD)

    core.script["WatchMany"] = [Refuse(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")]
    core.ring()
    async with asyncio.timeout(LIMIT):
        while len(client.watches):
            await asyncio.sleep(0.001)
    late = Viewer(client)
    await late.read_to(HEAD + 1)
    core.append(delta(HEAD + 2))
    await late.read_to(HEAD + 2)
    core.append(*ending(HEAD + 3))
    for viewer in (*viewers, late):
        await viewer.read_to(HEAD + 5)
        viewer.check(HEAD + 5)
