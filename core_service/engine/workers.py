"""The core's side of the worker protocol: who is connected, what they bring along, what they say (ENGINE.md C)."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import structlog

from core_service.domain.errors import InvalidArgument, WorkerProtocol
from core_service.domain.grammar import Grammar
from core_service.engine.agents import Agents
from core_service.engine.departures import Departures
from core_service.engine.dispatch import Dispatch
from core_service.engine.errands import Errands
from core_service.engine.executions import Executions
from core_service.engine.metrics import Metrics
from core_service.engine.owned import OwnedRun, Ownership
from core_service.engine.patience import patiently
from core_service.engine.recovery import Recovery
from core_service.engine.sessions import WorkerSession
from core_service.ports import Clock, Owned, RunRecords, Store
from penstock.v1.event_pb2 import Event, RunQueued, RunStarted
from penstock.v1.worker_service_pb2 import (
    ConnectRequest,
    CoreMessage,
    Draining,
    Held,
    HeldAnswer,
    Hello,
    Welcome,
    WorkerMessage,
)

log = structlog.get_logger(__name__)

MAX_UNACKED_BYTES = 1 << 20
MAX_UNACKED_OUTPUTS = 4_000


class Workers:
    """Connects workers, takes what they say, and notices when they are gone."""

    def __init__(
        self,
        *,
        core_id: str,
        lease: float,
        store: Store,
        clock: Clock,
        agents: Agents,
        dispatch: Dispatch,
        ownership: Ownership,
        executions: Executions,
        departures: Departures,
        recovery: Recovery,
        metrics: Metrics,
    ) -> None:
        self._core_id = core_id
        self._lease = lease
        self._store = store
        self._clock = clock
        self._agents = agents
        self._dispatch = dispatch
        self._ownership = ownership
        self._executions = executions
        self._departures = departures
        self._recovery = recovery
        self._metrics = metrics
        self._sessions: dict[str, WorkerSession] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._nobody = asyncio.Event()
        self._errands = Errands()
        dispatch.on_claimed = self._claimed
        dispatch.on_doubt = self._look_for_starts

    @property
    def sessions(self) -> list[WorkerSession]:
        """The connected workers."""
        return list(self._sessions.values())

    # ── connect and disconnect ───────────────────────────────────────────────────────────────────────────────────────

    async def connect(self, tenant: str, hello: Hello) -> WorkerSession:
        """Admit a worker: declare its agents, adopt what it holds, send again what it never got.

        An older stream of the same worker is closed: the newest wins.
        """
        if not hello.worker_id or len(hello.worker_id) > 128 or not hello.agents:
            raise InvalidArgument("Hello needs a worker_id of up to 128 characters and at least one agent.")
        await self._agents.declare(tenant, hello.agents)
        turn = self._turns.setdefault(hello.worker_id, asyncio.Lock())
        async with turn:  # two streams of one worker would adopt its runs from each other
            session = self._replace(hello)
            try:
                await self._welcome(session, tenant, hello)
            except BaseException:
                await self.disconnect(session)
                raise
        log.info("worker connected", worker_id=session.worker_id, agents=sorted(session.versions), held=len(hello.held))
        return session

    def _replace(self, hello: Hello) -> WorkerSession:
        """Make the session. It has the runs of an older one until it is known which of them the worker still holds."""
        older = self._sessions.get(hello.worker_id)
        session = WorkerSession(hello)
        if older is not None:
            self._remove(older)
            older.close(replaced=True)
            for owned in list(older.runs.values()):
                older.forget(owned)
                session.hold(owned)
        self._sessions[session.worker_id] = session
        return session

    async def _welcome(self, session: WorkerSession, tenant: str, hello: Hello) -> None:
        welcome = Welcome(
            core_id=self._core_id, max_unacked_bytes=MAX_UNACKED_BYTES, max_unacked_outputs=MAX_UNACKED_OUTPUTS
        )
        welcome.lease.FromMilliseconds(round(self._lease * 1_000))
        for held in hello.held:
            welcome.held.append(_answer(held, await self._adopt(session, tenant, held)))
        await self._send_again(session, tenant, {(held.run_id, held.attempt) for held in hello.held})
        session.greet(CoreMessage(welcome=welcome))
        self._dispatch.join(session)

    async def _adopt(self, session: WorkerSession, tenant: str, held: Held) -> OwnedRun | None:
        """Take over a run that the worker holds, from the log.

        What this core has in memory for the run is dropped only then: it may be another worker's.
        """
        taken = await self._store.adopt(
            held.run_id, attempt=held.attempt, owner=self._core_id, session=session.worker_id
        )
        if taken is None:
            return None
        self._metrics.adopted.inc()
        owned, records = await self._recovery.own(taken, tenant)
        if owned.is_leaving:
            return None
        self._executions.attach(owned, session, records)
        return owned

    async def _send_again(self, session: WorkerSession, tenant: str, held: set[tuple[str, int]]) -> None:
        """Runs that were claimed for this worker and never reached it: the same attempt again (ENGINE.md C4).

        One that has had output did reach it, and the worker has given it up since: its handler's state is lost.
        """
        for run_id, attempt in await self._store.held_by(session.worker_id):
            known = self._ownership.get(run_id)
            if (run_id, attempt) in held or (known is not None and known.is_leaving):
                continue
            taken = await self._store.adopt(run_id, attempt=attempt, owner=self._core_id, session=session.worker_id)
            if taken is None:
                continue
            owned, records = await self._recovery.own(taken, tenant)
            if taken.acked:
                self._departures.lost(owned)
                continue
            log.info("assignment sent again", run_id=run_id, worker_id=session.worker_id)
            session.reserve(owned.run.agent_id)
            self._hand_over(session, owned, taken, records)

    async def _look_for_starts(self, session: WorkerSession, tenant: str) -> None:
        """A claim for this worker may have happened and its answer was lost: hand over what it does not hold."""
        held = {(owned.run_id, owned.attempt) for owned in session.runs.values()}
        if self._sessions.get(session.worker_id) is session:
            await self._send_again(session, tenant, held)

    async def disconnect(self, session: WorkerSession) -> None:
        """The worker's stream is gone: its runs wait for it for a lease."""
        if self._sessions.get(session.worker_id) is not session:
            return
        self._remove(session)
        session.close()
        log.info("worker disconnected", worker_id=session.worker_id, runs=len(session.runs))
        self._executions.detach(session)
        await self._errands.run(patiently(self._clock, lambda: self._note_lost(session.worker_id)))

    async def _note_lost(self, worker_id: str) -> None:
        """Let the store know, also of runs whose claim was under way and that this core does not know of."""
        if worker_id not in self._sessions:
            await self._store.session_lost(worker_id, owner=self._core_id, grace=self._lease)

    def _remove(self, session: WorkerSession) -> None:
        self._dispatch.leave(session)
        if self._sessions.get(session.worker_id) is session:
            del self._sessions[session.worker_id]
        if not self._sessions:
            self._nobody.set()

    async def drain(self) -> None:
        """Ask all workers to flush and to go elsewhere. Returns once they have."""
        self._nobody.clear()
        for session in self.sessions:
            session.send(CoreMessage(draining=Draining()))
        if self._sessions:
            await self._nobody.wait()

    # ── what they are given ──────────────────────────────────────────────────────────────────────────────────────────

    async def _claimed(self, session: WorkerSession, tenant: str, claimed: Owned) -> None:
        """Begin a run that dispatch claimed."""
        if claimed.run.attempt == 1 and claimed.last_seq == 2:
            owned = OwnedRun.of(claimed, _first_attempt(claimed, session), tenant=tenant)
            waited = self._clock.now() - claimed.run.create_time.ToMicroseconds()
            self._metrics.queue_seconds.observe(waited / 1_000_000)
            self._hand_over(session, owned, claimed, None)
        else:
            owned, records = await self._recovery.own(claimed, tenant)
            self._hand_over(session, owned, claimed, records)

    def _hand_over(self, session: WorkerSession, owned: OwnedRun, taken: Owned, records: RunRecords | None) -> None:
        if owned.is_leaving:
            session.unreserve(owned.run.agent_id)
            return
        self._executions.begin(
            owned, session, history=taken.history, new=taken.input, state_json=taken.state_json, records=records
        )

    # ── what they say ────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, session: WorkerSession, request: ConnectRequest) -> None:
        """Take a message of a worker. Raises OutputGap, WorkerProtocol: the stream is over then."""
        if session.closed:
            return
        for message in request.messages:
            if message.WhichOneof("message") == "outputs":
                self._executions.outputs(session, message.outputs)
            else:
                self._control(session, message)

    def _control(self, session: WorkerSession, message: WorkerMessage) -> None:
        match message.WhichOneof("message"):
            case "accepted":
                owned = session.runs.get(message.accepted.run_id)
                if owned is not None and owned.attempt == message.accepted.attempt:
                    owned.start_accepted = True
            case "credit":
                if message.credit.runs < 1:
                    raise WorkerProtocol("Credit must be at least 1.")
                session.credit += message.credit.runs
                self._dispatch.credited(session)
            case "decline":
                owned = session.runs.get(message.decline.run_id)
                if owned is not None and owned.attempt == message.decline.attempt:
                    log.info("run declined", run_id=owned.run_id, reason=message.decline.reason)
                    session.forget(owned)
                    self._departures.handed_back(owned)
            case "released":
                owned = session.runs.get(message.released.run_id)
                if owned is not None and owned.attempt == message.released.attempt:
                    session.forget(owned)
                    self._departures.released(owned)
            case "drain":
                session.draining = True
            case "hello":
                raise WorkerProtocol("Hello is the first message and comes once.")
            case _:  # a newer worker's message: this core does not know it, and need not
                return


def _answer(held: Held, owned: OwnedRun | None) -> HeldAnswer:
    accepted = owned.acked if owned is not None else 0
    return HeldAnswer(run_id=held.run_id, attempt=held.attempt, accepted=accepted, revoked=owned is None)


def _first_attempt(claimed: Owned, session: WorkerSession) -> Grammar:
    """Build the grammar of a run that has only been queued and started, without reading its log."""
    started = RunStarted(attempt=1, agent_version=session.versions[claimed.run.agent_id], worker_id=session.worker_id)
    return Grammar.rebuild(
        (Event(seq=1, run_queued=RunQueued(run=claimed.run, input=claimed.input)), Event(seq=2, run_started=started)),
        state_json=claimed.state_json,
        state_version=claimed.state_version,
    )
