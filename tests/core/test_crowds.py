"""Very many at once (scenario 23): nobody is turned away, and every log is exact."""

from __future__ import annotations

import asyncio

from core_service.domain.runs import SUCCEEDED
from penstock.v1.run_service_pb2 import CreateRunRequest
from penstock.v1.worker_service_pb2 import Output
from tests.core.running_core import RunningCore, create_request
from tests.core.scripted_worker import ScriptedWorker, end_output

CROWD = 5_000
BOUND = 60.0


async def test_five_thousand_creates_and_watches_at_once_are_all_served(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=CROWD)
    working = asyncio.create_task(_work(worker))
    request = create_request()
    async with asyncio.timeout(BOUND):
        runs = await asyncio.gather(*(_create(core, request) for _ in range(CROWD)))
        watches = [core.watch(run_id) for run_id in runs]
        await asyncio.gather(*(watch.read_to_end() for watch in watches))
        await working
    assert len(set(runs)) == CROWD
    stored = core.place.runs()
    assert all(stored[run_id].state == SUCCEEDED for run_id in runs)


async def test_five_thousand_watches_on_one_stream_are_all_served(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    many = core.watch_many()
    async with asyncio.timeout(BOUND):
        for number in range(1, CROWD + 1):
            await many.start(number, job.run_id)
        for number in (1, CROWD // 2, CROWD):
            await many.read_to(number, 2)
        await job.say_all("to everybody")
        await many.read_until_over(*many.parts)


async def _create(core: RunningCore, request: CreateRunRequest) -> str:
    return (await core.runs.CreateRun(request, timeout=BOUND)).run.id


async def _work(worker: ScriptedWorker) -> None:
    """Answer every run with a word."""
    for _ in range(CROWD):
        job = await worker.take(accept=False)
        await job.send(Output(text="word"), end_output())
