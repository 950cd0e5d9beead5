"""pytest-grpc's fixtures over the real core: what an internal service does is plain, blocking stubs on a channel.

The plugin would start a server of its own around a servicer. Here `grpc_server` is a whole core with the demo agents on
a worker, in a thread with a loop of its own, and everything behind it is the plugin's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import grpc
import pytest

from core_service.app import Core, serving
from core_service.config import CoreSettings
from penstock.demo import app
from penstock.v1.run_service_pb2_grpc import RunServiceStub
from penstock.v1.system_service_pb2 import GetStatusRequest
from penstock.v1.system_service_pb2_grpc import SystemServiceStub
from penstock.worker import Worker, WorkerSettings
from tests.core.waits import PAUSE

START_SECONDS = 20.0


class CoreThread:
    """A core and a worker in a thread."""

    def __init__(self, data: Path) -> None:
        self._settings = CoreSettings.load(data=data, grpc_port=0, metrics=False, drain_timeout=2.0)
        self._started: Future[Core] = Future()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="core")

    def start(self) -> Core:
        """Return once both serve."""
        self._thread.start()
        return self._started.result(START_SECONDS)

    def stop(self) -> None:
        """Drain both."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with serving(self._settings) as core:
            worker = Worker(app, WorkerSettings.load(core=core.address))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run())
                await self._until_online(core)
                self._started.set_result(core)
                await self._stop.wait()
                worker.drain()

    async def _until_online(self, core: Core) -> None:
        """Wait until the worker's agents can be called."""
        async with grpc.aio.insecure_channel(core.address) as channel:
            status = SystemServiceStub(channel)
            while not any(worker.credit for worker in (await status.GetStatus(GetStatusRequest())).workers):
                await asyncio.sleep(PAUSE)


@pytest.fixture(scope="module")
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Core]:
    if request.config.getoption("grpc-fake"):
        pytest.skip("these tests are about the real core; --grpc-fake-server has none")
    thread = CoreThread(tmp_path_factory.mktemp("core"))
    yield thread.start()
    thread.stop()


@pytest.fixture(scope="module")
def grpc_addr(core: Core) -> str:
    """The plugin's channel goes to the core."""
    return core.address


@pytest.fixture(scope="module")
def grpc_server(core: Core) -> Core:
    """There is nothing to add a servicer to: the core has its own."""
    return core


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[RunServiceStub]:
    """`grpc_stub` starts and watches runs."""
    return RunServiceStub
