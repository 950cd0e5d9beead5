"""A proxy in front of PostgreSQL that swallows the answer to a COMMIT and cuts the connection instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class CommitCutter:
    """Forwards connections of 127.0.0.1 to the server's Unix socket."""

    port: int

    def __init__(self, socket: Path) -> None:
        self.cut_next_commit = False
        """Let the next COMMIT reach the server, and nothing that it answers reach the client."""
        self._socket = socket

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(self._socket)
        answering = asyncio.create_task(self._forward_answers(server, to_client))
        while data := await client.read(1 << 16):
            if self.cut_next_commit and b"COMMIT" in data:
                self.cut_next_commit = False
                answering.cancel()
                to_server.write(data)
                await server.readuntil(b"COMMIT\0")  # the tag of the command: it is done
                break
            to_server.write(data)
        answering.cancel()
        to_client.close()
        to_server.close()

    async def _forward_answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        while data := await server.read(1 << 16):
            to_client.write(data)


@asynccontextmanager
async def commit_cutter(socket: Path) -> AsyncIterator[CommitCutter]:
    """Serve the proxy while the context is open."""
    cutter = CommitCutter(socket)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    async with server:
        cutter.port = server.sockets[0].getsockname()[1]
        yield cutter
