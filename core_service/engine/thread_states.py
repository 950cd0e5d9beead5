"""Setting and patching a thread's state between its runs. An active run owns the state until its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from core_service.domain.errors import InvalidArgument, StateChanged
from core_service.domain.thread_state import check_version, checked_state, patched_state
from core_service.engine.request_keys import request_key
from core_service.ports import Store
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import PatchStateRequest, SetStateRequest

TRIES = 10
"""How often a patch is applied anew because somebody else changed the state meanwhile."""


class ThreadStates:
    """The use cases of SetState and PatchState. Both refuse with ThreadNotFound, ThreadBusy, StateChanged."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def set(self, tenant: str, request: SetStateRequest) -> Thread:
        """Replace the state, and return the thread."""
        key = request_key("set_state", tenant, request)
        state_json = checked_state(request.state_json)
        expected = _expected(request)
        return await self._store.set_state(
            tenant, request.thread_id, state_json, expected_version=expected, request=key
        )

    async def patch(self, tenant: str, request: PatchStateRequest) -> Thread:
        """Apply a patch to the newest state, and return the thread. Refuses with InvalidArgument when it does not fit.

        The patch is computed beside the store and stored by compare-and-set: a long one would hold up every commit.
        """
        key = request_key("patch_state", tenant, request)
        expected = _expected(request)
        for _ in range(TRIES):
            thread, is_repeated = await self._store.look_at_thread(tenant, request.thread_id, request=key)
            if is_repeated:
                return thread
            check_version(thread.state_version, expected=expected)
            state_json = await asyncio.to_thread(patched_state, thread.state_json, request.patch_json)
            version = thread.state_version
            with suppress(StateChanged):
                return await self._store.set_state(
                    tenant, request.thread_id, state_json, expected_version=version, request=key
                )
        raise StateChanged("Others change the state all the time. Repeat in a moment.")


def _expected(request: SetStateRequest | PatchStateRequest) -> int | None:
    if not request.HasField("expected_version"):
        return None
    if request.expected_version < 0:
        raise InvalidArgument("expected_version must not be negative.", field="expected_version")
    return request.expected_version
