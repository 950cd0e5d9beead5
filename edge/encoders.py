"""What a protocol must bring to stream a run: a fold from the run's events to frames (CONTRACT.md, rule 1).

Owns the shape and nothing else. An encoder does no I/O and reads no clock, so that the same events give the same
frames on every edge and at every cut; who writes, when and after which cursor is `edge/sse.py`.
"""

from __future__ import annotations

from typing import Protocol

from penstock.v1.event_pb2 import Event


class Encoder(Protocol):
    """Folds the events of one run, in order and from seq 1, unless it needs no memory of the earlier ones."""

    @property
    def ended(self) -> bool:
        """True once the protocol's stream is over, even if the run goes on. `feed` is not called after that."""
        ...

    def feed(self, event: Event) -> bytes:
        """Fold one event; return the whole SSE frames that it makes, `b""` for none.

        An event whose payload is not known (a newer core) makes no frame and raises nothing.
        """
        ...
