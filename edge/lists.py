"""What protocols look up in the core page by page, or where "there is none" is an answer and not a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc

from edge.core import CoreClient
from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import ListAgentsRequest
from penstock.v1.message_pb2 import Message
from penstock.v1.thread_pb2 import Thread
from penstock.v1.thread_service_pb2 import GetThreadRequest, ListMessagesRequest

AGENTS_PER_PAGE = 1_000
MESSAGES_PER_PAGE = 200
"""A page of long messages has to stay under gRPC's bound."""


async def all_agents(core: CoreClient) -> AsyncIterator[Agent]:
    """Yield all agents, by id."""
    page = ListAgentsRequest(page_size=AGENTS_PER_PAGE)
    while True:
        answer = await core.call(core.agents.ListAgents, page)
        for agent in answer.agents:
            yield agent
        if not answer.next_page_token:
            return
        page.page_token = answer.next_page_token


async def all_messages(core: CoreClient, thread_id: str) -> AsyncIterator[Message]:
    """Yield all messages of a thread, oldest first."""
    page = ListMessagesRequest(thread_id=thread_id, page_size=MESSAGES_PER_PAGE)
    while True:
        answer = await core.call(core.threads.ListMessages, page)
        for message in answer.messages:
            yield message
        if not answer.next_page_token:
            return
        page.page_token = answer.next_page_token


async def find_thread(core: CoreClient, thread_id: str) -> Thread | None:
    """Return a thread; None when there is none."""
    try:
        return (await core.call(core.threads.GetThread, GetThreadRequest(thread_id=thread_id))).thread
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return None
        raise
