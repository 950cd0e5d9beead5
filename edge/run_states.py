"""Which states of a run are its end: nothing follows them."""

from __future__ import annotations

from penstock.v1.run_pb2 import RunState

ENDED = frozenset({RunState.RUN_STATE_SUCCEEDED, RunState.RUN_STATE_FAILED, RunState.RUN_STATE_CANCELLED})
