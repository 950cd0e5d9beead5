"""One child process, from its start to its end: its output, line by line, and how it is stopped.

It does not know what the child is, nor whether it will be started again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Sequence

LINE_LIMIT = 1 << 20
LAST_OUTPUT_WITHIN = 1.0
"""A grandchild may hold the child's output open; it is not waited for longer than this many seconds."""


class Child:
    """A running process. Its standard input is a pipe that ends when this process does.

    `subprocess` and a thread that waits, because asyncio's own does not see an exit before all pipes are closed.
    """

    def __init__(self, command: Sequence[str], on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C reaches the supervisor only
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self.pid = self._process.pid
        self._gone = asyncio.Event()

    async def live(self) -> int:
        """Hands on its output until it is gone; returns the exit code, negative for a signal."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read_output())
            code = await asyncio.to_thread(self._process.wait)
            self._gone.set()
            assert self._process.stdin is not None, "started with a pipe"
            self._process.stdin.close()
            await asyncio.wait({reading}, timeout=LAST_OUTPUT_WITHIN)
            reading.cancel()
        return code

    async def stop(self, *, within: float) -> bool:
        """Asks it to stop, and kills it when it has not done so in time. Returns whether it stopped by itself."""
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await self._gone.wait()
        except TimeoutError:
            self.kill()
            await self._gone.wait()
            return False
        return True

    def kill(self) -> None:
        """Ends it now."""
        self._process.kill()

    def suspend(self) -> None:
        """Stops it until `resume`. By SIGSTOP: in a session without a terminal, SIGTSTP does nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def _read_output(self) -> None:
        reader = asyncio.StreamReader()
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        try:
            await self._split(reader)
        finally:
            pipe.close()

    async def _split(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await reader.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_LIMIT:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._on_line(line.decode(errors="replace").rstrip("\r"))
        if rest:
            self._on_line(rest.decode(errors="replace"))
