"""Random operations against a simple model: creates, outputs, questions, answers, cancels, losses, restarts.

The model knows what was said to which run and what came of it; the promises are held against the database after each
operation: logs tile and keep the grammar, one end, one active run per thread, nothing leaves an end, texts are those
that were acknowledged, and watchers saw what is stored.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core_service.domain.runs import ENDED, QUEUED, RUNNING, SUCCEEDED, WAITING
from penstock.v1.event_pb2 import Event
from penstock.v1.run_pb2 import BusyPolicy, EndReason, InputAnswer, RunError, RunOptions, RunState
from tests.core.faults import WAIT
from tests.core.hand_clock import HandClock
from tests.core.places import Place, StoredRun
from tests.core.refusals import reason_of
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job, ScriptedWorker
from tests.core.waits import PAUSE

R = TypeVar("R")

LEASE = 3.0
THREADS = ("a", "b")
POLICIES = [policy for policy in BusyPolicy.values() if policy]
BROKEN = RunError(code="BROKEN", message="It broke.", retryable=True)
MAY_REFUSE = {"THREAD_BUSY", "THREAD_WAITING", "RUN_ENDED", "INPUT_ANSWERED", "QUEUE_FULL"}


class RandomOperations(RuleBasedStateMachine):
    """One core on one database, one worker at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = HandClock()
        self.core = RunningCore(Place(self.folder), clock=self.clock, lease=LEASE, cancel_grace=1.0, queue_timeout=60.0)
        self.jobs: list[Job] = []
        """What the worker holds."""
        self.said: dict[str, str] = {}
        """Run → what was said and acknowledged."""
        self.ends: dict[str, tuple[RunState.ValueType, int]] = {}
        """Run → its end and its last seq, once it was seen."""
        self.runs: list[str] = []
        self.wait(self.core.start())
        self.worker = self.wait(self._new_worker())

    def wait(self, work: Awaitable[R]) -> R:
        async def bounded() -> R:
            async with asyncio.timeout(30.0):
                return await work

        return self.runner.run(bounded())

    async def _new_worker(self) -> ScriptedWorker:
        return await self.core.connected_worker(credit=100)

    # ── clients ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(thread=st.sampled_from(THREADS), policy=st.sampled_from(POLICIES))
    def create(self, thread: str, policy: BusyPolicy.ValueType) -> None:
        async def create() -> None:
            try:
                run = await self.core.create("go", thread_id=thread, options=RunOptions(busy_policy=policy))
            except grpc.aio.AioRpcError as error:
                if reason_of(error) not in MAY_REFUSE:
                    raise
                return
            if run.id not in self.runs:
                self.runs.append(run.id)
                self.core.watch(run.id)

        self.wait(create())

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.wait(self.core.cancel(data.draw(st.sampled_from(self.runs))))

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def steer(self, data: st.DataObject) -> None:
        self._refusable(self.core.steer(data.draw(st.sampled_from(self.runs)), "and this"))

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        inputs = self.wait(self.core.inputs())
        if inputs:
            chosen = data.draw(st.sampled_from(inputs))
            given = InputAnswer(input_id=chosen.request.id, answer_json='{"answer":"yes"}')
            self._refusable(self.core.answer(chosen.run_id, given))

    def _refusable(self, work: Awaitable[object]) -> None:
        async def attempt() -> None:
            try:
                await work
            except grpc.aio.AioRpcError as error:
                if reason_of(error) not in MAY_REFUSE:
                    raise

        self.wait(attempt())

    # ── the worker ───────────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def take(self) -> None:
        async def take() -> None:
            await self.core.status()
            while self.worker.now.has_heard("assignment"):
                job = await self.worker.take()
                self.jobs = [held for held in self.jobs if held.run_id != job.run_id] + [job]
                self.said.setdefault(job.run_id, "")  # a run is tried again only if nothing is taken back

        self.wait(take())

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), text=st.sampled_from(["x", "yy"]))
    def say(self, data: st.DataObject, text: str) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self._work(job, job.say(text), text)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        name = f"s{job.last}a{job.attempt}"
        self._work(job, job.step(name, f"<{name}>", result=f'"<{name}>"'), f"<{name}>")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self._work(job, job.ask(f"ask#{job.last}.{job.attempt}"), "")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), fails=st.booleans())
    def end(self, data: st.DataObject, *, fails: bool) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        self.jobs.remove(job)
        ending = job.end(EndReason.END_REASON_AGENT_ERROR, BROKEN) if fails else job.end()
        self._work(job, ending, "")

    def _work(self, job: Job, sending: Awaitable[int], text: str) -> None:
        """Send, and wait until it is stored, or until the core says that the run is not this worker's any more."""

        async def work() -> None:
            await sending
            acked = asyncio.create_task(job.acked())
            revoked = asyncio.create_task(job.stream.hears("revoked", lambda m: m.revoked.run_id == job.run_id))
            done, others = await asyncio.wait([acked, revoked], return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            if acked in done and acked.exception() is None:
                self.said[job.run_id] = self.said.get(job.run_id, "") + text
            else:
                self.jobs = [held for held in self.jobs if held is not job]

        self.wait(work())

    # ── disasters ────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def lose_the_worker(self) -> None:
        async def lose() -> None:
            await self.worker.cut()
            await self.core.until_workers(0)
            await self.clock.forward(LEASE + 2)
            self.worker = await self._new_worker()

        self.jobs.clear()
        self.wait(lose())

    @rule(crashes=st.booleans())
    def restart_the_core(self, *, crashes: bool) -> None:
        """The worker lives on and brings along what it holds."""

        async def restart() -> None:
            if crashes:
                await self.core.crash()
            else:
                await self.worker.cut()
                await self.core.stop()
            await self.core.start()
            back = self.core.worker(worker_id=self.worker.worker_id)
            welcome = await back.connect(*self.jobs, credit=100)
            revoked = {held.run_id for held in welcome.held if held.revoked}
            self.jobs = [job for job in self.jobs if job.run_id not in revoked]
            self.worker = back

        self.wait(restart())

    @rule(seconds=st.sampled_from([0.5, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.wait(self.clock.forward(seconds))

    # ── what is true at any time ─────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def the_promises_hold(self) -> None:
        stored = self.wait(self._checked())
        for run_id, run in stored.items():
            if run_id in self.ends:
                assert self.ends[run_id] == (run.state, run.last_seq), f"{run_id} went on after its end"
            elif run.state in ENDED:
                self.ends[run_id] = (run.state, run.last_seq)
                if run.state == SUCCEEDED and run_id in self.said:
                    assert _text(run.events) == self.said[run_id]
        assert all(run.state in (*ENDED, QUEUED, RUNNING, WAITING) for run in stored.values())

    async def _checked(self) -> dict[str, StoredRun]:
        """Check, again for a while: the next run of a thread becomes its holder a moment after the end of the last."""
        async with asyncio.timeout(WAIT):
            while True:
                try:
                    return self.core.check()
                except AssertionError as error:
                    if "no holder" not in str(error):
                        raise
                await asyncio.sleep(PAUSE)

    def teardown(self) -> None:
        async def stop() -> None:
            await self.core.hang_up()
            await self.core.stop()

        self.wait(stop())
        self.core.check()
        self.runner.close()
        shutil.rmtree(self.folder)


def _text(events: Sequence[Event]) -> str:
    retracted = {ordinal for event in events for ordinal in event.run_retrying.retracted_ordinals}
    deltas = [event.part_delta for event in events if event.HasField("part_delta")]
    return "".join(delta.text for delta in deltas if delta.part not in retracted)


RandomOperations.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRandomOperations = RandomOperations.TestCase
