"""The steering messages of one run: what came, and what the handler has read.

What came is in the events; what was read is not: it comes from the writer, or after a rebuild from the store.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence


class Inbox:
    """Ids of messages, in the order in which they came."""

    def __init__(self, read: Collection[str]) -> None:
        self._came: dict[str, None] = {}
        self._read = set(read)

    def receive(self, message_id: str) -> None:
        """A message came."""
        self._came[message_id] = None

    def unread(self) -> list[str]:
        """Return the messages that nobody has read."""
        return [message_id for message_id in self._came if message_id not in self._read]

    def read(self, message_ids: Sequence[str]) -> list[str]:
        """Note a read; return those of the messages that are here and were not read before."""
        fresh = [message_id for message_id in message_ids if message_id in self._came and message_id not in self._read]
        self._read.update(fresh)
        return fresh
