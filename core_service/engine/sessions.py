"""One connected worker: what it may be given, what it holds, and what waits to be said to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from core_service.engine.owned import OwnedRun
from penstock.v1.worker_service_pb2 import Ack, ConnectResponse, CoreMessage, Hello

MAX_MESSAGE_BYTES = 1 << 20


class WorkerSession:
    """The core's side of one worker stream. `send` and `ack` never block; `responses` is what the stream writes."""

    def __init__(self, hello: Hello) -> None:
        self.worker_id = hello.worker_id
        self.sdk_version = hello.sdk_version
        self.versions = {agent.id: agent.version for agent in hello.agents}
        self.limits = {agent.id: agent.concurrency for agent in hello.agents if agent.concurrency}
        self.not_replayable = {
            agent.id for agent in hello.agents if agent.HasField("replayable") and not agent.replayable
        }
        self._busy: dict[str, int] = {}
        """Runs held or reserved for, per agent that has a limit."""
        self.credit = 0
        self.draining = False
        self.closed = False
        self.replaced = False
        self.runs: dict[str, OwnedRun] = {}
        self._parked: set[OwnedRun] = set()
        """Runs that it holds and that wait: they take no place of their agent."""
        self._outgoing: list[CoreMessage] = []
        self._acks: dict[OwnedRun, None] = {}
        self._wake = asyncio.Event()

    # ── what it may be given ─────────────────────────────────────────────────────────────────────────────────────────

    def room(self, agent_id: str) -> int:
        """Return how many more runs of an agent it may be given now."""
        if self.closed or self.draining or agent_id not in self.versions:
            return 0
        if limit := self.limits.get(agent_id):
            return max(0, min(self.credit, limit - self._busy.get(agent_id, 0)))
        return max(0, self.credit)

    def reserve(self, agent_id: str, count: int = 1) -> None:
        """Take credits before the claim that uses them is under way."""
        self.credit -= count
        self._occupy(agent_id, count)

    def unreserve(self, agent_id: str, count: int = 1) -> None:
        """Give back credits that a claim did not use."""
        self.credit += count
        self._occupy(agent_id, -count)

    def _occupy(self, agent_id: str, count: int) -> None:
        if agent_id in self.limits:
            self._busy[agent_id] = max(0, self._busy.get(agent_id, 0) + count)

    # ── what it holds ────────────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, owned: OwnedRun) -> None:
        """Note that it holds a run which it brought along."""
        self._occupy(owned.run.agent_id, 1)
        self.hold_reserved(owned)

    def hold_reserved(self, owned: OwnedRun) -> None:
        """Note that it holds a run for which a credit was reserved."""
        owned.session = self
        self.runs[owned.run_id] = owned

    def forget(self, owned: OwnedRun) -> None:
        """Note that it does not hold a run any more. The credit comes back from the worker itself."""
        owned.session = None
        self._acks.pop(owned, None)
        self.unpark(owned)
        if self.runs.get(owned.run_id) is owned:
            del self.runs[owned.run_id]
            self._occupy(owned.run.agent_id, -1)

    def park(self, owned: OwnedRun) -> None:
        """Note that a run of its waits."""
        if owned not in self._parked:
            self._parked.add(owned)
            self._occupy(owned.run.agent_id, -1)

    def unpark(self, owned: OwnedRun) -> None:
        """Note that a run of its waits no more."""
        if owned in self._parked:
            self._parked.remove(owned)
            self._occupy(owned.run.agent_id, 1)

    # ── what is said to it ───────────────────────────────────────────────────────────────────────────────────────────

    def send(self, message: CoreMessage) -> None:
        """Say something, after what was said before."""
        self._outgoing.append(message)
        self._wake.set()

    def greet(self, message: CoreMessage) -> None:
        """Say something before everything else."""
        self._outgoing.insert(0, message)
        self._wake.set()

    def ack(self, owned: OwnedRun) -> None:
        """Say that a run's outputs are stored, together with the other runs of the same commit."""
        self._acks[owned] = None
        self._wake.set()

    def acknowledge_last(self, owned: OwnedRun) -> None:
        """Acknowledge a run that is about to be forgotten."""
        self._acks.pop(owned, None)
        self.send(_ack(owned))

    def close(self, *, replaced: bool = False) -> None:
        """End the stream once everything has been said."""
        self.closed = True
        self.replaced = self.replaced or replaced
        self._wake.set()

    async def responses(self) -> AsyncIterator[ConnectResponse]:
        """Yield what there is to say, batched, until the session is closed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            messages = self._outgoing
            self._outgoing = []
            messages.extend(_ack(owned) for owned in self._acks)
            self._acks.clear()
            for batch in _batches(messages):
                yield ConnectResponse(messages=batch)
            if self.closed and not self._outgoing and not self._acks:
                return


def _ack(owned: OwnedRun) -> CoreMessage:
    return CoreMessage(ack=Ack(run_id=owned.run_id, attempt=owned.attempt, accepted=owned.acked))


def _batches(messages: list[CoreMessage]) -> list[list[CoreMessage]]:
    """Cut messages into batches of about 1 MiB."""
    if len(messages) < 64:
        sizes = sum(message.ByteSize() for message in messages)
        if sizes <= MAX_MESSAGE_BYTES:
            return [messages] if messages else []
    batches: list[list[CoreMessage]] = [[]]
    size = 0
    for message in messages:
        length = message.ByteSize()
        if size + length > MAX_MESSAGE_BYTES and batches[-1]:
            batches.append([])
            size = 0
        batches[-1].append(message)
        size += length
    return batches
