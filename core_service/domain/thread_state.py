"""What a client may make of a thread's state: any JSON value, within the bounds that hold for agents too."""

from __future__ import annotations

from core_service.domain.errors import InvalidArgument, InvalidOutput, StateChanged
from core_service.domain.grammar import checks
from core_service.domain.grammar.shared_state import SharedState


def checked_state(state_json: str) -> str:
    """Return a new state, compact. Refuses with InvalidArgument what is no JSON or too large."""
    try:
        return checks.checked_snapshot(state_json)
    except InvalidOutput as error:
        raise InvalidArgument(f"The state cannot be used: {error}.", field="state_json") from error


def patched_state(state_json: str, patch_json: str) -> str:
    """Return the state after an RFC 6902 patch, compact; one that was never set is `{}`.

    Refuses with InvalidArgument a patch that is malformed, does not fit, or makes the state too large. A long patch of
    a large state takes seconds: not for the event loop.
    """
    try:
        return SharedState(state_json, 0).after(patch_json)
    except ValueError as error:
        raise InvalidArgument(f"The patch cannot be applied: {error}.", field="patch_json") from error


def check_version(version: int, *, expected: int | None) -> None:
    """Refuse with StateChanged unless the state has the expected version; None is any."""
    if expected is not None and expected != version:
        message = f"The state has version {version}, not {expected}. Read it again, and repeat."
        raise StateChanged(message, version=str(version))
