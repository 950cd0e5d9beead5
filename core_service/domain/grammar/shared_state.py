"""The thread's state as one run changes it, and what a retry restores (ENGINE.md E9)."""

from __future__ import annotations

from core_service.domain.grammar.json_patch import patched
from core_service.domain.grammar.limits import MAX_STATE_BYTES
from core_service.domain.json_text import compact
from penstock.v1.event_pb2 import StatePatched

NEVER_SET = "{}"
"""What patches start from, and what a retry restores, when the thread never had a state."""


class SharedState:
    """A fold of StatePatched. `json` is empty as long as nobody ever set the state.

    Without a `state_json` (None) the state before the run is not known: patches are counted and not carried out.
    """

    def __init__(self, state_json: str | None, version: int) -> None:
        self._is_known = state_json is not None
        self.json = self._anchored = state_json or ""
        self.version = version

    def after(self, patch_json: str) -> str:
        """Return the state that a patch would make. Raises ValueError when it does not fit."""
        return compact(patched(self.json or NEVER_SET, patch_json, max_bytes=MAX_STATE_BYTES))

    def change(self, event: StatePatched) -> None:
        self.version = event.version
        if event.WhichOneof("change") == "snapshot_json":
            self.json, self._is_known = event.snapshot_json, True
        elif self._is_known:
            self.json = self.after(event.patch_json)

    def anchor(self) -> None:
        """A step completed or a question was asked: replay passes this point, so what was changed before it stays."""
        self._anchored = self.json

    def restored(self) -> str | None:
        """Return the state that a retry goes back to; None when nothing has to change."""
        anchored = self._anchored or NEVER_SET
        return None if anchored == (self.json or NEVER_SET) else anchored
