"""Workers as processes: signals, and agent code that hangs."""

import asyncio
import signal

from tests.sdk.scripted_core import PATIENCE, ScriptedCore, scripted_core
from tests.sdk.worker_process import worker_process


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(PATIENCE):
        return await process.wait()


async def test_a_signal_drains_an_idle_worker(core: ScriptedCore) -> None:
    async with worker_process(core.address) as process:
        session = await core.welcomed()
        await session.until(lambda session: session.credit > 0)

        process.send_signal(signal.SIGTERM)

        assert await ended(process) == 0
        assert session.draining


async def test_a_second_signal_ends_a_worker_at_once_even_when_agent_code_blocks_its_loop(core: ScriptedCore) -> None:
    async with worker_process(core.address) as process:
        session = await core.welcomed()
        await session.assign("blocks", "3600")
        await session.until(lambda session: session.text() == "before ")

        process.send_signal(signal.SIGINT)
        # The kernel merges equal signals that are pending: the second one is another.
        process.send_signal(signal.SIGTERM)

        assert await ended(process) in (128 + signal.SIGTERM, 128 + signal.SIGINT)


async def test_a_worker_leaves_in_time_although_handlers_do_not_stop(core: ScriptedCore) -> None:
    async with worker_process(core.address, run_grace=0.1, handler_grace=0.1) as process:
        session = await core.welcomed()
        await session.assign("stubborn", run_id="run_1")
        await session.assign("hangs", run_id="run_2")
        await session.until(lambda session: session.text("run_1") == "here ")
        await session.until(lambda session: session.text("run_2") == "hanging ")

        process.send_signal(signal.SIGTERM)

        assert await ended(process) == 0
        assert sorted(decline.run_id for decline in session.declined) == ["run_1", "run_2"]


async def test_a_worker_whose_loop_is_blocked_longer_than_the_keepalive_keeps_its_stream() -> None:
    keepalive = {
        "grpc.keepalive_time_ms": 500,
        "grpc.keepalive_timeout_ms": 500,
        "grpc.http2.ping_timeout_ms": 500,
        "grpc.http2.min_recv_ping_interval_without_data_ms": 100,
    }
    async with scripted_core(options=keepalive) as core, worker_process(core.address) as process:
        session = await core.welcomed()
        await session.assign("blocks", "3")
        await session.end()

        assert session.text() == "before after"
        assert process.returncode is None
        assert not session.ended.is_set()
