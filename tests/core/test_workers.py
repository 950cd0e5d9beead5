"""The protocol of a worker's stream: numbers, acknowledgements, reconnects, what is revoked, what closes a stream."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from penstock.v1.agent_pb2 import Agent
from penstock.v1.agent_service_pb2 import GetAgentRequest, ListAgentsRequest
from penstock.v1.run_pb2 import EndReason, RunError, RunState
from penstock.v1.worker_service_pb2 import Credit, Held, Hello, MessageOutput, Output, WorkerMessage
from tests.core.hand_clock import HandClock
from tests.core.refusals import refused
from tests.core.running_core import RunningCore
from tests.core.scripted_worker import Job, Stream, agent, end_output

# ── outputs and their numbers ────────────────────────────────────────────────────────────────────────────────────────


async def test_outputs_are_acknowledged_once_they_are_stored(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.say("a", "b", "c")
    await job.acked(3)
    assert (await any_core.get(job.run_id)).last_seq == 7
    await job.end()
    await job.acked(4)
    assert (await any_core.get(job.run_id)).state == RunState.RUN_STATE_SUCCEEDED


async def test_repeated_outputs_add_nothing(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    watch = any_core.watch(job.run_id)
    await job.say("a ", "b ")
    await job.send(*_texts("a ", "b ", "c "), first=1)
    await job.send(*_texts("b "), first=2)
    await job.acked(3)
    await job.send(*_texts("a ", "b ", "c ", "d"), end_output(), first=1)
    await job.acked(5)
    await watch.read_to_end()
    assert watch.seen.text == "a b c d"


async def test_gap_in_the_numbers_closes_the_stream_and_changes_nothing(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("a ")
    await job.acked()
    await job.send(*_texts("c"), first=3)
    assert await worker.now.over() == "OUTPUT_GAP"
    job.last = 1
    welcome = await worker.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(1, False)]
    await job.say_all("b")
    watch = await core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "a b"


async def test_outputs_that_become_no_event_are_acknowledged_for_good(any_core: RunningCore) -> None:
    """Else a handler that says a million empty strings would wait for ever at its bound."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.send(*_texts("", "", ""), Output(message=MessageOutput()))
    await job.acked(4)
    assert (await any_core.get(job.run_id)).last_seq == 2
    await worker.cut()
    welcome = await worker.connect(job)
    assert [held.accepted for held in welcome.held] == [4]
    await job.say_all("said")


async def test_resend_after_a_lost_acknowledgement_adds_nothing(any_core: RunningCore) -> None:
    """Scenario 3: the append is committed, and the core dies before anybody hears of it."""
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    gate = any_core.store.hold("append", after=True)
    await job.say("once ", "only ")
    await gate.reached()
    await any_core.crash()
    assert worker.now.accepted(job.run_id) == 0
    await any_core.start()
    again = any_core.worker(worker_id=worker.worker_id)
    welcome = await again.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(2, False)]
    await job.send(*_texts("once ", "only ", "and done"), end_output(), first=1)
    await job.acked()
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "once only and done"
    assert (await any_core.get(job.run_id)).attempt == 1


async def test_agents_that_fail_or_reject_end_the_run_with_their_error(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=2)
    for reason in (EndReason.END_REASON_AGENT_ERROR, EndReason.END_REASON_REJECTED):
        job = await core.started(worker)
        await job.end(reason, RunError(code="NO_LUCK", message="It failed."))
        run = await core.ended(job.run_id)
        assert (run.state, run.reason, run.error.code) == (RunState.RUN_STATE_FAILED, reason, "NO_LUCK")


async def test_grammar_that_fails_ends_its_run_and_no_other(core: RunningCore, monkeypatch: pytest.MonkeyPatch) -> None:
    from core_service.domain.grammar.outputs import Outputs

    apply = Outputs.apply

    def failing(self: Outputs, output: Output) -> bool:
        if output.text == "trap":
            raise RuntimeError("a fault of the grammar")
        return apply(self, output)

    monkeypatch.setattr(Outputs, "apply", failing)
    worker = await core.connected_worker(credit=2)
    sound = await core.started(worker)
    faulty = await core.started(worker)
    await faulty.say("trap")
    run = await core.ended(faulty.run_id)
    assert (run.reason, run.error.code) == (EndReason.END_REASON_INTERNAL, "INTERNAL")
    await worker.now.hears("revoked", lambda message: message.revoked.run_id == faulty.run_id)
    await sound.say_all("the stream lives")


# ── reconnects ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_worker_that_comes_back_goes_on_where_the_log_ends(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    watch = any_core.watch(job.run_id)
    for piece in range(5):
        await job.say(f"{piece} ")
        await job.acked()
        await worker.cut()
        await worker.connect(job)
    await job.say_all("end")
    await watch.read_to_end()
    assert watch.seen.text == "0 1 2 3 4 end"
    assert watch.seen.kinds.count("run_started") == 1


async def test_newest_stream_of_a_worker_wins(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await job.say("from the old ")
    await job.acked()
    older = worker.now
    welcome = await worker.connect(job)
    assert [(held.accepted, held.revoked) for held in welcome.held] == [(1, False)]
    assert await older.over() == "WORKER_REPLACED"
    await job.say_all("and the new")
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "from the old and the new"
    status = await any_core.status()
    assert [status_.worker_id for status_ in status.workers] == [worker.worker_id]


async def test_two_streams_of_one_worker_at_the_same_moment_leave_one_that_works(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await worker.cut()
    gate = core.store.hold("adopt", after=True)
    first = asyncio.create_task(worker.connect(job))
    await gate.reached()
    stuck = worker.now
    second = asyncio.create_task(worker.connect(job))
    for _ in range(10):  # on the same connection: the core has dealt with what came before
        await core.status()
    gate.open()
    await asyncio.gather(first, second)
    assert await stuck.over() == "WORKER_REPLACED"
    job.stream = worker.now
    await job.say_all("one of them goes on")
    assert len((await core.status()).workers) == 1


async def test_stream_that_breaks_while_it_is_admitted_can_be_repeated(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await worker.cut()
    gate = any_core.store.hold("adopt", after=True)
    connecting = asyncio.create_task(worker.connect(job))
    await gate.reached()
    await worker.cut()
    await asyncio.gather(connecting, return_exceptions=True)
    gate.open()
    welcome = await worker.connect(job)
    assert [held.revoked for held in welcome.held] == [False]
    await job.say_all("came through")


async def test_store_that_fails_while_a_worker_is_admitted_loses_nothing(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    job = await any_core.started(worker)
    await worker.cut()
    for after in (False, True):
        any_core.store.fail("adopt", after=after)
        with refused(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE"):
            await worker.connect(job)
    assert (await any_core.status()).workers == []
    await worker.connect(job)
    await job.say_all("came through")


async def test_run_that_ended_while_its_worker_was_away_is_revoked(core: RunningCore) -> None:
    worker = await core.connected_worker()
    job = await core.started(worker)
    await worker.cut()
    await core.restart(cancel_grace=0.0)
    again = core.worker(worker_id=worker.worker_id)
    await again.connect(job)
    await core.cancel(job.run_id)
    await core.ended(job.run_id)
    await again.cut()
    welcome = await again.connect(job)
    assert [(held.run_id, held.revoked) for held in welcome.held] == [(job.run_id, True)]


# ── what is not the worker's ─────────────────────────────────────────────────────────────────────────────────────────


async def test_claim_to_hold_a_run_of_another_worker_is_revoked_and_harms_nobody(any_core: RunningCore) -> None:
    """Scenario 11: a worker that slept through the loss of its runs wakes up."""
    owner = await any_core.connected_worker()
    job = await any_core.started(owner)
    stranger = any_core.worker()
    stale = Job(job.stream, job.assignment)
    welcome = await stranger.connect(stale)
    assert [(held.run_id, held.revoked) for held in welcome.held] == [(job.run_id, True)]
    await stale.say("I add nothing")
    await stranger.now.hears("revoked")
    await job.say_all("still mine")
    watch = await any_core.watch(job.run_id).read_to_end()
    assert watch.seen.text == "still mine"


async def test_unknown_run_and_earlier_attempt_are_revoked(core: RunningCore) -> None:
    worker = await core.connected_worker()
    first = await core.started(worker)
    await first.decline()
    await worker.give_credit(1)
    second = await worker.take()
    assert (second.run_id, second.attempt) == (first.run_id, 2)
    await first.say("too late")
    revoked = await worker.now.hears("revoked")
    assert (revoked.revoked.run_id, revoked.revoked.attempt) == (first.run_id, 1)
    unknown = Job(worker.now, first.assignment)
    unknown.run_id = "run_unknown"
    await unknown.say("what is this?")
    await worker.now.hears("revoked", lambda message: message.revoked.run_id == "run_unknown")
    await second.say_all("now")
    watch = await core.watch(first.run_id).read_to_end()
    assert (watch.seen.text, watch.seen.kinds.count("run_retrying")) == ("now", 1)


async def test_run_that_a_leaving_worker_hands_back_goes_on_elsewhere(any_core: RunningCore) -> None:
    leaving = await any_core.connected_worker()
    job = await any_core.started(leaving)
    await job.accept()
    await leaving.drain()
    await job.decline("DRAINING")
    staying = await any_core.connected_worker()
    again = await staying.take()
    assert (again.run_id, again.attempt) == (job.run_id, 2)
    await again.say_all("done elsewhere")
    events = await any_core.events(job.run_id)
    assert [event.run_retrying.error.code for event in events if event.HasField("run_retrying")] == ["WORKER_LEFT"]


async def test_run_of_an_agent_that_is_not_replayable_ends_when_its_worker_leaves(any_core: RunningCore) -> None:
    leaving = await any_core.connected_worker(Agent(id="echo", replayable=False))
    job = await any_core.started(leaving)
    await job.accept()
    await job.decline("DRAINING")
    run = await any_core.ended(job.run_id)
    assert (run.state, run.reason) == (RunState.RUN_STATE_CANCELLED, EndReason.END_REASON_SHUTDOWN)


# ── starts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_start_that_no_worker_accepted_goes_back_at_once_and_is_no_failure(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker()
    run = await any_core.create()
    await worker.take(accept=False)
    await worker.cut()
    await any_core.reaches(run.id, RunState.RUN_STATE_QUEUED)
    other = await any_core.connected_worker()
    job = await other.take()
    assert (job.run_id, job.attempt) == (run.id, 2)
    await job.say_all("done")
    assert any_core.place.runs()[run.id].failures == 0


async def test_start_whose_commit_the_core_did_not_survive_is_sent_again(any_core: RunningCore) -> None:
    """Scenario 2: the core dies between the claim's commit and the assignment."""
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    gate = any_core.store.hold("claim", after=True, when=lambda *args, **kwargs: True)
    await worker.give_credit(1)
    await gate.reached()
    await any_core.crash()
    assert not worker.now.has_heard("assignment")
    await any_core.start()
    again = any_core.worker(worker_id=worker.worker_id)
    await again.connect()
    job = await again.take()
    assert (job.run_id, job.attempt) == (run.id, 1)
    await job.say_all("in the first attempt")
    assert any_core.place.runs()[run.id].failures == 0


async def test_start_whose_answer_was_lost_is_found_by_the_core_itself(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    any_core.store.fail("claim", after=True)
    await worker.give_credit(1)
    job = await worker.take()
    assert (job.run_id, job.attempt) == (run.id, 1)
    await job.say_all("done")


async def test_claim_that_outlives_its_worker_goes_back_to_the_queue(any_core: RunningCore) -> None:
    worker = await any_core.connected_worker(credit=0)
    run = await any_core.create()
    gate = any_core.store.hold("claim", after=True)
    await worker.give_credit(1)
    await gate.reached()
    await worker.cut()
    await any_core.status()
    gate.open()
    await any_core.reaches(run.id, RunState.RUN_STATE_QUEUED)
    other = await any_core.connected_worker()
    job = await other.take()
    assert (job.run_id, job.attempt) == (run.id, 2)
    await job.say_all("done")


async def test_worker_that_forgot_a_run_it_had_begun_has_lost_it(core: RunningCore) -> None:
    """The same attempt again would begin to count outputs that the log has already."""
    worker = await core.connected_worker()
    job = await core.started(worker)
    await job.say("half a ")
    await job.acked()
    await worker.cut()
    await worker.connect()
    run = await core.ended(job.run_id)
    assert run.reason == EndReason.END_REASON_WORKER_LOST


async def test_draining_worker_keeps_its_runs_and_gets_no_new_ones(core: RunningCore) -> None:
    worker = await core.connected_worker(credit=5)
    job = await core.started(worker)
    await worker.drain()
    run = await core.create()
    assert run.state == RunState.RUN_STATE_QUEUED
    status = await core.status()
    assert (status.workers[0].draining, status.queued_runs) == (True, 1)
    await job.say_all("kept")
    await worker.now.finish()
    other = await core.connected_worker()
    await (await other.take()).say_all("by the next")


# ── hello ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (WorkerMessage(credit=Credit(runs=1)), "WORKER_PROTOCOL"),
        (WorkerMessage(hello=Hello(worker_id="w")), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(agents=[Agent(id="echo")])), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(worker_id="w" * 129, agents=[Agent(id="echo")])), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(worker_id="w", agents=[Agent(id="Not An Id")])), "INVALID_ARGUMENT"),
        (WorkerMessage(hello=Hello(worker_id="w", agents=[Agent(id="")])), "INVALID_ARGUMENT"),
    ],
    ids=["no hello", "no agents", "no id", "long id", "bad agent", "empty agent"],
)
async def test_stream_that_begins_wrong_is_refused(core: RunningCore, message: WorkerMessage, reason: str) -> None:
    stream = Stream(core.channel)
    await stream.send(message)
    assert await stream.over() == reason
    assert (await core.status()).workers == []


async def test_second_hello_and_bad_credit_close_the_stream(core: RunningCore) -> None:
    for message in (WorkerMessage(hello=Hello(worker_id="w")), WorkerMessage(credit=Credit(runs=0))):
        worker = await core.connected_worker()
        await worker.now.send(message)
        assert await worker.now.over() == "WORKER_PROTOCOL"


async def test_hello_that_holds_nonsense_is_answered(core: RunningCore) -> None:
    stream = Stream(core.channel)
    held = [Held(run_id=run_id, attempt=attempt) for run_id in ("", "run_x", "\0", "x" * 10_000) for attempt in (-1, 0)]
    await stream.send(WorkerMessage(hello=Hello(worker_id="w", agents=[Agent(id="echo")], held=held)))
    welcome = (await stream.hears("welcome")).welcome
    assert [answer.revoked for answer in welcome.held] == [True] * len(held)
    await stream.cut()


async def test_declared_agents_are_listed_and_stay_known(core: RunningCore) -> None:
    worker = await core.connected_worker(agent("b", description="B"), agent("a"))
    found = (await core.agents.ListAgents(ListAgentsRequest())).agents
    assert [(known.id, known.name, known.online) for known in found] == [("a", "a", True), ("b", "b", True)]
    await worker.cut()
    await core.restart()
    known = (await core.agents.GetAgent(GetAgentRequest(agent_id="b"))).agent
    assert (known.description, known.version, known.online) == ("B", "7", False)
    assert known.HasField("create_time")
    with refused(grpc.StatusCode.NOT_FOUND, "AGENT_NOT_FOUND"):
        await core.agents.GetAgent(GetAgentRequest(agent_id="c"))


async def test_most_free_worker_gets_the_run(core: RunningCore) -> None:
    small = await core.connected_worker(credit=1)
    large = await core.connected_worker(credit=3)
    jobs = [await core.started(large) for _ in range(2)]
    assert not small.now.has_heard("assignment")
    for job in jobs:
        await job.say_all()


async def test_core_tells_when_its_time_is_up(timed_core: RunningCore, clock: HandClock) -> None:
    """A worker learns from Welcome how long it may be away."""
    welcome = await timed_core.worker().connect()
    assert welcome.lease.ToSeconds() == 30
    assert welcome.core_id == timed_core.core.core_id
    assert (welcome.max_unacked_outputs, welcome.max_unacked_bytes) == (4_000, 1 << 20)
    assert clock.now() > 0


def _texts(*pieces: str) -> list[Output]:
    return [Output(text=piece) for piece in pieces]
