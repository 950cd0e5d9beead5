"""The shared state of a thread: what a request brings of it, and what its client has to be told.

Owns the comparison of the two sides. Patches apply to the state that the client sent, until a snapshot replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.protocols.ag_ui.origin import ids_of
from edge.protocols.ag_ui.request import AgUiRequest
from edge.protocols.ag_ui.threads import KnownThread


@dataclass(frozen=True, slots=True)
class KnownState:
    """A thread's state, to be sent to a client that may not have it. Empty: there is nothing to send."""

    json: str = ""
    version: int = 0


def state_for_run(asked: AgUiRequest, known: KnownThread | None) -> str:
    """Return the state that a new run brings along: none while another run is active, whose state it is then."""
    active = known.active if known is not None else None
    if active is not None and ids_of(active.origin_json, otherwise="").run_id != asked.ids.run_id:
        return ""
    return asked.state_json


def unknown_to_client(known: KnownThread | None, client_state_json: str) -> KnownState:
    """Return the thread's state, unless it has none or the client sent the same."""
    if known is None or known.thread.state_json in ("", client_state_json or "{}"):
        return KnownState()
    return KnownState(known.thread.state_json, known.thread.state_version)
