"""The bus of a core that is alone: rings reach the listeners of this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from core_service.ports import Ring


class MemoryBus:
    """Implements `ports.Bus` within one process."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Callable[[str], None]]] = {}

    def ring(self, rings: Sequence[Ring]) -> None:
        for ring in rings:
            for listener in self._listeners.get(ring.topic, ()):
                asyncio.get_running_loop().call_soon(listener, ring.key)

    @asynccontextmanager
    async def listen(self, topic: str, listener: Callable[[str], None]) -> AsyncIterator[None]:
        listeners = self._listeners.setdefault(topic, [])
        listeners.append(listener)
        try:
            yield
        finally:
            listeners.remove(listener)
