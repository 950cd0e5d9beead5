"""The supervisor, with real child processes: small scripts that say `ready` as Penstock's processes do."""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import re
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from penstock.cli.relay import Relay
from penstock.cli.supervisor import Program, Ready, Supervisor, ending, next_delay

PRELUDE = """
import json, os, signal, subprocess, sys, time

def ready(address="127.0.0.1:1"):
    print(json.dumps({"event": "ready", "level": "info", "address": address}), flush=True)

def on_stop(action):
    signal.signal(signal.SIGTERM, lambda *_: action())

def say(text):
    print(text, flush=True)
"""
SERVE = """
on_stop(lambda: (say("stopped"), sys.exit(0)))
ready()
while True: signal.pause()
"""
BOUND = 15.0


class Screen(io.StringIO):
    """What a person would see, and a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._written = asyncio.Event()

    def write(self, text: str) -> int:
        self._written.set()
        return super().write(text)

    async def shows(self, pattern: str, *, times: int = 1) -> list[str]:
        async with asyncio.timeout(BOUND):
            while len(found := re.findall(pattern, self.getvalue())) < times:
                self._written.clear()
                await self._written.wait()
        return found


def program(name: str, body: str, *arguments: str, needs: tuple[str, ...] = (), stop_within: float = BOUND) -> Program:
    code = PRELUDE + textwrap.dedent(body)
    return Program(name, lambda _: [sys.executable, "-c", code, *arguments], needs, stop_within=stop_within)


class Running:
    """A supervisor at work in this process, which gets its signals."""

    def __init__(self, programs: list[Program], screen: Screen) -> None:
        self.screen = screen
        self.all_ready = asyncio.Event()
        self.ready: Mapping[str, Ready] = {}
        relay = Relay(screen, [program.name for program in programs])
        self.result = asyncio.create_task(Supervisor(programs, relay, on_ready=self._on_ready).run())

    def _on_ready(self, ready: Mapping[str, Ready]) -> None:
        self.ready = dict(ready)
        self.all_ready.set()

    async def wait_ready(self) -> None:
        async with asyncio.timeout(BOUND):
            await self.all_ready.wait()

    async def ends_with(self) -> int:
        async with asyncio.timeout(BOUND):
            return await self.result

    async def stop(self) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return await self.ends_with()


@asynccontextmanager
async def supervising(*programs: Program) -> AsyncIterator[Running]:
    running = Running(list(programs), Screen())
    try:
        yield running
    finally:
        if not running.result.done():
            await running.stop()


async def test_programs_start_after_what_they_need_and_learn_its_address() -> None:
    def command(ready: Mapping[str, Ready]) -> list[str]:
        code = PRELUDE + 'say("core is at " + sys.argv[1])' + SERVE
        return [sys.executable, "-c", code, ready["core"].address]

    core = program("core", 'ready("127.0.0.1:4711")\nsignal.pause()')
    async with supervising(core, Program("edge", command, needs=("core",))) as running:
        await running.wait_ready()
        await running.screen.shows(r"edge \| core is at 127\.0\.0\.1:4711")


async def test_stop_ends_the_last_program_first_and_each_before_the_next() -> None:
    slow_to_stop = """
        def stop():
            say("stopping")
            subprocess.run([sys.executable, "-c", "pass"])
            say("stopped")
            sys.exit(0)
        on_stop(stop)
        ready()
        while True: signal.pause()
    """
    async with supervising(*(program(name, slow_to_stop) for name in ("core", "worker", "edge"))) as running:
        await running.wait_ready()
        assert await running.stop() == 0

    said = re.findall(r"(\w+) +\| (stopping|stopped)$", running.screen.getvalue(), re.MULTILINE)
    assert said == [(name, word) for name in ("edge", "worker", "core") for word in ("stopping", "stopped")]


async def test_a_crashed_program_starts_again_after_growing_delays() -> None:
    crash_at_once = "say(f'life {time.monotonic()}')\nready()\nsys.exit(3)"
    async with supervising(program("core", crash_at_once)) as running:
        lives = [float(at) for at in await running.screen.shows(r"life ([\d.]+)", times=4)]

    pauses = [later - earlier for earlier, later in itertools.pairwise(lives)]
    assert [pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=False)] == [True] * 3
    assert "core exited with code 3; it starts again in 0.4 s" in running.screen.getvalue()


async def test_a_program_killed_from_outside_comes_back_at_its_address(tmp_path: Path) -> None:
    def command(ready: Mapping[str, Ready]) -> list[str]:
        address = ready["core"].address if "core" in ready else "127.0.0.1:4711"
        return [sys.executable, "-c", f"{PRELUDE}\nready({address!r})\nsignal.pause()"]

    async with supervising(Program("core", command)) as running:
        await running.wait_ready()
        first = running.ready["core"]
        running.all_ready.clear()
        os.kill(first.pid, signal.SIGKILL)
        await running.wait_ready()

        assert running.ready["core"].pid != first.pid
        assert running.ready["core"].address == first.address
        assert "core was killed by SIGKILL" in running.screen.getvalue()


async def test_a_program_that_never_became_ready_ends_everything() -> None:
    broken = program("worker", "raise SystemExit('no such app')", needs=("core",))
    async with supervising(program("core", SERVE), broken) as running:
        assert await running.ends_with() == 1

    screen = running.screen.getvalue()
    assert "worker | no such app" in screen
    assert "worker exited with code 1 before it was ready" in screen
    assert "core   | stopped" in screen
    assert "starts again" not in screen


async def test_a_program_that_does_not_stop_is_killed() -> None:
    stubborn = program("core", "on_stop(lambda: None)\nready()\nwhile True: signal.pause()", stop_within=0.3)
    async with supervising(stubborn) as running:
        await running.wait_ready()
        assert await running.stop() == 0

    assert "core did not stop in 0.3 s and was killed" in running.screen.getvalue()


async def test_a_second_signal_kills_at_once() -> None:
    stubborn = 'on_stop(lambda: say("asked"))\nready()\nwhile True: signal.pause()'
    async with supervising(program("core", stubborn), program("edge", stubborn)) as running:
        await running.wait_ready()
        os.kill(os.getpid(), signal.SIGINT)
        await running.screen.shows(r"edge \| asked")
        os.kill(os.getpid(), signal.SIGINT)

        assert await running.ends_with() == 130
        assert not any(psutil.pid_exists(ready.pid) for ready in running.ready.values())


async def test_a_ctrl_c_in_the_terminal_does_not_reach_the_programs() -> None:
    async with supervising(program("core", SERVE)) as running:
        await running.wait_ready()
        pid = running.ready["core"].pid

        assert os.getsid(pid) == pid


async def test_a_stop_during_a_pause_between_two_lives_starts_nothing() -> None:
    async with supervising(program("core", "say('life')\nready()\nsys.exit(1)")) as running:
        await running.screen.shows("starts again in 0.4 s")
        assert await running.stop() == 0

    assert len(re.findall("life", running.screen.getvalue())) == 2


async def test_a_crash_is_seen_although_a_grandchild_holds_the_output() -> None:
    leave_a_grandchild = """
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        ready()
        say(f"grandchild {child.pid}")
        os._exit(7)
    """
    async with supervising(program("core", leave_a_grandchild)) as running:
        await running.screen.shows("core exited with code 7")

    for pid in await running.screen.shows(r"grandchild (\d+)"):
        psutil.Process(int(pid)).kill()


@asynccontextmanager
async def supervising_elsewhere(body: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[psutil.Process]]]:
    """A supervisor in a process of its own, for signals that a test cannot send to itself, and its two programs."""
    supervisor = f"""
import asyncio, sys
from penstock.cli.relay import Relay
from penstock.cli.supervisor import Program, Supervisor

programs = [Program(name, lambda _: [sys.executable, "-c", {PRELUDE + body!r}]) for name in ("core", "edge")]
def on_ready(ready): print(*(it.pid for it in ready.values()), flush=True)
asyncio.run(Supervisor(programs, Relay(sys.stderr, ["core", "edge"]), on_ready=on_ready).run())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", supervisor, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(BOUND):
        children = [psutil.Process(int(pid)) for pid in (await process.stdout.readline()).split()]
    assert len(children) == 2
    try:
        yield process, children
    finally:
        for pid in (process.pid, *(child.pid for child in children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


async def all_become(status: str, processes: Iterable[psutil.Process]) -> None:
    """Waits until the system says so of all these processes."""
    async with asyncio.timeout(BOUND):
        while {process.status() for process in processes} != {status}:
            await asyncio.sleep(0.01)


async def test_a_program_cannot_outlive_a_killed_supervisor() -> None:
    holds_on = "from penstock.cli.process import die_with_parent; die_with_parent()\n"
    deaf = holds_on + "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); signal.pause()"
    async with supervising_elsewhere(deaf) as (supervisor, programs):
        supervisor.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, programs, BOUND)

    assert alive == []


async def test_ctrl_z_holds_the_programs_as_well_and_then_all_go_on() -> None:
    async with supervising_elsewhere(SERVE) as (supervisor, programs):
        everything = [psutil.Process(supervisor.pid), *programs]

        supervisor.send_signal(signal.SIGTSTP)
        await all_become(psutil.STATUS_STOPPED, everything)
        supervisor.send_signal(signal.SIGCONT)
        await all_become(psutil.STATUS_SLEEPING, everything)

        supervisor.terminate()
        async with asyncio.timeout(BOUND):
            assert await supervisor.wait() == 0


async def test_lines_below_a_programs_level_are_not_shown_but_heard() -> None:
    quiet = program("core", SERVE)
    quiet = Program(quiet.name, quiet.command, level="warning", stop_within=BOUND)
    async with supervising(quiet) as running:
        await running.wait_ready()

    assert "ready" not in running.screen.getvalue()


@pytest.mark.parametrize(
    ("previous", "lived", "expected"),
    [(0.0, 0.1, 0.2), (0.2, 0.1, 0.4), (3.2, 0.1, 5.0), (5.0, 9.9, 5.0), (5.0, 10.0, 0.2)],
)
def test_delays_double_to_five_seconds_and_begin_anew_after_ten(previous: float, lived: float, expected: float) -> None:
    assert next_delay(previous, lived=lived) == expected


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exited with code 0"), (-9, "was killed by SIGKILL"), (-99, "was killed by signal 99")]
)
def test_an_ending_is_told_in_words(code: int, words: str) -> None:
    assert ending(code) == words
