"""The ids of AG-UI, which clients make, and what is kept of them with a run so that any edge can tell it again.

A thread's id is the client's when it may be one of ours, else it is derived from it. A run has an id of our own; the
client's is kept in `origin_json`, of the run or of the leg that it resumed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import msgspec

_OURS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
"""What the core takes for a thread's id, see `Thread.id`."""


@dataclass(frozen=True, slots=True)
class RunIds:
    """What a client calls a run: one leg of ours."""

    run_id: str
    parent_run_id: str | None = None


class _Kept(msgspec.Struct):
    run_id: str = ""
    parent_run_id: str | None = None


class _Origin(msgspec.Struct):
    ag_ui: _Kept | None = None


def thread_id_of(client_id: str) -> str:
    """Return the id of the thread that a client calls so: always the same one."""
    return client_id if _OURS.fullmatch(client_id) else f"ag-ui-{hashlib.sha256(client_id.encode()).hexdigest()}"


def request_key(thread_id: str, run_id: str) -> str:
    """Return the request id of a run: a request that is sent again must not make a second one."""
    return f"ag-ui-{hashlib.sha256(f'{thread_id} {run_id}'.encode()).hexdigest()}"


def origin_json(ids: RunIds) -> str:
    """Return what is kept with a run."""
    kept = _Origin(_Kept(ids.run_id, ids.parent_run_id))
    return msgspec.json.encode(kept).decode()


def ids_of(origin_json: str, *, otherwise: str) -> RunIds:
    """Return what was kept; a run that came by another protocol is called as we call it."""
    try:
        kept = msgspec.json.decode(origin_json, type=_Origin).ag_ui
    except msgspec.DecodeError:  # no JSON, or of another shape: not ours
        kept = None
    return RunIds(kept.run_id, kept.parent_run_id) if kept and kept.run_id else RunIds(otherwise)
