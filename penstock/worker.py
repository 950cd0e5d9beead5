"""A worker: serves an app's agents to a core, and finds its way back to one when the connection breaks.

Owns the life of the process: whom to connect to, how long runs are held without a connection (ENGINE.md C6), and how
it leaves (I7, K3). It listens nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

import structlog
from pydantic import Field

from penstock.app import App
from penstock.connection import LEAVE_WITHIN, CannotConnect, Connection
from penstock.executions import Executions
from penstock.line import Line
from penstock.outboxes import Outboxes
from penstock.settings import Settings
from penstock.v1.worker_service_pb2 import Hello

log = structlog.get_logger(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 1.0
LEASE = 30.0
"""Until a core names its own."""


class WorkerSettings(Settings, table="worker"):
    """The settings of a worker."""

    core: str = Field("127.0.0.1:50051", min_length=1, description="Addresses of cores, separated by commas.")
    concurrency: int = Field(100, ge=1, description="Runs at a time, over all agents.")
    run_grace: float = Field(30.0, ge=0, description="Shutdown: seconds that runs have to end by themselves.")
    park_seconds: float = Field(600.0, ge=0, description="Seconds that a handler which waits for an answer is kept.")
    max_parked: int = Field(1000, ge=0, description="Handlers that are kept while they wait; the oldest leave first.")
    handler_grace: float = Field(10.0, ge=0, description="Shutdown: seconds that the other handlers have to clean up.")

    @property
    def cores(self) -> list[str]:
        """The addresses one by one."""
        return [address.strip() for address in self.core.split(",") if address.strip()]


class Worker:
    """One process life of a worker. `run` returns once it has drained."""

    def __init__(self, app: App, settings: WorkerSettings) -> None:
        if not app.agents:
            raise ValueError(f"the app {app.name} has no agents")
        self.worker_id = uuid.uuid4().hex
        self._app = app
        self._settings = settings
        self._outboxes = Outboxes()
        self._line = Line()
        self._executions = Executions(
            app.agents,
            self._outboxes,
            self._line,
            concurrency=settings.concurrency,
            grace=settings.handler_grace,
            park_seconds=settings.park_seconds,
            max_parked=settings.max_parked,
        )
        self._drain = asyncio.Event()
        self._connection: Connection | None = None
        self._is_leaving = False
        self._was_ready = False
        self._lease = LEASE
        self._lease_timer: asyncio.TimerHandle | None = None
        self._trouble = ""

    @property
    def unstoppable(self) -> list[str]:
        """After `run`: the handlers that would not stop."""
        return self._executions.unstoppable

    def drain(self) -> None:
        """Take no new runs, let the others end or return them, and leave."""
        self._drain.set()

    async def run(self) -> None:
        """Serve until drained."""
        async with self._executions, asyncio.TaskGroup() as tasks:
            connected = tasks.create_task(self._stay_connected())
            await self._drain.wait()
            log.info("draining", runs=len(self._executions.held()))
            await self._finish_runs()
            self._is_leaving = True
            if self._connection is not None:
                self._connection.leave()
                await asyncio.wait([connected], timeout=2 * LEAVE_WITHIN)
            connected.cancel()

    async def _finish_runs(self) -> None:
        self._executions.close()
        try:
            async with asyncio.timeout(self._settings.run_grace):
                await self._executions.is_empty.wait()
        except TimeoutError:
            log.warning("runs_returned", runs=len(self._executions.held()))
            self._executions.give_back()

    async def _stay_connected(self) -> None:
        longest = FIRST_DELAY
        for address in itertools.cycle(self._settings.cores):
            self._outboxes.begin()
            try:
                async with Connection(address, self._hello(), self._executions, self._outboxes) as connection:
                    self._connected(connection)
                    longest = FIRST_DELAY
                    why = await connection.relay()
                self._disconnected()
            except CannotConnect as failure:
                why = str(failure)
            if self._is_leaving:
                return
            self._report(address, why)
            await asyncio.sleep(random.uniform(longest / 4, longest))
            longest = min(2 * longest, LONGEST_DELAY)

    def _hello(self) -> Hello:
        return Hello(
            worker_id=self.worker_id,
            sdk_version=_sdk_version(),
            agents=[agent.declaration for agent in self._app.agents.values()],
            held=self._executions.held(),
        )

    def _connected(self, connection: Connection) -> None:
        self._connection = connection
        self._line.put_up(connection.channel)
        self._trouble = ""
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        self._lease = connection.welcome.lease.ToTimedelta().total_seconds() or LEASE
        log.info(
            "connected" if self._was_ready else "ready",
            address=connection.address,
            core_id=connection.welcome.core_id,
            worker_id=self.worker_id,
            agents=sorted(self._app.agents),
        )
        self._was_ready = True

    def _disconnected(self) -> None:
        self._connection = None
        self._line.take_down()
        self._executions.disconnect()
        loop = asyncio.get_running_loop()
        self._lease_timer = loop.call_later(self._lease, self._executions.give_up, "LEASE_LOST")

    def _report(self, address: str, why: str) -> None:
        """Each trouble once: a core may be away for hours."""
        if why != self._trouble:
            log.warning("no_connection", address=address, why=why, runs=len(self._executions.held()))
            self._trouble = why


def _sdk_version() -> str:
    try:
        return f"python/{version('penstock')}"
    except PackageNotFoundError:  # run from a source tree
        return "python/source"


def main(app: App, settings: WorkerSettings) -> None:
    """Serve until a signal; a second one ends the process at once."""

    async def serve() -> None:
        worker = Worker(app, settings)
        with _signals(worker.drain):
            await worker.run()
        if worker.unstoppable:
            log.warning("handlers_left_behind", handlers=worker.unstoppable)
            os._exit(0)  # the end of the loop would wait for them

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def _signals(drain: Callable[[], None]) -> Iterator[None]:
    """The first SIGTERM or SIGINT drains, the second exits.

    Not by `add_signal_handler`: its callbacks wait for the loop, and it may be agent code in the loop that hangs.
    """
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        loop.call_soon_threadsafe(drain)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
