"""The bus of a core that is alone: rings reach the listeners of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from core_service.ports import Ring


class MemoryBus:
    """Implements `ports.Bus` within one process."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Ring], None]] = []

    def ring(self, rings: Sequence[Ring]) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for ring in rings:
                loop.call_soon(listener, ring)

    @asynccontextmanager
    async def listen(self, listener: Callable[[Ring], None]) -> AsyncIterator[None]:
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)
