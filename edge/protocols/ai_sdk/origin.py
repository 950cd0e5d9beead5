"""What a run must remember of the chat that asked for it, so that any edge can encode it again (`Run.origin_json`).

To a chat client an answer is one message with one id, however many runs it took: a run that goes on with the results
of the client's tools belongs to the message of the run before it.
"""

from __future__ import annotations

import msgspec

from penstock.v1.run_pb2 import Run

MAX_EARLIER_RUNS = 400
"""What fits into the 16 KiB of an origin."""


class Origin(msgspec.Struct, frozen=True):
    """Where a run stands in a chat."""

    message_id: str
    """The id of the message that it writes."""
    earlier_runs: tuple[str, ...] = ()
    """The runs that wrote the message so far, oldest first."""

    @property
    def is_first(self) -> bool:
        """True for a run that begins its message."""
        return not self.earlier_runs


class _Origins(msgspec.Struct):
    """Each protocol has a key of its own; the others' are not ours to read."""

    ai_sdk: Origin | None = None


def origin_of(run: Run) -> Origin:
    """Return a run's origin. The message of a run that was made elsewhere, or asked for something new, has its id."""
    try:
        origins = msgspec.json.decode(run.origin_json or "{}", type=_Origins)
    except msgspec.DecodeError:  # another protocol's, of another shape
        origins = _Origins()
    return origins.ai_sdk or Origin(run.id)


def origin_after(run: Run) -> str:
    """Return the `origin_json` of a run that goes on with the message of this one."""
    before = origin_of(run)
    earlier = (*before.earlier_runs, run.id)[-MAX_EARLIER_RUNS:]
    return msgspec.json.encode(_Origins(Origin(before.message_id, earlier))).decode()
