"""Errors of a run as chat clients are told them: an HTTP status for those that wait, a frame for those that stream.

Owns what a failed run is in HTTP, since it is no refusal of the core. The error object is `edge/openai/errors.py`.
"""

from __future__ import annotations

import msgspec

from edge.errors import Refusal
from edge.openai.errors import error_object
from penstock.v1.event_pb2 import RunEnded
from penstock.v1.run_pb2 import EndReason

STATUS_OF_FAILURE: dict[int, int] = {
    EndReason.END_REASON_REJECTED: 400,
    EndReason.END_REASON_QUEUE_TIMEOUT: 503,
    EndReason.END_REASON_TIMEOUT: 504,
}
"""What a failed run is in HTTP; 500 for every other reason."""

_REASONS = {number: name.removeprefix("END_REASON_") for name, number in EndReason.items()}


def failure(end: RunEnded) -> Refusal:
    """Return what a client is told about a failed run."""
    reason = _REASONS.get(end.reason, "FAILED")
    message = end.error.message or f"The run failed: {reason}."
    return Refusal(STATUS_OF_FAILURE.get(end.reason, 500), end.error.code or reason, message)


def frame(refusal: Refusal) -> bytes:
    """Return the refusal as the last frame of a stream. Without it a broken run looks complete."""
    return b"data: " + msgspec.json.encode({"error": error_object(refusal)}) + b"\n\n"
