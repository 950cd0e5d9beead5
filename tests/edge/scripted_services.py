"""The services beside runs, as little of them as the edge needs: one agent, one thread, a status."""

from __future__ import annotations

import grpc

from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import (
    GetAgentRequest,
    GetAgentResponse,
    ListAgentsRequest,
    ListAgentsResponse,
)
from penstock.v1.agent_service_pb2_grpc import AgentServiceServicer
from penstock.v1.system_service_pb2 import GetStatusRequest, GetStatusResponse
from penstock.v1.system_service_pb2_grpc import SystemServiceServicer
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import (
    CreateThreadRequest,
    CreateThreadResponse,
    DeleteThreadRequest,
    DeleteThreadResponse,
    ForkThreadRequest,
    ForkThreadResponse,
    GetThreadRequest,
    GetThreadResponse,
    ListMessagesRequest,
    ListMessagesResponse,
    ListThreadsRequest,
    ListThreadsResponse,
)
from penstock.v1.thread_service_pb2_grpc import ThreadServiceServicer
from tests.edge.scripted_calls import Context, Refuse, ScriptedCalls, refuse

AGENT = Agent(id="echo", name="Echo", description="Repeats.", online=True, metadata={"team": "a"})
THREAD = Thread(id="thr_1", state_json='{"n":1.0}', message_count=2)


class Agents(AgentServiceServicer):
    """One agent."""

    def __init__(self, calls: ScriptedCalls) -> None:
        self._calls = calls

    async def GetAgent(self, request: GetAgentRequest, context: Context) -> GetAgentResponse:
        await self._calls.note("GetAgent", request, context)
        if request.agent_id != AGENT.id:
            await refuse(context, Refuse(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND"))
        return GetAgentResponse(agent=AGENT)

    async def ListAgents(self, request: ListAgentsRequest, context: Context) -> ListAgentsResponse:
        await self._calls.note("ListAgents", request, context)
        return ListAgentsResponse(agents=[AGENT])


class Threads(ThreadServiceServicer):
    """One thread."""

    def __init__(self, calls: ScriptedCalls) -> None:
        self._calls = calls

    async def CreateThread(self, request: CreateThreadRequest, context: Context) -> CreateThreadResponse:
        await self._calls.note("CreateThread", request, context)
        return CreateThreadResponse(thread=Thread(id=request.thread_id or "thr_1", metadata=request.metadata))

    async def GetThread(self, request: GetThreadRequest, context: Context) -> GetThreadResponse:
        await self._calls.note("GetThread", request, context)
        if request.thread_id != THREAD.id:
            await refuse(context, Refuse(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND"))
        thread = Thread(active_run_id=self._calls.active_run_id)
        thread.MergeFrom(THREAD)
        return GetThreadResponse(thread=thread)

    async def ForkThread(self, request: ForkThreadRequest, context: Context) -> ForkThreadResponse:
        await self._calls.note("ForkThread", request, context)
        return ForkThreadResponse(thread=Thread(id="thr_fork", forked_from_thread_id=request.thread_id))

    async def DeleteThread(self, request: DeleteThreadRequest, context: Context) -> DeleteThreadResponse:
        await self._calls.note("DeleteThread", request, context)
        return DeleteThreadResponse()

    async def ListThreads(self, request: ListThreadsRequest, context: Context) -> ListThreadsResponse:
        await self._calls.note("ListThreads", request, context)
        return ListThreadsResponse(threads=[THREAD])

    async def ListMessages(self, request: ListMessagesRequest, context: Context) -> ListMessagesResponse:
        await self._calls.note("ListMessages", request, context)
        if request.thread_id not in self._calls.said:
            await refuse(context, Refuse(grpc.StatusCode.NOT_FOUND, "THREAD_NOT_FOUND"))
        return ListMessagesResponse(messages=self._calls.said[request.thread_id])


class System(SystemServiceServicer):
    """The status."""

    async def GetStatus(self, request: GetStatusRequest, context: Context) -> GetStatusResponse:
        return GetStatusResponse(core_id="core_1", version="1", store="sqlite", store_available=True)
