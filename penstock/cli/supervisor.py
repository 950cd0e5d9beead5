"""Keeps a few programs running: starts each after those it needs, restarts what crashes, stops all in order.

It knows programs by name and command line only. Each tells that it serves by a log line `ready` with its address;
the command lines of those that need it are made from that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.cli.child import Child
from penstock.cli.relay import Record, Relay, parse

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
SETTLED_AFTER = 10.0
"""Seconds of life after which a crash is no longer taken for the same trouble as the one before."""


@dataclass(frozen=True)
class Ready:
    """What a program said when it began to serve."""

    pid: int
    address: str
    record: Record


@dataclass(frozen=True)
class Program:
    """Something to keep running.

    `command` is called before each start with what is ready by then, the program's own former life included, so
    that it can come back on the port it had.
    """

    name: str
    command: Callable[[Mapping[str, Ready]], Sequence[str]]
    needs: tuple[str, ...] = ()
    level: str = "info"
    stop_within: float = 30.0


class Supervisor:
    """`run` keeps the programs until a signal, or until one of them fails before it ever was ready.

    They are stopped in the reverse of the order given. `on_ready` is called whenever all are ready: after the start,
    and after each restart.
    """

    def __init__(
        self, programs: Sequence[Program], relay: Relay, *, on_ready: Callable[[Mapping[str, Ready]], None]
    ) -> None:
        self._programs = programs
        self._relay = relay
        self._on_ready = on_ready
        self._ready: dict[str, Ready] = {}
        self._first_ready = {program.name: asyncio.Event() for program in programs}
        self._children: dict[str, Child] = {}
        self._over = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        """Returns the exit code: 0 after a clean stop."""
        try:
            with self._signals():
                async with asyncio.TaskGroup() as tasks:
                    keepers = [tasks.create_task(self._keep(program, tasks)) for program in self._programs]
                    await self._over.wait()
                    for keeper in keepers:
                        keeper.cancel()
                    await self._stop_all()
        finally:
            self._kill_all()
        return self._exit_code

    async def _keep(self, program: Program, tasks: asyncio.TaskGroup) -> None:
        for name in program.needs:
            await self._first_ready[name].wait()
        loop, delay = asyncio.get_running_loop(), 0.0
        while True:
            began = loop.time()
            code = await self._live(program, tasks)
            if not self._first_ready[program.name].is_set():
                self._give_up(program, code)
                return
            delay = next_delay(delay, lived=loop.time() - began)
            self._relay.say("warning", f"{program.name} {ending(code)}; it starts again in {delay:g} s")
            await asyncio.sleep(delay)

    async def _live(self, program: Program, tasks: asyncio.TaskGroup) -> int:
        """One life of the program. Cancelling this leaves the child alive: it is to be stopped in its turn."""
        child = Child(program.command(self._ready), lambda line: self._heard(program, line))
        self._children[program.name] = child
        return await asyncio.shield(tasks.create_task(child.live()))

    def _heard(self, program: Program, line: str) -> None:
        record = parse(line)
        if record is None:
            self._relay.text(program.name, line)
            return
        self._relay.record(program.name, record, level=program.level)
        if record["event"] == "ready" and "address" in record:
            child = self._children[program.name]
            self._ready[program.name] = Ready(child.pid, str(record["address"]), record)
            self._first_ready[program.name].set()
            if len(self._ready) == len(self._programs):
                self._on_ready(self._ready)

    def _give_up(self, program: Program, code: int) -> None:
        self._relay.say("error", f"{program.name} {ending(code)} before it was ready; its log says why")
        self._exit_code = 1
        self._over.set()

    async def _stop_all(self) -> None:
        for program in reversed(self._programs):
            child = self._children.get(program.name)
            if child is not None and not await child.stop(within=program.stop_within):
                self._relay.say("warning", f"{program.name} did not stop in {program.stop_within:g} s and was killed")

    def _interrupted(self) -> None:
        if not self._over.is_set():
            self._relay.say("info", "stopping; once more to kill")
            self._over.set()
            return
        self._exit_code = 130
        self._kill_all()

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.kill()

    def _suspended(self) -> None:
        """Ctrl-Z holds everything: children that went on alone would block once nobody reads their log."""
        for child in self._children.values():
            child.suspend()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _continued(self) -> None:
        for child in self._children.values():
            child.resume()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers = {
            signal.SIGINT: self._interrupted,
            signal.SIGTERM: self._interrupted,
            signal.SIGHUP: self._interrupted,
            signal.SIGTSTP: self._suspended,
            signal.SIGCONT: self._continued,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)


def next_delay(previous: float, *, lived: float) -> float:
    """Seconds until the next start: 0.2, doubling to 5, and 0.2 again after a life of ten seconds."""
    if previous == 0 or lived >= SETTLED_AFTER:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)


def ending(code: int) -> str:
    """`exited with code 1`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
