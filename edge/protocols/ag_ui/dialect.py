"""The two dialects of AG-UI that are written here, and how a request tells which one its client reads.

Clients say the version of the protocol that they speak since 1.0. One that says nothing is taken for the last client
before it, `@ag-ui/client` 0.0.59, which CopilotKit uses: it throws on what its schemas do not know.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the two do not share."""

    version: str | None
    """What RUN_STARTED says of itself; None: the field is not known there."""
    tells_cancelled: bool
    """`outcome: {type: "cancelled"}`. Without it a cancelled run has no outcome."""
    tells_pending_calls: bool
    """`pendingToolCallIds` in the outcome of a success."""
    has_result_parts: bool
    """A tool's result may be a list of parts. Else it is their text."""
    has_file_handles: bool
    """A source may be a file of a provider. Else such a part is left out."""


CURRENT = Dialect("1.0", True, True, True, True)
UNDECLARED = Dialect(None, False, False, False, False)


def dialect_of(protocol_version: str | None) -> Dialect:
    """Return the dialect for a request's `protocolVersion`; the newest one for versions that are newer still."""
    return CURRENT if protocol_version else UNDECLARED
