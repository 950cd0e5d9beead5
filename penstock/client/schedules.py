"""Calls about schedules: runs that the clock creates."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from penstock.client.caller import Caller, new_request_id
from penstock.input import to_messages
from penstock.v1 import schedule_service_pb2
from penstock.v1.run_pb2 import RunOptions
from penstock.v1.schedule_pb2 import Schedule

if TYPE_CHECKING:
    from penstock.v1.schedule_service_pb2_grpc import ScheduleServiceAsyncStub


class ScheduleCalls:
    """The part of a client that is about schedules."""

    _caller: Caller
    _schedules: ScheduleServiceAsyncStub

    async def create_schedule(
        self,
        cron: str,
        agent_id: str,
        input: object,
        *,
        time_zone: str = "",
        name: str = "",
        thread_id: str = "",
        options: RunOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> Schedule:
        """Call an agent whenever a cron expression says so, in an IANA time zone; none is UTC. Input as for a run.

        The same `request_id` and arguments return the same schedule; without one, only this call's own repeats do.
        """
        schedule = Schedule(
            cron=cron,
            time_zone=time_zone,
            name=name,
            agent_id=agent_id,
            thread_id=thread_id,
            input=to_messages(input),
            options=options,
            metadata=metadata,
        )
        request = schedule_service_pb2.CreateScheduleRequest(
            request_id=request_id or new_request_id(), schedule=schedule
        )
        return (await self._caller.call(self._schedules.CreateSchedule, request)).schedule

    async def schedule(self, schedule_id: str) -> Schedule:
        """Return a schedule."""
        request = schedule_service_pb2.GetScheduleRequest(schedule_id=schedule_id)
        return (await self._caller.call(self._schedules.GetSchedule, request)).schedule

    def schedules(self, *, agent_id: str = "") -> AsyncIterator[Schedule]:
        """Yield schedules, newest first."""
        request = schedule_service_pb2.ListSchedulesRequest(agent_id=agent_id)
        return self._caller.pages(self._schedules.ListSchedules, request, lambda page: page.schedules)

    async def pause_schedule(self, schedule_id: str) -> Schedule:
        """Stop a schedule: it makes no runs until it is resumed."""
        request = schedule_service_pb2.PauseScheduleRequest(schedule_id=schedule_id, paused=True)
        return (await self._caller.call(self._schedules.PauseSchedule, request)).schedule

    async def resume_schedule(self, schedule_id: str) -> Schedule:
        """Continue a schedule from now on; what it missed is not made up for."""
        request = schedule_service_pb2.PauseScheduleRequest(schedule_id=schedule_id, paused=False)
        return (await self._caller.call(self._schedules.PauseSchedule, request)).schedule

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay."""
        request = schedule_service_pb2.DeleteScheduleRequest(schedule_id=schedule_id)
        await self._caller.call(self._schedules.DeleteSchedule, request)
