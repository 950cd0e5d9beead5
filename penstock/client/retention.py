"""Calls about retention: how long things are kept after the end of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

from penstock.client.caller import Caller
from penstock.v1 import retention_service_pb2
from penstock.v1.retention_service_pb2 import RetentionPolicy

if TYPE_CHECKING:
    from penstock.v1.retention_service_pb2_grpc import RetentionServiceAsyncStub


class RetentionCalls:
    """The part of a client that is about retention."""

    _caller: Caller
    _retention: RetentionServiceAsyncStub

    async def set_retention(
        self,
        agent_id: str = "",
        *,
        events: timedelta | None = None,
        messages: timedelta | None = None,
        runs: timedelta | None = None,
    ) -> RetentionPolicy:
        """Set or replace the policy of an agent, or of all agents without one. No time at all is for ever.

        What is not given is left to the policy of all agents, and there to the server's settings.
        """
        policy = RetentionPolicy(agent_id=agent_id)
        for field, kept in ((policy.keep_events, events), (policy.keep_messages, messages), (policy.keep_runs, runs)):
            if kept is not None:
                field.FromTimedelta(kept)
                field.SetInParent()
        request = retention_service_pb2.SetRetentionRequest(policy=policy)
        return (await self._caller.call(self._retention.SetRetention, request)).policy

    def retention(self) -> AsyncIterator[RetentionPolicy]:
        """Yield all policies, that of all agents first."""
        request = retention_service_pb2.ListRetentionRequest()
        return self._caller.pages(self._retention.ListRetention, request, lambda page: page.policies)

    async def delete_retention(self, agent_id: str = "") -> None:
        """Remove the policy of an agent, or of all agents without one."""
        request = retention_service_pb2.DeleteRetentionRequest(agent_id=agent_id)
        await self._caller.call(self._retention.DeleteRetention, request)
