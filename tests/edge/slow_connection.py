"""A connection with small buffers, for clients that read when they are told to."""

from __future__ import annotations

import asyncio
import socket

from edge.app import Edge


async def connect_slowly(edge: Edge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to an edge: what is not read soon stays with it."""
    host, port = edge.address.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
    return await asyncio.open_connection(sock=connection, limit=4096)
